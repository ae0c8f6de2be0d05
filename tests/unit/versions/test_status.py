from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest

from registry.versions.status import EVENTS, RULES, Facts, Status, after, derive, next_step

BOTH = (False, True)
EVERY = [
    Facts(contract, (), forward, verdict, *flags)
    for contract in (None, False, True)
    for forward in BOTH
    for verdict in (None, "passed", "refused", "inconclusive")
    for flags in itertools.product(BOTH, repeat=6)
]
NEW = Facts()
VALID = Facts(contract_ok=True)
FITTED = Facts(contract_ok=True, forward_ready=True)
PASSED = Facts(contract_ok=True, forward_ready=True, verdict="passed")
REFUSED = Facts(contract_ok=True, forward_ready=True, verdict="refused")
UNDECIDED = Facts(contract_ok=True, forward_ready=True, verdict="inconclusive")
APPROVED = Facts(contract_ok=True, forward_ready=True, verdict="passed", approved=True)


def test_every_combination_of_facts_has_one_status_and_every_status_occurs() -> None:
    assert len(set(EVERY)) == 3 * 2 * 4 * 2**6
    assert {derive(facts) for facts in EVERY} == set(Status)


def test_every_rule_decides_something() -> None:
    decided = {next(i for i, rule in enumerate(RULES) if all(getattr(facts, k) == v for k, v in rule.when.items())) for facts in EVERY}
    assert decided == set(range(len(RULES)))


def naive(facts: Facts) -> str:
    """The same by nested questions, in the order a person would ask them."""
    if facts.is_serving:
        return "serving"
    if facts.contract_ok is False:
        return "invalid"
    if facts.rejected:
        return "rejected"
    if facts.was_serving:
        return "retired"
    verdict = facts.verdict if facts.contract_ok else None
    if verdict == "refused":
        return "refused"
    promotable = verdict == "passed" and facts.forward_ready
    if facts.newer_is_serving or (facts.newer_version_exists and not (promotable and facts.approved)):
        return "superseded"
    if promotable:
        return "approved" if facts.approved else "passed"
    if verdict == "inconclusive":
        return "inconclusive"
    return "fitted" if facts.contract_ok and facts.forward_ready and verdict is None else "registered"


def test_the_table_agrees_with_plain_questions_on_every_combination() -> None:
    for facts in EVERY:
        assert derive(facts) == naive(facts), facts


def test_what_can_be_promoted_is_exactly_complete_passed_approved_and_not_rejected() -> None:
    for facts in EVERY:
        status = derive(facts)
        if status is Status.APPROVED:
            assert facts.contract_ok and facts.forward_ready and facts.verdict == "passed" and facts.approved
            assert not (facts.rejected or facts.is_serving or facts.newer_is_serving)
        if status in (Status.PASSED, Status.FITTED):
            assert facts.contract_ok and facts.forward_ready and not facts.rejected
        assert (status is Status.SERVING) == facts.is_serving, "only the ledger says what serves"
        if facts.rejected and facts.contract_ok is not False and not facts.is_serving:
            assert status is Status.REJECTED
        if status is Status.RETIRED:
            assert facts.was_serving
        if status is Status.SUPERSEDED:
            assert facts.newer_version_exists or facts.newer_is_serving


def test_an_approval_changes_nothing_unless_the_verdict_passed() -> None:
    for facts in EVERY:
        before, with_approval = derive(after(facts, "approval withdrawn")), derive(after(facts, "approve"))
        if before is not with_approval:
            assert with_approval is Status.APPROVED and before in (Status.PASSED, Status.SUPERSEDED) and facts.verdict == "passed"


def test_the_list_of_problems_explains_and_does_not_decide() -> None:
    for facts in EVERY:
        assert derive(replace(facts, problems=("it has no side-information",))) is derive(facts)


@pytest.mark.parametrize(
    ("facts", "event", "status"),
    [
        (NEW, "contract held", "registered"),
        (NEW, "contract broken", "invalid"),
        (NEW, "newer registered", "superseded"),
        (NEW, "reject", "rejected"),
        (VALID, "h fitted", "fitted"),
        (FITTED, "gates passed", "passed"),
        (FITTED, "gates refused", "refused"),
        (FITTED, "gates undecided", "inconclusive"),
        (UNDECIDED, "gates passed", "passed"),
        (UNDECIDED, "newer registered", "superseded"),
        (REFUSED, "approve", "refused"),
        (REFUSED, "newer registered", "refused"),
        (UNDECIDED, "approve", "inconclusive"),
        (PASSED, "approve", "approved"),
        (PASSED, "reject", "rejected"),
        (PASSED, "newer registered", "superseded"),
        (PASSED, "verdict void", "fitted"),
        (PASSED, "contract broken", "invalid"),
        (APPROVED, "approval withdrawn", "passed"),
        (APPROVED, "verdict void", "fitted"),
        (APPROVED, "reject", "rejected"),
        (APPROVED, "newer registered", "approved"),
        (APPROVED, "newer promoted", "superseded"),
        (APPROVED, "promote", "serving"),
        (after(PASSED, "newer registered"), "approve", "approved"),
        (after(APPROVED, "newer promoted"), "newer rolled back", "approved"),
        (after(APPROVED, "reject"), "rejection withdrawn", "approved"),
        (after(APPROVED, "promote"), "newer registered", "serving"),
        (after(APPROVED, "promote"), "reject", "serving"),
        (after(APPROVED, "promote"), "contract broken", "serving"),
        (after(APPROVED, "promote"), "newer promoted", "retired"),
        (after(APPROVED, "promote"), "rollback from it", "retired"),
        (after(after(APPROVED, "promote"), "newer promoted"), "promote", "serving"),
        (after(after(APPROVED, "promote"), "newer promoted"), "reject", "rejected"),
    ],
)
def test_an_event_moves_a_version_as_written(facts: Facts, event: str, status: str) -> None:
    assert derive(after(facts, event)) == status


def test_events_set_known_facts_only() -> None:
    assert {name for facts in EVENTS.values() for name in facts} <= set(Facts.__dataclass_fields__)


def test_the_table_in_the_docstring_is_the_table_that_runs() -> None:
    written, rows = [], (derive.__doc__ or "").split("=\n")[2].splitlines()
    for row in rows[:-1]:
        status, when = row[4:19].strip(), row[19:93].strip()
        if status:
            written.append(f"{status}: {when}")
        else:
            written[-1] += f" {when}"
    assert written == [str(rule) for rule in RULES]


@pytest.mark.parametrize("status", Status)
def test_every_status_has_one_sentence_with_a_command_to_type(status: Status) -> None:
    sentence = next_step(status, 2, "embedder")
    assert sentence.startswith("embedder version 2 ") and sentence.endswith(".") and "\n" not in sentence
    operations = {"register", "upgrade", "approve", "reject", "promote", "rollback", "reconcile", "log", "status"}
    commands = re.findall(r"`fct (\w+)[^`]*`", sentence)
    assert commands and set(commands) <= operations
    for command in set(commands) & {"approve", "reject", "promote", "upgrade"}:
        assert f"`fct {command} 2" in sentence


def test_the_next_step_of_an_approved_version_is_to_promote_it() -> None:
    assert "`fct promote 7`" in next_step(Status.APPROVED, 7, "m")
    assert all("fct promote" not in next_step(status, 7, "m") for status in Status if status is not Status.APPROVED)
