"""The step *embed*: native vectors of fitting images, pool, evaluation sample and canaries, or given pairs."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import numpy as np

from fct import device as devices
from fct.arrays import digests
from fct.errors import BadInput
from fct.program import programs
from fct.release.folder import Release
from fct.sample import adopted, pairs
from registry.steps import once
from registry.upgrades.upgrade import Upgrade


def embed(upgrade: Upgrade) -> None:
    """Native vectors of fitting images, pool, evaluation sample and canaries in both spaces."""
    settings, data = upgrade.workspace.settings, upgrade.workspace.data
    for m in upgrade.natives() or [upgrade.version]:
        old = upgrade.release_of(m)
        if old.adopted:
            _embed_adopted(upgrade, m, old)
            continue
        inputs = {
            "old": old.fingerprint,
            "new": upgrade.new.fingerprint,
            "data": digests.of_file(data / "manifest.csv"),
            "settings": asdict(settings.embed),
            "seed": settings.seed,
        }
        arguments = (old, upgrade.new, data, upgrade.pairs_folder(m), settings.embed)
        once("embed", upgrade.pairs_folder(m), inputs, partial(pairs.write_pairs, *arguments, seed=settings.seed, device=settings.device))


def _embed_adopted(upgrade: Upgrade, m: int, old: Release) -> None:
    """The same from given pairs, where the vectors of ``m`` were computed elsewhere."""
    about: dict[str, object] = {"old": old.fingerprint, "new": upgrade.new.fingerprint, "metric": upgrade.new.metric, "old_classes": []}
    place, out, gallery, seed = (
        upgrade.workspace.adopted_folder(m),
        upgrade.pairs_folder(m),
        upgrade.workspace.gallery,
        upgrade.workspace.settings.seed,
    )
    if m == upgrade.version:
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
            f"version {m} was adopted without pairs, so nothing says how its vectors become those of version {upgrade.version}",
            todo="`fct adopt VECTORS --as v1 --pairs OLD.npy NEW.npy --labels LABELS` adds them",
        )
    given = adopted.load_given(place)
    if given.new.shape[1] != upgrade.new.dim:
        raise BadInput(
            f"the pairs of adopted version {m} do not lead to version {upgrade.version}",
            wanted=f"{upgrade.new.dim} dimensions",
            got=given.new.shape[1],
            todo="`fct adopt … --pairs OLD.npy NEW.npy` with vectors of this version",
        )
    own, _ = programs.embed(upgrade.new.program(), upgrade.new.canaries()[1], device=devices.pick("cpu"))
    share = adopted.strangers(given.new, own)
    if share > adopted.STRANGER:
        raise BadInput(
            f"the pairs' new vectors do not look like those of version {upgrade.version}'s own embedder",
            wanted=f"its canaries among them, at most {adopted.STRANGER:.0%} further out than the pairs' own 99th percentile",
            got=f"{share:.0%}",
            todo="compute NEW.npy with the program that is registered",
        )
    inputs = about | {"given": digests.of_folder(place), "seed": seed, "classes": digests.of_json(upgrade.new.classes)}
    once("embed given", out, inputs, partial(adopted.write_pairs, given, out, classes=upgrade.new.classes, seed=seed, about=about))
