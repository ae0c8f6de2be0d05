"""Images of the gallery are read again, and what they give is compared with what is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from fct import audit
from fct.datasets.images import read_images
from fct.program import programs, sandbox
from fct.release.folder import Release
from registry.items.arrivals import declared
from registry.mlflow import places
from registry.upgrades import rereading
from registry.workspace import Workspace, open_workspace
from tests.by_hand import revision_of


@pytest.fixture(scope="module")
def images(image_folder: Path) -> list[Path]:
    return sorted(image_folder.rglob("*.png"))[:30]


def gallery_of(folder: Path, v1: Release, images: list[Path], order: list[int]) -> Workspace:
    """Version 1 serves items whose features are those of the images in ``order``."""
    params = yaml.safe_load((Path(__file__).parents[3] / "params.yaml").read_text(encoding="utf-8")) | {"model": "tiny", "device": "cpu"}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    ws = open_workspace(folder / "params.yaml")
    pixels = read_images(images, v1.size, v1.mode)
    phi, psi = programs.embed(v1.program(), pixels, device=torch.device("cpu"))
    ids, empty = [path.name + path.parent.name for path in images], [""] * len(images)
    ws.gallery.ingest(1, v1.fingerprint, ids, phi[order], psi[order], empty, empty, list(map(str, images)), psi_bits=v1.side_bits)
    places.remember(ws.folder, "tiny", 1, v1.folder)
    serving = revision_of(1, release_digest=v1.digest()).to_json()
    roots = sorted({one for image in images for one in declared(image)})
    first = ws.ledger.append(None, action="ingest", by="ana", why="", model="tiny", serving=None, detail={"roots": roots})
    ws.ledger.append(first, action="promote", by="ana", why="first", model="tiny", serving=serving, detail={})
    return ws


def test_as_many_images_are_read_as_were_asked_for_and_all_are_as_stored(tmp_path: Path, v1: Release, images: list[Path]) -> None:
    ws = gallery_of(tmp_path, v1, images, list(range(30)))
    with audit.opened_below({path.parent for path in images}) as opened:
        assert rereading.check_images(ws, 7, seed=0) == rereading.Images(7, [], [])
    assert len(opened) == len(set(opened)) == 7, "the counter says what was read"
    assert rereading.check_images(ws, 1000) == rereading.Images(30, [], [])
    assert not [one for one in sandbox.opened() if one.endswith(".png")], "no image is opened by a program's own process"


def test_neighbours_that_were_exchanged_are_found_and_images_that_are_gone_are_counted(
    tmp_path: Path, v1: Release, images: list[Path]
) -> None:
    order = list(range(30))
    order[3], order[20] = 20, 3
    there = [*images[:29], tmp_path / "gone.png"]
    (tmp_path / "gone.png").write_bytes(images[29].read_bytes())
    ws = gallery_of(tmp_path, v1, there, order)
    (tmp_path / "gone.png").unlink()
    found = rereading.check_images(ws, 1000)
    assert found.read == 29 and [one for one, _ in found.unreadable] == ["gone.png" + tmp_path.name]
    assert sorted(one for one, _ in found.other) == sorted(there[row].name + there[row].parent.name for row in (3, 20))
    assert np.isin([one for one, _ in found.other], ws.gallery.item_ids()).all()
