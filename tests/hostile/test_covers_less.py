"""What an approval covers is not stretched by what happens between the verdict and the promotion."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.end_to_end.conftest import Copies, having
from tests.hostile.test_came_again import did, pictured


def test_items_that_arrived_since_the_verdict_add_up_over_rollbacks(copies, promoted_folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """More than promote.max_delta of the rows need a new verdict, however many promotions they arrive in."""
    project = copies(promoted_folder)
    path = project.folder / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("max_delta: 0.5", "max_delta: 0.02"), encoding="utf-8")
    workspace, codes = project.workspace(), list[int]()
    rows = len(workspace.gallery.item_ids(role="item"))
    for round_ in range(3):  # 3 × 4 of 221
        did(project, "rollback", "--by", "ana", "--why", "once more")
        for number in range(4):
            pictured(tmp_path / f"more-{round_}", f"new-{round_}-{number}.png", 100 + 10 * round_ + number)
        did(project, "ingest", str(tmp_path / f"more-{round_}"))
        ran = project.fct("promote", "2")
        codes.append(ran.code)
        print(round_, ran.code, ran.out[-200:], ran.err[-200:])
    names = [f"new-{round_}-{number}.png" for round_ in range(3) for number in range(4)]
    carried = [
        one
        for one in workspace.gallery.space_rows(workspace.ledger.serving()["space"], np.array(names)).origin.tolist()
        if one.startswith("forward")
    ]
    assert len(carried) <= 0.02 * rows or 3 in codes, (
        f"{len(carried)} of {rows} rows were carried under one verdict that allows {0.02 * rows:.1f}"
    )


@pytest.mark.slow
def test_a_verdict_about_a_champion_that_was_backfilled_since_is_not_promoted(copy_serving: Copies) -> None:
    """Old/old is the champion as it serves. After a backfill another gallery serves, which the candidate was never compared with."""
    project = copy_serving()
    path = project.folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["train"]["weak"] = copy.deepcopy(params["train"]["v2"]) | {"side": copy.deepcopy(params["train"]["v1"]["side"])}
    params["train"]["weak"]["embedder"] |= {"epochs": 4}  # so few that v2 is better than it on any processor
    params["validate"] |= {"recovered_top1": -9.0, "recovered_mAP": -9.0}
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    having(
        project,
        ("train", "weak"),
        ("register", "build/releases/weak"),
        ("reconcile", "--once"),
        ("approve", "2", "--by", "ana", "--why", "fine"),
        ("promote", "2"),
        ("register", "build/releases/v2"),
        ("reconcile", "--once"),
        ("approve", "3", "--by", "ana", "--why", "better than what serves"),
        ("backfill", "--fraction", "1.0"),
    )
    ran = project.fct("promote", "3")
    entries = project.workspace().ledger.entries()
    assert ran.code == 3, f"promoted: {entries[-1].detail}; the verdict knows nothing of entry {entries[-2].number} ({entries[-2].action})"
