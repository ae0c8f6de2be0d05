"""What the commands share."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fct.errors import printable

VECTORS = "Any vectors: files in, files out"
DEFAULT = Path("params.yaml")
Out = Annotated[Path, typer.Option("--out", help="Path of the result. It is written atomically.")]
Params = Annotated[Path, typer.Option("--params", help="Path of the project's params.yaml.")]
By = Annotated[str, typer.Option("--by", help="Your name. The ledger records it.")]
Why = Annotated[str, typer.Option("--why", help="Your reason. The ledger records it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and print what the command would do, but change nothing.")]
ME = os.environ.get("USER") or "me"
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print the result as one JSON object on stdout. If the command fails, the object holds the error, its code and its parts.",
    ),
]
Root = Annotated[
    list[Path] | None,
    typer.Option(help="Another folder to which links or tables may point, besides data.roots. It can be given several times."),
]


def say(*lines: str) -> None:
    """Sentences for people, on stderr, each in a line of its own."""
    print(shown(*lines), file=sys.stderr)


def give(value: Any, as_json: bool, *lines: str) -> None:
    """The result: JSON or lines of text, on stdout."""
    print(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) if as_json else shown(*lines))


def shown(*lines: str) -> str:
    """Ids, labels and names of files come from others: what would move the terminal's cursor, or make a line, is shown as an escape."""
    return "\n".join(map(printable, lines))


def workspace(params: Path) -> Any:
    """Open the workspace."""
    from registry.workspace import open_workspace

    return open_workspace(params)


def set_threads(settings: Any) -> None:
    """Let torch use the CPU threads of params.yaml, and keep the memory that it frees."""
    from fct.device import keep_memory, use_threads

    keep_memory()
    use_threads(settings.threads)


def opened(params: Path) -> Any:
    """Open the workspace for work: torch's threads are set."""
    ws = workspace(params)
    set_threads(ws.settings)
    return ws
