"""One number of a gate against its bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fct.search.intervals import FEWEST, Estimate

LABELS = {"top1": "top-1", "mAP": "mAP"}


@dataclass(frozen=True)
class Measurement:
    """One number of a gate against its bound.

    Args:
        subject: what of the gate (``known top-1``).
        test: the number that must keep the bound: ``lower`` or ``upper`` (a confidence bound) or ``value``.
        strict: whether the bound itself fails (``>`` instead of ``≥``); ``most`` whether it is an upper bound (``≤``).
        applies: whether there was something to measure; ``answered``: not, because the answer is known beforehand (a closed form has
            no closed form to beat). A gate of ``must_apply`` that is answered is not missing.
        classes: behind the interval, where classes were resampled for it; below :data:`fct.search.intervals.FEWEST` nothing is decided.
        note: a sentence for people.
        gate: its name, filled in by :mod:`registry.verdicts.measuring`. outcome: filled in by :func:`registry.verdicts.deciding.decide`.
    """

    subject: str
    value: float
    lower: float
    upper: float
    n: int
    bound: float
    test: str = "lower"
    strict: bool = False
    most: bool = False
    applies: bool = True
    outcome: str = ""
    note: str = ""
    answered: bool = False
    classes: int | None = None
    gate: str = ""

    @property
    def key(self) -> str:
        """Name of its column in the measurement table."""
        return f"{self.gate}: {self.subject}".replace(" ", "_")

    @property
    def too_few(self) -> str:
        """Why it decides nothing and what would, where it rests on too few classes; else empty."""
        if self.classes is None or self.classes >= FEWEST:
            return ""
        return (
            f"{self.classes} class{'es are' if self.classes > 1 else ' is'} too few, {FEWEST} are needed for a bound: "
            f"judge it on queries of {FEWEST - self.classes} more"
        )

    @property
    def tested(self) -> float:
        return {"lower": self.lower, "upper": self.upper, "value": self.value}[self.test]

    def to_json(self) -> dict[str, Any]:
        def number(x: float) -> float | None:
            return round(float(x), 6) if math.isfinite(x) else None

        return {
            "gate": self.gate,
            "subject": self.subject,
            "value": number(self.value),
            "lower": number(self.lower),
            "upper": number(self.upper),
            "n": self.n,
            "bound": number(self.bound),
            "relation": ("≤" if self.most else ">" if self.strict else "≥"),
            "tested": self.test,
            "outcome": self.outcome,
            "note": self.note,
        }


def of(subject: str, estimate: Estimate, bound: float, **more: Any) -> Measurement:
    """A measurement of an estimate."""
    return Measurement(subject, estimate.value, estimate.lower, estimate.upper, estimate.n, bound, classes=estimate.clusters, **more)


def certain(subject: str, value: float, n: int, bound: float, **more: Any) -> Measurement:
    """A measurement of a number without an interval."""
    return Measurement(subject, value, value, value, n, bound, test="value", **more)


def absent(reason: str, *, answered: bool = False) -> Measurement:
    """That a gate does not apply, with the reason."""
    nan = math.nan
    return Measurement("", nan, nan, nan, 0, nan, applies=False, outcome="not applicable", note=reason, answered=answered)
