"""The serving release embeds what was carried over, batch by batch, and takes it along when it is promoted again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from registry.revisions import kept
from registry.revisions.serving import open_serving
from tests.end_to_end.conftest import Project, having
from tests.end_to_end.lives import answers, chosen, pictures, queries, set_params


def test_a_backfill_goes_in_the_shipped_order_and_every_batch_is_a_revision(living: Project) -> None:
    set_params(living, batch_rows__4096="batch_rows: 20")
    ws = living.workspace()
    before, space = ws.ledger.head(), ws.ledger.serving()["space"]
    rows = ws.gallery.read_space(space)
    items = np.isin(rows.ids, ws.gallery.item_ids(role="item"))
    count = int(items.sum())
    wanted = round(0.3 * count)
    ranked = rows.ids[items][np.argsort(-rows.uncertainty[items].astype(float), kind="stable")][:wanted]
    dry = json.loads(living.fct("backfill", "--fraction", "0.3", "--dry-run", "--json").out)
    assert dry["rows"] == wanted and ws.ledger.head() == before
    ran = living.fct("backfill", "--fraction", "0.3", "--by", "ana", "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert said["rows"] == said["embedded"] == wanted and said["skipped"] == []
    assert [step["predicted_mAP"] for step in said["steps"]] and all(step["measured_mAP"] for step in said["steps"])
    entries = ws.ledger.entries()[before.number :]
    assert [e.action for e in entries] == ["backfill"] * -(-wanted // 20)
    assert [e.serving["revision"] for e in entries] == list(range(2, 2 + len(entries)))
    now = ws.gallery.read_space(space)
    assert set(now.ids[now.origin == "backfilled"]) == set(ranked)
    # the vectors are what the release computes from the images, to the last bit that it stores
    release = kept.opened(ws, 2)
    from fct.datasets.images import read_image
    from fct.program.programs import embed

    uris = dict(zip(*(ws.gallery.items()[name] for name in ("id", "image_uri")), strict=True))
    phi, _ = embed(
        release.program(), np.stack([read_image(uris[one], release.size, release.mode) for one in ranked[:9]]), device=torch.device("cpu")
    )
    assert np.allclose(now.vectors[np.searchsorted(now.ids, ranked[:9])], phi, rtol=1e-4, atol=1e-4)
    assert (ws.gallery.native_version_of(ranked) == 2).all()
    origins = {hit.origin for hits in open_serving(ws).search_vectors(queries(open_serving(ws)), 20) for hit in hits}
    assert origins == {"backfilled", "forward 1→2"}
    again = json.loads(living.fct("backfill", "--fraction", "0.3", "--json").out)
    assert again["rows"] == 0 and ws.ledger.head() == entries[-1]
    assert living.fct("rollback").code == 0, "nothing is missing there: the items were carried from it"


def test_a_backfill_that_is_killed_goes_on_without_embedding_anything_twice(living: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from registry.items import backfill, batches

    set_params(living, batch_rows__4096="batch_rows: 25")
    ws = living.workspace()
    whole, calls = batches.pin, []

    def killed(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(batches, "pin", killed)
        with pytest.raises(KeyboardInterrupt):
            backfill.backfill(ws, fraction=0.4, by="ana")
    assert ws.ledger.head().action == "backfill" and ws.ledger.head().serving["revision"] == 2
    served = open_serving(ws)
    assert (served.columns["origin"] == "backfilled").sum() == 25, "the revision is whole: the second batch is not in it"
    done = backfill.backfill(ws, fraction=0.4, by="ana")
    count = len(ws.gallery.item_ids(role="item"))
    assert done.embedded == round(0.4 * count) - 50, "what the killed run had embedded was used"
    assert (open_serving(ws).columns["origin"] == "backfilled").sum() == round(0.4 * count)


def test_a_backfill_lists_images_that_are_gone_and_keeps_their_items_as_they_were(living: Project, tmp_path: Path) -> None:
    ws = living.workspace()
    (file,) = pictures(tmp_path / "more", 1)
    ingested = ("ingest", str(tmp_path / "more"))  # while version 1 serves: promoted again, version 2 has it carried over
    having(living, ("rollback", "--by", "ana"), ingested, ("promote", "2"))
    space = ws.ledger.serving()["space"]
    rows = ws.gallery.read_space(space)
    file.rename(tmp_path / "away.png")
    ran = living.fct("backfill", "--fraction", "1", "--json")
    said = json.loads(ran.out)
    assert ran.code == 0 and [one for one, _ in said["skipped"]] == [file.name] and said["embedded"] > 100
    now = ws.gallery.read_space(space)
    assert now.origin[now.ids == file.name] == "forward 1→2"
    assert np.array_equal(now.vectors[now.ids == file.name], rows.vectors[rows.ids == file.name])


def test_a_backfill_stops_where_it_is_told_to(living: Project) -> None:
    ws = living.workspace()
    head = ws.ledger.head()
    said = json.loads(living.fct("backfill", "--until-mAP", "0.01", "--json").out)
    assert said["rows"] == 0 and "is reached" in said["stopped"] and ws.ledger.head() == head
    set_params(living, batch_rows__4096="batch_rows: 15")
    said = json.loads(living.fct("backfill", "--budget-minutes", "0.0001", "--json").out)
    assert "minutes are over" in said["stopped"] and said["rows"] in (0, 15)


def test_a_release_that_is_promoted_again_serves_as_it_served_last(living: Project, tmp_path: Path) -> None:
    ws = living.workspace()
    assert living.fct("backfill", "--fraction", "0.3").code == 0
    asked = queries(open_serving(ws))
    before = answers(open_serving(ws), asked)
    assert living.fct("rollback", "--by", "ana").code == 0
    assert living.fct("promote", "2").code == 0
    assert answers(open_serving(ws), asked) == before
    assert (open_serving(ws).columns["origin"] == "backfilled").any()
    gone = chosen(living, 5)
    assert living.fct("rollback", "--by", "ana").code == living.fct("delete", *gone).code == 0
    pictures(tmp_path / "more", 3)
    assert living.fct("ingest", str(tmp_path / "more")).code == 0
    ran = living.fct("promote", "2")
    assert ran.code == 0, ran.err
    serving = open_serving(ws)
    assert set(serving.searcher.ids[serving.shown].tolist()) == set(ws.gallery.item_ids(role="item").tolist())
    assert serving.columns["origin"][serving.row_of("new-00.png")] == "forward 1→2"
    assert (serving.columns["origin"] == "backfilled").any()


@pytest.mark.parametrize("args", [(), ("--fraction", "0"), ("--fraction", "1.5"), ("--until-mAP", "-1"), ("--budget-minutes", "0")])
def test_a_backfill_without_a_usable_limit_is_refused(living: Project, args: tuple[str, ...]) -> None:
    ran = living.fct("backfill", *args)
    assert ran.code == 2 and "Traceback" not in ran.err
    assert living.workspace().ledger.head().action == "promote"
