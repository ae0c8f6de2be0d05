"""What comes from outside, second reading: images, tables, names, links."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fct.datasets import images
from fct.errors import BadInput
from fct.sample import delivered
from registry.images import Arrival
from registry.report import page, trial_page
from tests.end_to_end.conftest import Copies

# ---- images


def tiled(side: int) -> bytes:
    """A TIFF of 16 × 16 pixels in one tile of ``side`` × ``side``."""
    packer, data = zlib.compressobj(9), bytearray()
    for _ in range(side * side >> 20):
        data += packer.compress(b"\x80" * (1 << 20))
    data += packer.flush()
    tags = [(256, 4, 16), (257, 4, 16), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1), (322, 4, side), (323, 4, side), (324, 4, 8)]
    tags.append((325, 4, len(data)))
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags))
    entries = (
        struct.pack("<HHI", tag, kind, 1) + (struct.pack("<HH", value, 0) if kind == 3 else struct.pack("<I", value))
        for tag, kind, value in tags
    )
    return head + b"".join(entries) + struct.pack("<I", 0)


def test_a_tile_that_is_larger_than_its_picture_counts_as_what_it_unpacks_to() -> None:
    """One file of 2 MB unpacked to 2,146 million pixels, 2 GB, and nobody had taken room for them."""
    with pytest.raises(BadInput):
        images.read_bytes(tiled(16_384), 16, "L")  # 268 million pixels; a file may have 128


@pytest.mark.slow
def test_a_picture_that_became_a_link_out_of_the_roots_is_not_shown(copy_serving: Copies, tmp_path: Path) -> None:
    """Whoever gave the files gives them still: what was a file at the ingest is a link when somebody asks for the picture."""
    from fastapi.testclient import TestClient

    from flows import serve
    from registry.live import Live

    project, given, rng = copy_serving(), tmp_path / "given", np.random.default_rng(5)
    given.mkdir()
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(given / f"given{number}.png")
    ran = project.fct("ingest", str(given))
    assert ran.code == 0, ran.err
    (tmp_path / "elsewhere").mkdir()
    secret = tmp_path / "elsewhere" / "secret.png"
    Image.fromarray(np.tile(np.array([[0, 255]], dtype=np.uint8), (8, 4))).save(secret)
    (given / "given0.png").unlink()
    (given / "given0.png").symlink_to(secret)
    state = Live(project.workspace())
    assert state.look()
    with TestClient(serve.build(state), base_url="http://localhost") as client:
        assert client.get("/image?id=given1.png").status_code == 200
        assert client.get("/image?id=given0.png").status_code == 404
    ran = project.fct("status", "--verify", "--images", "2000")
    assert "given0.png" in ran.err and "declared root" in ran.err  # where what is left out is listed


def test_a_file_that_became_a_pipe_does_not_hang_who_reads_it_again(tmp_path: Path) -> None:
    """``fct status --verify --images`` and ``fct backfill`` read what the gallery names as an arrival without a look at what it is now."""
    os.mkfifo(tmp_path / "one.png")
    done: list[str] = []

    def read() -> None:
        try:
            Arrival("one", "", "", str(tmp_path / "one.png")).read(16, "L")
        except BadInput as error:
            done.append(str(error))

    worker = threading.Thread(target=read, daemon=True)
    worker.start()
    worker.join(10)
    hangs = worker.is_alive()
    if hangs:  # let it go
        os.close(os.open(tmp_path / "one.png", os.O_WRONLY | os.O_NONBLOCK))
        worker.join(10)
    assert not hangs and done


# ---- ids


def arrays(folder: Path, ids: np.ndarray | bytes) -> tuple[Path, Path]:
    np.save(folder / "v.npy", np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32))
    if isinstance(ids, bytes):
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "<U4", "fortran_order": False, "shape": (300,)})
        (folder / "ids.npy").write_bytes(head.getvalue() + ids)
    else:
        np.save(folder / "ids.npy", ids)
    return folder / "v.npy", folder / "ids.npy"


NAMES = np.array([f"i{number}" for number in range(300)])


def test_an_id_of_half_a_character_is_refused_by_row(tmp_path: Path) -> None:
    """It went as far as Arrow, after the version was registered: ``UnicodeEncodeError``."""
    odd = NAMES.astype("<U6")
    odd[7] = "\ud800x"
    vectors, ids = arrays(tmp_path, odd)
    with pytest.raises(BadInput):
        delivered.read_rows(vectors, ids=ids)


def test_an_id_of_what_is_no_character_is_refused_by_row(tmp_path: Path) -> None:
    codes = NAMES.astype("<U4").view(np.uint32).copy()
    codes[0] = 0x110005
    vectors, ids = arrays(tmp_path, codes.tobytes())
    with pytest.raises(BadInput):
        delivered.read_rows(vectors, ids=ids)


@pytest.mark.parametrize("rows", [[None] * 300, [[]] * 300])
def test_a_column_in_which_no_row_has_a_vector_is_one_sentence(rows: list[Any], tmp_path: Path) -> None:
    pq.write_table(pa.table({"vector": pa.array(rows, pa.list_(pa.float32())), "id": NAMES.tolist()}), tmp_path / "t.parquet")
    for skip in (False, True):
        with pytest.raises(BadInput):
            delivered.read_rows(tmp_path / "t.parquet", skip_bad=skip)


@pytest.mark.slow
def test_an_item_by_a_canarys_name_does_not_spoil_a_purge(copy_serving: Copies, tmp_path: Path) -> None:
    """``fct adopt`` refuses such ids, ``fct ingest`` takes them. The search for traces takes its vector for a copy of the deleted item's."""
    project = copy_serving()
    picture = io.BytesIO()
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (16, 16), dtype=np.uint8)).save(picture, format="PNG")
    table = pa.table({"id": ["person-1", "canary:person"], "image": [picture.getvalue()] * 2, "label": ["a", "b"]})
    pq.write_table(table, tmp_path / "t.parquet")
    project.fct("ingest", str(tmp_path / "t.parquet"))
    ran = project.fct("delete", "person-1", "--purge", "--by", "ana", "--why", "asked")
    assert ran.code == 0, ran.err


