"""Values beyond recovery for tests of gates: as :func:`registry.verdicts.checks.further` measures them of a good upgrade."""

from pathlib import Path

import numpy as np
import yaml

from registry.verdicts.settings import GateSettings

RAW = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8"))["validate"]
SETTINGS = GateSettings(**{name: tuple(value) if isinstance(value, list) else value for name, value in RAW.items()})
STEPS = 11


def further(v):
    """A closed form that h beats, two subgroups, curves without a dip in an order that helps, a threshold that stays."""
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
