"""``fct adopt``: a gallery whose vectors were computed elsewhere becomes release 1, or further items of it.

Nothing is computed again. The release has no embedder: it is asked with vectors, and a later version, which has one, takes over by an
upgrade from *given pairs* (:mod:`fct.sample.adopted`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fct import release
from fct.arrays import digests, vectors
from fct.arrays.files import whole_folder
from fct.errors import BadInput
from fct.gallery.names import features_name
from fct.sample import adopted
from fct.search import copies
from registry import lock
from registry.revisions import alarm, kept
from registry.workspace import Workspace

ROWS = 16_384  # a commit
Listed = list[tuple[str, str]]


@alarm.stops
def adopt(
    workspace: Workspace,
    rows: adopted.Rows,
    given: adopted.Given | None,
    *,
    version: int,
    metric: str = "cosine",
    normalised: bool = False,
    mixed: bool = False,
    roots: Sequence[str] = (),
    by: str,
    why: str,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Take rows into the gallery as native to an adopted version. Running it again changes nothing, and finishes what was cut short.

    Args:
        given: pairs that lead to the next version; they take the place of earlier ones.
        version: its number; the release is registered where it is not yet.
        normalised: whether all vectors are said to have norm 1.
        mixed: take rows although they look like vectors of two embedders.
        roots: where their images may lie (:func:`registry.items.arrivals.declared`).

    Returns:
        ``version``, ``added``, ``unchanged``, ``conflicts`` and ``left_out`` (id and reason), ``pairs`` (rows by purpose, or None),
        ``copies`` (share of the pairs that are copies of others, or None), ``warnings``,
        ``entry`` of the ledger or None, ``serves``.

    Raises:
        BadInput: rows that are not of this version, a version with an embedder, vectors of two embedders, norms other than declared.
    """
    releases, gallery, settings = workspace.releases, workspace.gallery, workspace.settings
    known = {one.number for one in releases.versions()}
    opened = kept.opened(workspace, version) if version in known else None
    _belongs(workspace, opened, rows, version=version, known=known, metric=metric)
    place = workspace.adopted_folder(version)
    pairs = adopted.load_given(place) if given is None and place.is_dir() else given
    parts = None if pairs is None else adopted.divide(pairs.labels, settings.seed, pairs.units)
    declared = normalised or (opened is not None and bool(opened.about["adopted"]["normalised"]))
    said: dict[str, Any] = {
        "version": version,
        "rows": len(rows.ids),
        "pairs": None if parts is None else {name: len(values) for name, values in vars(parts).items()},
        "copies": None if pairs is None else copies.share(pairs.copies),
        "warnings": [*rows.said, *(() if given is None else given.said), *_look(rows, pairs, normalised=declared, mixed=mixed)],
        "left_out": [*rows.left, *(() if given is None else given.left)],
        "serves": workspace.ledger.release() is not None,
    }
    if dry_run:
        added, unchanged, conflicts = _write(workspace, opened, rows, version, dry_run=True)
        return said | {"added": added, "unchanged": unchanged, "conflicts": conflicts, "entry": None}
    with lock.hold(workspace.locks, f"{settings.model}-ingest", f"{by}: adopt", lease_s=settings.promote.lock_lease_s) as held:
        alarm.compare(workspace, alarm.recorded(workspace), "items")
        mine = workspace.fenced(held.check)
        canaries = _canaries(rows, pairs, parts, settings.seed)
        if opened is None:
            opened = _register(workspace, rows, version, metric, normalised, canaries[0].tolist())
        if pairs is not None or not len(gallery.item_ids(role="canary")):
            _add_canaries(mine, opened, canaries, version)
        added, unchanged, conflicts = _write(mine, opened, rows, version)
        if given is not None:  # last: what came before may fail, and earlier pairs are as good as ever
            with whole_folder(place) as part:
                given.save(part)
    from registry.items.recording import record

    with lock.wait(workspace.locks, workspace.ledger_lock, f"{by}: adopt", lease_s=settings.promote.lock_lease_s) as held:
        entry = record(workspace.fenced(held.check), added, version, None, by=by, why=why, check=held.check, roots=[*roots])
    return said | {"added": added, "unchanged": unchanged, "conflicts": conflicts, "entry": None if entry is None else entry.number}


