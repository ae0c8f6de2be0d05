"""What people write on a version in the MLflow UI: ``fct.approve`` and ``fct.reject``.

An approval is for one verdict: its tag ends with the digits of that verdict's digest, all 64 or the first of them, at least 32, so that it
cannot be carried over to another measurement, by accident or on purpose. Of 12 digits, which an earlier release asked for, two verdicts can
be made that agree in minutes; such a tag counts only where the ledger holds the whole digest that was approved with it.
A tag that does not fit is never half believed: it is ignored, with a sentence that says why.
MLflow does not prove who wrote a tag; a name counts as much as the write access to the registry does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from fct.errors import BadInput

APPROVE = "fct.approve"
REJECT = "fct.reject"
LEAST_DIGITS = 32
OLD_DIGITS = 12  # what a tag carried before
MAX_NAME = 100
MAX_WHY = 1000


@dataclass(frozen=True)
class Approval:
    """``by`` approves the verdict with this ``digest``, 64 digits."""

    by: str
    digest: str


@dataclass(frozen=True)
class Rejection:
    """``by`` rejects the version; ``why`` in their words."""

    by: str
    why: str


@dataclass(frozen=True)
class Ignored:
    """A tag that does not count; ``sentence`` says why and what would count."""

    sentence: str


def expected_value(by: str, verdict_digest: str) -> str:
    """The value of the tag ``fct.approve`` with which ``by`` approves this verdict, ready to copy.

    Raises:
        BadInput: the name is empty, too long or not printable, or the digest is not a SHA-256 in hexadecimal.
    """
    return f"{_good_name(by)} {_whole(verdict_digest)}"


def rejection_value(by: str, why: str) -> str:
    """The value of the tag ``fct.reject``. A name of several words is quoted, since the reason follows it: ``"Ana Diaz" too slow``."""
    name, why = _good_name(by), " ".join(why.split())
    if not why or len(why) > MAX_WHY or not why.isprintable():
        raise BadInput("a rejection needs a reason in printable words", wanted=f"1 to {MAX_WHY} characters", got=repr(why[:40]))
    return f'"{name}" {why}' if " " in name else f"{name} {why}"


def read(
    tags: Mapping[str, str], verdict_digest: str | None, approvers: Collection[str] = (), recorded: str | None = None
) -> Approval | Ignored | None:
    """The approval of exactly this verdict, None without a tag, or :class:`Ignored` saying why the tag does not count.

    Args:
        tags: all tags of the version.
        verdict_digest: 64 hexadecimal digits, or None when there is no verdict yet.
        approvers: whose approval counts (params.yaml, ``promote.approvers``); empty = anybody's.
        recorded: digest of the verdict that the ledger's latest decision about the version approves, None where it is no approval.
    """
    value = tags.get(APPROVE)
    if value is None:
        return None
    shown = f"the tag {APPROVE} = {_shown(value)} is ignored"
    if verdict_digest is None:
        return Ignored(f"{shown}: this version has no verdict yet that could be approved.")
    digest = _whole(verdict_digest)
    todo = f"to approve this verdict write your name, a space and {digest}"
    name, _, digits = value.strip().rpartition(" ")
    if not re.fullmatch(f"[0-9a-f]{{{OLD_DIGITS},64}}", digits):
        return Ignored(f"{shown}: it does not end with the digits of a verdict's digest; {todo}.")
    problem = _problem(name.strip())
    if problem:
        return Ignored(f"{shown}: {problem}; {todo}.")
    if not digest.startswith(digits):
        return Ignored(f"{shown}: it approves another verdict, and this version's verdict is {digest}; read it, and {todo}.")
    if len(digits) < LEAST_DIGITS and recorded != digest:
        return Ignored(f"{shown}: {len(digits)} digits do not tell one verdict from all others; {todo}.")
    if approvers and name.strip() not in approvers:
        return Ignored(f"{shown}: {_shown(name.strip())} is not among promote.approvers in params.yaml, only they can approve.")
    return Approval(name.strip(), digest)


def read_rejection(tags: Mapping[str, str]) -> Rejection | Ignored | None:
    """The rejection on a version, None without a tag, or :class:`Ignored` saying why the tag does not count."""
    value = tags.get(REJECT)
    if value is None:
        return None
    shown = f"the tag {REJECT} = {_shown(value)} is ignored"
    todo = "to reject this version write your name (in double quotes if it has spaces), a space and the reason"
    match = re.fullmatch(r'(?:"([^"]*)"|(\S+)) (.+)', " ".join(value.split()))
    if match is None:
        return Ignored(f"{shown}: it is not a name and a reason; {todo}.")
    name, why = (match[1] if match[1] is not None else match[2]).strip(), match[3].strip()
    problem = _problem(name)
    if problem:
        return Ignored(f"{shown}: {problem}; {todo}.")
    if len(why) > MAX_WHY or not why.isprintable():
        return Ignored(f"{shown}: its reason is not printable text of at most {MAX_WHY} characters; {todo}.")
    return Rejection(name, why)


def _problem(name: str) -> str | None:
    """Why this cannot be a name, as a clause; None when it can. Invisible and direction-changing characters are not printable."""
    if not name:
        return "it has no name"
    if len(name) > MAX_NAME:
        return f"its name is longer than {MAX_NAME} characters"
    if not name.isprintable() or '"' in name or "  " in name:
        return "its name has double quotes, double spaces or characters that cannot be printed"
    return None


def _good_name(name: str) -> str:
    name = name.strip()
    problem = _problem(name)
    if problem:
        raise BadInput(f"this decision cannot be signed: {problem}", got=_shown(name), todo="give a name such as 'ana'")
    return name


def _whole(digest: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise BadInput("this is not the digest of a verdict", wanted="64 hexadecimal digits", got=_shown(digest))
    return digest


def _shown(value: str) -> str:
    """A quoted, escaped and shortened copy: a tag must not be able to forge lines of a terminal."""
    text = ascii(value) if not value.isprintable() else repr(value)
    return text if len(text) <= 80 else text[:80] + "…"
