"""The errors a user can meet: what was wanted, what was got, where, and what to do.

Exit codes of the command line: 0 done · 1 an operation failed · 2 bad input · 3 not permitted by
verdict, approval or digest · 130 interrupted.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with what cannot be seen as escapes: names and files come from others, and must not move a terminal's cursor or its colours."""
    return text if text.isprintable() else "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class FctError(Exception):
    """Base of every error with a sentence for people.

    Args:
        message: what happened, in words a user knows.
        wanted, got, where, todo: optional parts, joined into the same single sentence.
    """

    exit_code = 1

    def __init__(self, message: str, *, wanted: object = None, got: object = None, where: object = None, todo: str | None = None):
        parts = [message]
        if wanted is not None:
            parts.append(f"wanted {wanted}")
        if got is not None:
            parts.append(f"got {got}")
        if where is not None:
            parts.append(f"in {where}")
        if todo is not None:
            parts.append(todo)
        super().__init__(printable(" ".join("; ".join(parts).split())))


class OperationFailed(FctError):
    """The world did not cooperate: disk full, server unreachable. Running the command again is the recovery."""


class Unreachable(OperationFailed):
    """A server does not answer. Trying again in a while may help, and loses nothing."""


class LockHeld(OperationFailed):
    """Another process works on the same model."""


class BadInput(FctError):
    """What was given cannot be used. Nothing was changed."""

    exit_code = 2


class NotPermitted(FctError):
    """Verdict, approval or a digest forbids the step. Nothing was changed."""

    exit_code = 3