def _look(rows: adopted.Rows, given: adopted.Given | None, *, normalised: bool, mixed: bool) -> list[str]:
    """Sentences about what is worth knowing; BadInput where the vectors are not what they are said to be."""
    vectors.check("vectors", rows.phi)
    said, unit = [], adopted.normalised(rows.phi)
    if normalised and not unit:
        raise BadInput("the vectors are not normalised", wanted="norm 1 each", got="other norms", todo="leave out --normalised")
    if unit and not normalised:
        said.append("every vector has norm 1: they were normalised (--normalised declares it), and lengths that h could use are gone")
    if given is not None:
        if given.old.shape[1] != rows.phi.shape[1] or given.psi.shape[1] != rows.psi.shape[1]:
            raise BadInput(
                "the pairs' old vectors do not have the form of the gallery's vectors",
                wanted=f"{rows.phi.shape[1]} dimensions and {rows.psi.shape[1]} of side-information",
                got=f"{given.old.shape[1]} and {given.psi.shape[1]}",
            )
        share = adopted.strangers(given.old, rows.phi)
        if share > adopted.STRANGE and not mixed:
            raise BadInput(
                f"{share:.0%} of the vectors do not look like the pairs' old ones: vectors of two embedders are mixed, or the pairs show other things than the gallery",
                wanted=f"at most {adopted.STRANGE:.0%} further out than the pairs' own 99th percentile",
                todo="adopt those of one embedder; or, if you know why, --mixed-ok",
            )
        if share > adopted.STRANGE:
            said.append(f"{share:.0%} of the vectors do not look like the pairs' old ones; taken as they are")
        said += copies.warnings(copies.share(given.copies), "pairs", given.doubtful or 0.0)
    else:
        said.append(
            "without pairs no upgrade can be promised, and two embedders of one scale cannot be told apart: give --pairs and --labels"
        )
    split = adopted.two_scales(rows.phi)
    if split is not None and not mixed:
        raise BadInput(
            f"the vectors have two scales ({split:.0%} of them have one): vectors of two embedders are mixed",
            todo="adopt those of one embedder; or, if one embedder gives both, --mixed-ok",
        )
    if not rows.psi.shape[1]:
        said.append(
            "there is no side-information: what the new model sees and the old one did not cannot come back. On this project's icons"
            " pairs alone recover some seven tenths of the top-1 gain on known classes and make unseen ones worse (docs/gallery.md)"
        )
    return said


def _belongs(
    workspace: Workspace, opened: release.Release | None, rows: adopted.Rows, *, version: int, known: set[int], metric: str
) -> None:
    now = workspace.ledger.release()
    if opened is None and version != max(known, default=0) + 1:
        raise BadInput("the registry gives the next number to the next version", wanted=f"v{max(known, default=0) + 1}", got=f"v{version}")
    if opened is not None and not opened.adopted:
        raise BadInput(f"version {version} has an embedder of its own", todo="`fct ingest` embeds images with it")
    if now not in (None, version):
        raise BadInput(f"release {now} serves, so new items are embedded by it", todo="`fct ingest`")
    others = workspace.gallery.native_versions().keys() - {version}
    if opened is None and others:
        raise BadInput("the gallery holds items of another version already", got=f"native versions {sorted(others)}")
    if opened is None:
        return
    kind = (
        workspace.gallery.feature_info(version).phi_dtype if features_name(version) in workspace.gallery.tables() else rows.phi.dtype.name
    )
    given = (rows.phi.shape[1], rows.phi.dtype.name, rows.psi.shape[1], metric)
    wanted = (opened.dim, kind, opened.side_dim, opened.metric)
    if given != wanted:
        raise BadInput(
            f"these vectors are not of version {version}", wanted="dimensions, dtype, side-information, metric " + str(wanted), got=given
        )


