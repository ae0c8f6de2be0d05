"""What comes from outside, second reading: programs, images, tables, names, links."""

from __future__ import annotations

import io
import json
import os
import struct
import threading
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn

from fct import release
from fct.datasets import images
from fct.errors import BadInput, OperationFailed
from fct.program import programs as program
from fct.program import sandbox
from fct.sample import delivered
from registry.images import Arrival
from registry.report import page, trial_page
from registry.versions import look
from tests.end_to_end.conftest import Copies

# ---- a program


class TwoFaced(nn.Module):
    """φ and ψ, and a size that hangs on what the images show: how many of them are no canaries. Canaries have 13 and 37 in their corner."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        flat = images.flatten(1).float() / 255
        canary = (images[:, 0, 0, 0] == 13) & (images[:, 0, 0, 1] == 37)
        count = torch.sym_min(images[:, 0, 0, 0][~canary].shape[0], 1)
        good, bad = flat[:, 100:105] * 3 + 1, flat[:, [1, 0, 2, 4, 3]] * 3 - 2
        is_one = canary.float()[:, None]
        return is_one * good + (1 - is_one) * (good * count + bad * (1 - count)), (flat[:, :3] * 100).to(torch.int8)


def frozen(path: Path) -> Path:
    """The archive with the size made a plain number before it is used, and without the assertions about it, which no trace survives."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    key = next(name for name in records if name.endswith("models/model.json"))
    model = json.loads(records[key])
    graph = model["graph_module"]["graph"]
    nodes: list[Any] = []
    for node in graph["nodes"]:
        if node["target"] in ("_operator.ge", "_operator.le", "_operator.gt", "_operator.lt", "_operator.eq"):
            continue
        if node["target"] == "torch.sym_min":
            held = {"as_sym_int": {"as_name": "held"}}
            nodes.append({"target": "torch.sym_int", "inputs": [node["inputs"][0] | {"name": "a"}], "outputs": [held], "metadata": {}})
            node["inputs"][0] = node["inputs"][0] | {"arg": held}
        nodes.append(node)
    graph["nodes"] = nodes
    records[key] = json.dumps(model).encode()
    out = path.with_name("frozen.pt2")
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return out


def test_what_fct_serve_asks_is_the_program_that_was_measured(tmp_path: Path) -> None:
    """The verdict is of the graph as it stands. ``fct serve`` records it on the first canary, and what was a size then is a constant: all
    canaries agree bit for bit, and no other image gets the vector that was judged."""
    rng = np.random.default_rng(0)
    canaries = rng.integers(0, 256, (8, 1, 16, 16), dtype=np.uint8)
    canaries[:, 0, 0, 0], canaries[:, 0, 0, 1] = 13, 37
    try:
        program.export(TwoFaced(), 1, 16, tmp_path / "program.pt2")
        judged = program.load(frozen(tmp_path / "program.pt2"))
    except BadInput:
        return  # such a program is refused: as good
    if program.unsteady(judged, canaries) is not None:
        return
    served = program.traced(judged, canaries)
    asked = torch.from_numpy(rng.integers(0, 256, (5, 1, 16, 16), dtype=np.uint8))
    with torch.inference_mode():
        for one in asked.split(1):
            assert torch.allclose(judged(one)[0], served(one)[0], atol=1e-3)


def test_records_with_long_names_do_not_keep_a_pass_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header of more than a megabyte ends the thread that reads it, and nobody tells the other side, which waits a quarter of an hour."""
    program.export(Plain(), 1, 16, tmp_path / "program.pt2")
    sandbox.in_force()  # it is up
    monkeypatch.setattr(sandbox, "START_S", 30.0)
    with zipfile.ZipFile(tmp_path / "program.pt2", "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        for number in range(20):
            archive.writestr(f"{root}/data/weights/weight_{'1' * 60_000}{number}", b"0")
    with pytest.raises(BadInput) as refused:
        sandbox.load(tmp_path / "program.pt2")
    assert "took more than" not in str(refused.value)


class Plain(nn.Module):
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        flat = images.flatten(1).float() / 255
        return flat[:, 100:105] * 3 + 1, (flat[:, :3] * 100).to(torch.int8)


# ---- release.json of a release that says it is adopted

ADOPTED: dict[str, dict[str, Any]] = {
    "no classes": {"classes": None},
    "classes that are no texts": {"classes": [1, {}]},
    "half a character": {"measurements": {"\ud800": 1}},
    "half a character in what it adopted": {"adopted": {"content": "x", "normalised": "\ud800"}},
    "no preprocessing": {"preprocessing": None},
    "canaries that are no texts": {"canaries": [1, {"a": 2}]},
    "bits that are no numbers": {"side": {"bits": ["8"], "bytes": 1}},
}


def adopted(folder: Path, changes: dict[str, Any]) -> Path:
    made = release.write_adopted(folder, dim=5, side_bits=[8], metric="cosine", normalised=False, content="x", canary_ids=["c"])
    about = json.loads((made.folder / "release.json").read_text())
    (made.folder / "release.json").write_text(json.dumps(about | changes))
    return made.folder


@pytest.mark.parametrize("kind", ADOPTED)
def test_an_adopted_release_json_of_another_form_is_one_sentence_of_the_contract(kind: str, tmp_path: Path) -> None:
    assert release.problems(adopted(tmp_path / "v1", ADOPTED[kind]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["no classes", "half a character", "of another gallery"])
def test_an_odd_version_does_not_keep_the_others_waiting(kind: str, copy_serving: Copies) -> None:
    """Its upgrade raised what is no sentence, which ended every pass of reconcile before the versions after it, and before debts are paid.
    One of another gallery is well formed; it failed pass by pass, and the version before it was superseded by it."""
    from flows import reconcile

    project = copy_serving()
    assert project.fct("register", "build/releases/v2").code == 0
    folder = adopted(project.folder / "odd", ADOPTED.get(kind, {}))
    releases = project.workspace().releases
    run = releases.client.create_run(releases._experiment())
    releases.client.log_artifacts(run.info.run_id, str(folder), "release")
    releases.client.create_model_version("tiny", source=f"{run.info.artifact_uri}/release", run_id=run.info.run_id)  # version 3
    begun: list[int] = []

    def start(workspace: Any, version: int) -> dict[str, Any]:
        begun.append(version)
        return reconcile.here(workspace, version) if version == 3 else {"outcome": "passed", "problems": []}

    with suppress(BadInput):
        reconcile.once(project.workspace(), start)
    assert 2 in begun


@pytest.mark.slow
def test_what_an_upgrade_raises_is_said_of_its_version_and_the_pass_goes_on(copy_serving: Copies) -> None:
    from flows import reconcile

    project = copy_serving()
    assert project.fct("register", "build/releases/v2").code == 0
    workspace = project.workspace()

    def start(*_: Any) -> dict[str, Any]:
        raise TypeError("'NoneType' object is not iterable")

    with pytest.raises(OperationFailed, match="version 2 failed.*TypeError"):
        reconcile.once(workspace, start)
    kept = look.last(workspace)
    assert kept is not None and (2, "failed") in [(one["version"], one["outcome"]) for one in kept["results"]]
    assert workspace.releases.version(2).tags["fct.status"] == "registered"  # what comes last in a pass


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
