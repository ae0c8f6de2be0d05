"""The docs say what is so: commands, options, parameters, gates and methods that they name are there, and those that are there are named."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from fct.forward import METHODS
from registry.verdicts.names import GATES

ROOT = Path(__file__).parents[3]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES if page.exists()}
WRITTEN = {name: text for name, text in TEXTS.items() if name not in ("docs/commands.md", "docs/parameters.md", "docs/found.md")}
GAP = {"…", "...", "|"}  # where a line leaves something out


@pytest.fixture(scope="module")
def group() -> Any:
    import typer

    from flows.cli.app import app

    return typer.main.get_command(app)


def lines(text: str) -> list[str]:
    """What is typed as ``fct …``, in blocks and within sentences."""
    blocks = "\n".join(re.findall(r"(?ms)^```(?:console|bash|sh)\n(.*?)^```", text)).replace("\\\n", " ")
    found = re.findall(r"(?m)^(?:\$ )?(?:\.venv/bin/)?fct ([a-z][^#\n]*)", blocks)
    found += re.findall(r"`(?:\.venv/bin/)?fct ([a-z][^`\n]*)`", text)
    return [part.removeprefix("fct ") for line in found for part in re.split(r" (?:;|&&|→) (?=fct )", line)]


def problem(group: Any, line: str) -> str | None:
    """Why the real command line would not know what a line names."""
    words = [word for word in shlex.split(line.replace("'", "")) if word]
    name = words[0]
    if name not in group.commands:
        return f"no command {name}"
    known = {opt for one in group.commands[name].params for opt in (*one.opts, *one.secondary_opts)} | {"--help"}
    places = [one for one in group.commands[name].params if not one.opts[0].startswith("-")]
    for word in re.findall(r"(?<!\S)(--?[A-Za-z][\w-]*)", line):
        if word not in known:
            return f"{name} has no option {word}"
    takes = {opt: one.nargs for one in group.commands[name].params for opt in one.opts if opt.startswith("-") and not one.is_flag}
    plain, rest = 0, words[1:]
    while rest:
        word = rest.pop(0).lstrip("[").rstrip("]")
        if word in (">", "2>", "&&", ";", "&"):
            break
        if word.startswith("-"):
            rest = rest[0 if "=" in word else takes.get(word, 0) :]
        elif word not in GAP:
            plain += 1
    if plain and not places:
        return f"{name} takes nothing but options"
    return None


def test_commands_that_the_docs_type_are_there(group: Any) -> None:
    wrong, seen = [], 0
    for page, text in WRITTEN.items():
        for line in lines(text):
            seen += 1
            found = problem(group, line)
            wrong += [f"{page}: `fct {line}`: {found}"] if found else []
    assert not wrong, "\n".join(wrong)
    assert seen > 100


@pytest.mark.parametrize(
    ("line", "why"), [("improve", "no command"), ("promote 2 --forced", "no option"), ("down now", "nothing but options")]
)
def test_a_line_that_is_wrong_is_noticed(group: Any, line: str, why: str) -> None:
    assert why in str(problem(group, line))


def params() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return loaded


def dotted(value: dict[str, Any], above: str = "") -> list[str]:
    return [name for key, one in value.items() for name in [above + key, *(dotted(one, f"{above}{key}.") if isinstance(one, dict) else [])]]


def test_parameters_that_the_docs_name_are_there() -> None:
    blocks = {key for key, value in params().items() if isinstance(value, dict)}
    known, wrong = set(dotted(params())), []
    for page, text in WRITTEN.items():
        for name in re.findall(r"`([a-z_]+(?:\.[A-Za-z0-9_]+)+)(?::[^`]*)?`", text):
            if name.split(".")[0] in blocks and name not in known and not name.endswith((".json", ".pt2", ".py", ".yaml")):
                wrong.append(f"{page}: {name}")
    assert not wrong, wrong


def test_pages_made_from_the_source_are_as_it_is() -> None:
    reference = runpy.run_path(str(ROOT / "docs/reference.py"))
    for name, made in reference["PAGES"].items():
        assert (ROOT / name).read_text(encoding="utf-8") == made(), f"{name} is old: run `python docs/reference.py`"
    assert {key for key, _, _ in reference["keys"]()} >= {name for name in dotted(params()) if not isinstance(_at(params(), name), dict)}, (
        "a key of params.yaml was overlooked"
    )


def _at(value: Any, name: str) -> Any:
    for part in name.split("."):
        value = value[part]
    return value


def test_gates_and_methods_are_explained() -> None:
    for gate in GATES:
        assert f"| `{gate}` |" in TEXTS["docs/gates.md"], gate
        assert f"| `{gate}` |" in TEXTS["README.md"], gate
    assert "≥ 0.75 top-1" in TEXTS["README.md"] and "≤ 0.000001" in TEXTS["docs/gates.md"], "bounds as they are shipped"
    for method in METHODS:
        assert f"| `{method}` |" in TEXTS["docs/methods.md"], method
        assert f" {method}" in (ROOT / "params.yaml").read_text(encoding="utf-8").partition("  method: ")[2].partition("\n")[0], method


def test_help_texts_and_questions_are_whole_sentences(group: Any) -> None:
    """Each says what it is without the line above it."""
    wrong = []
    for name, command in group.commands.items():
        for title, text in [(name, command.help.partition("\n\nExample:")[0])] + [
            (f"{name} {one.name}", one.help) for one in command.params
        ]:
            whole = bool(text) and not text.startswith(("…", "Of ")) and text.rstrip().endswith(".") and "…" not in text
            wrong += [] if whole else [f"{title}: {text}"]
    questions = re.findall(r"(?m)^\| `(\w+)` \| ([^|]*) \|", TEXTS["README.md"].split("## The gates")[1].split("\n## ")[0])
    wrong += [f"{gate}: {question}" for gate, question in questions if not (question[0].isupper() and question.endswith("?"))]
    assert not wrong and len(questions) == len(GATES), "\n".join(wrong)


def gone(text: str) -> list[str]:
    """The Python files, and the tests in them, that a text names and that are not there; tests may be named from below tests/."""
    found = []
    for name, test in re.findall(
        r"`((?:fct|registry|flows|benchmarks|tests|unit|integration|end_to_end|hostile)/[\w/]+\.py)(?:::(\w+))?`", text
    ):
        path = next((one for one in (ROOT / name, ROOT / "tests" / name) if one.exists()), None)
        if path is None or (test and f"def {test}(" not in path.read_text(encoding="utf-8")):
            found.append(f"{name}::{test}" if test else name)
    return found


def test_files_and_tests_that_the_docs_name_are_there() -> None:
    wrong = [f"{page}: {name}" for page, text in WRITTEN.items() for name in gone(text)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["unit/test_ledger.py", "fct/nothing.py", "unit/registry/test_ledger.py::test_that_nobody_wrote"])
def test_a_file_that_is_gone_is_noticed(name: str) -> None:
    assert gone(f"`{name}`") == [name]


def test_links_lead_somewhere() -> None:
    wrong = []
    for page, text in TEXTS.items():
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in target and not ((ROOT / page).parent / target).exists():
                wrong.append(f"{page}: {target}")
    assert not wrong, wrong