def _canaries(
    rows: adopted.Rows, given: adopted.Given | None, parts: adopted.Parts | None, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ids, phi and psi of the canaries: pairs that nothing else uses; without pairs means of some items."""
    if given is not None and parts is not None:
        chosen = adopted.distinct(adopted.canary_ids(np.asarray(given.old[parts.canaries])), parts.canaries)
        phi, psi = np.asarray(given.old[chosen]).astype(rows.phi.dtype), np.asarray(given.psi[chosen])
        return adopted.canary_ids(np.asarray(given.old[chosen])), phi, psi
    phi, psi = adopted.stand_ins(rows.phi, rows.psi, seed)
    return adopted.canary_ids(phi), phi, psi


def _add_canaries(workspace: Workspace, opened: release.Release, canaries: tuple[np.ndarray, np.ndarray, np.ndarray], version: int) -> None:
    ids, phi, psi = canaries
    new = ~np.isin(ids, workspace.gallery.item_ids(role="canary"))
    empty = np.full(int(new.sum()), "")
    if new.any():
        fingerprint, bits = opened.fingerprint, opened.side_bits
        workspace.gallery.ingest(version, fingerprint, ids[new], phi[new], psi[new], empty, empty, empty, role="canary", psi_bits=bits)


def _register(
    workspace: Workspace, rows: adopted.Rows, version: int, metric: str, normalised: bool, canaries: list[str]
) -> release.Release:
    with tempfile.TemporaryDirectory() as place:
        folder = release.write_adopted(
            Path(place) / "release",
            dim=rows.phi.shape[1],
            side_bits=[8] * rows.psi.shape[1],  # what is adopted later may be wider than what came first
            metric=metric,
            normalised=normalised,
            content=digests.of_rows(rows.ids, phi=rows.phi),
            canary_ids=canaries,
        ).folder
        number = workspace.releases.register(folder, str(workspace.settings.workspace))
    if number != version:
        raise BadInput(f"somebody registered version {version} meanwhile", got=f"this one became {number}", todo="look at `fct status`")
    return kept.opened(workspace, number)


def _write(
    workspace: Workspace, opened: release.Release | None, rows: adopted.Rows, version: int, *, dry_run: bool = False
) -> tuple[int, int, Listed]:
    """Rows added (or that would be) and unchanged, and ids that are there with another content."""
    gallery, added, unchanged = workspace.gallery, 0, 0
    conflicts: Listed = []
    with tqdm(total=len(rows.ids), desc="adopting", unit="row", mininterval=1) as bar:
        for start in range(0, len(rows.ids), ROWS):
            part = slice(start, start + ROWS)
            ids, phi, psi = rows.ids[part], np.asarray(rows.phi[part]), rows.psi[part]
            described = rows.labels[part], rows.sources[part], rows.uris[part]
            differs = gallery.conflicts(version, ids, phi, psi, *described)
            conflicts += [(str(one), str(what)) for one, what in zip(ids, differs, strict=True) if what]
            natives = gallery.native_version_of(ids)
            new = (differs == "") & ((natives == 0) | (natives == version))  # others were embedded by a later release, and rolled back
            found = int((new & (natives == 0)).sum())
            if opened is not None and new.any() and not dry_run:
                from registry.items.ingest import still_there  # here: a dry run has no need of torch

                bits, mine = opened.side_bits, gallery.fenced(still_there(gallery, ids[natives > 0]))
                mine.delete_leftovers(version, ids[new & (natives == 0)])
                texts = [text[new] for text in described]
                found = mine.ingest(version, opened.fingerprint, ids[new], phi[new], psi[new], *texts, psi_bits=bits).added
            added, unchanged = added + found, unchanged + int((differs == "").sum()) - found
            bar.update(len(ids))
    return added, unchanged, conflicts
