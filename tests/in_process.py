"""Commands that run in the process of the test."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner

from fct.errors import FctError
from flows.cli.app import app


def fct_(*arguments: Any) -> tuple[int, str, str]:
    """Run a command: exit code, stdout, error."""
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(found.exception, FctError):
        return found.exception.exit_code, found.stdout, str(found.exception)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout, found.stderr