# ---- names on a terminal


@pytest.mark.slow
def test_a_name_does_not_make_lines_of_its_own(copy_serving: Copies, tmp_path: Path) -> None:
    """Escapes are shown as escapes, but for line ends: what stands behind one reads like something that the command says."""
    project, given = copy_serving(), tmp_path / "given"
    given.mkdir()
    Image.fromarray(np.full((16, 16), 7, dtype=np.uint8)).save(given / "a.png")
    forged = "Next: fct rollback --by you"
    (given / f"b\n{forged}\n.png").write_bytes((given / "a.png").read_bytes())
    ran = project.fct("ingest", str(given))
    assert forged not in (ran.out + ran.err).split("\n")


# ---- fct try --images


@pytest.mark.parametrize("absolute", [False, True])
def test_an_id_does_not_lead_out_of_the_folder_of_images(absolute: bool, tmp_path: Path) -> None:
    """An id that no image has became a path below the folder, or above it: its picture was drawn on the page that people pass on."""
    given, secret = tmp_path / "given", tmp_path / "elsewhere" / "secret.png"
    for path in (given / "a.png", secret):
        path.parent.mkdir()
        Image.fromarray(np.full((16, 16), 7, dtype=np.uint8)).save(path)
    ids = np.array(["a", str(secret) if absolute else "../elsewhere/secret.png"])
    try:
        found = trial_page.pictures(given, 2, ids)
    except BadInput:
        return
    assert not page.thumbnail(found[1])


def test_a_link_in_the_folder_of_images_does_not_lead_out_of_it(tmp_path: Path) -> None:
    given, secret = tmp_path / "given", tmp_path / "elsewhere" / "secret.png"
    for path in (given / "a.png", secret):
        path.parent.mkdir()
        Image.fromarray(np.full((16, 16), 7, dtype=np.uint8)).save(path)
    (given / "b.png").symlink_to(secret)
    try:
        found = trial_page.pictures(given, 2, np.array(["a", "b"]))
    except BadInput:
        return
    assert not page.thumbnail(found[1])


