"""``make test-elsewhere``: the tests that could care run as on other machines; a table says how each variation ended.

``python -m tests.elsewhere [--list] [variation ...]``. What this machine does not have is skipped with a sentence.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
GROUPED = ("--dist", "loadfile", "--no-loadscope-reorder")
PORTS = (4200, 5000, 8080)  # Prefect's, MLflow's, and everybody's first choice
NOBODY = 65534
LIFE = "tests/end_to_end/test_life.py"
BAD_INPUT = ("tests/end_to_end/test_bad_input.py", "tests/end_to_end/test_bad_arrays.py")
INTERRUPTIONS = "tests/end_to_end/test_interruptions.py"
LOCKS = ("tests/unit/registry/test_lock.py", "tests/unit/registry/test_ledger.py")
NUMBERS = (
    "tests/unit/forward/test_forward_api.py",
    "tests/unit/forward/test_forward_fitting.py",
    "tests/unit/forward/test_forward_network.py",
    "tests/unit/program/test_program.py",
    "tests/unit/embedder/test_training.py",
    "tests/unit/sample/test_evaluation.py",
    "tests/unit/release/test_release.py",
    "tests/unit/gallery/test_index.py",
    "tests/end_to_end/test_canary_mutants.py",
)
WORDS = (
    "tests/unit/flows/test_cli_fit.py",
    "tests/unit/flows/test_cli_try.py",
    "tests/unit/report/test_report.py",
    "tests/unit/versions/test_status.py",
)


class Lacking(Exception):
    """What this machine does not have."""


@dataclass
class Place:
    """Where and how pytest runs."""

    folder: Path = ROOT
    python: str = sys.executable
    before: tuple[str, ...] = ()
    flags: tuple[str, ...] = ("-n", "auto", *GROUPED)
    environment: dict[str, str] = field(default_factory=dict)


def one_core(stack: ExitStack) -> Place:
    if shutil.which("taskset") is None:
        raise Lacking("no taskset on this machine (Debian: util-linux), which would keep the tests on one core")
    core = min(os.sched_getaffinity(0))
    return Place(before=("taskset", "-c", str(core)))


def four_workers(stack: ExitStack) -> Place:
    return Place(flags=("-n", "4", *GROUPED))


def older_processor(stack: ExitStack) -> Place:
    return Place(environment={"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "default"})


def far_away(stack: ExitStack) -> Place:
    return Place(environment={"TZ": "Asia/Kolkata", "LC_ALL": "C", "LANG": "C"})


def taken_ports(stack: ExitStack) -> Place:
    for port in PORTS:
        one = stack.enter_context(socket.socket())
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
            one.listen()
        except OSError:
            print(f"port {port} is taken already, which is what is wanted", file=sys.stderr)
    return Place()


@contextmanager
def copy_of_the_tree(name: str) -> Iterator[Path]:
    """The files that git knows or would add, elsewhere."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    with tempfile.TemporaryDirectory(prefix="fct-", ignore_cleanup_errors=True) as root:
        folder = Path(root) / name
        for file in filter(None, listed.stdout.split("\0")):
            if (ROOT / file).is_file():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, folder / file)
        yield folder


