"""``python -m tests.mutants``: puts small faults into the modules that a promotion rests on, and says which of them no test notices.

A sample of them, drawn by seed: the same while the code is, and a smaller sample is the beginning of a larger one. Each result is kept at
once in ``tests/mutants/results.jsonl``, so a run that was cut short goes on. docs/mutants.md is written anew from it.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import shutil
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from tests.mutants.making import Mutant, mutants
from tests.mutants.page import read_reasons, write
from tests.mutants.running import TOO_LONG, Copy, Watch, warm

MOST_S = 300.0  # of tests for one mutant: those that take least come first
LEAST_S, FACTOR = 30.0, 6.0  # the limit of a mutant: so long, and so many times what its tests took without it


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Which small faults does no test notice?")
    parser.add_argument("--sample", type=int, default=400, help="how many mutants (400)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (0)")
    parser.add_argument("--workers", type=int, default=2, help="how many at once (2)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no mutant after so long; 0 writes the page only")
    parser.add_argument("--survivors", action="store_true", help="run those again that survived and have no reason")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2], help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    tree = Tree(asked.root.resolve())
    every = tree.mutants()
    drawn = sorted(every, key=lambda one: hashlib.sha256(f"{asked.seed} {one.key}".encode()).digest())[: asked.sample]
    done = tree.results()
    again = {key for key, found in done.items() if found["outcome"] == "survived"} - read_reasons(tree.root).keys()
    todo = [one for one in drawn if one.key not in done or (asked.survivors and one.key in again)]
    if todo and asked.minutes > 0:
        (tree.root / "build/mutants").mkdir(parents=True, exist_ok=True)
        with FileLock(tree.root / "build/mutants/lock", timeout=0):  # the copies are of one run
            _run(tree, todo, asked.workers, time.monotonic() + 60 * asked.minutes)
    write(tree.root, tree.rooms(), every, drawn, tree.results(), most=MOST_S, least=LEAST_S, factor=FACTOR)
    return 0


@dataclass(frozen=True)
class Tree:
    """The working tree: what is mutated in copies of it, and what came of that."""

    root: Path

    def settings(self) -> dict[str, Any]:
        return tomllib.loads((self.root / "tests/mutants/mutants.toml").read_text(encoding="utf-8"))

    def rooms(self) -> dict[str, str]:
        """File → its row in the page."""
        found = {}
        for room, patterns in self.settings()["modules"].items():
            found |= {path.relative_to(self.root).as_posix(): room for one in patterns for path in sorted(self.root.glob(one))}
        return found

    def mutants(self) -> list[Mutant]:
        return [one for file in self.rooms() for one in mutants(file, (self.root / file).read_bytes())]

    @property
    def kept(self) -> Path:
        return self.root / "tests/mutants/results.jsonl"

    def results(self) -> dict[str, dict[str, Any]]:
        """Key → the latest result."""
        lines = self.kept.read_text(encoding="utf-8").splitlines() if self.kept.exists() else []
        return {found["key"]: found for found in map(json.loads, lines)}


def _run(tree: Tree, todo: list[Mutant], workers: int, until: float) -> None:
    folder, mark = tree.root / "build/mutants", tree.settings()["mark"]
    copies = [Copy.of(tree.root, folder, number, mark) for number in range(workers)]
    cover = _cover(tree, copies, folder)
    free, busy = list(copies), dict[int, tuple[Copy, Mutant, Callable[[], None], int, float, float]]()
    once = set(os.listdir(copies[0].once)) if copies[0].once.is_dir() else set()
    with tqdm(total=len(todo), desc="mutants", disable=None) as bar:
        while busy or (todo and time.monotonic() < until):
            while free and todo and time.monotonic() < until:
                mutant = todo.pop(0)
                if not (tests := chosen(mutant, cover)):
                    _keep(tree, mutant, "survived", "", 0, 0.0)
                    bar.update()
                    continue
                copy = free.pop()
                undo = copy.put(mutant)
                limit = LEAST_S + FACTOR * sum(cover["took"][name] for name in tests)
                pid = copy.fork(list(dict.fromkeys(name.split("::")[0] for name in tests)), Watch(copy.root, chosen=tests), "-x")
                busy[pid] = copy, mutant, undo, len(tests), time.monotonic(), time.monotonic() + limit
            for pid, (copy, mutant, undo, many, began, deadline) in list(busy.items()):
                if (code := copy.ended(pid, deadline)) is not None:
                    failed = json.loads(copy.answer.read_text(encoding="utf-8"))["failed"] if copy.answer.exists() else []
                    outcome = {0: "survived", TOO_LONG: "too long"}.get(code, "killed")
                    test = failed[0] if failed else "" if code in (0, TOO_LONG) else f"exit status {code}"
                    _keep(tree, mutant, outcome, test, many, time.monotonic() - began)
                    undo()
                    for name in set(os.listdir(copy.once)) - once if once else ():  # made by a mutant
                        shutil.rmtree(copy.once / name, ignore_errors=True)
                    free.append(copy)
                    del busy[pid]
                    bar.update()
            time.sleep(0.02)


def _keep(tree: Tree, mutant: Mutant, outcome: str, test: str, many: int, took: float) -> None:
    found = {"key": mutant.key, "file": mutant.file, "line": mutant.line, "operator": mutant.operator, "before": mutant.before}
    found |= {"after": mutant.after, "outcome": outcome, "test": test, "tests": many, "seconds": round(took, 1)}
    with tree.kept.open("a", encoding="utf-8") as kept:
        kept.write(json.dumps(found, ensure_ascii=False) + "\n")


def chosen(mutant: Mutant, cover: dict[str, Any]) -> list[str]:
    """The tests that a mutant meets: those that run a line of its statement, by what they take, as many as fit into :data:`MOST_S`.

    A statement that runs at import meets every test of each file with a test that runs any line of the module.
    """
    first, last = mutant.lines if mutant.scope else (0, 10**9)
    near = {name for name, lines in cover["lines"].items() if any(file == mutant.file and first <= line <= last for file, line in lines)}
    near |= set() if mutant.scope else {name.split("::")[0] for name in near}
    tests = [name for name in cover["took"] if name in near or name.split("::")[0] in near]
    total, within = 0.0, set()
    for name in sorted(tests, key=cover["took"].__getitem__):
        total += cover["took"][name]
        within |= {name} if total <= MOST_S else set()
    of_file: dict[str, float] = defaultdict(float)
    for name in within:
        of_file[name.split("::")[0]] += cover["took"][name]
    return sorted((name for name in tests if name in within), key=lambda name: of_file[name.split("::")[0]])


def _cover(tree: Tree, copies: list[Copy], folder: Path) -> dict[str, Any]:
    """What each test took and which lines it ran, without a mutant: ``took`` and ``lines``. Kept while neither code nor test file changes."""
    copy, kept = copies[0], folder / "coverage.json"
    files = {
        path.relative_to(copy.root).as_posix(): path.read_bytes()
        for path in sorted(copy.root.rglob("*.py"))
        if "mutants" not in path.parts[-2:]
    }
    tests = [name for name in files if Path(name).name.startswith("test_") and name.startswith(tuple(tree.settings()["tests"]))]
    code = hashlib.sha256(b"".join(text for name, text in files.items() if not Path(name).name.startswith("test_"))).hexdigest()
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    known = known if known.get("code") == code else {"code": code, "files": {}}
    if not known["files"]:
        shutil.rmtree(copy.temporary.parent, ignore_errors=True)  # what tests made once with the earlier code
    for one in copies:
        found = one.run(tests, Watch(one.root), "--collect-only", bytecode=True)
    warm(found)
    for test in tqdm(tests, desc="without a mutant", disable=None):
        if known["files"].get(test, {}).get("text") != (text := hashlib.sha256(files[test]).hexdigest()):
            known["files"][test] = copy.run([test], Watch(copy.root, tree.rooms())) | {"text": text}
            known["files"][test].pop("environment")
            kept.write_text(json.dumps(known), encoding="utf-8")
            for name in known["files"][test]["failed"]:
                print(f"fails without a mutant: {name}", file=sys.stderr)
    whole: dict[str, Any] = {"took": {}, "lines": {}}
    for test in tests:
        one = known["files"][test]
        warm({"environment": {}, "modules": one["modules"]})
        whole["took"] |= {name: took for name, took in one["took"].items() if name not in one["failed"]}
        whole["lines"] |= one["lines"]
    gc.freeze()  # a child that collects garbage would write to every page that it shares
    return whole


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
