"""What comes from outside, second reading: programs, and versions of another form."""

from __future__ import annotations

import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fct import release
from fct.errors import BadInput, OperationFailed
from fct.program import programs as program
from fct.program import sandbox
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
