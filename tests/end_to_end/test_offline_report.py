"""What people open: the report without a network, and the whole life on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.end_to_end import browser, postgres
from tests.end_to_end.conftest import Project
from tests.end_to_end.team import a_team, the_whole_life

pytestmark = pytest.mark.slow


@pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())
def test_the_report_opens_offline_in_light_and_dark_and_asks_nobody_for_anything(candidate: Project, shots: Path) -> None:
    page = (candidate.folder / "workspace/upgrades/tiny-v2/report.html").as_uri()
    with browser.opened() as driver:
        papers = []
        for scheme in ("light", "dark"):
            browser.prefer(driver, scheme)
            driver.get(page)
            papers.append(driver.execute_script("return getComputedStyle(document.body).backgroundColor"))
            driver.save_screenshot(str(shots / f"report-{scheme}.png"))
        asked = browser.requests(driver)
        assert page in asked and all(url.startswith(("file:", "data:")) for url in asked)
        assert papers[0] != papers[1]
        assert not driver.get_log("browser"), "scripts, styles or pictures that the page's own policy refuses"


@pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())
@pytest.mark.parametrize("kind", [pytest.param("the machine's", marks=pytest.mark.long), "pgserver"])
def test_the_same_life_on_postgresql_under_a_name_full_of_markup(kind: str, copy_of: Callable[[], Project], tmp_path: Path) -> None:
    import psycopg2

    if kind == "pgserver":
        pytest.importorskip("pgserver")
    elif postgres.binaries() is None:
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    model = "tiny <b>*x* [a](b) `c` #1 & ü"
    with postgres.served("mlflow", "prefect", packaged=kind == "pgserver") as server:
        databases = {"mlflow_database": server.url.format("mlflow")}
        if server.trigrams:  # Prefect's database needs them; pgserver has none, and Prefect stays in SQLite
            databases["prefect_database"] = server.url.format("prefect")
        with a_team(copy_of(), reconcile_every_s=3600.0, model=model, **databases) as team:
            the_whole_life(team, tmp_path)
            description = team.client().get_model_version(model, "2").description
            assert len(description) < 4500, "PostgreSQL's column holds 5,000 characters"
            assert not (team.project.folder / "workspace/mlflow.db").exists()
            if server.trigrams:
                with closing(psycopg2.connect(server.url.format("prefect"))) as connection, connection.cursor() as cursor:
                    cursor.execute("SELECT count(*) FROM flow_run WHERE name = %s", [f"{model}: v1 → v2"])
                    assert cursor.fetchone() == (1,)
