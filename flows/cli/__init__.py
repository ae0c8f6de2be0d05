"""The command line. Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.

Exit codes: 0 done · 1 an operation failed · 2 bad input · 3 not permitted by verdict, approval or digest · 130 interrupted.
Data goes to stdout (``--json`` where offered), progress to stderr. With ``--json`` a failure is one object on stdout, too:
``{"error": …}`` as :meth:`fct.errors.FctError.to_json` gives it.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import warnings
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from fct.errors import FctError

DISTRIBUTION = "forward-compatible-releases"
_EXTRA = re.compile(r"([A-Za-z0-9._-]+).*extra == ['\"](\w+)['\"]")


def main() -> None:
    """Run the command; every expected error becomes one sentence and an exit code."""
    gc.set_threshold(50_000)  # most of a short command is importing, whose objects stay: to look through them for garbage is a tenth of it
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TQDM_MININTERVAL", "1")
    from fct import children
    from fct.errors import FctError

    again = "run the same command again to continue"
    try:
        children.interruptible()
        children.watch()
        from flows.cli.app import app

        code = app(standalone_mode=False)
        if code == 130:
            _fail(_interrupted(again))
        if isinstance(code, int) and code:
            sys.exit(code)
    except FctError as error:
        _fail(error)
    except KeyboardInterrupt:
        _fail(_interrupted(again))
    except Exception as error:
        _unexpected(error)


def _fail(error: FctError, *, said: bool = False) -> NoReturn:
    """Say it on stderr, unless it was ``said`` there, with ``--json`` on stdout too, and end."""
    import json

    if not said:
        print(f"fct: {error}", file=sys.stderr)
    if "--json" in sys.argv:
        print(json.dumps({"error": error.to_json()}, indent=2, sort_keys=True, ensure_ascii=False))
    sys.exit(error.exit_code)


def _interrupted(todo: str | None = None) -> FctError:
    from fct.errors import FctError

    error = FctError("interrupted", todo=todo, code="interrupted")
    error.exit_code = 130
    return error


def _not_installed(module: str) -> FctError:
    """A package is missing: the extra that has it. The base install is what vectors alone need."""
    from importlib.metadata import PackageNotFoundError, metadata

    from fct.errors import OperationFailed

    name = {"lance": "pylance", "faiss": "faiss-cpu"}.get(module, module).replace("_", "-")
    try:
        wanted = metadata(DISTRIBUTION).get_all("Requires-Dist") or []
    except PackageNotFoundError:  # the source alone, not installed
        wanted = []
    extras = [found[2] for line in wanted if (found := _EXTRA.match(line)) and found[1].lower() == name]
    todo = f"pip install '{DISTRIBUTION}[{extras[0] if extras[0] == 'ops' else 'ops,' + extras[0]}]'" if extras else f"pip install {name}"
    return OperationFailed("this command needs a package that is not installed", got=f"no {module}", todo=todo, code="not-installed")


def _unexpected(error: Exception) -> NoReturn:
    """End with errors of the libraries underneath: a sentence, never a traceback (``FCT_DEBUG=1`` shows it)."""
    import errno

    from fct.errors import BadInput, OperationFailed

    if os.environ.get("FCT_DEBUG"):
        import traceback

        traceback.print_exc()
    kind = type(error)
    if kind.__module__.startswith(("click", "typer")):
        if kind.__name__ == "Abort":
            _fail(_interrupted())
        show = getattr(error, "show", None)
        if show is not None:
            show(file=sys.stderr)
        usage = BadInput(str(getattr(error, "message", error)), code="usage")
        usage.exit_code = int(getattr(error, "exit_code", 2))
        _fail(usage, said=True)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        todo = "free some space and run the same command again"
        _fail(OperationFailed("the disk is full", got=error.filename or "no space left", todo=todo, code="disk-full"))
    if isinstance(error, ModuleNotFoundError) and error.name:
        _fail(_not_installed(error.name.split(".")[0]))
    first = (str(error).strip().splitlines() or [""])[0]
    _fail(OperationFailed(f"{kind.__name__}: {first}", todo="FCT_DEBUG=1 shows where", code="unexpected"))
