"""What a server holds open: the revision that the ledger says serves, exchanged as a whole while queries go on.

:meth:`Live.follow` looks at the ledger's head. Another revision is verified, opened and asked its first queries beside the one that
serves; then one assignment is the switch. Whoever took the old one finishes on it, and it is freed with the last of them. A revision
that cannot be opened changes nothing but that deleted items are no answers: what served goes on, and :attr:`Live.problem` says why.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from fct import device as devices
from fct import forward
from fct.errors import BadInput, FctError
from fct.program import programs
from fct.release import preview
from fct.release.folder import Release
from fct.sample.folder import PairsFolder
from registry.entry import Entry
from registry.revisions import history, kept, names
from registry.revisions.building import still_theirs, verify
from registry.revisions.revision import Revision, read
from registry.revisions.serving import Hit, Serving, Where, open_revision
from registry.steps import marker
from registry.upgrade_files import REVISION
from registry.versions import facts
from registry.versions.status import Status
from registry.workspace import Workspace

NO_CANDIDATE = "no later version waits, or its upgrade has made no pairs yet"
AGAIN_S = 15.0  # before a revision that could not be opened is tried again
CANDIDATE_S = 5.0  # between two looks for a candidate
WARM_QUERIES = 8
PAIRS = 20_000  # rows that fit a bridge at most
WAITING = (Status.REGISTERED, Status.FITTED, Status.PASSED, Status.APPROVED)


@dataclass(frozen=True)
class Candidate:
    """A later release that answers for comparison: on its own carried gallery, or through a bridge on the one that serves."""

    version: int
    release: Release
    program: programs.Embed
    own: Serving | None
    bridge: forward.Bridge | None

    @property
    def through(self) -> str:
        return "its own gallery" if self.own is not None else "a bridge"


@dataclass(frozen=True)
class Now:
    """What serves, as one value: a query takes it once and works with nothing else."""

    serving: Serving
    entry: int
    candidate: Candidate | None = None


class Live:
    """The open revision of a workspace.

    Args:
        candidate: also hold the newest version that waits to be promoted, for comparison.
    """

    def __init__(self, workspace: Workspace, *, candidate: bool = False):
        self.workspace, self.compares = workspace, candidate
        self.now: Now | None = None
        self.problem, self.head = "nothing was opened yet", 0
        self.switches = 0
        self.lacking = NO_CANDIDATE if candidate else "the server was started without --candidate"
        self._failed: tuple[int, float] = (0, 0.0)
        self._looked = 0.0

    @property
    def behind(self) -> bool:
        """Whether the ledger names a revision that is not served (yet): it is being opened, or cannot be."""
        return self.now is None or self.now.entry != self.head

    def look(self) -> bool:
        """Follow the ledger once. True where another revision serves since.

        Nothing is raised: :attr:`problem` says what is wrong, and what served goes on.
        """
        try:
            head = self.workspace.ledger.head()
        except FctError as error:
            self.problem = str(error)
            return False
        if head is None or head.serving is None:
            self.problem = "nothing serves yet: promote a release (`fct status`)"
            return False
        self.head, now = head.number, self.now
        if now is not None and self._is_open(head):
            if now.entry != head.number:  # a decision was written, nothing else
                self.now = Now(now.serving, head.number, now.candidate)
            self.problem = ""
            return False
        number, at = self._failed
        if number == head.number and time.monotonic() - at < AGAIN_S:
            return False
        try:
            revision = Revision.from_json(head.serving)
            verify(self.workspace, revision, None if now is None else now.serving.revision)
            opened = open_revision(self.workspace, revision, beside=None if now is None else now.serving, check=False)
            warm(opened)
        except Exception as error:  # whatever is wrong with it, what serves must go on
            self._failed = (head.number, time.monotonic())
            named = str(error) if isinstance(error, FctError) else f"{type(error).__name__}: {error}"
            self.problem = f"the revision of ledger entry {head.number} cannot be served: {named}"
            if now is not None:
                self.now = replace(now, serving=without_gone(self.workspace, now.serving))
            return False
        kept = None if now is None or now.candidate is None or now.candidate.version <= revision.release else now.candidate
        if kept is not None and kept.bridge is not None:
            kept = None  # it leads to the gallery that served
        self.now, self.problem = Now(opened, head.number, kept), ""
        self.switches += 1
        return True

    def _is_open(self, head: Entry) -> bool:
        """Whether what serves by an entry is open. What cannot be read is not, and opening it says why."""
        try:
            return self.now is not None and self.now.serving.revision == history.serving(head)
        except BadInput:
            return False

    def compare(self) -> None:
        """Look for a candidate, where one is wanted. Nothing is raised: without one there is nothing to compare."""
        if not self.compares or self.now is None or time.monotonic() - self._looked < CANDIDATE_S:
            return
        self._looked, now = time.monotonic(), self.now
        try:
            found = open_candidate(self.workspace, now)
        except Exception as error:  # MLflow is away, a step is just writing: it is looked for again
            self.lacking = f"the candidate cannot be asked: {error}"
            self._looked += AGAIN_S
            return
        self.lacking = "" if found is not None else NO_CANDIDATE
        if self.now is now:
            self.now = Now(now.serving, now.entry, found)

    def follow(self, stop: threading.Event, every_s: float, switched: Callable[[], None] = lambda: None) -> None:
        """:meth:`look` again and again until ``stop``."""
        while not stop.wait(every_s):
            if self.look():
                switched()
            self.compare()


def warm(opened: Serving) -> None:
    """First queries, so that nobody's is the first: canaries, one image at a time and by vector."""
    if opened.program is not None:
        _, images = opened.release.canaries()
        for image in images[:WARM_QUERIES]:
            opened.search(image[None], 10)
    opened.search_vectors(opened.searcher.vector(0)[None], 10)


