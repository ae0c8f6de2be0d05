"""``python -m tests.found [POINT ...]``: takes each fix back, and each test must fail; with the fix, each must pass.

In a copy of the tracked files, so that nothing here changes. Without points all are run; docs/found.md gets the sections of those that were.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from tests.found.points import ROOT, Point, points

PAGE = ROOT / "docs/found.md"
HEAD = """# What was found, and what shows that it is gone
Written by `python -m tests.found`: in a copy of the code it brings each fault back (the text is in `tests/found/`), runs the tests named here, which must fail,
and runs them on the code as it is, where they must pass. A test in CI sees to it that each of these texts still fits the code.

"""


def main(wanted: list[str]) -> int:
    every = points()
    if unknown := set(wanted) - {point.name for point in every}:
        print(f"no such point: {', '.join(sorted(unknown))}; there are {' '.join(point.name for point in every)}", file=sys.stderr)
        return 2
    chosen = [point for point in every if not wanted or point.name in wanted]
    with tempfile.TemporaryDirectory() as folder:
        now = _outcomes(_copy(Path(folder) / "now"), sorted({test for point in chosen for test in point.tests}))

        def without(point: Point) -> dict[str, str]:
            root = _copy(Path(folder) / point.name)
            for undo in point.undo:
                undo.apply(root)
            outcomes = _outcomes(root, list(point.tests))
            shutil.rmtree(root)
            return outcomes

        with ThreadPoolExecutor(os.cpu_count()) as several:
            bar = tqdm(several.map(without, chosen), desc="fixes taken back", total=len(chosen), disable=None)
            then = dict(zip((point.name for point in chosen), bar, strict=True))
    wrong = []
    for point in chosen:
        for test in point.tests:
            if now.get(test) not in ("passed", "skipped"):
                wrong.append(f"{point.name}: {test} {now.get(test, 'did not run')} with the fix; wanted passed")
            elif now[test] == "passed" and then[point.name].get(test) != "failed":
                wrong.append(f"{point.name}: {test} {then[point.name].get(test, 'did not run')} without the fix; wanted failed")
    print(
        "\n".join(wrong)
        or f"{len(chosen)} fixes taken back: {sum(len(point.tests) for point in chosen)} tests fail without them and pass with them"
    )
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    sections = {text.split()[1]: text for text in re.findall(r"(?ms)^## \S+\n.*?(?=^## |\Z)", page)}
    sections |= {point.name: _lines(point, now, then[point.name]) for point in chosen}
    PAGE.write_text(
        HEAD + "\n".join(sections[point.name].rstrip("\n") + "\n" for point in every if point.name in sections), encoding="utf-8"
    )
    return 1 if wrong else 0


def _lines(point: Point, now: dict[str, str], then: dict[str, str]) -> str:
    lines = [f"## {point.name}", f"**Found.** {point.found}", "", f"**Now.** {point.now}", ""]
    if point.decided:
        lines += [f"**Decided otherwise.** {point.decided}", ""]
    lines += ["| test | fix taken back | with it |", "|---|---|---|"]
    lines += [f"| `{test}` | {then.get(test, 'did not run')} | {now.get(test, 'did not run')} |" for test in point.tests]
    return "\n".join(lines) + "\n"


def _copy(to: Path) -> Path:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


def _outcomes(root: Path, tests: list[str]) -> dict[str, str]:
    """How each test ended: passed, failed or skipped. The copy's modules come before those that are installed."""
    report = root / "outcomes.xml"
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", "-o", "junit_family=xunit1", *tests]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if not report.exists():
        return dict.fromkeys(tests, f"did not run: {(done.stdout + done.stderr).strip().splitlines()[-1][:200]}")
    found: dict[str, str] = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        inside = {child.tag for child in case}
        outcome = "failed" if inside & {"failure", "error"} else "skipped" if "skipped" in inside else "passed"
        file, classes = case.get("file", ""), case.get("classname", "").split(".")
        class_names = classes[len(Path(file).with_suffix("").parts) :]
        full = "::".join([file, *class_names, case.get("name", "")])
        for name in {full, full.split("[")[0]}:
            found[name] = max(found.get(name, ""), outcome, key=["", "passed", "skipped", "failed"].index)
    if not found:
        return dict.fromkeys(tests, "failed")  # nothing was collected: the module itself no longer imports
    return {test: found[test] for test in tests if test in found}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