def odd_folder(stack: ExitStack) -> Place:
    """A clone with an environment of its own, as `make install` makes it there; what the tests write lies there, too."""
    folder = stack.enter_context(copy_of_the_tree("a clone with ü"))
    made = subprocess.run(["make", f"PYTHON={sys.executable}", "install"], cwd=folder, capture_output=True, text=True, check=False)
    if made.returncode:
        raise AssertionError(f"make install failed: {made.stderr[-3000:]}")
    for words in (("fct", "--help"), ("dvc", "--version"), ("mlflow", "--version")):
        ran = subprocess.run([folder / ".venv/bin" / words[0], *words[1:]], cwd=folder, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise AssertionError(f"{' '.join(words)} failed: {ran.stderr[-3000:]}")
    flags = ("-n", "auto", *GROUPED, "--basetemp", str(folder.parent / "written ü"))
    return Place(folder, str(folder / ".venv/bin/python"), flags=flags)


def runs(python: str, environment: dict[str, str]) -> bool:
    """Whether nobody's process finds its modules with this interpreter, and starts it once more, as tests do."""
    code = "import subprocess, sys, pytest, torch, mlflow.version; subprocess.run([sys.executable, '-c', ''], check=True)"
    switched = subprocess.run(
        [*as_nobody(), python, "-c", code], cwd="/", env=os.environ | environment, capture_output=True, text=True, check=False
    )
    return switched.returncode == 0


def as_nobody() -> tuple[str, ...]:
    return ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs")


def without_root(stack: ExitStack) -> Place:
    """Another user, in a copy of the tree that belongs to it."""
    if os.geteuid():
        raise Lacking("these tests run without root already")
    if shutil.which("setpriv") is None:
        raise Lacking("no setpriv on this machine (Debian: util-linux), which would run the tests as another user")
    folder = stack.enter_context(copy_of_the_tree("clone"))
    home = folder.parent / "home"
    home.mkdir()
    folder.parent.chmod(0o755)
    for path in (folder.parent, *folder.parent.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    environment = {"HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": str(folder)}
    if runs(sys.executable, environment):
        return Place(folder, before=as_nobody(), environment=environment)
    # root's own interpreter may lie where nobody else may look: the machine's, with the modules of the environment
    modules = next(path for path in sys.path if path.endswith("site-packages"))
    environment["PYTHONPATH"] = os.pathsep.join((str(folder), modules))
    python = shutil.which(f"python{sys.version_info.major}.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin:/bin")
    if python is None or not runs(python, environment):
        raise Lacking("no interpreter of this version that another user than root may run")
    return Place(folder, python, before=as_nobody(), environment=environment)


Variation = tuple[Callable[[ExitStack], Place], tuple[str, ...]]
VARIATIONS: dict[str, Variation] = {
    "one core": (one_core, (*LOCKS, "tests/integration/test_services.py", INTERRUPTIONS)),
    "four workers": (
        four_workers,
        (*LOCKS, *WORDS, "tests/integration/test_services.py", INTERRUPTIONS, "tests/end_to_end/test_doctor.py"),
    ),
    "older processor": (older_processor, NUMBERS),
    "without root": (
        without_root,
        (
            *LOCKS,
            "tests/unit/arrays/test_files.py",
            "tests/unit/flows/test_cli_fit.py",
            "tests/integration/test_services.py",
            LIFE,
            *BAD_INPUT,
        ),
    ),
    "folder with a space and ü": (odd_folder, (*LOCKS, *WORDS, "tests/integration/test_services.py", LIFE, *BAD_INPUT, INTERRUPTIONS)),
    "Kolkata, locale C": (
        far_away,
        (*LOCKS, *WORDS, "tests/unit/datasets/test_datasets_folder.py", LIFE, *BAD_INPUT, "tests/end_to_end/test_doctor.py"),
    ),
    "ports taken": (
        taken_ports,
        (
            "tests/integration/test_services.py",
            LIFE,
            "tests/end_to_end/test_serve.py",
            "tests/end_to_end/test_serve_moving.py",
            "tests/end_to_end/test_doctor.py",
        ),
    ),
}


def outcome(name: str) -> str:
    """Run one variation; its last line, or why it cannot be had."""
    make, files = VARIATIONS[name]
    with ExitStack() as stack:
        try:
            place = make(stack)
        except Lacking as lacking:
            return f"skipped: {lacking}"
        except AssertionError as failed:
            return f"FAILED: {failed}"
        command = [
            *place.before,
            place.python,
            "-m",
            "pytest",
            *place.flags,
            "-p",
            "no:cacheprovider",
            "-m",
            "not slow and not long",
            *files,
        ]
        ran = subprocess.run(command, cwd=place.folder, env=os.environ | place.environment, stdout=subprocess.PIPE, text=True, check=False)
        if ran.returncode:
            print(ran.stdout, file=sys.stderr)
        last = (ran.stdout.strip().splitlines() or ["nothing was said"])[-1].strip("= ")
        return last if ran.returncode == 0 else f"FAILED: {last}"


def main(words: list[str]) -> int:
    if "--list" in words:
        for name, (_, files) in VARIATIONS.items():
            print(f"{name}: {' '.join(files)}")
        return 0
    unknown = [word for word in words if word not in VARIATIONS]
    if unknown:
        print(f"no variation {unknown[0]!r}; wanted: {', '.join(VARIATIONS)}", file=sys.stderr)
        return 2
    found = []
    for name in words or VARIATIONS:
        print(f"{name} ...", file=sys.stderr)
        found.append((name, len(VARIATIONS[name][1]), outcome(name)))
    print(f"| {'variation':26} | files | outcome |\n|---|---|---|")
    for name, files, said in found:
        print(f"| {name:26} | {files:5} | {' '.join(said.split())[:400]} |")
    return int(any(said.startswith("FAILED") for *_, said in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