def open_candidate(workspace: Workspace, now: Now) -> Candidate | None:
    """The newest version that is later than what serves and waits; None where there is none, or nothing can be asked of it yet."""
    serving = now.serving.revision.release
    waiting = [version for version, status in facts.statuses(workspace).items() if version > serving and status in WAITING]
    if not waiting:
        return None
    version, there = max(waiting), now.candidate
    verdict, path = facts.readable_verdict(workspace, version), workspace.upgrade_folder(version) / REVISION
    if verdict is not None and verdict["outcome"] == "passed" and verdict["from"] == serving and path.exists():
        revision = replace(read(path), number=0)
        if there is not None and there.own is not None and there.own.revision == revision:
            return replace(there, own=without_deleted(workspace, there.own, now.serving))
        own = open_revision(workspace, revision)
        warm(own)
        return Candidate(version, own.release, own.program or own.release.program(), without_deleted(workspace, own, now.serving), None)
    if there is not None and there.version == version and there.bridge is not None:
        return there
    release = kept.opened(workspace, version)  # first: without it the work of fitting would be for nothing
    bridge = fit_bridge(workspace, version, now.serving)
    return None if bridge is None else Candidate(version, release, release.program(), None, bridge)


def without_deleted(workspace: Workspace, own: Serving, serving: Serving) -> Serving:
    """The candidate's gallery without items that what serves has lost since: its tables stay at the version that was measured.

    An id that was deleted and came again is another picture: a deletion took its row from the candidate's space, and a promotion, also one
    that was cut short, puts another one there.
    """
    living = np.intersect1d(serving.columns["id"][serving.shown], still_theirs(workspace, own.revision))
    shown = own.shown & np.isin(own.columns["id"], living)
    return own if (shown == own.shown).all() else replace(own, shown=shown)


def without_gone(workspace: Workspace, serving: Serving) -> Serving:
    """What serves without items that were deleted since, also where their ids came again, as far as the tables can be read."""
    shown = serving.shown
    for living in (workspace.gallery.item_ids, partial(still_theirs, workspace, serving.revision)):
        with suppress(Exception):  # what serves goes on, whatever is wrong with a table
            shown = shown & np.isin(serving.columns["id"], living())
    return replace(serving, shown=shown)


def fit_bridge(workspace: Workspace, version: int, serving: Serving) -> forward.Bridge | None:
    """From the space of ``version`` to the one that serves, on the pairs that its upgrade has made; None before it made them.

    Where what serves was itself carried over from m, the old side of the pairs is h(m→serving) of their φ_m and ψ_m.
    """
    serves = serving.revision.release
    natives = [serves, *serving.revision.forward]
    pairs = {m: names.step(workspace, version, f"pairs-v{m}") for m in natives}
    m = next((m for m in natives if marker(pairs[m]).exists()), None)
    if m is None:
        return None
    folder = PairsFolder(pairs[m])
    new, old = (folder.load("fitting", name) for name in ("new", "old"))
    rows = np.sort(np.random.default_rng(0).permutation(len(new))[:PAIRS])
    target = np.array(old[rows])
    if m != serves:
        h = forward.load(workspace.upgrade_folder(serves) / f"h-v{m}")
        psi = np.array(folder.load("fitting", "psi")[rows])
        native = kept.opened(workspace, m, check=False)
        side = preview.side_of(native, serving.release, psi, h, device=devices.pick("cpu"))
        target = h.transform(target, side if h.side_dim else None)[0]
    return forward.bridge(np.array(new[rows]), target)


def ask_candidate(now: Now, candidate: Candidate, images: np.ndarray, k: int, where: Where | None = None) -> list[list[Hit]]:
    """Search with images (Q, C, S, S), as the candidate wants them, in its own gallery or through its bridge in the one that serves."""
    if candidate.own is not None:
        return candidate.own.search(images, k, where)
    query, _ = programs.embed(candidate.program, images, device=devices.pick("cpu"))
    assert candidate.bridge is not None
    return now.serving.search_vectors(candidate.bridge.apply(query), k, where=where)


def describe(live: Live) -> dict[str, Any]:
    """Plain JSON: release, revision, ledger entry, rows, whether the head is served, the candidate."""
    now = live.now
    if now is None:
        return {"ready": False, "head": live.head, "behind": True, "problem": live.problem}
    revision, candidate = now.serving.revision, now.candidate
    return {
        "ready": True,
        "model": live.workspace.settings.model,
        "release": revision.release,
        "revision": revision.number,
        "entry": now.entry,
        "head": live.head,
        "behind": live.behind,
        "problem": live.problem,
        "fingerprint": revision.fingerprint,
        "space": revision.space,
        "rows": int(now.serving.shown.sum()),
        "candidate": None if candidate is None else {"release": candidate.version, "through": candidate.through},
        "no_candidate": "" if candidate is not None else live.lacking,
    }
