"""Items of the gallery: arriving, adopted, backfilled, deleted, forgotten; and what may be dropped."""
