"""Which files below a folder are images to read. One rule for ``fct data`` and ``fct ingest``.

A file counts if, after every link is followed, it is a plain file of at most :data:`MOST_BYTES` below a declared root: the folder that was
named, the project's DVC cache (``cache.type symlink`` makes links of all images), ``data.roots`` in params.yaml, and ``--root``. Everything
else is counted by reason and listed, so that nothing is passed over without a word. A folder is visited once, whatever leads to it.
"""

from __future__ import annotations

import configparser
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fct.datasets.images import SUFFIXES
from fct.errors import BadInput, printable

MOST_BYTES = 512 * 1024**2
HIDDEN = "hidden, or made by another program"
OTHER = "no image by its name or first bytes"
OUTSIDE = "a link to a place that is no declared root"
BROKEN = "a link to nothing"
ODD = "no plain file"
LARGE = f"more than {MOST_BYTES // 1024**2} MiB"
TWICE = "a folder that was visited before"
CLUTTER = frozenset({"@eadir", "__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "lost+found"})
# of the kinds that are opened (fct.datasets.images.FORMATS): how such a file begins
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")


@dataclass
class Left:
    """Reason → paths that were left out for it."""

    by_reason: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, path: Path) -> None:
        self.by_reason.setdefault(reason, []).append(str(path))

    def sentences(self) -> list[str]:
        """``3 left out: a link to nothing, such as b.png``, for people."""
        return [f"{len(paths)} left out: {reason}, such as {printable(Path(paths[0]).name)}" for reason, paths in self.by_reason.items()]


def dvc_cache(project: Path) -> Path:
    """Where DVC keeps the files of a project, as its configuration says."""
    place = project / ".dvc" / "cache"
    for name in ("config", "config.local"):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(project / ".dvc" / name, encoding="utf-8")
            place = project / ".dvc" / parser.get("cache", "dir", fallback=str(place)).strip("'\"")
        except (configparser.Error, UnicodeDecodeError):
            continue
    return place


class Walk:
    """Looks for images below declared roots.

    Args:
        roots: folders; links in them are followed once, now.
    """

    def __init__(self, roots: Iterable[Path]):
        self._roots = [root.resolve() for root in roots]
        self._visited: dict[tuple[int, int], Path] = {}
        self._looked: dict[Path, tuple[list[Path], list[Path]]] = {}
        self.left = Left()

    def inside(self, path: Path) -> bool:
        """Whether a path lies below a root once every link is followed."""
        try:
            real = path.resolve()
        except (OSError, RuntimeError):  # a loop of links
            return False
        return any(real.is_relative_to(root) for root in self._roots)

    def problem(self, path: Path) -> str | None:
        """Why a file may not be read, None where it may."""
        try:
            about = path.stat()
        except (OSError, ValueError):
            return BROKEN if path.is_symlink() else ODD
        if not self.inside(path):
            return OUTSIDE
        if not stat.S_ISREG(about.st_mode):
            return ODD
        return LARGE if about.st_size > MOST_BYTES else None

    def look(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Images directly in a folder, and its folders, each sorted by name; what is left out is in :attr:`left`.

        Raises:
            BadInput: the folder cannot be read; or more than half of its images are links out of the roots.
        """
        if folder not in self._looked:
            self._looked[folder] = self._look(folder)
        return self._looked[folder]

    def _look(self, folder: Path) -> tuple[list[Path], list[Path]]:
        files, folders, outside = [], [], []
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise BadInput("a folder cannot be read", got=error.strerror, where=folder) from error
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith(".") or entry.name.lower() in CLUTTER:
                self.left.add(HIDDEN, path)
            elif path.is_dir():
                if self.enter(path):
                    folders.append(path)
            elif (reason := self.problem(path)) is not None:
                self.left.add(reason, path)
                outside += [os.path.realpath(path)] if reason == OUTSIDE else []
            elif _is_image(path):
                files.append(path)
            else:
                self.left.add(OTHER, path)
        if len(outside) > len(files):
            real = os.path.commonpath(map(os.path.dirname, outside))
            raise BadInput(
                "more than half of a folder's images are links to a place that is no declared root",
                wanted=f"--root {real}, or that path in data.roots of params.yaml, if it is meant to be read",
                got=f"{len(outside)} of {len(outside) + len(files)}",
                where=folder,
            )
        return files, folders

    def below(self, folder: Path) -> Iterator[Path]:
        """Every image below a folder, folder after folder."""
        todo = [folder]
        while todo:
            files, folders = self.look(todo.pop())
            yield from files
            todo += folders[::-1]

    def enter(self, folder: Path) -> bool:
        """Whether a folder is below a root and not visited yet; from now on it is."""
        about = folder.stat()
        first = self._visited.setdefault((about.st_dev, about.st_ino), folder)
        reason = OUTSIDE if not self.inside(folder) else TWICE if first != folder else None
        if reason is not None:
            self.left.add(reason, folder)
        return reason is None


def walk(place: Path, project: Path | None, more: Sequence[str | Path] = ()) -> Walk:
    """A walk of a folder that somebody named, in a project with its DVC cache, with further roots."""
    roots = [place, *([dvc_cache(project)] if project is not None else []), *map(Path, more)]
    found = Walk(roots)
    if place.is_dir():
        found.enter(place)
    return found


def _is_image(path: Path) -> bool:
    """By its name, or, where that says nothing, by how it begins."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with open(path, "rb") as file:
            begins = file.read(16)
    except OSError:
        return False
    return begins.startswith(MAGIC) or (begins[:4] == b"RIFF" and begins[8:12] == b"WEBP") or begins[4:12] in (b"ftypavif", b"ftypavis")
