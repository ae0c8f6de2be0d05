"""The upgrade of a gallery to version n, step by step. Each step is idempotent; the flow only decides when.

contract → embed → fit → transform → index → evaluate → validate → publish. For the first release there is nothing to carry over:
the space is native, and only the gates that need no champion apply.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from fct import device as devices
from fct import forward
from fct.arrays import digests, vectors
from fct.arrays.files import read_json, whole_folder, write_json
from fct.datasets.images import read_images
from fct.datasets.manifest import read_manifest
from fct.errors import BadInput, NotPermitted
from fct.gallery import index as indexes
from fct.gallery.names import features_name, space_name
from fct.program import programs, sandbox
from fct.release import preview
from fct.release.folder import Release
from fct.sample import adopted, evaluation, pairs
from fct.sample.folder import PairsFolder, Sample
from registry.mlflow.store import STATUS_TAG
from registry.revisions import alarm, history, kept, names
from registry.revisions.building import champion_rows, open_index, pin
from registry.revisions.revision import Revision, read
from registry.steps import RECIPES, once
from registry.upgrades import rehearsal, rereading
from registry.upgrades.carrying import carry, look_again
from registry.upgrades.fitting import copies_of, fit_closed, fit_pairs
from registry.upgrades.maker import Maker
from registry.verdicts import checks, verdict
from registry.workspace import Workspace

MIX = "mix"  # of native versions, as the live gallery has them


def mixed(counts: dict[int, int], rows: int, seed: int) -> np.ndarray:
    """(rows,) int: a native version for each row, in the proportions of ``counts``, drawn with ``seed``."""
    ends = np.rint(np.cumsum(list(counts.values())) / max(1, sum(counts.values())) * rows).astype(int)
    versions = np.repeat(list(counts), np.diff(ends, prepend=0))
    return np.asarray(np.random.default_rng(seed).permutation(versions))


@dataclass(frozen=True)
class Upgrade:
    """The upgrade of one registered model to version ``version``."""

    workspace: Workspace
    version: int

    @cached_property
    def folder(self) -> Path:
        return self.workspace.upgrade_folder(self.version)

    @cached_property
    def new(self) -> Release:
        return kept.opened(self.workspace, self.version, check=False)

    @cached_property
    def champion(self) -> int | None:
        """The release that served when this upgrade started (the step *contract* writes it down); else the one that serves."""
        known = self.folder / "contract.json"
        if known.exists() and read_json(known).get("ok"):
            found = read_json(known)["champion"]
            return None if found is None else int(found)
        return self.workspace.ledger.release()

    def natives(self) -> list[int]:
        """Native versions in the gallery that must be carried over: all before n. What a later release embedded cannot be carried back."""
        return [m for m in self.workspace.gallery.native_versions() if m < self.version]

    def release_of(self, version: int) -> Release:
        return kept.opened(self.workspace, version, check=False)

    @cached_property
    def _gone(self) -> frozenset[str]:
        return names.gone(self.workspace.ledger.entries())

    def step(self, name: str) -> Path:
        """The folder of a step."""
        return names.step(self.workspace, self.version, name, self._gone)

    def steps(self, pattern: str) -> list[Path]:
        """Folders and files of steps that are there, by a pattern."""
        return names.steps(self.workspace, self.version, pattern, self._gone)

    def pairs_folder(self, native: int) -> Path:
        return self.step(f"pairs-v{native}")

    def forward_folder(self, native: int) -> Path:
        return self.folder / f"h-v{native}"

    def closed_folder(self, native: int) -> Path:
        """The closed form on the same pairs as the h from ``native``, which that h has to beat."""
        return self.folder / f"closed-v{native}"

    def forwards(self, natives: Iterable[int] | None = None) -> dict[int, forward.Forward]:
        """The h's from these native versions; by default from all that the gallery has."""
        return {m: forward.load(self.forward_folder(m)) for m in (self.natives() if natives is None else natives)}

    @cached_property
    def space(self) -> str:
        name = space_name(self.version, {m: h.digest for m, h in self.forwards().items()}, RECIPES["transform"])
        return names.unused(name, self._gone)

    # ---- steps --------------------------------------------------------------------------------------------------

    def contract(self) -> dict[str, Any]:
        """Check that release n is complete. An incomplete one is marked ``invalid`` in MLflow and refused by name."""
        releases = self.workspace.releases
        path = self.folder / "contract.json"
        champion = self.workspace.ledger.release()
        if champion == self.version:
            raise BadInput(f"version {self.version} serves already", todo="there is nothing to upgrade")
        known = history.latest(self.workspace.ledger.entries()).get(self.version)
        if champion is not None and self.version < champion and known and known.space in self.workspace.gallery.tables():
            raise BadInput(  # another h would take the place of the one that a rollback needs
                f"version {self.version} served before version {champion}", todo="`fct rollback` returns to what served before"
            )
        adopted_before(self.workspace, self.version)
        recorded = alarm.recorded(self.workspace)
        for name in ("items", *map(features_name, self.natives())):  # now, before hours of work on them
            alarm.compare(self.workspace, recorded, name)
        found = releases.contract_problems(self.version)
        found = found or [
            f"its embedder is that of version {m}, whose own vectors the gallery holds: `fct rollback` returns to that version"
            for m in self.natives()
            if self.release_of(m).fingerprint == self.new.fingerprint
        ]
        found = found or self._strange()
        if found:
            write_json(path, {"ok": False, "problems": found, "champion": None})
            releases.tag(self.version, STATUS_TAG, "invalid")
            releases.describe(self.version, f"**invalid**: this version is not a complete release. {'; '.join(found)}"[:4000])
            raise BadInput(
                f"version {self.version} of {releases.model} is not a complete release: " + "; ".join(found),
                todo="register a complete one with `fct register FOLDER`",
            )
        rows = self.workspace.gallery.native_versions()
        if not len(self.workspace.gallery.item_ids(role="item")):
            raise BadInput(
                "the upgrade would change zero rows: the gallery is empty",
                where=self.workspace.gallery.root,
                todo="ingest items first with `fct ingest`",
            )
        if champion is None and self.natives():
            raise BadInput(
                "the gallery has items of another version but nothing serves",
                got=f"native versions {sorted(rows)}",
                todo=f"bring version {min(rows)} to serve first: `fct upgrade {min(rows)}`, then approve and promote it",
            )
        self.__dict__["champion"] = champion
        result = {"ok": True, "problems": [], "champion": champion, "release": self.new.digest(), "fingerprint": self.new.fingerprint}
        result["sealed"] = sandbox.used()
        write_json(path, result)
        return result

    def _strange(self) -> list[str]:
        """Why an adopted release cannot serve this gallery: nothing can make vectors of it but the rows that were adopted as it.

        Of a gallery without rows nothing is said: an adoption registers its release first, and may be at work.
        """
        gallery, natives = self.workspace.gallery, self.workspace.gallery.native_versions()
        if not self.new.adopted or not natives:
            return []
        own = self.version in natives and gallery.feature_info(self.version).fingerprint == self.new.fingerprint
        if own and not self.natives():
            return []
        return [
            f"it was adopted without its embedder, and the gallery holds rows of version {', '.join(map(str, natives))} that were not adopted as it"
        ]

    def embed(self) -> None:
        """Native vectors of fitting images, pool, evaluation sample and canaries in both spaces."""
        settings, data = self.workspace.settings, self.workspace.data
        for m in self.natives() or [self.version]:
            old = self.release_of(m)
            if old.adopted:
                self._embed_adopted(m, old)
                continue
            inputs = {
                "old": old.fingerprint,
                "new": self.new.fingerprint,
                "data": digests.of_file(data / "manifest.csv"),
                "settings": asdict(settings.embed),
                "seed": settings.seed,
            }
            arguments = (old, self.new, data, self.pairs_folder(m), settings.embed)
            once("embed", self.pairs_folder(m), inputs, partial(pairs.write_pairs, *arguments, seed=settings.seed, device=settings.device))

    def _embed_adopted(self, m: int, old: Release) -> None:
        """The same from given pairs, where the vectors of ``m`` were computed elsewhere."""
        about: dict[str, object] = {"old": old.fingerprint, "new": self.new.fingerprint, "metric": self.new.metric, "old_classes": []}
        place, out, gallery, seed = (
            self.workspace.adopted_folder(m),
            self.pairs_folder(m),
            self.workspace.gallery,
            self.workspace.settings.seed,
        )
        if m == self.version:
            chosen = np.random.default_rng(seed).permutation(gallery.item_ids(role="item", native_version=m))[: adopted.EVALUATED]
            both = [np.sort(chosen), gallery.item_ids(role="canary", native_version=m)]
            rows = [next(gallery.features(m, ids=ids, batch_rows=len(ids))) for ids in both]
            once(
                "embed given",
                out,
                about | {"rows": digests.of_json([ids.tolist() for ids in both])},
                partial(adopted.write_first, rows[0], rows[1], out, about | {"adopted": True}),  # a purge looks for that
            )
            return
        if not place.is_dir():
            raise BadInput(
                f"version {m} was adopted without pairs, so nothing says how its vectors become those of version {self.version}",
                todo="`fct adopt VECTORS --as v1 --pairs OLD.npy NEW.npy --labels LABELS` adds them",
            )
        given = adopted.load_given(place)
        if given.new.shape[1] != self.new.dim:
            raise BadInput(
                f"the pairs of adopted version {m} do not lead to version {self.version}",
                wanted=f"{self.new.dim} dimensions",
                got=given.new.shape[1],
                todo="`fct adopt … --pairs OLD.npy NEW.npy` with vectors of this version",
            )
        own, _ = programs.embed(self.new.program(), self.new.canaries()[1], device=devices.pick("cpu"))
        share = adopted.strangers(given.new, own)
        if share > adopted.STRANGER:
            raise BadInput(
                f"the pairs' new vectors do not look like those of version {self.version}'s own embedder",
                wanted=f"its canaries among them, at most {adopted.STRANGER:.0%} further out than the pairs' own 99th percentile",
                got=f"{share:.0%}",
                todo="compute NEW.npy with the program that is registered",
            )
        inputs = about | {"given": digests.of_folder(place), "seed": seed, "classes": digests.of_json(self.new.classes)}
        once("embed given", out, inputs, partial(adopted.write_pairs, given, out, classes=self.new.classes, seed=seed, about=about))

    def fit(self) -> dict[str, Any]:
        """One h per native version present, always straight from native."""
        settings = self.workspace.settings
        results = {}
        for m in self.natives():
            inputs = {
                "pairs": digests.of_file(self.pairs_folder(m) / "pairs.json"),
                "vectors": self._pairs_digest(m),
                "settings": asdict(settings.fit),
                "precision": devices.precision(settings.fit.precision, devices.pick(settings.device)),
                "seed": settings.seed,
            }

            def make(m: int = m) -> dict[str, Any]:
                h = fit_pairs(
                    self.pairs_folder(m),
                    self.new.head(),
                    settings.fit,
                    seed=settings.seed,
                    device=settings.device,
                    title=f"h v{m} to v{self.version}",
                )
                h.save(self.forward_folder(m))
                return {"seconds": h.about["seconds"], "digest": h.digest}

            results[f"v{m}"], _ = once("fit", self.forward_folder(m), inputs, make)

            def make_closed(m: int = m) -> dict[str, Any]:
                closed = fit_closed(self.pairs_folder(m), settings.fit, seed=settings.seed)
                closed.save(self.closed_folder(m))
                return {"seconds": closed.about["seconds"], "digest": closed.digest}

            once("fit", self.closed_folder(m), inputs, make_closed)
        return results

    def _pairs_digest(self, m: int) -> str:
        folder = self.pairs_folder(m)
        return digests.of_json({path.relative_to(folder).as_posix(): digests.of_file(path) for path in sorted(folder.rglob("*.npy"))})

    def transform(self) -> dict[str, Any]:
        """Carry the live gallery over into a new space, in batches that are each a commit. Reads features, never an image.

        Raises:
            BadInput: zero rows to change, or a batch that Great Expectations refuses.
        """
        gallery, forwards = self.workspace.gallery, self.forwards()
        self._rehearse()
        gallery.create_space(self.space, self.new.dim, self.new.fingerprint, {m: h.digest for m, h in forwards.items()})
        look_again(self.workspace, self.space, self.version, forwards)
        there = len(gallery.space_ids(self.space))
        done = carry(self.workspace, self.space, self.version, forwards)
        if there + done.changed == 0:
            raise BadInput("the upgrade would change zero rows", where=self.space, todo="ingest items first with `fct ingest`")
        path = self.folder / "transform.json"
        earlier: dict[str, Any] = read_json(path) if path.exists() else {}
        if earlier.get("space") != self.space:
            earlier = {"suites": [], "changed": 0, "seconds": 0.0}
        result = {
            "rows": there + done.changed,
            "changed": done.changed + earlier["changed"],
            "seconds": done.seconds + earlier["seconds"],
            "suites": earlier["suites"] + done.suites,
            "space": self.space,
        }
        write_json(path, result)
        return {"rows": result["rows"], "changed": done.changed, "space": self.space}

    def index(self) -> dict[str, Any]:
        """Build the index of the new space anew and pin every table the release needs."""
        revision = pin(self.workspace, self.version, self.space, self.new, {m: h.digest for m, h in self.forwards().items()})
        write_json(self.folder / "revision.json", revision.to_json())
        return {"rows": revision.state.rows, "content": revision.state.content, "kind": revision.index.about["kind"]}

    def evaluate(self) -> dict[str, Any]:
        """Exact search on the evaluation sample: the champion as served, new/h(old), new/new, for each h."""
        settings = self.workspace.settings
        out = {}
        for m, h in self.forwards().items():
            sample = PairsFolder(self.pairs_folder(m)).sample()
            target = self.step(f"evaluation-v{m}")
            closed = None if h.closed else forward.load(self.closed_folder(m))
            seen, bounds = self._seen(m), settings.validate
            inputs = {
                "h": h.digest,
                "closed": closed and closed.digest,
                "pairs": self._pairs_digest(m),
                "champion": self._champion_identity(),
                "seed": settings.evaluate.seed,
                "seen": seen,
                "further": [bounds.random_orders, bounds.score_threshold, bounds.false_positives],
            }

            def make(
                h: forward.Forward = h,
                sample: Sample = sample,
                target: Path = target,
                m: int = m,
                closed: forward.Forward | None = closed,
                seen: list[str] | None = seen,
            ) -> dict[str, Any]:
                carried = h.transform(sample.old, sample.side if h.side_dim else None, device=settings.device)
                served, seed = self.served(m, sample), settings.evaluate.seed

                def further(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
                    return checks.further(
                        values, sample, h, carried, closed, self.new.metric, settings.validate, seed=seed, seen=seen, served=served
                    )

                return evaluation.write(sample, carried[0], self.new.metric, target, seed=seed, served=served, further=further)

            out[f"v{m}→v{self.version}"], _ = once("evaluate", target, inputs, make)
        if len(self.forwards()) > 1:
            out[MIX] = self._evaluate_mix()
        return out

    def _seen(self, m: int) -> list[str] | None:
        """The classes that version m was trained on; None where nobody knows."""
        release = self.release_of(m)
        return None if release.adopted else release.classes

    def _evaluate_mix(self) -> dict[str, Any]:
        """The same on a gallery side that is mixed as the live gallery is: each row of the sample as if native to one of its versions."""
        settings, forwards, gallery = self.workspace.settings, self.forwards(), self.workspace.gallery
        counts = {m: len(gallery.item_ids(role="item", native_version=m)) for m in [*forwards, self.version]}
        samples = {m: PairsFolder(self.pairs_folder(m)).sample() for m in forwards}
        first, target = samples[min(samples)], self.step(f"evaluation-{MIX}")
        inputs = {
            "h": {str(m): h.digest for m, h in forwards.items()},
            "counts": {str(m): count for m, count in counts.items()},
            "pairs": [self._pairs_digest(m) for m in forwards],
            "champion": self._champion_identity(),
            "seed": settings.evaluate.seed,
            "further": [settings.validate.random_orders, settings.validate.score_threshold, settings.validate.false_positives],
        }

        def make() -> dict[str, Any]:
            chosen = mixed(counts, len(first.ids), settings.evaluate.seed)
            carried, sigma = first.new.astype(np.float32), np.zeros(len(first.ids), dtype=np.float32)
            served = {m: self.served(m, sample) or (sample.old, sample.old) for m, sample in samples.items()}
            query = next(iter(served.values()))[0]  # of the champion, whatever the row is native to
            champion = np.array(query)  # of a row native to n itself it serves what it embedded
            for m, h in forwards.items():
                rows = chosen == m
                if not rows.any():  # canaries alone are native to m
                    continue
                vectors_, doubt = h.transform(samples[m].old[rows], samples[m].side[rows] if h.side_dim else None, device=settings.device)
                carried[rows], sigma[rows], champion[rows] = vectors_, np.nan_to_num(doubt, nan=0.0), served[m][1][rows]

            def further(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
                h, seen = forwards[min(forwards)], self._seen(self.champion or min(forwards))
                found = checks.further(
                    values, first, h, (carried, sigma), None, self.new.metric, settings.validate,
                    seed=settings.evaluate.seed, seen=seen, served=(query, champion),
                )  # fmt: skip
                return {name: value for name, value in found.items() if not name.startswith("curve_")}  # curves are judged h by h

            return evaluation.write(
                first, carried, self.new.metric, target, seed=settings.evaluate.seed, served=(query, champion), further=further
            )

        return dict(once("evaluate", target, inputs, make)[0])

    def _champion_identity(self) -> dict[str, Any]:
        now = history.serving(self.workspace.ledger)
        if now is None:
            return {}
        return {"release": now.release, "fingerprint": now.fingerprint, "forward": now.carried, "space": now.space}

    def served(self, m: int, sample: Sample) -> tuple[np.ndarray, np.ndarray] | None:
        """Query and gallery vectors of the champion as served, where the champion is not the native version itself.

        Raises:
            NotPermitted: the champion's h is not the one that the ledger says serves.
        """
        champion, serving = self.champion, history.serving(self.workspace.ledger)
        if champion is None or champion == m or serving is None:
            return None
        release = self.release_of(champion)
        rows = read_manifest(self.workspace.data).rows(*pairs.POPULATIONS.values())
        images = read_images(rows.files, release.size, release.mode, "evaluation sample: champion")
        query, _ = programs.embed(release.program(), images, device=devices.pick("cpu"))
        if m > champion:  # a rollback left items of a later release, of which the champion serves only what it embedded itself
            return query, query
        old = forward.load(self.workspace.upgrade_folder(champion) / f"h-v{m}")
        if old.digest != serving.forward.get(m):
            raise NotPermitted(
                f"the h from version {m} to {champion} is not the one that serves",
                todo="restore it; the champion as served cannot be measured",
            )
        # the sample's own side-information has what version n sees in ψ; this h was given what the champion sees in it
        psi = np.array(vectors.load(self.pairs_folder(m) / "sample" / "psi.npy"))
        side = preview.side_of(self.release_of(m), release, psi, side_dim=old.side_dim, device=devices.pick("cpu"))
        return query, old.transform(sample.old, side if old.side_dim else None)[0]

    def _rehearse(self) -> None:
        """Ask the champion, before anything of the candidate exists, what it is asked again at the end."""
        serving = history.serving(self.workspace.ledger)
        if self.champion is None or serving is None or serving.release != self.champion or not self.natives():
            return

        def queries() -> np.ndarray:
            native = self.champion if self.champion in self.natives() else self.natives()[0]
            sample = PairsFolder(self.pairs_folder(native)).sample()
            served = self.served(native, sample)
            return sample.old if served is None else served[0]

        rehearsal.before(self.workspace, serving, self.step("rehearsal"), queries)

    def validate(self) -> dict[str, Any]:
        """Measure all gates and write the verdict. A failed gate is a verdict, not an error."""
        ws, settings = self.workspace, self.workspace.settings
        revision = read(self.folder / "revision.json")
        rows = ws.gallery.read_space(self.space, at=revision.tables[self.space].version)
        if not len(ws.gallery.item_ids(role="canary")):
            raise BadInput("the gallery holds no canaries", where=ws.gallery.root, todo="`fct ingest` adds the release's canaries")
        forwards = self.forwards()
        natives = {m: self._carried(revision, m, forwards.get(m)) for m in self.natives() or [self.version]}
        searcher = open_index(ws, revision, self.new.metric)
        fingerprint = ws.gallery.space_info(self.space).fingerprint
        live, canaries, covered = checks.measure(
            natives,
            rows.ids,
            rows.vectors,
            searcher,
            self.new,
            ws.data,
            settings.validate,
            device=settings.device,
            space_fingerprint=fingerprint,
            labels=self._labels(rows.ids),
        )
        live = replace(live, rollback=None if self.champion is None else rehearsal.after(ws, self.step("rehearsal")))
        values = {f"v{m}→v{self.version}": evaluation.load(self.step(f"evaluation-v{m}")) for m in self.natives()}
        metrics = {f"v{m}→v{self.version}": read_json(self.step(f"evaluation-v{m}") / "metrics.json") for m in self.natives()}
        if len(values) > 1:
            values[MIX] = evaluation.load(self.step(f"evaluation-{MIX}"))
            metrics[MIX] = read_json(self.step(f"evaluation-{MIX}") / "metrics.json")
        covers = {
            "release": self.new.digest(),
            "fingerprint": self.new.fingerprint,
            "forward": revision.carried,
            "space": self.space,
            "rows": revision.tables[self.space].content,
            "index": revision.index.identity,
            "recipe": digests.of_json([asdict(settings.fit), asdict(settings.embed), settings.seed]),
            "canaries": digests.of_json(canaries["promised"]),
            "values": digests.of_json({name: {one: digests.of_array(v) for one, v in kept.items()} for name, kept in values.items()}),
            "copies": {f"v{m}→v{self.version}": copies_of(self.pairs_folder(m)) for m in self.natives()},
            "evaluated": {name: digests.of_array(value["rows"]) for name, value in values.items()},
            "bounds": digests.of_json(asdict(settings.validate)),
            "rows read back": self._reread(forwards, revision, searcher),
            "program sealed from": self._sealed(),
            "champion": champion_rows(ws, history.serving(ws.ledger)),
        }
        reached = verdict.reach(
            model=settings.model,
            version=self.version,
            champion=self.champion,
            per_forward=dict(values) or {"": None},
            live=live,
            metrics=next(iter(metrics.values())) if len(metrics) == 1 else metrics,
            covers=covers,
            settings=settings.validate,
            seed=settings.evaluate.seed,
        )
        with whole_folder(self.folder / "verdict") as part:
            write_json(part / "verdict.json", reached)
            write_json(part / "canaries.json", canaries)
            items = self._items(revision)
            far = np.zeros(len(items), dtype=bool)
            for m, found in covered.items():
                far[np.searchsorted(items, self._items(revision, m))] = found.far
            place = np.searchsorted(rows.ids, items).clip(max=len(rows.ids) - 1)
            sigma = np.where(rows.ids[place] == items, rows.uncertainty[place], np.nan)  # a row may be missing: then the canaries refuse
            np.savez(part / "items.npz", ids=items, sigma=sigma, far=far)
        return reached

    def _labels(self, ids: np.ndarray) -> np.ndarray:
        """(N,) labels of sorted ids; empty where an item was deleted meanwhile."""
        items = self.workspace.gallery.items()
        at = np.searchsorted(items["id"], ids).clip(max=len(items["id"]) - 1)
        return np.where(items["id"][at] == ids, items["label"][at], "")

    def _reread(self, forwards: dict[int, forward.Forward], revision: Revision, searcher: indexes.Searcher) -> str:
        """Rows of the whole space, made again and compared, as the verdict says it."""
        state = revision.tables[self.space]
        ids = self.workspace.gallery.space_ids(self.space, at=state.version)
        wanted = rereading.chosen(ids, state.content, rereading.LEAST)
        compared = rereading.check(Maker(self.workspace, self.version, forwards), self.space, wanted, searcher)
        return f"{compared} of {len(ids)}, all right: at most {100 * rereading.bound(compared):.1f} % can be wrong (95 %)"

    def _sealed(self) -> str:
        """What the program had not got while it ran before anybody approved it, as the step *contract* found."""
        sealed = read_json(self.folder / "contract.json").get("sealed")
        if sealed is None:
            return "nothing: it has served" if self.workspace.has_served(self.new.digest()) else "not known"
        return ", ".join(sealed) or "nothing"

    def _items(self, revision: Revision, native: int | None = None) -> np.ndarray:
        """Ids of the items (no canaries) as they were when the space was pinned; ingest may go on meanwhile."""
        return self.workspace.gallery.item_ids(role="item", native_version=native, at=revision.tables["items"].version)

    def _carried(self, revision: Revision, m: int, h: forward.Forward | None) -> checks.Carried:
        gallery, at = self.workspace.gallery, revision.tables[features_name(m)].version
        batches = list(gallery.features(m, at=at, ids=self._items(revision, m)))
        if not batches:  # canaries alone are native to m: its items were deleted, or all were backfilled
            info = gallery.feature_info(m)
            return checks.Carried(self.pairs_folder(m), h, np.zeros((0, info.phi_dim), np.float32), np.zeros((0, info.psi_dim), np.int8))
        return checks.Carried(self.pairs_folder(m), h, np.concatenate([b.phi for b in batches]), np.concatenate([b.psi for b in batches]))


def adopted_before(workspace: Workspace, version: int) -> None:
    """Refuse a second step from an adopted version: given pairs lead one version on.

    Raises:
        BadInput: rows native to an adopted version are served by another one already.
    """
    champion = workspace.ledger.release()
    for m in workspace.gallery.native_versions():
        if m < version and champion not in (None, m) and kept.opened(workspace, m, check=False).adopted:
            raise BadInput(
                f"the gallery was adopted as version {m} and is served by version {champion} now: given pairs lead one version on, not two",
                todo=f"roll back to version {m} and adopt pairs that lead to version {version}; or begin a gallery of version {champion}'s own with `fct ingest`",
            )
