"""What tests of a living gallery ask of a project, and give it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from registry.revisions.serving import Serving
from tests.end_to_end.conftest import Project


def queries(serving: Serving, count: int = 12) -> np.ndarray:
    return serving.searcher.index.reconstruct_n(0, serving.searcher.index.ntotal)[:: max(1, len(serving.searcher.ids) // count)]


def answers(serving: Serving, asked: np.ndarray) -> list[list[tuple[str, float]]]:
    return [[(hit.id, hit.score) for hit in hits] for hits in serving.search_vectors(asked, 20)]


def sound(project: Project) -> None:
    """What doctor says of gallery, champion and storage (the machine's ports are others' business)."""
    found = json.loads(project.fct("doctor", "--json").out)["checks"]
    outcomes = {one["check"]: one["outcome"] for one in found if one["check"] in ("gallery", "champion", "storage")}
    assert outcomes == {"gallery": "fine", "champion": "fine", "storage": "fine"}, found


def chosen(project: Project, count: int) -> list[str]:
    ids = project.workspace().gallery.item_ids(role="item")
    return [str(one) for one in np.random.default_rng(1).choice(ids, count, replace=False)]


def pictures(folder: Path, count: int, seed: int = 7) -> list[Path]:
    """New images of the kind that the project knows."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    files = [folder / f"new-{number:02}.png" for number in range(count)]
    for file in files:
        Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(file)
    return files


def set_params(project: Project, **changed: str) -> None:
    path = project.folder / "params.yaml"
    text = path.read_text(encoding="utf-8")
    for before, after in changed.items():
        assert before.replace("__", ": ") in text
        text = text.replace(before.replace("__", ": "), after)
    path.write_text(text, encoding="utf-8")


def living_origin(serving: Serving, one: str) -> str:
    return str(serving.columns["origin"][serving.row_of(one)])
