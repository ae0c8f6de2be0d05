"""Which files below a folder are images to read. One rule for ``fct data`` and ``fct ingest``.

A file counts if, after every link is followed, it is a plain file of at most :data:`MOST_BYTES` below a declared root: the folder that was
named, the project's DVC cache (``cache.type symlink`` makes links of all images), ``data.roots`` in params.yaml, and ``--root``. Everything
else is counted by reason and listed, so that nothing is passed over without a word. A folder is visited once, whatever leads to it.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fct.datasets.images import BEGINS, HEIC, MOST_BYTES, SUFFIXES, formats, kind, open_plain
from fct.errors import BadInput, printable

HIDDEN = "hidden, or made by another program"
OTHER = "no image by its name or first bytes"
OUTSIDE = "a link to a place that is no declared root"
BROKEN = "a link to nothing"
ODD = "no plain file"
LARGE = f"more than {MOST_BYTES // 1024**2} MiB"
TWICE = "a folder that was visited before"
RAW = "a camera's raw file"  # it begins like a TIFF, whose first picture is a small preview
RAWS = frozenset({".3fr", ".arw", ".cr2", ".dng", ".erf", ".iiq", ".kdc", ".mos", ".nef", ".nrw", ".pef", ".sr2", ".srw"})
# of macOS, Windows, Linux, and the network disks of Synology, QNAP and NetApp: previews, rubbish and snapshots of what is there anyway
CLUTTER = frozenset(
    {
        *("__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found"),
        *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "~snapshot"),
    }
)


@dataclass
class Left:
    """Reason → paths that were left out for it."""

    by_reason: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, path: Path) -> None:
        self.by_reason.setdefault(reason, []).append(str(path))

    def sentences(self, folder: Path | None = None) -> list[str]:
        """``3 left out: a link to nothing, such as b.png``, for people; of one folder alone, where it is given."""
        named = {reason: [Path(path) for path in paths] for reason, paths in self.by_reason.items()}
        found = {reason: [path.name for path in paths if folder in (None, path.parent)] for reason, paths in named.items()}
        return [f"{len(names)} left out: {reason}, such as {printable(names[0])}" for reason, names in found.items() if names]


def digest(real: str | Path) -> str:
    """SHA-256 of a folder's path without links: a purge looks for names, and must not meet an item's in what keeps this."""
    return hashlib.sha256(os.fsencode(real)).hexdigest()


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
        roots: folders; links in them are followed once, now. digests: further ones (:func:`digest`), whose links were followed then.
        beside: a file may also lie in the very folder that its path names, and be no link that leaves it.
    """

    def __init__(self, roots: Iterable[Path], digests: Iterable[str] = (), *, beside: bool = False):
        self._beside = beside
        self._roots, self._digests = [root.resolve() for root in roots], frozenset(digests)
        self._visited: dict[tuple[int, int], Path] = {}
        self._looked: dict[Path, tuple[list[Path], list[Path]]] = {}
        self.left = Left()

    def inside(self, path: Path, opened: Path | None = None) -> bool:
        """Whether a path, or the file that was ``opened`` by it, lies below a root once every link is followed."""
        try:
            real = (opened or path).resolve()
            if self._beside and real.parent == path.parent.resolve():
                return True
        except (OSError, RuntimeError):  # a loop of links
            return False
        return any(real.is_relative_to(root) for root in self._roots) or any(digest(one) in self._digests for one in real.parents)

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

    def open(self, named: str | Path) -> BinaryIO:
        """Open a file after a look at it, and look where that lies which was opened: whoever gave it may exchange it at any time.

        Raises:
            BadInput: it may not be read, or as :func:`fct.datasets.images.open_plain`.
        """
        if not str(named):
            raise BadInput("no image file is named")
        path = Path(named)
        reason = self.problem(path) if os.path.lexists(path) else None  # what is not there is said in other words
        if reason is None:
            file = open_plain(path)
            opened = Path(f"/proc/self/fd/{file.fileno()}")  # a link to it, where there is such a folder
            if self.inside(path, opened) or not opened.exists():
                return file
            file.close()
            reason = OUTSIDE
        todo = "if it is meant to be read, name that place with --root or in data.roots of params.yaml" if reason == OUTSIDE else None
        raise BadInput(f"an image file is left out: {reason}", where=path, todo=todo)

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
        for entry in sorted(entries, key=os.DirEntry.is_symlink):  # a folder counts where it is, not where the first link to it is
            path = Path(entry.path)
            if entry.name.startswith(".") or entry.name.lower() in CLUTTER:
                self.left.add(HIDDEN, path)
            elif os.path.isdir(path):
                if self.enter(path):
                    folders.append(path)
            elif (reason := self.problem(path)) is not None:
                self.left.add(reason, path)
                outside += [os.path.realpath(path)] if reason == OUTSIDE else []
            elif (reason := _no_image(path)) is not None:
                self.left.add(reason, path)
            else:
                files.append(path)
        if len(outside) > len(files):
            real = os.path.commonpath(map(os.path.dirname, outside))
            raise BadInput(
                "more than half of a folder's images are links to a place that is no declared root",
                wanted=f"--root {real}, or that path in data.roots of params.yaml, if it is meant to be read",
                got=f"{len(outside)} of {len(outside) + len(files)}",
                where=folder,
            )
        return sorted(files), sorted(folders)

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


def _no_image(path: Path) -> str | None:
    """Why a file is none of the images that are read: by how it begins, or by its name where that says nothing."""
    if path.suffix.lower() in RAWS:
        return RAW
    try:
        with open_plain(path) as file:
            found = kind(file.read(BEGINS))
    except (OSError, BadInput):
        found = None
    if found == HEIC:
        return None if "HEIF" in formats() else HEIC
    return None if found is not None or path.suffix.lower() in SUFFIXES else OTHER
