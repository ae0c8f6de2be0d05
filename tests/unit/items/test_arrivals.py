"""What a table brings to an ingest: the same ids, labels and sources as everywhere."""

from __future__ import annotations

import io
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fct.errors import BadInput
from fct.release.folder import Release
from registry.images import Arrival
from registry.items.arrivals import find
from registry.items.ingest import _readable


def png() -> bytes:
    held = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(held, "png")
    return held.getvalue()


def arrivals(folder: Path, **columns: object) -> list[Arrival]:
    count = len(next(iter(columns.values())))  # type: ignore[arg-type]
    pq.write_table(pa.table({"image": pa.array([png()] * count)} | columns), folder / "t.parquet")
    _, parts, _ = find(folder / "t.parquet", folder)
    return [one for part in parts for one in part]


def test_ids_and_labels_are_exact_texts(tmp_path: Path) -> None:
    ids = [uuid.UUID(int=2**100 + row) for row in range(3)]
    found = arrivals(tmp_path, id=pa.array([one.bytes for one in ids], pa.uuid()), label=pa.array([1.0, None, 2.0]), source=["a", None, ""])
    assert [one.id for one in found] == [str(one) for one in ids]
    assert [(one.label, one.source) for one in found] == [("1", "a"), ("", ""), ("2", "")]
    found = arrivals(tmp_path, id=pa.array([2**53, 2**53 + 1]))
    assert [one.id for one in found] == [str(2**53), str(2**53 + 1)]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"id": pa.array([b"a" * 16], pa.binary(16))}, "without an exact text"),
        ({"id": pa.array([2.0**53])}, "no exact text"),
        ({"Id": ["a"]}, "wanted id; got Id"),
        ({"id": ["a"], "Label": ["b"]}, "wanted label; got Label"),
        ({"id": ["a"], "label": pa.array([b"b"])}, "without an exact text"),
        ({"id": ["a", "b", "a"]}, "same id twice; got a"),
    ],
)
def test_what_has_no_exact_text_or_nearly_the_name_is_refused(tmp_path: Path, columns: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        arrivals(tmp_path, **columns)


def test_rows_without_an_id_are_refused_one_by_one_with_their_number(tmp_path: Path) -> None:
    found = arrivals(tmp_path, id=["a", None, "", "b"])
    assert found[0].read(8, "L")[0].shape == (1, 8, 8)
    for row in (1, 2):
        with pytest.raises(BadInput, match=rf"an id cannot be stored.*t.parquet#row {row}"):
            found[row].read(8, "L")


@pytest.mark.parametrize("name", ["parts", "parts.parquet"])
def test_a_folder_of_part_files_is_said_to_be_one(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    for part in range(2):
        pq.write_table(pa.table({"id": [f"{part}"], "image": [png()]}), folder / f"part-{part}.parquet")
    with pytest.raises(BadInput, match="a folder of 2 Parquet part files; wanted one file"):
        find(folder, tmp_path)


@pytest.mark.parametrize("column", ["label", "source"])
def test_one_long_text_costs_its_own_row_alone(tmp_path: Path, column: str) -> None:
    found = arrivals(tmp_path, id=["a", "b", "c"], **{column: ["x" * 10_000, "y\0", "z"]})
    for row in (0, 1):
        with pytest.raises(BadInput, match=f"the {column} cannot be stored"):
            found[row].read(8, "L")
    assert found[2].read(8, "L")[0].shape == (1, 8, 8)


def test_an_id_by_a_canarys_name_is_left_out_of_an_ingest(tmp_path: Path) -> None:
    found, broken = arrivals(tmp_path, id=["a", "canary:a"]), list[tuple[str, str]]()
    release = Release(tmp_path, {"preprocessing": {"size": 8, "mode": "L"}})
    whole = _readable(found, release, broken, [], {})
    assert [one.id for one, _ in whole] == ["a"] and [one for one, _ in broken] == ["canary:a"] and "begin with canary:" in broken[0][1]
    assert found[1].read(8, "L")[0].shape == (1, 8, 8), "a gallery from before is read again"


def test_a_path_that_is_no_utf8_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "\udcff"
    folder.mkdir()
    (folder / "a.png").write_bytes(png())
    _, parts, _ = find(folder, tmp_path)
    with pytest.raises(BadInput, match="the uri cannot be stored"):
        next(parts)[0].read(8, "L")
