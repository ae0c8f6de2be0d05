"""To another engine: it answers as the gallery does, through all that changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.revisions.serving import open_serving
from tests.end_to_end.conftest import Project
from tests.end_to_end.lives import answers, chosen, pictures, queries


def test_an_export_and_its_deltas_give_another_engine_the_same_answers(living: Project, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    ws = living.workspace()
    collection: dict[str, np.ndarray] = {}

    def load(name: str, *args: str) -> dict[str, Any]:
        ran = living.fct("export", str(tmp_path / name), *args, "--json")
        assert ran.code == 0, ran.err
        table = pq.read_table(tmp_path / name)
        assert json.loads(table.schema.metadata[b"fct"])["entry"] == json.loads(ran.out)["entry"] == ws.ledger.head().number
        for row in table.to_pylist():
            if row["deleted"]:
                del collection[row["id"]]
            else:
                collection[row["id"]] = np.array(row["vector"], dtype=np.float32)
        return json.loads(ran.out)

    def same() -> None:
        """A loop over the other engine's rows answers as the gallery does."""
        serving = open_serving(ws)
        names = sorted(collection)
        rows = np.stack([collection[one] for one in names])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        assert set(names) == set(serving.searcher.ids[serving.shown].tolist())
        for one, hits in zip(queries(serving), answers(serving, queries(serving)), strict=True):
            scores = rows @ (one / np.linalg.norm(one))
            assert np.allclose(np.sort(scores)[::-1][:20], [score for _, score in hits], atol=1e-5)

    first = load("full.parquet")
    assert not first["delta"]
    same()
    pictures(tmp_path / "more", 6)
    gone = chosen(living, 5)
    assert living.fct("ingest", str(tmp_path / "more")).code == 0
    assert living.fct("delete", *gone).code == 0
    assert living.fct("backfill", "--fraction", "0.1").code == 0
    delta = load("delta.parquet", "--since", str(first["entry"]))
    assert delta["deleted"] == 5 and 6 <= delta["rows"] < len(collection) / 2
    same()
    assert load("nothing.parquet", "--since", str(delta["entry"]))["rows"] == 0
    ran = living.fct("export", str(tmp_path / "old.parquet"), "--since", "3")  # version 1 was promoted
    assert ran.code == 2 and "another space" in ran.err and not (tmp_path / "old.parquet").exists()
    assert living.fct("export", str(tmp_path / "no.parquet"), "--release", "7").code == 2
    assert living.fct("rollback", "--without-missing").code == 0
    collection.clear()
    load("back.parquet")
    same()


@pytest.mark.slow
def test_pgvector_answers_as_the_gallery_through_promotion_rollback_and_all_that_changes(living: Project, tmp_path: Path) -> None:
    import psycopg2

    from tests.end_to_end import postgres

    ws = living.workspace()
    with postgres.served("search", packaged=True) as server:
        url = server.url.format("search")

        def rows(sql: str, *values: Any) -> list[Any]:
            connection = psycopg2.connect(url)
            try:
                with connection, connection.cursor() as cursor:
                    cursor.execute(sql, values)
                    return list(cursor.fetchall())
            finally:
                connection.close()

        def same(release: int) -> None:
            serving = open_serving(ws)
            assert rows("SELECT release FROM fct_tiny.serving") == [(release,)] and serving.revision.release == release
            assert {one for (one,) in rows("SELECT id FROM fct_tiny.items")} == set(serving.searcher.ids[serving.shown].tolist())
            asked = queries(serving)
            for query, hits in zip(asked, answers(serving, asked), strict=True):
                found = rows("SELECT id, 1 - (vector <=> %s::vector) FROM fct_tiny.items ORDER BY 2 DESC LIMIT 20", str(query.tolist()))
                assert np.allclose([score for _, score in found], [score for _, score in hits], atol=1e-5)

        def push() -> dict[str, Any]:
            ran = living.fct("export", url, "--json")
            assert ran.code == 0, ran.err
            return json.loads(ran.out)

        first = push()
        assert first["written"] == first["rows"] > 100 and first["checked"] == 32
        same(2)
        assert push()["written"] == 0, "nothing changed"
        pictures(tmp_path / "more", 6)
        gone = chosen(living, 5)
        assert living.fct("ingest", str(tmp_path / "more")).code == living.fct("delete", *gone).code == 0
        second = push()
        assert (second["written"], second["deleted"]) == (6, 5)
        same(2)
        assert living.fct("rollback", "--without-missing").code == 0
        push()
        same(1)
        assert living.fct("promote", "2").code == 0
        assert push()["written"] == 0, "its table was kept"
        same(2)
        # a database that answers otherwise is not shown
        monkey = rows("SELECT id, digest FROM fct_tiny.release_2 LIMIT 1")[0]
        connection = psycopg2.connect(url)
        with connection, connection.cursor() as cursor:
            cursor.execute("UPDATE fct_tiny.release_2 SET vector = (SELECT vector FROM fct_tiny.release_2 ORDER BY id DESC LIMIT 1)")
        connection.close()
        ran = living.fct("export", url)
        assert ran.code == 3 and "gives other answers to the query" in ran.err, monkey
        for args in ((url, "--since", "1"), ("postgresql://nobody@127.0.0.1:1/x",)):
            ran = living.fct("export", *args)
            assert ran.code in (1, 2) and "Traceback" not in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_pgvector_indexes_many_dimensions_as_the_advice_says(metric: str) -> None:
    import psycopg2

    from registry.exports import pgvector
    from tests.end_to_end import postgres

    said = pgvector.advice(3072, "t", metric)
    assert said is not None
    create = said[said.index("CREATE INDEX") : said.index(", and ask")]
    with postgres.served("search", packaged=True) as server:
        connection = psycopg2.connect(server.url.format("search"))
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
            cursor.execute("CREATE TABLE t (vector vector(3072))")
            cursor.execute("SELECT to_regtype('halfvec') IS NOT NULL")
            (known,) = cursor.fetchone() or (False,)
        with pytest.raises(psycopg2.Error, match="2000 dimensions"), connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE INDEX ON t USING hnsw (vector vector_{metric}_ops)")
        if known:
            with connection, connection.cursor() as cursor:
                cursor.execute(create)
        connection.close()
    if not known:
        pytest.skip("this pgvector is older than 0.7 and has no halfvec")


