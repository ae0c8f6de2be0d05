"""A backfill at work: which items are next, and what one batch does."""

from __future__ import annotations

import numpy as np
import torch

from fct import device as devices
from fct.arrays import flaws
from fct.errors import BadInput, NotPermitted
from fct.gallery.names import BACKFILLED, features_name
from fct.program import programs
from fct.release.folder import Release
from fct.sample import evaluation
from fct.sample.folder import PairsFolder, Sample
from fct.search import metrics, order
from registry import lock
from registry.entry import Entry
from registry.images import Arrival, admitted
from registry.items.deletion import finish
from registry.revisions import alarm, history, kept, names
from registry.revisions.building import pin
from registry.revisions.entering import enter
from registry.revisions.revision import Revision
from registry.upgrades import rereading
from registry.upgrades.before_serving import ask_canaries
from registry.workspace import Workspace

QUERIES = 1000  # of the evaluation sample, that the live gallery is asked


def asked(workspace: Workspace, number: int, release: Release, device: torch.device) -> programs.Embed:
    """A release's program, after it was asked the canaries.

    Raises:
        NotPermitted: it gives them other vectors than when the release was measured.
    """
    program = release.program(device)
    ids, images = release.canaries()
    for folder in names.steps(workspace, number, "pairs-v*"):
        pairs = PairsFolder(folder)
        if not pairs.has("canaries", "new") or np.array(pairs.load("canaries", "ids")).tolist() != ids.tolist():
            continue  # given pairs of an adopted release, or canaries of another one
        native = np.array(pairs.load("canaries", "new"))
        now, _ = programs.embed(program, images, device=device)
        if now.shape == native.shape and not np.allclose(now, native, rtol=1e-2, atol=1e-2 * float(np.abs(native).max())):
            raise NotPermitted(
                f"release {number} gives its canaries other vectors than when it was measured",
                todo="nothing was changed; look for another version of torch, or an altered program",
            )
        break
    return program


