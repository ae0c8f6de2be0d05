"""The command line. Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.

Exit codes: 0 done · 1 an operation failed · 2 bad input · 3 not permitted by verdict, approval or digest · 130 interrupted.
Data goes to stdout (``--json`` where offered), progress to stderr.
"""

from __future__ import annotations

import gc
import os
import sys
import warnings


def main() -> None:
    """Run the command; every expected error becomes one sentence and an exit code."""
    gc.set_threshold(50_000)  # most of a short command is importing, whose objects stay: to look through them for garbage is a tenth of it
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TQDM_MININTERVAL", "1")
    from fct import children
    from fct.errors import FctError

    try:
        children.interruptible()
        children.watch()
        from flows.cli.app import app

        code = app(standalone_mode=False)
        if code == 130:
            print("fct: interrupted; run the same command again to continue", file=sys.stderr)
        if isinstance(code, int) and code:
            sys.exit(code)
    except FctError as error:
        print(f"fct: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("fct: interrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        sys.exit(_unexpected(error))


def _unexpected(error: Exception) -> int:
    """The exit code for errors of the libraries underneath; a sentence, never a traceback (``FCT_DEBUG=1`` shows it)."""
    import errno

    if os.environ.get("FCT_DEBUG"):
        import traceback

        traceback.print_exc()
    kind = type(error)
    if kind.__module__.startswith(("click", "typer")):
        code = getattr(error, "exit_code", 2)
        show = getattr(error, "show", None)
        if kind.__name__ == "Abort":
            print("fct: interrupted", file=sys.stderr)
            return 130
        if show is not None:
            show(file=sys.stderr)
        return int(code)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        print(
            f"fct: the disk is full; got {error.filename or 'no space left'}; free some space and run the same command again",
            file=sys.stderr,
        )
        return 1
    first = (str(error).strip().splitlines() or [""])[0]
    print(f"fct: {kind.__name__}: {first}; FCT_DEBUG=1 shows where", file=sys.stderr)
    return 1
