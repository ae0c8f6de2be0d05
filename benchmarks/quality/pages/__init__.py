"""RESULTS.md, a page for each data set, and the figures: everything in them comes from the recorded rows."""
