"""The errors a user can meet: what was wanted, what was got, where, and what to do.

Exit codes of the command line: 0 done · 1 an operation failed · 2 bad input · 3 not permitted by
verdict, approval or digest · 130 interrupted.

Programs read :attr:`FctError.code`, never the sentence: it is a word of :data:`CODES`, kept from version to version.
"""

from __future__ import annotations

from typing import Any

CODES = {
    "failed": "an operation failed",
    "unreachable": "a server does not answer",
    "locked": "another process works on the same model",
    "overtaken": "somebody else wrote to the ledger first",
    "not-there": "what a version names is not in MLflow's store",
    "disk-full": "the disk is full",
    "not-installed": "a package that the command needs is not installed",
    "bad-input": "what was given cannot be used",
    "newer-format": "a later version of this package wrote it",
    "usage": "the command line cannot be read",
    "not-permitted": "verdict, approval or digest forbids it",
    "altered": "something is not what it was when it was measured, approved or written",
    "not-approved": "no approval of this verdict counts",
    "not-passed": "the verdict is refused or inconclusive, or there is none",
    "interrupted": "Ctrl-C or a signal",
    "unexpected": "a fault of this package, or of a library below it",
}


def printable(text: str) -> str:
    """The text with what cannot be seen as escapes: names and files come from others, and must not move a terminal's cursor or its colours."""
    return text if text.isprintable() else "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class FctError(Exception):
    """Base of every error with a sentence for people.

    Args:
        message: what happened, in words a user knows.
        wanted, got, where, todo: optional parts, joined into the same single sentence; kept as text, None where they are left out.
        code: of :data:`CODES`, where it says more than the kind of error does.
    """

    exit_code = 1
    code = "failed"

    def __init__(
        self,
        message: str,
        *,
        wanted: object = None,
        got: object = None,
        where: object = None,
        todo: str | None = None,
        code: str | None = None,
    ):
        self.message = _line(message)
        self.wanted, self.got, self.where, self.todo = (None if part is None else _line(str(part)) for part in (wanted, got, where, todo))
        self.code = code or self.code
        parts = [message]
        if wanted is not None:
            parts.append(f"wanted {wanted}")
        if got is not None:
            parts.append(f"got {got}")
        if where is not None:
            parts.append(f"in {where}")
        if todo is not None:
            parts.append(todo)
        super().__init__(_line("; ".join(parts)))

    def to_json(self) -> dict[str, Any]:
        """``code``, ``exit``, ``sentence`` and its parts ``message``, ``wanted``, ``got``, ``where``, ``todo`` (text or None)."""
        parts = {name: getattr(self, name) for name in ("message", "wanted", "got", "where", "todo")}
        return {"code": self.code, "exit": self.exit_code, "sentence": str(self)} | parts


def _line(text: str) -> str:
    return printable(" ".join(text.split()))


class OperationFailed(FctError):
    """The world did not cooperate: disk full, server unreachable. Running the command again is the recovery."""


class Unreachable(OperationFailed):
    """A server does not answer. Trying again in a while may help, and loses nothing."""

    code = "unreachable"


class LockHeld(OperationFailed):
    """Another process works on the same model."""

    code = "locked"


class BadInput(FctError):
    """What was given cannot be used. Nothing was changed.

    Examples:
        >>> import fct
        >>> try:
        ...     fct.FitSettings(batch=1)
        ... except fct.BadInput as error:
        ...     print(error.code, "|", error.message, "|", error.wanted, "|", error.got)
        bad-input | fit.batch is out of range | a whole number, at least 2 | 1
    """

    exit_code = 2
    code = "bad-input"


class NotPermitted(FctError):
    """Verdict, approval or a digest forbids the step. Nothing was changed."""

    exit_code = 3
    code = "not-permitted"


class Altered(NotPermitted):
    """Something is not what it was when it was measured, approved or written, or is gone."""

    code = "altered"


class Damaged(Altered):
    """A file is not what was recorded of it, or is missing. Nothing may be made from it."""
