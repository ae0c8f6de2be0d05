"""Made-up values for tests of gates: what an upgrade measures of one h (:func:`values`) and of a gallery (:func:`live`), both good."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from fct.gallery.canary import CanaryPromise, CanaryResult
from fct.search.coverage import Coverage
from registry.verdicts import measuring
from registry.verdicts.canaries import Answered
from registry.verdicts.gates.index_faithful import Recall
from registry.verdicts.gates.new_intact import Embedder
from registry.verdicts.gates.rollback import Rehearsal
from registry.verdicts.measuring import LiveChecks
from registry.verdicts.settings import GateSettings

RAW = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8"))["validate"]
SETTINGS = GateSettings(**{name: tuple(value) if isinstance(value, list) else value for name, value in RAW.items()})
MADE_UP = replace(SETTINGS, worst_class_tolerance=0.05, recovered_top1=0.6, recovered_mAP=0.6)  # bounds that :func:`values` keep
STEPS = 11
JUDGED = (  # the gates that these values are made up for, in the order of a verdict; one that comes later has a test of its own
    *("worth_it", "compatible", "recovered", "recovered_unseen", "worst_class", "negative_flips", "subgroups", "no_dip", "order_helps"),
    *("beats_linear", "threshold_shift", "rollback", "coverage", "new_intact", "index_faithful", "canary"),
)


def further(v):
    """Values beyond recovery, as :func:`registry.verdicts.checks.further` measures them: a closed form that h beats, two subgroups, curves without a dip in an order that helps, a threshold that stays."""
    classes = np.unique(v["labels"])
    even = np.isin(v["labels"], classes[::2])
    found = {
        "h_is_closed": np.array(False),
        "closed_top1": 0.8 * v["nh_top1"],
        "closed_mAP": 0.8 * v["nh_mAP"],
        "seen_by_old": even,
        "source": np.where(np.arange(len(even)) % 2, "pack-a", "pack-b"),
    }
    found |= curves(v) | {f"curve_{name}": v[name] for name in ("rows", "populations", "labels")}
    count = np.ones(len(even))
    counts = {"pairs": 1000, "before": 10, "after": 10, "held": 10, "matches": 20, "matches_before": 12, "matches_held": 14}
    found |= {f"threshold_{name}": number * count for name, number in counts.items()}
    return found | {
        "threshold_rows": v["rows"],
        "threshold_labels": v["labels"],
        "threshold_in_use": np.array(0.81),
        "threshold_recalibrated": np.array(0.77),
    }


def curves(v, bends=(("shipped", 0.4), ("random", 1.0), ("oracle", 0.2))):
    """(S, C) per-query curves from nh to nn; the smaller the power, the earlier the gain."""
    beta = np.linspace(0, 1, STEPS)[:, None]
    return {
        f"curve_{order}_{name}": v[f"nh_{name}"] + (v[f"nn_{name}"] - v[f"nh_{name}"]) * beta**power
        for order, power in bends
        for name in ("top1", "mAP")
    }


def values(old=0.4, carried=0.7, new=0.75, unseen_old=0.4, unseen_carried=0.6, unseen_new=0.7, classes=40, each=30, noise=0.05, seed=0):
    """Per-query values: a share of each class's queries is right, nearly the same share in every class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([f"class-{i:02}" for i in range(2 * classes)], each)
    known = np.repeat(np.arange(2 * classes) < classes, each)
    found: dict[str, np.ndarray] = {"labels": labels, "populations": np.where(known, "known", "unseen"), "rows": np.arange(len(labels))}
    off = np.repeat(noise * rng.normal(size=2 * classes), each)
    for row, share, unseen in (("oo", old, unseen_old), ("nh", carried, unseen_carried), ("nn", new, unseen_new)):
        place = np.tile((np.arange(each) + 0.5) / each, 2 * classes)
        right = (place < np.where(known, share, unseen) + off).astype(np.float64)
        found |= {f"{row}_top1": right, f"{row}_top5": right, f"{row}_mAP": right, f"{row}_tied": np.zeros_like(right)}
    return found | further(found)


def only(v, population):
    """The same values with the queries of one population."""
    parts = {
        "curve_": v["curve_populations"] == population,
        "threshold_": np.isin(v["threshold_labels"], v["labels"][v["populations"] == population]),
    }
    found = {}
    for name, value in v.items():
        rows = next((chosen for prefix, chosen in parts.items() if name.startswith(prefix)), v["populations"] == population)
        found[name] = value[..., rows] if value.ndim else value
    return found


def live(share=0.02, recall=1.0, canary=True, measured=None, declared=None, same=1.0, n=400, **embedder):
    """What is found in a gallery; ``embedder``: of :class:`registry.verdicts.gates.new_intact.Embedder`."""
    far = np.arange(n) < share * n
    kinds = recall if isinstance(recall, dict) else {"without a filter": np.full(n, recall) if np.isscalar(recall) else np.asarray(recall)}
    answered = CanaryResult(0.9, 0.9, 1.0, (), canary, "as promised" if canary else "shuffled")
    known = {"known.top1": 0.75}
    found = {
        "coverage": {1: Coverage(float(far.mean()), 1.0, far, far.astype(float))},
        "new_intact": Embedder(**{"fingerprint_ok": True, "measured": measured or known, "declared": declared or known, **embedder}),
        "index_faithful": Recall(kinds),
        "canary": Answered(CanaryPromise(0.95, 0.9, 1.0, 5, 400), answered),
    }
    return LiveChecks(found, Rehearsal(200, same, "asked before and after"))


def measure(v, checks, settings, *, seed):
    """All measurements of one h, or of a first release (None), and of the gallery."""
    return measuring.of_sample(v, settings, seed=seed) + measuring.of_gallery(checks, settings, first=v is None)
