"""The status of a version: derived from facts by one pure function, never stored as truth.

The tag that shows it in MLflow is a copy for people; reconcile writes it again when it differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

Verdict = Literal["passed", "refused", "inconclusive"]


class Status(StrEnum):
    """What a version of a registered model is, in the words people read."""

    REGISTERED = "registered"
    INVALID = "invalid"
    FITTED = "fitted"
    PASSED = "passed"
    REFUSED = "refused"
    INCONCLUSIVE = "inconclusive"
    APPROVED = "approved"
    REJECTED = "rejected"
    SERVING = "serving"
    SUPERSEDED = "superseded"
    RETIRED = "retired"


@dataclass(frozen=True)
class Facts:
    """What is known about one version.

    Args:
        contract_ok: whether the release is complete and loads; None while nobody has looked.
        problems: what the contract misses, one clause each; does not change the status.
        forward_ready: whether every h the version needs is fitted and its space is written (true when there is nothing to carry over).
        verdict: of its gates, None while not measured.
        approved: whether a person approves exactly this verdict. An approval of anything but a passed verdict has no effect.
        rejected: whether a person rejects the version.
        is_serving: whether the highest ledger entry serves it.
        was_serving: whether any ledger entry ever served it.
        newer_version_exists: whether a later version that is not invalid is registered.
        newer_is_serving: whether a later version serves now.
    """

    contract_ok: bool | None = None
    problems: tuple[str, ...] = ()
    forward_ready: bool = False
    verdict: Verdict | None = None
    approved: bool = False
    rejected: bool = False
    is_serving: bool = False
    was_serving: bool = False
    newer_version_exists: bool = False
    newer_is_serving: bool = False


@dataclass(frozen=True)
class Rule:
    """``status`` applies when every fact named in ``when`` has the value given there."""

    status: Status
    when: Mapping[str, object]

    def __str__(self) -> str:
        return f"{self.status}: {' and '.join(f'{name}={value}' for name, value in self.when.items()) or 'otherwise'}"


def _rule(status: Status, **when: object) -> Rule:
    return Rule(status, MappingProxyType(when))


RULES: tuple[Rule, ...] = (
    _rule(Status.SERVING, is_serving=True),
    _rule(Status.INVALID, contract_ok=False),
    _rule(Status.REJECTED, rejected=True),
    _rule(Status.RETIRED, was_serving=True),
    _rule(Status.REFUSED, contract_ok=True, verdict="refused"),
    _rule(Status.SUPERSEDED, newer_is_serving=True),
    _rule(Status.APPROVED, contract_ok=True, forward_ready=True, verdict="passed", approved=True),
    _rule(Status.SUPERSEDED, newer_version_exists=True),
    _rule(Status.PASSED, contract_ok=True, forward_ready=True, verdict="passed"),
    _rule(Status.INCONCLUSIVE, contract_ok=True, verdict="inconclusive"),
    _rule(Status.FITTED, contract_ok=True, forward_ready=True, verdict=None),
    _rule(Status.REGISTERED),
)


def derive(facts: Facts) -> Status:
    """The status of a version: the first rule that holds, from the top.

    =============  ========================================================================  ==========================================
    status         when                                                                      because
    =============  ========================================================================  ==========================================
    serving        is_serving=True                                                           the ledger alone says what serves
    invalid        contract_ok=False                                                         nothing can be done with it, not even back
    rejected       rejected=True                                                             a person's no outlives every measurement
    retired        was_serving=True                                                          it served once, so rollback may name it
    refused        contract_ok=True and verdict=refused                                      no approval lifts a refusal
    superseded     newer_is_serving=True                                                     its verdict is about a past champion
    approved       contract_ok=True and forward_ready=True and verdict=passed and            an explicit approval stands although a
                   approved=True                                                             newer version waits
    superseded     newer_version_exists=True                                                 the newer one is worked on; work is kept
    passed         contract_ok=True and forward_ready=True and verdict=passed                it waits for a person
    inconclusive   contract_ok=True and verdict=inconclusive                                 it waits for more evaluation data
    fitted         contract_ok=True and forward_ready=True and verdict=None                  it waits for its gates
    registered     otherwise                                                                 the upgrade has work to do
    =============  ========================================================================  ==========================================
    """
    return next(rule.status for rule in RULES if all(getattr(facts, name) == value for name, value in rule.when.items()))


EVENTS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "contract held": {"contract_ok": True},
        "contract broken": {"contract_ok": False},
        "h fitted": {"forward_ready": True},
        "gates passed": {"verdict": "passed"},
        "gates refused": {"verdict": "refused"},
        "gates undecided": {"verdict": "inconclusive"},
        "verdict void": {"verdict": None, "approved": False},
        "approve": {"approved": True},
        "approval withdrawn": {"approved": False},
        "reject": {"rejected": True},
        "rejection withdrawn": {"rejected": False},
        "promote": {"is_serving": True, "was_serving": True, "newer_is_serving": False},
        "rollback from it": {"is_serving": False, "newer_is_serving": False},
        "newer registered": {"newer_version_exists": True},
        "newer promoted": {"is_serving": False, "newer_version_exists": True, "newer_is_serving": True},
        "newer rolled back": {"newer_is_serving": False},
    }
)
"""What can happen to a version, and the facts each event sets (``rollback`` to a version is the event ``promote`` for it)."""


def after(facts: Facts, event: str) -> Facts:
    """The facts after one of :data:`EVENTS`."""
    return replace(facts, **EVENTS[event])  # type: ignore[arg-type]


def next_step(status: Status, version: int, model: str) -> str:
    """One plain sentence that names the command to type next for ``version`` of ``model``."""
    name = f"{model} version {version}"
    sentences = {
        Status.REGISTERED: f"{name} is registered: type `fct reconcile --once` to start its upgrade, or `fct upgrade {version}`.",
        Status.INVALID: f"{name} is not a complete release: register a complete one with `fct register`, this one is left alone.",
        Status.FITTED: f"{name} has its forward transformation and no verdict yet: type `fct upgrade {version}` to go on to its gates.",
        Status.PASSED: f"{name} passed its gates: read its report, then type `fct approve {version} --by … --why …`"
        f" or `fct reject {version} --by … --why …`.",
        Status.REFUSED: f"{name} failed its gates and cannot be promoted: read its report, and register a better version with `fct register`.",
        Status.INCONCLUSIVE: f"{name} could not be judged on so few evaluation images: add some, then type `fct upgrade {version}`.",
        Status.APPROVED: f"{name} is approved: type `fct promote {version}` to let it serve.",
        Status.REJECTED: f"{name} was rejected: register a better version with `fct register`, or remove the tag fct.reject if it was a mistake.",
        Status.SERVING: f"{name} serves, nothing is left to do; `fct rollback` would return to the release before it.",
        Status.SUPERSEDED: f"{name} gave way to a newer version, its work is kept: look at the newer one with `fct status`,"
        f" or insist on this one with `fct approve {version} --by … --why …`.",
        Status.RETIRED: f"{name} served before: `fct log` says until when, `fct rollback` returns to the release before the serving one.",
    }
    return sentences[status]
