"""Bounds of the gates: the block ``validate`` of params.yaml. Reading them needs neither torch nor numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from fct.errors import BadInput
from registry.verdicts.names import GATES

SUBGROUPS = ("seen_by_old", "source")


def checked(wanted: str, odd: Callable[[Any], object], problem: str = "has an unusable value") -> dict[str, Any]:
    """Metadata of a field with a range: ``wanted`` in words; ``odd`` gives what is wrong with a value, None where nothing is."""
    return {"wanted": wanted, "odd": odd, "problem": problem}


def _unknown(gates: tuple[str, ...]) -> str | None:
    return " ".join(gate for gate in gates if gate not in GATES) or None


def _incomparable(kinds: tuple[str, ...]) -> str | None:
    return None if "seen_by_old" in kinds and set(kinds) <= set(SUBGROUPS) else " ".join(kinds) or "none"


@dataclass(frozen=True)
class GateSettings:
    """Bounds of the gates (params.yaml, ``validate``); fractions 0–1. See docs/gates.md."""

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid"}

    recovered_top1: float
    recovered_mAP: float
    unseen_tolerance: float
    worst_class_tolerance: float
    worst_class_queries: int
    coverage_most: float
    index_recall: float
    canary_margin: float
    new_intact_tolerance: float
    negative_flips: float
    subgroups: tuple[str, ...] = field(
        metadata=checked("seen_by_old, which is always one, and source where you like", _incomparable, "cannot be compared")
    )
    subgroup_tolerance: float
    dip_tolerance: float
    random_orders: int = field(metadata=checked("at least 5", lambda count: None if count >= 5 else count))
    order_margin: float
    beats_linear: float
    score_threshold: float | None
    false_positives: float = field(metadata=checked("between 0 and 1", lambda share: None if 0 < share < 1 else share))
    threshold_shift: float
    must_apply: tuple[str, ...] = field(metadata=checked(" ".join(GATES), _unknown, "names a gate that does not exist"))

    def __post_init__(self) -> None:
        for one in fields(self):
            found = one.metadata["odd"](getattr(self, one.name)) if one.metadata else None
            if found is not None:
                raise BadInput(f"validate.{one.name} {one.metadata['problem']}", wanted=one.metadata["wanted"], got=found)
