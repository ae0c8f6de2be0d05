"""Tables and files that strangers give: none leads elsewhere, and none hangs."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from fct.arrays import columns, vectors
from fct.errors import BadInput
from fct.sample.delivered import read_rows
from registry.items import arrivals
from tests import by_hand
from tests.hostile.versions import noise


def lance_table(folder: Path, first: str) -> Any:
    import lance
    import pyarrow as pa

    rows = {"id": [f"{first}{n}" for n in range(4)], "vector": pa.array(by_hand.rows(4, 1).tolist(), pa.list_(pa.float32(), by_hand.DIM))}
    return lance.write_dataset(pa.table(rows), str(folder))


def test_a_lance_table_that_takes_its_rows_from_another_place_is_refused(tmp_path: Path) -> None:
    """A clone is a manifest alone: it names a folder of this machine, or a host, which would be read."""
    secret = lance_table(tmp_path / "secret.lance", "secret")
    secret.shallow_clone(str(tmp_path / "gift.lance"), reference=1)
    for ask in (
        lambda: columns.ids(f"{tmp_path}/gift.lance::id", "ids"),
        lambda: columns.read(f"{tmp_path}/gift.lance::vector", "vectors"),
        lambda: read_rows(tmp_path / "gift.lance"),
    ):
        with pytest.raises(BadInput, match="another place"):
            ask()


def test_a_link_within_a_lance_table_is_not_followed_out_of_it(tmp_path: Path) -> None:
    lance_table(tmp_path / "secret.lance", "secret")
    lance_table(tmp_path / "gift.lance", "gift")
    (theirs,) = (tmp_path / "secret.lance" / "data").iterdir()
    (ours,) = (tmp_path / "gift.lance" / "data").iterdir()
    ours.unlink()
    ours.symlink_to(theirs)
    with pytest.raises(BadInput, match="another place"):
        columns.ids(f"{tmp_path}/gift.lance::id", "ids")


@pytest.mark.parametrize("name", ["vectors.npy", "vectors.parquet", "ids.txt"])
def test_a_pipe_in_the_place_of_a_table_does_not_hang(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    said: list[BaseException] = []

    def ask() -> None:
        try:
            columns.names(tmp_path / name, "x") if name.endswith(".parquet") else columns.labels(tmp_path / name, "x")
        except BaseException as error:
            said.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(5)
    hangs = asking.is_alive()
    if hangs:
        os.close(os.open(tmp_path / name, os.O_WRONLY | os.O_NONBLOCK))
    assert not hangs and isinstance(said[0], BadInput)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ("(4611686018427387904, 2)", "'<f4'"),
        ("(-1, 2)", "'<f4'"),
        ("(True, 2)", "'<f4'"),
        ("(1.0, 2)", "'<f4'"),
        ("(2, 2)", "'|O'"),
        ("(2, 2)", "[('a', '<f4')]"),
        ("(2, 2)", "None"),
        ("(" * 3000, "'<f4'"),
        ("(" * 150 + ")" * 150, "'<f4'"),
        ("__import__('os').system('id')", "'<f4'"),
        ("(0, 1099511627776)", "'<f4'"),
        ("(1099511627776, 0)", "'<f4'"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_the_head_of_an_array_that_lies_is_one_sentence(shape: str, kind: str, tmp_path: Path) -> None:
    head = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    path = tmp_path / "vectors.npy"
    path.write_bytes(vectors.MAGIC + b"\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(64))
    with pytest.raises(BadInput):
        vectors.formed("vectors", columns.rows(path, "vectors")[0])


@pytest.mark.parametrize(
    "uri",
    [
        "a\0b.png",
        "x" * 5000,
        "/dev/zero",
        "/etc/hostname",
        "../../../../../../etc/hostname",
        "\n",
        "http://evil.example/x.png",
        "file:///etc/hostname",
    ],
)
def test_an_image_that_a_table_names_elsewhere_is_not_read_and_the_others_are(uri: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    place = tmp_path / "given"
    place.mkdir()
    Image.fromarray(noise(1)[0, 0]).save(place / "good.png")
    pq.write_table(pa.table({"id": ["bad", "good"], "image_uri": [uri, "good.png"]}), place / "items.parquet")
    count, parts, _ = arrivals.find(place / "items.parquet", tmp_path)
    bad, good = next(parts)
    assert count == 2 and good.read(16, "L")[0].shape == (1, 16, 16)
    with pytest.raises(BadInput):
        bad.read(16, "L")
