"""Bounds of the gates: the block ``validate`` of params.yaml. Reading them needs neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fct.errors import BadInput
from registry.verdicts.titles import GATES


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
    subgroups: tuple[str, ...]
    subgroup_tolerance: float
    dip_tolerance: float
    random_orders: int
    order_margin: float
    beats_linear: float
    score_threshold: float | None
    false_positives: float
    threshold_shift: float
    must_apply: tuple[str, ...]

    def __post_init__(self) -> None:
        unknown = [gate for gate in self.must_apply if gate not in GATES]
        if unknown:
            raise BadInput("validate.must_apply names a gate that does not exist", wanted=" ".join(GATES), got=" ".join(unknown))
        kinds = {"seen_by_old", "source"}
        if "seen_by_old" not in self.subgroups or not set(self.subgroups) <= kinds:
            wanted = "seen_by_old, which is always one, and source where you like"
            raise BadInput("validate.subgroups cannot be compared", wanted=wanted, got=" ".join(self.subgroups) or "none")
        if self.random_orders < 5:
            raise BadInput("validate.random_orders has an unusable value", wanted="at least 5", got=self.random_orders)
        if not 0 < self.false_positives < 1:
            raise BadInput("validate.false_positives has an unusable value", wanted="between 0 and 1", got=self.false_positives)
