from __future__ import annotations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from fct.errors import BadInput
from registry.versions.approval import (
    APPROVE,
    MAX_NAME,
    MAX_WHY,
    REJECT,
    Approval,
    Ignored,
    Rejection,
    expected_value,
    read,
    read_rejection,
    rejection_value,
)

DIGEST = "0123456789ab" + "c" * 52
OTHER = DIGEST[:40] + "d" * 24
PRINTABLE = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters='"'), min_size=1, max_size=20)
NAMES = st.lists(PRINTABLE, min_size=1, max_size=4).map(" ".join)
ODD = ["", "   ", "a\nb", "a\tb", "a\x1b[31mb", "a\u202eb", "a\u200bb", "a\u00a0b", 'a"b', "a  b", "x" * (MAX_NAME + 1)]


@given(by=NAMES, digest=st.text("0123456789abcdef", min_size=64, max_size=64))
@example(by="Ana Diaz", digest=DIGEST)
@example(by="0123456789ab", digest=DIGEST)
def test_the_value_shown_to_copy_is_read_back_as_an_approval(by: str, digest: str) -> None:
    value = expected_value(by, digest)
    assert value == f"{by} {digest}"
    assert read({APPROVE: value}, digest) == read({APPROVE: f"  {value}\n"}, digest) == Approval(by, digest)


@given(count=st.integers(12, 64), recorded=st.sampled_from([None, DIGEST, OTHER]))
def test_few_digits_count_only_where_the_ledger_holds_all_of_them(count: int, recorded: str | None) -> None:
    """OTHER agrees with DIGEST in 40 digits: two such can be made for 12 in minutes, for 32 nowhere."""
    got = read({APPROVE: f"ana {DIGEST[:count]}"}, DIGEST, (), recorded)
    assert (got == Approval("ana", DIGEST)) == (count >= 32 or recorded == DIGEST)
    got = read({APPROVE: f"ana {DIGEST[:count]}"}, OTHER, (), recorded)
    assert isinstance(got, Approval) == (32 <= count <= 40 or (count < 32 and recorded == OTHER))


@given(by=NAMES, digest=st.text("0123456789abcdef", min_size=64, max_size=64), other=st.text("0123456789abcdef", min_size=64, max_size=64))
def test_an_approval_of_another_verdict_is_called_out(by: str, digest: str, other: str) -> None:
    assume(digest != other)
    got = read({APPROVE: expected_value(by, other)}, digest)
    assert isinstance(got, Ignored) and "approves another verdict" in got.sentence
    assert digest in got.sentence


@pytest.mark.parametrize(
    "value",
    [
        "",
        "yes",
        "true",
        "ana",
        DIGEST,
        f"ana{DIGEST}",
        f"ana {DIGEST}0",
        f"ana {DIGEST[:11]}",
        f"ana {DIGEST[:31]}",
        f"ana {DIGEST.upper()}",
        f"ana {DIGEST} please",
        f"ana {DIGEST}.",
        *(f"{name} {DIGEST}" for name in ODD),
    ],
)
def test_any_other_value_is_ignored_and_the_sentence_says_what_to_write(value: str) -> None:
    got = read({APPROVE: value}, DIGEST)
    assert isinstance(got, Ignored)
    assert got.sentence.startswith(f"the tag {APPROVE} = ") and f"write your name, a space and {DIGEST}." in got.sentence


def test_without_the_tag_there_is_no_approval_and_nothing_to_explain() -> None:
    assert read({}, DIGEST) is None and read({"fct.approved": f"ana {DIGEST}"}, None) is None
    assert read_rejection({}) is None


def test_nothing_can_be_approved_before_there_is_a_verdict() -> None:
    got = read({APPROVE: f"ana {DIGEST}"}, None)
    assert isinstance(got, Ignored) and "no verdict yet" in got.sentence


@given(value=st.text(max_size=300))
def test_no_tag_breaks_the_reader_or_forges_a_line(value: str) -> None:
    for got in (read({APPROVE: value}, DIGEST), read_rejection({REJECT: value})):
        text = got.sentence if isinstance(got, Ignored) else f"{got}"
        assert text.isprintable() and len(text) < 500


@given(by=NAMES, why=NAMES)
@example(by="Ana Diaz", why="too slow")
@example(by="ana", why='"too" slow')
def test_a_written_rejection_is_read_back(by: str, why: str) -> None:
    assert read_rejection({REJECT: rejection_value(by, why)}) == Rejection(by, why)


def test_a_reason_may_have_lines_and_is_kept_as_one() -> None:
    assert read_rejection({REJECT: "ana too slow\non   phones"}) == Rejection("ana", "too slow on phones")
    assert rejection_value("ana", "too slow\n on phones") == "ana too slow on phones"


@pytest.mark.parametrize(
    "value", ["", "ana", " ana ", '"Ana Diaz"', '"" bad', "a\u202eb bad", "ana \x1b[31m", "ana " + "x" * (MAX_WHY + 1)]
)
def test_a_rejection_without_name_or_reason_is_ignored(value: str) -> None:
    got = read_rejection({REJECT: value})
    assert isinstance(got, Ignored) and "to reject this version write" in got.sentence


@pytest.mark.parametrize("name", ODD)
def test_a_name_that_cannot_be_shown_signs_nothing(name: str) -> None:
    with pytest.raises(BadInput, match="cannot be signed"):
        expected_value(name, DIGEST)
    with pytest.raises(BadInput, match="cannot be signed"):
        rejection_value(name, "bad")


def test_what_cannot_be_approved_or_given_as_reason_is_bad_input() -> None:
    for digest in ("", DIGEST[:12], DIGEST.upper(), "sha256:" + DIGEST[:57]):
        with pytest.raises(BadInput, match="digest of a verdict"):
            expected_value("ana", digest)
    for why in ("", " \n", "x" * (MAX_WHY + 1), "a\x00b"):
        with pytest.raises(BadInput, match="reason"):
            rejection_value("ana", why)
