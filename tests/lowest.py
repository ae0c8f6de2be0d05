"""``make lowest``: the unit tests with the lowest releases that pyproject.toml allows, in an environment of its own.

``python -m tests.lowest [words for pytest ...]``. It ends with the releases that were installed of what pyproject.toml names.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = ("ops", "cpu", "postgres", "qdrant", "heic")
# the lowest release is one with a wheel for this Python; antlr4, which dvc brings, has none for any (it is pure Python)
WHEELS = ("--only-binary", ":all:", "--no-binary", "antlr4-python3-runtime")
UNIT = ("-m", "not slow and not long", "tests/unit")
WORKERS = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder", "-p", "no:cacheprovider")


def named() -> set[str]:
    """The packages that pyproject.toml names for these extras and for the tests."""
    optional = PROJECT["project"]["optional-dependencies"]
    lists = [PROJECT["project"]["dependencies"], *(optional[extra] for extra in EXTRAS), PROJECT["dependency-groups"]["dev"]]
    return {re.split(r"[<>=!~ ;\[]", one)[0].lower() for requirements in lists for one in requirements}


def uv(*words: str | Path) -> None:
    subprocess.run(["uv", *words, "--quiet"], cwd=ROOT, check=True)


def environment(folder: Path, pinned: Path) -> Path:
    """Resolve, install and write down ``pinned``; the environment's folder of programs."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    lowest = ("--group", "dev", "--resolution", "lowest-direct", "--python-version", version, *WHEELS)
    uv("pip", "compile", "pyproject.toml", *extras, *lowest, "--no-header", "--no-annotate", "-o", pinned)
    uv("venv", "--python", sys.executable, folder)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    uv("pip", "sync", "--python", programs / "python", *WHEELS, pinned)
    uv("pip", "install", "--python", programs / "python", "--no-deps", "-e", ".")
    return programs


def main(words: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="fct-lowest-", ignore_cleanup_errors=True) as root:
        pinned = Path(root) / "pinned.txt"
        print("installing the lowest releases ...", file=sys.stderr)
        programs = environment(Path(root) / "venv", pinned)
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        ran = subprocess.run(
            [programs / "python", "-m", "pytest", *(words or (*WORKERS, *UNIT))], cwd=ROOT, env=os.environ | {"PATH": path}
        )
        releases = [line for line in pinned.read_text(encoding="utf-8").splitlines() if line.split("==")[0] in named()]
    print(f"Python {platform.python_version()}: {', '.join(line.replace('==', ' ') for line in releases)}")
    return ran.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
