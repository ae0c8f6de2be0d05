"""A third version: every item goes straight there from what embedded it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry.revisions.serving import open_serving
from tests.end_to_end.conftest import Project
from tests.end_to_end.lives import pictures


@pytest.fixture(scope="module")
def third(promoted: Project) -> Project:
    """The promoted project with a third release, trained from another seed, to be registered."""
    path = promoted.folder / "params.yaml"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace("\nseed: 0", "\nseed: 1"), encoding="utf-8")
    assert "\nseed: 1" in path.read_text(encoding="utf-8")
    ran = promoted.fct("train", "v2", "--out", "build/releases/v3")
    path.write_text(before, encoding="utf-8")
    assert ran.code == 0, ran.err
    return promoted


@pytest.mark.slow
def test_version_3_takes_every_item_straight_from_what_embedded_it(third: Project, living: Project, tmp_path: Path) -> None:
    ws = living.workspace()
    pictures(tmp_path / "more", 12)
    assert living.fct("ingest", str(tmp_path / "more")).code == living.fct("backfill", "--fraction", "0.2").code == 0
    natives = dict(zip(*(ws.gallery.items()[name] for name in ("id", "native_version")), strict=True))
    assert set(natives.values()) == {1, 2}
    assert living.fct("register", "build/releases/v3").code == 0
    ran = living.fct("upgrade", "3")
    assert ran.code == 0, ran.err
    verdict = json.loads((ws.upgrade_folder(3) / "verdict/verdict.json").read_text(encoding="utf-8"))
    assert sorted(verdict["covers"]["forward"]) == ["1", "2"] and verdict["from"] == 2
    judged = {gate["subject"] for gate in verdict["gates"] if gate["gate"] == "recovered"}
    assert judged == {f"known ρ {name} {what}" for name in ("top-1", "mAP") for what in ("v1→v3", "v2→v3", "mix")}
    three = {name: verdict["metrics"][name]["known"]["nh"]["mAP"]["value"] for name in ("v1→v3", "v2→v3", "mix")}
    assert (
        three["v1→v3"] != three["mix"] != three["v2→v3"]
        and verdict["metrics"]["mix"]["known"]["nn"] == verdict["metrics"]["v1→v3"]["known"]["nn"]
    )
    space = ws.gallery.read_space(verdict["covers"]["space"])
    assert dict(zip(space.ids.tolist(), space.origin.tolist(), strict=True)) == {one: f"forward {m}→3" for one, m in natives.items()}


@pytest.mark.slow
def test_after_a_whole_backfill_and_a_rollback_the_next_version_finds_its_way(third: Project, living: Project) -> None:
    """All items are native to version 2, the canaries to 1, and 1 serves."""
    ws = living.workspace()
    assert living.fct("backfill", "--fraction", "1").code == 0
    assert (open_serving(ws).columns["origin"][open_serving(ws).shown] == "backfilled").all()
    assert living.fct("rollback", "--by", "ana").code == 0
    assert living.fct("register", "build/releases/v3").code == 0
    ran = living.fct("upgrade", "3")
    assert ran.code == 0, ran.err
    verdict = json.loads((ws.upgrade_folder(3) / "verdict/verdict.json").read_text(encoding="utf-8"))
    assert sorted(verdict["covers"]["forward"]) == ["1", "2"] and verdict["from"] == 1
    assert living.fct("gc", "--yes").code == 0, "version 2 stays: it may be promoted again"
    assert living.fct("promote", "2").code == 0
