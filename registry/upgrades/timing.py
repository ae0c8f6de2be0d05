"""How long the parts of an upgrade take here: timed on some hundred rows by the functions that the upgrade itself calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fct import device as devices
from fct import forward
from fct.arrays import vectors
from fct.datasets import manifest as manifests
from fct.datasets.images import read_images
from fct.embedder import augment
from fct.errors import BadInput
from fct.forward.fitting import fit_network, steps_of
from fct.forward.rows import pairs_of
from fct.forward.settings import CLOSED
from fct.gallery.gallery import Gallery
from fct.program import programs
from fct.release import preview
from fct.release.folder import Release
from fct.sample import adopted, evaluation, pairs
from fct.sample.folder import Sample
from fct.search import coverage
from registry.revisions import kept
from registry.verdicts import checks, expectations
from registry.workspace import Workspace

SEEN = 192  # images that each program is timed on
ROWS = 4096  # rows that closed forms are timed on
INDEXED = 20_000
CLASSES = 50
ID_BYTES = 40  # of an id and its origin, in a table


@dataclass
class Plan:
    """Steps as (name, seconds, of what); bytes on disk and at most in memory; what embedding the gallery anew would take."""

    version: str
    number: int
    rows: dict[int, int]
    steps: list[tuple[str, float, str]] = field(default_factory=list)
    disk: int = 0
    disk_free: int = 0
    memory: int = 0
    memory_there: int = 0
    avoided_seconds: float = 0.0
    avoided_price: float = 0.0
    price: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(seconds for _, seconds, _ in self.steps)

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {"seconds": round(self.seconds, 1), "steps": [[name, round(s, 2), what] for name, s, what in self.steps]}


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def slope(work: Callable[[int], Any], few: int, many: int) -> tuple[float, float]:
    """Seconds of ``work(n)`` as a + b·n, from two runs after a first one that nobody counts. Neither is below 0."""
    work(few)
    first, second = timed(lambda: work(few)), timed(lambda: work(many))
    each = max(0.0, (second - first) / (many - few))
    return max(0.0, first - each * few), each


class OneNative:
    """What carrying the items of one native version costs."""

    def __init__(self, workspace: Workspace, new: Release, m: int, place: Path, found: Plan) -> None:
        self.workspace, self.new, self.m, self.place, self.found = workspace, new, m, place, found
        self.settings, self.device = workspace.settings, devices.pick(workspace.settings.device)
        self.old, self.info = kept.opened(workspace, m, check=False), workspace.gallery.feature_info(m)
        self.rows, self.rng = found.rows[m], np.random.default_rng(0)
        self.counts = self._counts() if m != found.number else {}
        looks = self.settings.embed.preview and not self.old.adopted and self.old.picture() is not None
        self.side_dim = self.info.psi_dim + (new.dim if looks else 0)
        self.looks = looks

    def _counts(self) -> dict[str, int]:
        """Rows by purpose: fitting and pool with all their views, the evaluation sample."""
        e = self.settings.embed
        if self.old.adopted:
            place = self.workspace.adopted_folder(self.m)
            if not place.is_dir():
                raise BadInput(f"version {self.m} was adopted without pairs: no upgrade can be fitted", todo="`fct adopt … --pairs`")
            given = adopted.load_given(place)
            parts = adopted.divide(given.labels, self.settings.seed, given.units)
            return {"fitting": len(parts.fitting), "pool": len(parts.pool), "sample": len(parts.known) + len(parts.unseen)}
        manifest = manifests.read_manifest(self.workspace.data)
        return {
            "fitting": len(manifest.rows(*e.fitting)) * e.views,
            "pool": len(manifest.rows(*e.pool)) * (e.pool_views + e.pool_recombined),
            "sample": len(manifest.rows(*pairs.POPULATIONS.values())),
        }

    def measure(self) -> None:
        if self.m == self.found.number:  # a first release: its own vectors are written, nothing is fitted or judged
            self._transform(None)
            return
        self._embed()
        self._fit()
        h = self._small_h()
        self._transform(h)
        self._judge(h)

    def _add(self, step: str, seconds: float, what: str) -> None:
        self.found.steps.append((step, seconds, what))

    def _embed(self) -> None:
        width = 2 * self.info.phi_dim + self.info.psi_dim + 2 * self.side_dim + 4 * self.new.dim
        every = sum(self.counts.values())
        self.found.disk += every * width
        if self.old.adopted:
            array = self.rng.normal(size=(min(every, 20_000), self.new.dim)).astype(np.float32)
            each = timed(lambda: vectors.save(self.place / "pairs.npy", array)) / len(array)
            self._add("embed", 3 * each * every, f"{every} given pairs are copied")
            self._backfill(None)
            return
        manifest = manifests.read_manifest(self.workspace.data)
        files = manifest.rows(*self.settings.embed.fitting).files[:SEEN]
        if not len(files):
            raise BadInput("there are no fitting images", wanted=" or ".join(self.settings.embed.fitting), where=manifest.root)
        read = timed(lambda: read_images(files, self.old.size, self.old.mode)) / len(files)
        images = read_images(files, self.old.size, self.old.mode)
        generator = torch.Generator().manual_seed(0)
        view = timed(lambda: augment.views(torch.from_numpy(images), generator)) / len(files)
        own = self._look(self.old, images)
        seen = self._look(self.new, pairs.convert(images, self.old, self.new))
        preview_ = self._preview(images) if self.looks else 0.0
        first = (self.counts["fitting"] / self.settings.embed.views + self.counts["sample"]) * 2 * read
        seconds = first + every * (own + seen + preview_ + 2 * view)
        what = f"{every} views by both embedders ({own * 1e3:.2f} and {seen * 1e3:.2f} ms"
        self._add("embed", seconds, what + (f", preview {preview_ * 1e3:.2f} ms)" if self.looks else ")"))
        self._backfill(read + seen)

    def _backfill(self, each: float | None) -> None:
        """What it would take to embed the items anew: reading a file and the new embedder, by the rates of the fitting images or of canaries."""
        if each is None:
            _, images = self.new.canaries()
            each = self._look(self.new, np.concatenate([images] * (1 + SEEN // len(images)))[:SEEN])
            self.found.notes.append(
                f"embedding version {self.m}'s items anew is timed without reading their images: nothing says where they are"
            )
        self.found.avoided_seconds += self.rows * each

    def _look(self, release: Release, images: np.ndarray) -> float:
        program = release.program(self.device)
        programs.embed(program, images[:32], device=self.device)
        return timed(lambda: programs.embed(program, images, device=self.device, batch=self.settings.embed.batch)) / len(images)

    def _preview(self, images: np.ndarray) -> float:
        _, psi = programs.embed(self.old.program(self.device), images, device=self.device)
        drawer, program = self.old.picture(), self.new.program(self.device)
        assert drawer is not None  # looks
        many = np.tile(psi, (-(-preview.BLOCK // len(psi)), 1))[: preview.BLOCK]
        return timed(lambda: preview.with_preview(drawer, many, program, self.new.size, self.new.mode, device=self.device)) / len(many)

    def _synthetic(self, count: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
        """old, side, new and labels of so many rows that something can be fitted on."""
        new = self.rng.normal(size=(count, self.new.dim)).astype(np.float32)
        old = (new @ self.rng.normal(size=(self.new.dim, self.info.phi_dim)) / 8).astype(np.float32)
        side = self.rng.normal(size=(count, self.side_dim)).astype(np.float16) if self.side_dim else None
        head = self.new.head()
        return old, side, new, self.rng.integers(0, CLASSES if head is None else len(head[0]), count)

    def _fit(self) -> None:
        fit, (labelled, unlabelled) = self.settings.fit, (self.counts["fitting"], self.counts["pool"])
        old, side, new, labels = self._synthetic(2 * ROWS)
        rows = pairs_of(old, side, new, labels)
        head = self.new.head()
        pool = rows if unlabelled else None

        def steps(count: int) -> None:
            fit_network(rows, pool, head, fit, seed=0, device=self.device, title="", most_steps=count)

        seconds, networks = 0.0, 0
        if fit.method not in CLOSED:
            _, step = slope(steps, 10, 30)
            from_pool = min(round(fit.batch * fit.pool_share), fit.batch - 1) if pool is not None else 0
            networks = steps_of(labelled, min(fit.batch - from_pool, labelled), fit) * fit.members
            seconds = networks * step

        def ridge(count: int) -> None:
            forward.fit(old[:count], new[:count], side=None if side is None else side[:count], method="ridge", device="cpu")

        fixed, each = slope(ridge, ROWS // 2, 2 * ROWS)
        closed = 3 if networks else 2  # h's own member or comparison, the closed form to beat, and its comparison
        seconds += closed * (fixed + each * (labelled + unlabelled))
        self._add("fit", seconds, f"{networks} steps and {closed} closed forms on {labelled} pairs and {unlabelled} of the pool")
        self.found.memory = max(self.found.memory, 3 * (labelled + unlabelled) * 4 * (self.info.phi_dim + self.side_dim + self.new.dim))

    def _small_h(self) -> forward.Forward:
        old, side, new, labels = self._synthetic(1024)
        fit = replace(self.settings.fit, epochs=1, batch=min(self.settings.fit.batch, 256))
        return forward.fit(old, new, side=side, labels=labels, settings=fit, device=self.settings.device, title="")

    def _transform(self, h: forward.Forward | None) -> None:
        gallery, size = self.workspace.gallery, self.settings.transform.batch_rows
        ids = gallery.item_ids(native_version=self.m)[:size]
        batches = -(-self.rows // size)
        batch = next(gallery.features(self.m, ids=ids, batch_rows=size))
        read = timed(lambda: next(gallery.features(self.m, ids=ids, batch_rows=size)))
        self._check(batch)  # the first one imports Great Expectations
        checked = timed(lambda: self._check(batch))
        carried = looked = 0.0
        if h is not None:
            side = self.rng.normal(size=(len(ids), h.side_dim)).astype(np.float32) if h.side_dim else None
            h.transform(batch.phi[:64], None if side is None else side[:64], device=self.settings.device)
            carried = timed(lambda: h.transform(batch.phi, side, device=self.settings.device))
        drawer = self.old.picture() if self.looks and h is not None else None
        if drawer is not None:
            program = self.new.program(self.device)
            looked = timed(lambda: preview.with_preview(drawer, batch.psi, program, self.new.size, self.new.mode, device=self.device))
        written, growing = self._writing(size)
        seconds = batches * (read + checked + carried + looked + written) + growing * batches * batches / 2
        per = 1e6 * (carried + looked) / len(ids)
        self._add("transform", seconds, f"{self.rows} rows in {batches} batches, {per:.0f} µs a row in h and preview")
        self.found.disk += self.rows * (4 * self.new.dim + ID_BYTES)

    def _check(self, batch: Any) -> None:
        expectations.check_batch(
            "plan", batch.ids, batch.phi, dim=self.info.phi_dim, fingerprint=self.info.fingerprint, found_fingerprint=self.info.fingerprint
        )

    def _writing(self, size: int) -> tuple[float, float]:
        """Seconds of writing a batch into an empty space, and how many more for every batch that is there already."""
        gallery, space = Gallery(self.place / f"gallery-{self.m}"), "spaces/v1-native"
        gallery.create_space(space, self.new.dim, "plan", {})
        rows, doubt, took = self.rng.normal(size=(size, self.new.dim)).astype(np.float32), np.zeros(size, dtype=np.float32), []
        for number in range(24):
            ids = np.array([f"{number:04}-{row:06}" for row in range(size)])
            took.append(timed(lambda ids=ids: gallery.append_space(space, ids, rows, "native", doubt)))  # type: ignore[misc]
        first, last = float(np.median(took[1:9])), float(np.median(took[-8:]))
        return first, max(0.0, (last - first) / 15)

    def _judge(self, h: forward.Forward) -> None:
        """Evaluate and validate: searches grow with the square of the sample, coverage with fitting rows times gallery."""
        count, bounds, metric = self.counts["sample"], self.settings.validate, self.new.metric

        def evaluate(size: int) -> None:
            old, side, new, _ = self._synthetic(size)
            texts = np.array([f"{row}" for row in range(size)])
            labels = np.array([f"{row % CLASSES}" for row in range(size)])
            sample = Sample(
                texts, labels, np.full(size, ""), np.full(size, "known"), old, np.zeros((size, 0)) if side is None else side, new
            )
            carried = h.transform(old, side if h.side_dim else None)
            values = evaluation.measure(sample, carried[0], metric)
            evaluation.summarise(values, 0)
            checks.further(values, sample, h, (carried[0], np.abs(new[:, 0])), h, metric, bounds, seed=0, seen=[])

        few, many = min(count, 250), min(count, 750)
        evaluate(few)
        first, second = timed(lambda: evaluate(few)), timed(lambda: evaluate(many)) if many > few else 0.0
        square = max(0.0, (second - first) / (many**2 - few**2)) if many > few else 0.0
        self._add(
            "evaluate",
            max(0.0, first - square * few**2) + square * count**2,
            f"{count} queries in their own sample, 11 steps of {bounds.random_orders + 2} orders",
        )
        self.found.memory = max(self.found.memory, 12 * count * count)
        width = self.info.phi_dim + self.info.psi_dim
        fitted = min(self.counts["fitting"], 20_000) + min(self.counts["pool"], 20_000)
        some = self.rng.normal(size=(2000, width)).astype(np.float32)
        each = timed(lambda: coverage.measure(some, some)) / (2 * len(some) ** 2)
        exact = self.rng.normal(size=(min(self.rows, INDEXED), self.new.dim)).astype(np.float32)
        search = timed(lambda: exact[:100] @ exact.T) / len(exact) * 5
        asked = timed(lambda: self._check(next(self.workspace.gallery.features(self.m, batch_rows=64))))
        seconds = each * fitted * (self.rows + coverage.REFERENCE_ROWS) + search * self.rows + 3 * asked + 2 * self._opening()
        self._add("validate", seconds, f"coverage of {self.rows} rows by {fitted} fitting rows, index, canaries, gates, report")

    def _opening(self) -> float:
        """Reading what serves once, as the rehearsal of a rollback does before and after."""
        return timed(lambda: self.workspace.gallery.item_ids())
