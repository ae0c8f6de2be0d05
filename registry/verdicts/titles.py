"""The gates by name, and what each says when it passes. Reading params.yaml needs the names alone."""

from __future__ import annotations

TITLES = {
    "worth_it": "the new model is better here",
    "compatible": "the carried-over gallery beats today's",
    "recovered": "enough of the gain comes back",
    "recovered_unseen": "classes nobody labelled are not hurt",
    "new_intact": "the query embedder is the registered one",
    "worst_class": "no group of classes pays for the others",
    "coverage": "h was fitted on items like the gallery's",
    "negative_flips": "few queries are lost that the new model would keep",
    "subgroups": "no subgroup falls behind another",
    "no_dip": "backfilling never makes it worse on the way",
    "order_helps": "the shipped order of backfill beats chance",
    "beats_linear": "h is worth more than a closed form",
    "threshold_shift": "score thresholds still mean the same",
    "index_faithful": "the index finds what exact search finds",
    "canary": "known answers are found in the new space",
    "rollback": "what serves still answers the same",
}
GATES = tuple(TITLES)
