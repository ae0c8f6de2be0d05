"""Write the pages and texts that are made from the source.

    python docs/reference.py

docs/commands.md comes from the command line itself, docs/parameters.md from params.yaml, what names the methods of h, the stores and the gates from their
specs, and the texts of `fct init` (flows/project/) from params.yaml and dvc.yaml. Run it after any of these has changed; a test
(tests/unit/project/test_docs.py) compares.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from registry.params import read
from registry.verdicts.declaration import OfGallery, OfSample, declared

ROOT = Path(__file__).parents[1]
MADE = "<!-- made by docs/reference.py: change the source, not this page -->"
NOTE = "# DVC watches data and settings, not the package: after an update of it, `dvc repro --force` computes everything anew."
WATCHED = "# deps: [/path/to/images]   # your own folder, if DVC is to notice when it changes"
KEY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z_][A-Za-z0-9_]*):(?P<value>[^#]*)(?:#\s*(?P<comment>.*))?")


def commands() -> str:
    """docs/commands.md."""
    import typer

    from flows.cli.app import app

    group: Any = typer.main.get_command(app)
    out = ["# Commands", "", MADE, "", "Every command explains itself with `--help`, which is what this page is made from.", ""]
    out += [f"- [`fct {name}`](#fct-{name}): {_first(command)}" for name, command in sorted(group.commands.items())]
    for name, command in sorted(group.commands.items()):
        said = re.sub(r"(?m)^Example: (.*)", r"Example: `\1`", str(command.help).strip())
        out += ["", f"## fct {name}", "", said, ""]
        rows = [_row(one) for one in command.params if not one.hidden]
        out += ["| option | what it is | default |", "|---|---|---|", *rows] if rows else []
    return "\n".join(out) + "\n"


def _first(command: Any) -> str:
    return " ".join(str(command.help).strip().split("\n\n")[0].split())


def _row(one: Any) -> str:
    name = " ".join(f"`{opt}`" for opt in (*one.opts, *one.secondary_opts)) if one.opts[0].startswith("-") else f"`{one.name.upper()}`"
    default = "required" if one.required else "" if one.default in (None, False, (), []) else f"`{one.default}`"
    return f"| {name} | {' '.join(str(one.help or '').split())} | {default} |".replace("||", "\\|\\|")


def parameters() -> str:
    """docs/parameters.md."""
    out = ["# Parameters", "", MADE, "", "Everything that can be set in `params.yaml`, with the values that the repository ships.", ""]
    out += ["| key | shipped value | what it is |", "|---|---|---|"]
    out += [f"| `{key}` | {f'`{value}`' if value else ''} | {comment} |" for key, value, comment in keys()]
    return "\n".join(out) + "\n"


def keys() -> Iterator[tuple[str, str, str]]:
    """Dotted key, value and comment of each line of params.yaml that sets one."""
    above: list[tuple[int, str]] = []
    for line in (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines():
        match = KEY.fullmatch(line.rstrip())
        if match is None:
            continue
        indent, value = len(match["indent"]), match["value"].strip()
        above = [*(one for one in above if one[0] < indent), (indent, match["key"])]
        comment = (match["comment"] or "").replace("|", "\\|")
        if value or comment:
            yield ".".join(name for _, name in above), value.replace("|", "\\|"), comment


def methods() -> str:
    """docs/methods.md with its table, between two marks, made from the specs (fct/forward/methods)."""
    from fct.forward.methods import KNOWN
    from fct.forward.spec import USES

    rows = ["| `--method` | h | minimises | source | uses beside the pairs |", "|---|---|---|---|---|"]
    for one in KNOWN.values():
        uses = ", ".join(word for use, word in USES.items() if use in one.uses) or "–"
        rows.append(f"| `{one.name}` | {one.h} | {one.minimises} | {one.source} | {uses} |")
    return _between("docs/methods.md", "methods", rows)


def stores() -> str:
    """docs/gallery.md with its table of stores, made from registry/exports."""
    from registry.exports import base

    rows = ["| `fct export …` | what it is | needs the extra |", "|---|---|---|"]
    rows += [f"| `{one.address}` | {one.help} | {f'`{one.extra}`' if one.extra else '–'} |" for one in base.stores()]
    return _between("docs/gallery.md", "stores", rows)


def questions() -> str:
    """README.md with its table of gates."""
    rows = [f"| `{name}` | {gate.question} | {bounded(gate.passes)} |" for name, gate in declared().items()]
    return _between("README.md", "gates", ["| gate | question | passes when |", "|---|---|---|", *rows])


def gates() -> str:
    """docs/gates.md with its table of gates."""
    rows = ["| gate | of | what is measured | passes when | keys in `params.yaml`, `validate` |", "|---|---|---|---|---|"]
    for name, gate in declared().items():
        of = "each h" if isinstance(gate, OfSample) else "the gallery"
        of += ", of a first release too" if isinstance(gate, OfGallery) and gate.first_release else ""
        keys_ = ", ".join(f"`{key}`" for key in gate.keys) or "–"
        rows.append(f"| `{name}` | {of} | {bounded(gate.measured)} | {bounded(gate.passes)} | {keys_} |")
    return _between("docs/gates.md", "gates", rows)


def bounded(text: str) -> str:
    """A text of a gate with the bounds that the repository ships in place of their keys."""
    shipped = vars(read(ROOT / "params.yaml").validate)
    return text.format(**{key: np.format_float_positional(v, trim="-") if isinstance(v, float) else v for key, v in shipped.items()})


def _between(page: str, mark: str, rows: list[str]) -> str:
    """A page with these rows between its two marks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    pattern = rf"(?s)(<!-- {mark}:begin.*?-->\n).*(<!-- {mark}:end -->)"
    return re.sub(pattern, lambda found: found[1] + "\n" + "\n".join(rows) + "\n\n" + found[2], text)


def settings() -> str:
    """params.yaml with the methods' names beside ``fit.method``."""
    from fct.forward.settings import AUTO, METHODS

    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    return re.sub(r"(?m)^(fit:\n  method: \S+ +# ).*$", lambda found: found[1] + " ".join((AUTO, *METHODS)), text)


def pipeline() -> str:
    """dvc.yaml for projects that are no copy of this repository: without its code among the deps."""

    def without_code(found: re.Match[str]) -> str:
        deps = [dep.strip() for dep in found["deps"].split(",")]
        data = [dep for dep in deps if dep and not dep.startswith(("fct/", "registry/"))]
        return found["indent"] + (f"deps: [{', '.join(data)}]" if data else WATCHED)

    text = re.sub(r"(?m)^# The code among the deps .*$", NOTE, (ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    return re.sub(r"(?P<indent> +)deps: \[(?P<deps>[^\]]*)\]", without_code, text)


def begun() -> str:
    """params.yaml as it is."""
    return (ROOT / "params.yaml").read_text(encoding="utf-8")


PAGES = {  # in this order: params.yaml is read for its page
    "params.yaml": settings,
    "flows/project/params.yaml": begun,
    "flows/project/dvc.yaml": pipeline,
    "docs/commands.md": commands,
    "docs/parameters.md": parameters,
    "docs/methods.md": methods,
    "docs/gallery.md": stores,
    "docs/gates.md": gates,
    "README.md": questions,
}


def main() -> None:
    for name, made in PAGES.items():
        (ROOT / name).write_text(made(), encoding="utf-8")
        print(name)


if __name__ == "__main__":
    main()
