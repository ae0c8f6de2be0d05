"""``fct repair``: what can be computed again of what was damaged is computed again, and one ledger entry says so.

The rows of a damaged file leave the newest version of their table, unread, and are made anew: rows of a space from features by the h's
of its revision, features from images by the release that computed them, an index from its space. Whatever else the table holds stays as it
is. What serves, and every earlier release that had the damaged files, then gets a new revision that names them no more.

First everything is made ready: while anything that is needed cannot be computed, nothing is changed. After that every act can be repeated;
what is lacking is found from the tables, so that a run that was killed is finished by the next.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fct.arrays import digests
from fct.errors import BadInput, NotPermitted
from fct.forward import Forward
from fct.gallery import fragments
from fct.gallery.names import FEATURES, SPACE, features_name
from registry.damage.remaking import Features, Images, compare, from_images, write
from registry.damage.verifying import Damage, irreparable, served, verify_all, waiting
from registry.entry import Entry
from registry.items.retention import alone, drop
from registry.revisions import history, kept
from registry.revisions.building import masked, pin, states_of
from registry.revisions.entering import enter
from registry.revisions.revision import Revision
from registry.upgrade_files import REVISION
from registry.upgrades.before_serving import ask_canaries, read_back
from registry.upgrades.carrying import carry, forwards_of
from registry.versions.follow import follow_later
from registry.workspace import Workspace


@dataclass
class Repaired:
    """What a repair did, or would do.

    Attributes:
        damaged: what was found, one sentence each; empty where everything is as recorded.
        rows: table → rows made again. indexes: releases whose index was built anew.
        compared: images that were compared with rows that they became; of the others it is believed that they are the same pictures.
        gone: (id, why) of features that cannot be made again.
        blocked: release → why it cannot be repaired; then nothing was changed.
        left: release → why it was left behind: nobody can return to it.
        void: versions that wait and are measured again. entry: number of the ledger entry.
        remaining: what differs still, one sentence each.
    """

    damaged: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    indexes: list[int] = field(default_factory=list)
    compared: int = 0
    gone: list[tuple[str, str]] = field(default_factory=list)
    blocked: dict[int, str] = field(default_factory=dict)
    left: dict[int, str] = field(default_factory=dict)
    void: list[int] = field(default_factory=list)
    entry: int | None = None
    remaining: list[str] = field(default_factory=list)


def repair(
    workspace: Workspace,
    *,
    leave: Collection[int] = (),
    roots: Sequence[str | Path] = (),
    by: str,
    why: str = "",
    dry_run: bool = False,
) -> Repaired:
    """Look at everything, and make again what is damaged. Running it again finishes what was cut short.

    Args:
        leave: releases and versions to leave behind where they cannot be repaired: nobody can return to them.
        roots: where images may lie besides, as links; ``data.roots`` count anyway.
        dry_run: also read and embed the images, and write nothing.

    Returns:
        what was done; with ``blocked`` nothing was, since what is needed cannot be computed.

    Raises:
        BadInput: ``leave`` names what serves, or no release. LockHeld: somebody works on the gallery. NotPermitted: a row that was made is
            not what it is made from, or the canaries say that a space is wrong; what served goes on serving.
    """
    with alone(workspace, f"{by}: repair") as held:
        found = verify_all(workspace)
        result = Repaired(found.damaged)
        if not found.damaged:
            return result
        work = _Work(workspace.fenced(held.check), found.details, result)
        work.foresee(leave, roots)
        if result.blocked or dry_run:
            return result
        work.make(held.check)
        entry = work.record(held.check, by=by, why=why)
        result.entry = entry.number
        drop(workspace, held, entry)
    follow_later(workspace)
    result.remaining = verify_all(workspace).damaged
    return result


class _Work:
    """What is damaged, whose it is, and what is made again."""

    def __init__(self, workspace: Workspace, details: list[Damage], result: Repaired):
        self.workspace, self.details, self.result, self.gallery = workspace, details, result, workspace.gallery
        self.entries = workspace.ledger.entries()
        self.head = self.entries[-1] if self.entries else None
        self.serves = None if self.head is None else self.head.release
        self.released = {one.release: one for one in served(workspace, self.entries)}
        self.waiting = {one.release: one for one in waiting(workspace, self.entries)}
        self.files = {one.file for one in details if one.kind == "table"}
        self.indexes = {one.file.rpartition("/")[0] for one in details if one.kind == "index"}
        self.damaged = {one.name for one in details if one.kind == "table"}
        self.fragments = {
            name: fragments.referring(self.gallery.root, name, self.files)
            for name in sorted(self.damaged)
            if not any(irreparable(workspace, one.name, one.file) for one in details if one.kind == "table" and one.name == name)
        }
        self.going: set[str] = set()  # spaces of nobody but versions that wait, with nothing to repair them by
        self.lost: dict[int, str] = {}  # release → why it cannot be repaired
        self.forwards: dict[int, dict[int, Forward]] = {}  # release → native version → h
        self.made: dict[int, tuple[Features, Images]] = {}
        self.spaces: dict[int, np.ndarray] = {}  # release → ids of rows that its space is to get

    # ---- first everything is made ready -------------------------------------------------------------------------

    def foresee(self, leave: Collection[int], roots: Sequence[str | Path]) -> None:
        """Embed what is needed, and say what cannot be made. Reads only."""
        known = (self.released.keys() | self.waiting.keys()) - {self.serves}
        if wrong := sorted(set(leave) - known):
            wanted = ", ".join(map(str, sorted(known))) or "none: no other release can be returned to, and no version waits"
            raise BadInput("this release cannot be left behind", wanted=wanted, got=wrong[0], where="--leave")
        for one in self.details:
            if one.kind in ("release", "h"):
                self.lost.setdefault(int(one.name), one.sentence)
            elif one.kind == "table" and one.name not in self.fragments:
                self._lose(one.name, one.sentence)
        if self.lost.keys() - set(leave):  # items that cannot be believed lead nowhere
            self.result.blocked = {release: why for release, why in self.lost.items() if release not in leave}
            return
        for release, revision in self.released.items():
            try:
                kept.opened(self.workspace, release, check=False)  # before anything is changed: MLflow may be away
                self.forwards[release] = forwards_of(self.workspace, revision)
            except (BadInput, NotPermitted) as error:
                if self._touched(revision):
                    self.lost.setdefault(release, str(error))
        for name in (one for one in self.fragments if one.startswith(FEATURES)):
            self._features(int(name.removeprefix(f"{FEATURES}v")), roots)
        for release, revision in self.released.items():
            if revision.space in self.fragments and release not in self.lost:
                self._space(release, revision)
        self.result.left = {release: why for release, why in self.lost.items() if release in leave}
        self.result.blocked = {release: why for release, why in self.lost.items() if release not in leave}
        self.result.rows = {features_name(m): len(made.ids) for m, (made, _) in self.made.items()}
        self.result.rows |= {self.released[release].space: len(ids) for release, ids in self.spaces.items()}
        self.result.compared = sum(made.compared for made, _ in self.made.values())
        self.result.indexes = [r for r, one in self.released.items() if r not in self.lost and one.index.folder in self.indexes]
        self.result.void = sorted(version for version, one in self.waiting.items() if version in self.result.left or self._touched(one))

    def _lose(self, table: str, why: str) -> None:
        """Every release that has a table is lost. A space that none has goes: whatever waits makes one anew."""
        theirs = [release for release, one in self.released.items() if table in one.tables]
        if SPACE.fullmatch(table) and not theirs:
            self.going.add(table)
            return
        theirs += [release for release, one in self.waiting.items() if table in one.tables]
        for release in theirs or [0]:  # of a gallery from which nothing serves yet
            self.lost.setdefault(release, why)

    def _whole(self, table: str, columns: Sequence[str] = ("id",)) -> dict[str, np.ndarray]:
        """Rows of a table without those of damaged files; none where there is no such table."""
        if table not in self.gallery.tables():
            return {column: np.empty(0, dtype=str) for column in columns}
        return fragments.others(self.gallery.root, table, self.fragments.get(table, ()), list(columns))

    def _answers(self, revision: Revision) -> np.ndarray:
        """Sorted ids of items that a release answers with: those of its index, and the rows of its space that are whole."""
        folder, found = self.workspace.folder / revision.index.folder, self._whole(revision.space)["id"]
        if revision.index.folder not in self.indexes:
            found = np.union1d(found, np.char.decode(np.load(folder / "ids.npy", allow_pickle=False), "utf-8"))
        return np.intersect1d(found, self.gallery.item_ids())

    def _features(self, m: int, roots: Sequence[str | Path]) -> None:
        """Make ready what ``features/v{m}`` lacks: of the items native to m, and of later ones that release m answers with."""
        native, own = self.gallery.item_ids(native_version=m), self.released.get(m)
        later = np.empty(0, dtype=str)
        if own is not None and m not in self.lost:
            later = self._answers(own)
            later = later[self.gallery.native_version_of(later) > m]
        todo = np.setdiff1d(np.union1d(native, later), self._whole(features_name(m))["id"])
        if not len(todo):
            return
        images = Images(self.workspace, m, kept.opened(self.workspace, m), roots)
        made = from_images(images, m, todo)
        whole = {number: one for number, one in self.released.items() if number in self.forwards and number not in self.lost}
        compare(self.workspace, made, whole, self.forwards, self.fragments)
        self.made[m] = made, images
        self.result.gone += made.gone
        missing = np.array([one for one, _ in made.gone], dtype=str)
        if len(np.intersect1d(missing, native)):
            first = f"{made.gone[0][0]}: {made.gone[0][1]}"
            why = f"{len(missing)} rows of features/v{m} cannot be made again, since their images are gone or others ({first})"
            self._lose(features_name(m), f"{why}; put the images back, or restore the table from a backup")
        elif len(missing):
            self.lost.setdefault(m, f"{len(missing)} items that it answers with have no image any more, such as {missing[0]}")

    def _space(self, release: int, revision: Revision) -> None:
        """Which rows the space of a release is to get; lost where one cannot be made."""
        there, wanted = self._whole(revision.space)["id"], self._answers(revision)
        names = {m: features_name(m) for m in {release, *revision.forward}}
        had = {m: self._whole(name)["id"] for m, name in names.items()}
        had |= {m: np.union1d(had[m], made.ids) for m, (made, _) in self.made.items() if m in had}
        native = self.gallery.native_version_of(wanted)
        can = np.isin(wanted, had[release])
        for m in revision.forward:
            can |= (native == m) & np.isin(wanted, had[m])
        whole = np.union1d(there, wanted[can])
        if len(whole) < min(len(wanted), revision.state.rows):  # an index may hold rows that were deleted: wanted is more then
            one = np.setdiff1d(wanted, whole)[0]
            self.lost[release] = f"rows of {revision.space} cannot be made again: of {one}, and maybe others, there are no features"
            return
        self.spaces[release] = np.setdiff1d(wanted[can], there)

    def _touched(self, revision: Revision) -> bool:
        files = {name for state in revision.tables.values() for name in state.files}
        return revision.index.folder in self.indexes or revision.space in self.going or not files.isdisjoint(self.files)

    # ---- then it is written -------------------------------------------------------------------------------------

    def make(self, check: Callable[[], None]) -> None:
        """Take the damaged rows out of their tables and write those that were made."""
        mine = {one.space for release, one in self.released.items() if release in self.lost}
        for name, some in self.fragments.items():
            if name not in mine:
                check()
                fragments.drop(self.gallery.root, name, some)
        for made, images in self.made.values():
            check()
            write(self.workspace, made, images)
        for release in self.spaces:
            check()
            revision = self.released[release]
            carry(self.workspace, revision.space, release, self.forwards[release])

    def record(self, check: Callable[[], None], *, by: str, why: str) -> Entry:
        """New revisions of all that had damaged files, each looked at as before a promotion, in one entry."""
        now, earlier = None, list[Revision]()
        for release, revision in self.released.items():
            if release in self.lost or not self._touched(revision):
                continue
            again = self._anew(release, revision)
            if release == self.serves:
                now = again
            else:
                earlier.append(again)
        folders = self.workspace.upgrade_folder
        detail: dict[str, Any] = {
            "tables": self.result.rows,
            "indexes": self.result.indexes,
            "earlier": [one.to_json() for one in earlier],
            "damaged": sorted(set(self.result.left) & self.released.keys()),
            "void": {str(version): digests.of_file(folders(version) / REVISION) for version in self.result.void},
            "spaces": sorted(self.going),
            "folders": sorted(one for one in self.indexes if (self.workspace.folder / one).is_dir()),
        }
        if self.serves is None:
            detail["recorded"] = {name: state.to_json() for name, state in states_of(self.workspace).items()}
        check()
        return enter(self.workspace, self.head, action="repair", by=by, why=why, serving=now, detail=detail)

    def _anew(self, release: int, revision: Revision) -> Revision:
        space, now = revision.space, None
        if space not in self.damaged and revision.index.folder not in self.indexes:
            now = masked(self.workspace, revision)
        if now is None:
            opened = kept.release(self.workspace, revision, check=False)
            now = pin(self.workspace, release, space, opened, revision.forward, self.indexes)
        now = history.numbered(now, self.entries, revision.verdict)
        made = [self.spaces.get(release, np.empty(0, dtype=str)), *(made.ids for made, _ in self.made.values())]
        read_back(self.workspace, release, now, self.forwards[release], np.unique(np.concatenate(made)))
        ask_canaries(self.workspace, release, now)
        return now
