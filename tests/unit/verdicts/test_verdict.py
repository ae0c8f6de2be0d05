"""A verdict of fixed made-up values says the same, byte for byte, whatever becomes of the code behind it: an approval names its digest."""

from dataclasses import replace

import numpy as np
import pytest
from gates_sample import MADE_UP, live, only, values

from registry.verdicts import verdict

pytestmark = pytest.mark.usefixtures("made_up")


def reached(per_forward, checks, champion=2):
    found = verdict.reach(
        model="m", version=3, champion=champion, per_forward=per_forward, live=checks, metrics={"known": 1.0}, covers={"h": "a" * 64},
        settings=MADE_UP, seed=3,
    )  # fmt: skip
    assert found["digest"] == verdict.digest_of(found)
    return found


def without(v, *prefixes):
    return {name: value for name, value in v.items() if not name.startswith(prefixes)}


def several():
    one, other = values(), values(carried=0.68, seed=1)
    return reached({"v1→v3": one, "v2→v3": other, "mix": without(one, "curve_", "closed_")}, live())


def refused():
    v = values(carried=0.5, unseen_carried=0.3, seed=2)
    v["threshold_after"] = 4 * v["threshold_before"]
    kinds = {"without a filter": np.array([1.0] * 499 + [0.2]), "within one label": np.full(100, 0.99)}
    return reached({"v1→v3": v}, live(share=0.3, recall=kinds, canary=False, same=0.995, declared={"known.top1": 0.76}), 1)


def open_():
    v = without(only(values(classes=4, each=40), "known"), "seen_by_old", "threshold_")
    return reached({"v1→v3": v | {"seen_unknown": v["h_is_closed"]}}, replace(live(fingerprint_ok=False, adopted=True), rollback=None))


def first():
    return reached({"": None}, replace(live(adopted=True), rollback=None), None)


@pytest.mark.parametrize(
    ("made", "outcome", "digest"),
    [
        (several, "passed", "8bfd7efb4a2584a1423cab69a0486f1054534b6e0c80352fcb881ef3fbe533dc"),
        (refused, "refused", "796c3ba5b869a10093bf876be4b8b63533eea89d176d919cd5ca0d444ec77340"),
        (open_, "refused", "01668b40ef01f94705aa96d7b1262bfd2e09cae718b08ff44617d8fe545faa76"),
        (first, "passed", "ddce284ea49c10a9c711cc1f3ffc7ca594d31788e9f6b1c2e840d57cba608b89"),
    ],
)
def test_a_verdict_of_the_same_values_has_the_digest_that_it_always_had(made, outcome, digest):
    found = made()
    assert found["outcome"] == outcome, found["problems"]
    assert found["digest"] == digest