class Batches:
    """The serving release and its gallery, as the batches change them."""

    def __init__(self, workspace: Workspace, serving: Revision) -> None:
        self.workspace, self.number, self.space = workspace, serving.release, serving.space
        self.gallery, self.release = workspace.gallery, kept.opened(workspace, self.number)
        self.device = devices.pick(workspace.settings.device)
        self.program: programs.Embed | None = None
        self.folder = workspace.upgrade_folder(self.number)
        self.curve = self._curve()
        self.sample, self.why_not_measured = self._sample()

    def _items(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of the items in the space (no canaries), sorted: id, origin, uncertainty, vector."""
        rows = self.gallery.read_space(self.space)
        keep = np.isin(rows.ids, self.gallery.item_ids(role="item"))
        return rows.ids[keep], rows.origin[keep], rows.uncertainty[keep], rows.vectors[keep]

    def share(self, more: int = 0) -> float:
        """Share of the items whose vector the release computed itself, with ``more`` of the carried ones."""
        _, origin, _, _ = self._items()
        carried = int(np.char.startswith(origin.astype(str), "forward").sum())
        return 1 - (carried - more) / max(1, len(origin))

    def ranked(self) -> np.ndarray:
        """Ids of the carried items in the shipped order."""
        ids, origin, sigma, _ = self._items()
        carried = np.flatnonzero(np.char.startswith(origin.astype(str), "forward"))
        return ids[carried[order.by_uncertainty(sigma[carried])]]

    def wanted(self, target: float) -> int:
        """How many carried items bring the share to ``target``."""
        ids, origin, _, _ = self._items()
        own = int((~np.char.startswith(origin.astype(str), "forward")).sum())
        return max(0, round(target * len(ids)) - own)

    def embed(self, ids: np.ndarray, skipped: list[tuple[str, str]]) -> tuple[np.ndarray, int]:
        """Ids of those that have features by the release afterwards, and how many were embedded for that now.

        Raises:
            NotPermitted: the program does not give the canaries the vectors that it gave them when its release was measured.
        """
        known = self.gallery.feature_ids(self.number)
        missing = ids[~np.isin(ids, known)]
        items = self.gallery.items()
        walked = admitted(self.workspace)
        uris = dict(zip(items["id"].tolist(), items["image_uri"].tolist(), strict=True))
        images, good = [], []
        for one in missing.tolist():
            try:
                if one not in uris:
                    raise BadInput("it was deleted meanwhile")
                images.append(Arrival(one, "", "", uris[one], walked=walked).read(self.release.size, self.release.mode)[0])
                good.append(one)
            except BadInput as error:
                skipped.append((one, str(error)))
        if good:
            if self.program is None:
                self.program = asked(self.workspace, self.number, self.release, self.device)
            phi, psi = programs.embed(self.program, np.stack(images), device=self.device)
            living = np.isin(good, self.gallery.item_ids())  # deleted while the others were embedded
            flawed = flaws.find("its vector", phi, alike=True)
            skipped += flawed.listed(np.array(good, dtype=str))
            living &= ~flawed.bad
            kept = np.array(good, dtype=str)[living]
            if len(kept):
                self._keep(self.program, kept, phi[living], psi[living], np.stack(images)[living])
            good = kept.tolist()
        return ids[np.isin(ids, known) | np.isin(ids, good)], len(good)

    def _keep(self, program: programs.Embed, ids: np.ndarray, phi: np.ndarray, psi: np.ndarray, images: np.ndarray) -> None:
        """Write features of items, of which some are computed again and compared."""
        self.gallery.add_features(self.number, self.release.fingerprint, ids, phi, psi, psi_bits=self.release.side_bits)
        rereading.check_features(self.gallery, self.number, ids, images, lambda some: programs.embed(program, some, device=self.device))

    def commit(self, ids: np.ndarray, *, by: str, why: str) -> Entry | None:
        """The batch into the space, the index built anew, the canaries asked, one ledger entry. None where nothing changed."""
        workspace, ledger = self.workspace, self.workspace.ledger
        lease = workspace.settings.promote.lock_lease_s
        with lock.wait(workspace.locks, workspace.ledger_lock, f"{by}: backfill", lease_s=lease) as held:
            finish(workspace.fenced(held.check), by=by, check=held.check)
            head, entries = ledger.head(), ledger.entries()
            serving = history.serving(head)
            if serving is None or (serving.release, serving.space) != (self.number, self.space):
                raise NotPermitted("another release serves meanwhile", todo="run the command again")
            known, todo = alarm.recorded(workspace), np.union1d(ids, self._unfinished())
            for name, some in (("items", None), (self.space, None), (features_name(self.number), todo)):
                alarm.compare(workspace, known, name, some)
            rows = self.gallery.fenced(held.check).backfill(self.space, todo)
            if not rows and self.gallery.snapshot(self.space).content == serving.state.content:
                return None
            revision = pin(workspace, self.number, self.space, self.release, serving.forward)
            ask_canaries(workspace, self.number, revision)
            held.check()
            now = history.numbered(revision, entries, serving.verdict)
            detail = {"version": self.number, "items": rows, "share": round(self.share(), 6)}
            return enter(workspace, head, action="backfill", by=by, why=why, serving=now, detail=detail)

    def _unfinished(self) -> np.ndarray:
        """Items whose vector was exchanged and whose native version was not: a run was killed in between."""
        ids, origin, _, _ = self._items()
        done = ids[origin == BACKFILLED]
        return done[self.gallery.native_version_of(done) < self.number]

    def _curve(self) -> np.ndarray | None:
        """(S,) mAP of the evaluation sample at equally spaced shares, in the shipped order; None where h predicted no uncertainty."""
        for path in names.steps(self.workspace, self.number, "evaluation-v*"):
            if path.is_dir():
                values = evaluation.load(path)
                if "curve_shipped_mAP" in values:
                    return np.asarray(values["curve_shipped_mAP"].mean(axis=1))
        return None

    def predicted(self, share: float) -> float | None:
        """mAP at a share, as the upgrade's evaluation sample says."""
        if self.curve is None:
            return None
        return round(float(np.interp(share, np.linspace(0, 1, len(self.curve)), self.curve)), 4)

    def _sample(self) -> tuple[Sample | None, str]:
        """Queries with labels for the live gallery, or why there are none."""
        folders = [path for path in names.steps(self.workspace, self.number, "pairs-v*") if path.is_dir()]
        if not folders:
            return None, "the upgrade's evaluation sample is gone"
        sample, items = PairsFolder(folders[0]).sample(), self.gallery.items()
        shared = np.intersect1d(sample.labels, items["label"][items["label"] != ""])
        return (sample, "") if len(shared) else (None, "no item of the gallery has a label of the evaluation sample")

    def measured(self) -> float | None:
        """mAP of the evaluation sample's queries (at most :data:`QUERIES`) in the live gallery; None without labels."""
        if self.sample is None:
            return None
        sample, items = self.sample, self.gallery.items()
        ids, _, _, vectors = self._items()
        place = np.searchsorted(items["id"], ids)
        rows = np.sort(np.random.default_rng(0).permutation(len(sample.ids))[:QUERIES])
        found = metrics.per_query(
            sample.new[rows],
            vectors,
            sample.labels[rows],
            items["label"][place],
            metric=self.release.metric,
            query_ids=sample.ids[rows],
            gallery_ids=ids,
            query_sources=sample.sources[rows],
            gallery_sources=items["source"][place],
        )
        return round(float(found.metric("mAP").mean()), 4)