def test_an_export_that_slept_while_items_were_purged_shows_none_of_them(
    living: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither as a file nor in an engine; and one whose tables a purge took while they were read says so."""
    import pyarrow.parquet as pq

    from fct.errors import OperationFailed
    from registry.exports import base, parquet, qdrant

    ws, (first, second, third) = living.workspace(), chosen(living, 3)
    write, check, read = pq.write_table, qdrant._check, ws.gallery.read_space

    def purge(one: str) -> None:
        ran = living.fct("delete", one, "--purge")
        assert ran.code == 0, ran.err

    monkeypatch.setattr(pq, "write_table", lambda *given: (write(*given), purge(first)))
    with pytest.raises(OperationFailed, match="1 items were deleted during the export"):
        parquet.export(ws, tmp_path / "out.parquet")
    monkeypatch.setattr(pq, "write_table", write)
    monkeypatch.setattr(qdrant, "_check", lambda *given: (check(*given), purge(second))[0])
    with pytest.raises(OperationFailed, match="1 items were deleted"):
        qdrant.push(ws, f"qdrant+file:{tmp_path / 'qdrant'}")
    monkeypatch.setattr(qdrant, "_check", check)
    monkeypatch.setattr(ws.gallery, "read_space", lambda *given, **named: (purge(third), read(*given, **named))[1])
    with pytest.raises(OperationFailed, match="changed during the export"):
        base.rows_of(ws)
    monkeypatch.undo()
    assert not [path for path in tmp_path.iterdir() if "parquet" in path.name]
    parquet.export(ws, tmp_path / "out.parquet")
    assert not {first, second, third} & set(pq.read_table(tmp_path / "out.parquet")["id"].to_pylist())


def test_qdrant_answers_as_the_gallery_through_promotion_rollback_and_all_that_changes(living: Project, tmp_path: Path) -> None:
    from contextlib import closing

    from qdrant_client import QdrantClient, models

    ws, folder = living.workspace(), tmp_path / "qdrant"

    def push() -> dict[str, Any]:
        ran = living.fct("export", f"qdrant+file:{folder}", "--json")
        assert ran.code == 0, ran.err
        return json.loads(ran.out)

    def same(release: int) -> None:
        serving = open_serving(ws)
        assert serving.revision.release == release
        with closing(QdrantClient(path=str(folder))) as client:
            points, _ = client.scroll("fct_tiny", limit=10_000)
            assert {one.payload["id"] for one in points} == set(serving.searcher.ids[serving.shown].tolist())
            asked = queries(serving)
            for query, hits in zip(asked, answers(serving, asked), strict=True):
                exact = models.SearchParams(exact=True)
                found = client.query_points("fct_tiny", query=query.tolist(), limit=20, search_params=exact).points
                assert np.allclose([one.score for one in found], [score for _, score in hits], atol=1e-5)

    first = push()
    assert first["written"] == first["rows"] > 100 and first["checked"] == 32
    same(2)
    pictures(tmp_path / "more", 6)
    gone = chosen(living, 5)
    assert living.fct("ingest", str(tmp_path / "more")).code == living.fct("delete", *gone).code == 0
    second = push()
    assert (second["written"], second["deleted"]) == (6, 5)
    same(2)
    assert living.fct("rollback", "--without-missing").code == 0
    push()
    same(1)
    assert living.fct("promote", "2").code == 0
    assert push()["written"] == 0, "its collection was kept"
    same(2)
    for args in (("qdrant+http://127.0.0.1:1",), ("mysql://x/y",), (f"qdrant+file:{folder}", "--since", "1")):
        ran = living.fct("export", *args)
        assert ran.code in (1, 2) and "Traceback" not in ran.err