def test_a_pipe_in_the_folder_of_images_does_not_hang_the_page(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    worker = threading.Thread(target=lambda: page.thumbnail(tmp_path / "a.png"), daemon=True)
    worker.start()
    worker.join(10)
    hangs = worker.is_alive()
    if hangs:
        os.close(os.open(tmp_path / "a.png", os.O_WRONLY | os.O_NONBLOCK))
        worker.join(10)
    assert not hangs


@pytest.mark.slow
def test_what_pillow_raises_at_a_damaged_picture_does_not_end_the_page(tmp_path: Path) -> None:
    """:mod:`fct.datasets.images` catches whatever Pillow's readers raise; the page, which opens them by itself, four kinds."""
    rng, file = np.random.default_rng(0), tmp_path / "a"
    for kind in ("PNG", "TIFF", "GIF", "WEBP", "JPEG", "BMP", "JPEG2000", "AVIF"):
        out = io.BytesIO()
        more = {"exif": Image.Exif()} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
        if more:
            more["exif"][0x0112] = 6
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(out, format=kind, **more)
        whole = np.frombuffer(out.getvalue(), dtype=np.uint8)
        for _ in range(400):
            bent = whole.copy()
            bent[rng.integers(0, len(bent), 3)] = rng.integers(0, 256, 3)
            file.write_bytes(bent.tobytes())
            page.thumbnail(file)


# ---- held: kept so that it stays so


@pytest.mark.parametrize(
    "one", ["a'", "\\'", "' OR '1'='1", "a\\", "--", "a\nb", "\u2028", "%", "é", "e\u0301", " a", "a ", "::", "\x1b[2J", "NULL"]
)
def test_a_deletion_takes_the_id_that_was_named_and_no_other(one: str, tmp_path: Path) -> None:
    """Ids stand in a condition that Lance parses."""
    from fct.gallery.gallery import Gallery

    gallery, ids = Gallery(tmp_path), [one, "a", "b", "1"]
    phi, empty = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32), [""] * 4
    gallery.ingest(1, "f", ids, phi, np.ones((4, 2), dtype=np.int8), empty, empty, empty, "item")
    gallery.delete([one])
    assert set(gallery.item_ids().tolist()) == set(gallery.feature_ids(1).tolist()) == {"a", "b", "1"}


@pytest.mark.parametrize("place", ["../../secret.lance/data/{}", "{}", "file://{}"])
def test_a_lance_table_whose_fragments_name_other_files_is_refused(place: str, tmp_path: Path) -> None:
    import lance
    from lance.fragment import DataFile, FragmentMetadata

    from fct.arrays import columns

    def table(at: int) -> pa.Table:
        return pa.table({"vector": pa.array([[float(at)] * 4] * 10, pa.list_(pa.float32(), 4))})

    lance.write_dataset(table(100), str(tmp_path / "secret.lance"))
    shown = lance.write_dataset(table(0), str(tmp_path / "shown.lance"))
    secret = next((tmp_path / "secret.lance" / "data").iterdir())
    old = shown.get_fragments()[0].metadata.files[0]
    file = DataFile(
        path=place.format(secret.name if "data" in place else secret),
        fields=old.fields,
        column_indices=old.column_indices,
        file_major_version=old.file_major_version,
        file_minor_version=old.file_minor_version,
        file_size_bytes=old.file_size_bytes,
    )
    change = lance.LanceOperation.Overwrite(shown.schema, [FragmentMetadata(id=0, files=[file], physical_rows=10)])
    lance.LanceDataset.commit(str(tmp_path / "shown.lance"), change, read_version=1)
    with pytest.raises(BadInput):
        columns.rows(f"{tmp_path / 'shown.lance'}::vector", "vectors")
