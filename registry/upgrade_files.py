"""The files of an upgrade below ``workspace/upgrades/<model>-v<n>``: each name stands here, and nowhere else.

Pairs are a folder of their own (:mod:`fct.sample.folder`), and so is each h (:mod:`fct.forward.manifest`). What each file holds:
docs/formats.md.
"""

from __future__ import annotations

CONTRACT = "contract.json"  # what the step contract found: whether the release is complete, the champion, what its program was sealed from
TRANSFORM = "transform.json"  # rows carried, suites that the batches passed
REVISION = "revision.json"  # the revision that was evaluated
VERDICT = "verdict/verdict.json"
PROMISE = "verdict/canaries.json"  # what the canaries promised and answered
ITEMS = "verdict/items.npz"  # of each item: how uncertain, whether far out
REPORT = "report.html"
COSTS = "costs.json"
CANDIDATE = "candidate.json"  # the run in MLflow, and the digest of every file that a promotion reads
READ = (CONTRACT, REVISION, VERDICT, PROMISE, REPORT)  # by a promotion
