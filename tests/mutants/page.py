"""docs/mutants.md, from the results and the reasons."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from tests.mutants.making import Mutant

HEAD = """# Which small faults do the tests notice?
Written by `python -m tests.mutants`. It puts one small fault (a *mutant*) at a time into the modules on whose correctness a promotion
rests, and runs the tests that run the changed statement. A mutant is *killed* if one of them fails. A mutant that *survived* is equal to
the code in all that matters, or a test is missing.

## How it works
| question | answer |
|---|---|
| Which modules? | those that `tests/mutants/mutants.toml` names |
| Which faults? | another comparison, `and` for `or`, a condition left out or turned over, another sum, another number, text, true or false, `min` for `max`, `lower` for `upper`, a statement left out, nothing returned, a filter left out |
| Where are none? | docstrings, annotations, decorators, imports, what is raised or printed, f-strings, texts with a space, `__repr__`, arguments and variables such as `todo` and `note`: what is for people |
| Which are drawn? | a sample by seed, over all modules. It stays the same while the code does; a smaller sample is the beginning of a larger one |
| Which tests? | those of the fast tests named in `mutants.toml` that run a line of the statement, seen by a run without mutants; those that take least come first, {most:.0f} s of them at most. A statement that runs at import meets every test of the module |
| How quickly? | one process has the libraries imported. It forks a child for each mutant, and the child imports the project from a copy of the tree under `build/mutants`. The working tree is never changed |
| What ends a mutant that hangs? | a limit: {least:.0f} s and {factor:.0f} times what its tests take without it. Then it counts as killed (*too long*) |
| What is kept? | each result at once, in `tests/mutants/results.jsonl`; a run that was cut short goes on. `--survivors` runs those again that survived and have no reason |

No tool does this well here. mutmut 3 mutates functions without decorators only, so no bound of a gate and no field of a class, and has no
sample. cosmic-ray starts a process for each mutant, which costs more than most tests here: torch and MLflow are imported anew. So the
faults are made with Python's `ast`.

What tests make once for all (two tiny releases) is made without a mutant, so a mutant that only spoils their making survives.
"""


def write(
    tree: Path, rooms: dict[str, str], every: list[Mutant], drawn: list[Mutant], results: dict[str, dict[str, Any]], **limits: float
) -> None:
    """Write the page: the score for each room, and each survivor with its reason."""
    lines = [
        "",
        "## The score",
        "| room | mutants | drawn | run | killed | too long | survived | killed, of those run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in [*dict.fromkeys(rooms.values()), "all"]:
        of_room = [one for one in drawn if name in (rooms[one.file], "all")]
        count = Counter(results[one.key]["outcome"] for one in of_room if one.key in results)
        run, gone = count.total(), count["killed"] + count["too long"]
        numbers = [
            sum(name in (rooms[one.file], "all") for one in every),
            len(of_room),
            run,
            count["killed"],
            count["too long"],
            count["survived"],
        ]
        lines.append(f"| {name} | {' | '.join(map(str, numbers))} | {f'{100 * gone / run:.0f} %' if run else ''} |")
    reasons = read_reasons(tree)
    lines += ["", "## Survivors", "| where | mutant | why no test notices |", "|---|---|---|"]
    for one in sorted(drawn, key=lambda one: (list(rooms).index(one.file), one.start)):
        if results.get(one.key, {}).get("outcome") == "survived":
            what = f"{_cell(one.before)} → {_cell(one.after)}"
            lines.append(f"| `{one.file}`, line {one.line} (`{one.key}`) | {what} | {reasons.get(one.key, 'not looked at yet')} |")
    text = HEAD.format(**limits) + "\n".join(lines) + "\n"
    (tree / "docs").mkdir(exist_ok=True)
    (tree / "docs/mutants.md").write_text(text, encoding="utf-8")


def read_reasons(tree: Path) -> dict[str, str]:
    """Key of a survivor → why no test notices it."""
    path = tree / "tests/mutants/reasons.toml"
    found = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {key: reason for reason, keys in ((one["why"], one["mutants"]) for one in found.get("reason", [])) for key in keys}


def _cell(text: str) -> str:
    short = " ".join(text.split())
    short = short if len(short) <= 90 else short[:90] + " …"
    return "`" + short.replace("|", "\\|").replace("`", "'") + "`"
