"""What there is to ingest: a tree of image files, a folder with a manifest, or a Parquet file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fct.arrays.arrow import texts as texts_of
from fct.arrays.columns import near_misses, one_file
from fct.datasets.manifest import read_manifest
from fct.datasets.walk import Left, Walk, digest, walk
from fct.errors import BadInput
from registry.images import Arrival

GALLERY_SPLITS = ("gallery", "gallery_unseen")
PART = 1024
COLUMNS = ("label", "source")


def find(place: Path, project: Path, roots: Sequence[str | Path] = ()) -> tuple[int, Iterator[list[Arrival]], Left]:
    """How many images there are, the images in parts of at most 1,024, and what of a folder was left out, by reason.

    A folder with a manifest gives its gallery splits; another folder every image file below it (id: its path; label: its folder's
    name). A ``.parquet`` file has the columns ``id`` and either ``image_uri`` (a path, relative to the file) or ``image`` (bytes, or
    a struct with ``bytes`` and ``path``), and, where it likes, ``label`` and ``source``. Which files may be read :mod:`fct.datasets.walk`
    says, and again when one is read; a table's and a manifest's that may not are arrivals that cannot be read.

    Args:
        project: whose DVC cache files may be links to. roots: further places.

    Raises:
        BadInput: nothing there, nothing in it, or an id twice.
    """
    walked = walk(place.parent if place.is_file() else place, project, roots)
    if place.suffix == ".parquet" and place.is_file():
        return *_parquet(place, walked), walked.left
    if not place.is_dir():
        raise BadInput("there is no such folder or Parquet file", where=place)
    if (place / "manifest.csv").exists():
        rows = read_manifest(place).rows(*GALLERY_SPLITS)
        columns = (rows.id.tolist(), rows.label.tolist(), rows.source.tolist(), rows.files)
        found = [Arrival(one, label, source, str(path), walked=walked) for one, label, source, path in zip(*columns, strict=True)]
    else:
        files = sorted(walked.below(place))
        named = [(path.relative_to(place).as_posix(), path.parent.name if path.parent != place else "", path) for path in files]
        found = [Arrival(one, label, "", str(path), walked=walked) for one, label, path in named]
    if not found:
        if any(path.endswith(".parquet") for paths in walked.left.by_reason.values() for path in paths):
            one_file(place, "what was named")  # which says how to make one of its parts
        raise BadInput("there are no images to ingest", wanted="image files, or a manifest with gallery splits", where=place)
    return len(found), (found[start : start + PART] for start in range(0, len(found), PART)), walked.left


def declared(place: Path, roots: Sequence[str | Path] = ()) -> list[str]:
    """What the ledger keeps of an ingest, so that its images can be read again: digests of the folder that was named and of further ones."""
    return sorted({digest(os.path.realpath(root)) for root in (place.parent if place.is_file() else place, *roots)})


def _parquet(path: Path, walked: Walk) -> tuple[int, Iterator[list[Arrival]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        known = file.schema_arrow.names
        near_misses(path, known, ("id", *(() if {"image", "image_uri"} & set(known) else ("image_uri", "image")), *COLUMNS))
        ids = texts_of("ids", pq.read_table(path, columns=["id"], partitioning=None)["id"], path) if "id" in known else []
    except (pa.ArrowException, OSError) as error:
        raise BadInput("this is no Parquet file that can be read", got=str(error).splitlines()[0][:200], where=path) from error
    image = next((name for name in ("image_uri", "image") if name in known), None)
    if image is None or "id" not in known:
        raise BadInput("the table lacks a column", wanted="id, and image_uri or image", got=", ".join(known), where=path)
    if not ids:
        raise BadInput("there are no rows to ingest", where=path)
    there = [one for one in ids if one]
    if len(set(there)) != len(there):
        raise BadInput("the table holds the same id twice", got=_twice(there), where=path)
    columns = ["id", image, *(name for name in COLUMNS if name in known)]

    def parts() -> Iterator[list[Arrival]]:
        start = 0
        for batch in file.iter_batches(PART, columns=columns):
            texts = [texts_of(f"{name}s", batch[name], path) if name in columns else [None] * len(batch) for name in ("id", *COLUMNS)]
            values = zip(*texts, batch[image].to_pylist(), strict=True)
            yield [_arrival(path, row, named, value, walked) for row, (*named, value) in enumerate(values, start)]
            start += len(batch)

    return len(ids), parts()


def _arrival(path: Path, row: int, named: list[str | None], value: object, walked: Walk) -> Arrival:
    one, label, source = (text or "" for text in named)
    if not one:
        return Arrival("", label, source, f"{path}#row {row}")
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return Arrival(one, label, source, f"{path}#{one}", value)
    return Arrival(one, label, source, str(path.parent / str(value or "")), walked=walked)


def _twice(values: list[str]) -> str:
    seen: set[str] = set()
    return next(one for one in values if one in seen or seen.add(one))  # type: ignore[func-returns-value]
