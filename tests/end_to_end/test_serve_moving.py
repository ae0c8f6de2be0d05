"""``fct serve`` while the ledger moves, as a process, and where it does not start."""

from __future__ import annotations

import gc
import subprocess
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fct.arrays.files import read_json
from flows import serve
from registry.live import Live
from tests.end_to_end.conftest import PATIENCE_S, Copies, Project, having, wait_for
from tests.end_to_end.test_life import altered, flipped

PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def candidate(copy_waiting: Copies) -> Project:
    """Version 1 serves, version 2 waits with a passed verdict, and no other test decides about it."""
    return copy_waiting()


@pytest.mark.slow
def test_promotion_and_rollback_under_traffic(copy_waiting: Copies) -> None:
    """Every answer is whole and of the release that it names; a damaged next release changes nothing; the old one is freed."""
    project = having(copy_waiting(), ("approve", "2", "--by", "a", "--why", "w"))
    state, stop = Live(project.workspace()), threading.Event()
    assert state.look() and state.now is not None
    old = weakref.ref(state.now.serving)
    follower = threading.Thread(target=state.follow, args=(stop, 0.05))
    follower.start()
    files = sorted((project.folder / "build/data/images/validation").rglob("*.png"))[:12]
    images, seen, done = [path.read_bytes() for path in files], [], threading.Event()
    with TestClient(serve.build(state, threads=2), base_url="http://localhost") as client:

        def answers() -> dict[int, list[Any]]:
            found = [client.post("/search?k=7", content=image, headers=PNG).json() for image in images]
            return {found[0]["release"]: [one["hits"] for one in found]}

        def ask(number: int) -> None:
            i = number
            while not done.is_set():
                said = client.post("/search?k=7", content=images[i % len(images)], headers=PNG)
                facts = client.get("/release").json(), client.get("/readyz").status_code
                seen.append((i % len(images), said.status_code, said.json(), facts))
                i += 1

        try:
            quiet = answers()
            with ThreadPoolExecutor(4) as clients:
                asking = [clients.submit(ask, number) for number in range(4)]
                try:
                    index = (
                        project.folder
                        / "workspace"
                        / read_json(project.folder / "workspace/upgrades/tiny-v2/revision.json")["index"]["folder"]
                    )
                    assert project.command("promote", "2").code == 0
                    wait_for(lambda: state.now is not None and state.now.serving.revision.release == 2)
                    assert project.command("rollback", "--by", "a", "--why", "w").code == 0
                    wait_for(lambda: state.now is not None and state.now.serving.revision.release == 1)
                    with altered(index / "index.faiss", None):
                        # promoted by the ledger alone: promote itself would refuse the damaged index
                        ledger = project.workspace().ledger
                        entry = next(one for one in ledger.entries() if one.action == "promote" and one.serving["release"] == 2)
                        ledger.append(ledger.head(), action="promote", by="a", why="w", model="tiny", serving=entry.serving)
                        wait_for(lambda: "cannot be served" in state.problem)
                        said = client.get("/readyz")
                        assert said.status_code == 200 and said.json()["behind"] and said.json()["release"] == 1
                        assert "index" in said.json()["problem"]
                    wait_for(lambda: state.now is not None and state.now.serving.revision.release == 2 and not state.behind)
                finally:
                    done.set()
                for one in asking:
                    one.result()
            quiet |= answers()
        finally:
            stop.set()
            follower.join()
    assert {said["release"] for _, _, said, _ in seen} == {1, 2} and len(seen) > 40
    for image, status, said, (release, ready) in seen:
        assert status == 200 and ready == 200 and release["ready"]
        assert said["hits"] == quiet[said["release"]][image]
    gc.collect()
    assert old() is None, "the revision that served first is freed"


@pytest.mark.slow
def test_the_command_serves_a_page_that_works_by_keyboard_at_phone_width_and_asks_nobody_else(candidate: Project, tmp_path: Path) -> None:
    import os
    import sys

    from tests.end_to_end import browser

    if browser.missing():
        pytest.skip(browser.missing())
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    shots = Path(os.environ.get("FCT_SCREENSHOTS") or tmp_path)
    command = [sys.executable, "-m", "flows.cli", "serve", "--port", "0", "--candidate"]
    environment = {key: value for key, value in os.environ.items() if key != "PREFECT_HOME"}
    server = subprocess.Popen(command, cwd=candidate.folder, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        url = next(line.split()[0] for line in server.stderr if line.startswith("http://"))
        with browser.opened() as driver:

            def hits(column: str) -> list[str]:
                found = driver.execute_script(f"return [...document.querySelectorAll('#{column} .hit')].map(one => one.dataset.id)")
                return [str(one) for one in found]  # in one step: the page may exchange them meanwhile

            def wait(what: Callable[[Any], Any]) -> None:
                WebDriverWait(driver, PATIENCE_S).until(what)

            for scheme, width in (("light", 1300), ("dark", 1300), ("light", 390)):
                driver.set_window_size(width, 1000)
                browser.prefer(driver, scheme)
                driver.get(url)
                wait(lambda _: len(hits("serving")) == 24)
                first = hits("serving")[2]
                driver.execute_script("document.querySelectorAll('#serving .hit')[2].focus()")
                driver.switch_to.active_element.send_keys(Keys.ENTER)  # no mouse
                wait(lambda _, first=first: hits("serving")[:1] == [first] and hits("candidate")[:1] == [first])
                assert len(hits("serving")) == len(hits("candidate")) == 12
                assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth"), f"{width} px"
                driver.save_screenshot(str(shots / f"serve-{scheme}-{width}.png"))
            path = next((candidate.folder / "build/data/images/validation").rglob("*.png"))
            driver.find_element(By.ID, "file").send_keys(str(path))
            wait(lambda _: path.name in driver.find_element(By.ID, "hint").text and len(hits("candidate")) == 12)
            asked = browser.requests(driver)
            assert all(one.startswith((url, "blob:", "data:")) for one in asked), asked
            assert not [one for one in driver.get_log("browser") if one["level"] == "SEVERE"]
    finally:
        server.terminate()
        assert server.wait(PATIENCE_S) == 130, "as after Ctrl-C"


def test_a_taken_port_is_one_sentence(candidate: Project) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ran = candidate.command("serve", "--port", str(other.getsockname()[1]))
    assert ran.code == 1 and "--port" in ran.err and "Traceback" not in ran.err


def test_the_flipped_index_of_what_serves_is_refused_at_the_start(candidate: Project) -> None:
    serving = candidate.workspace().ledger.serving()
    path = candidate.folder / "workspace" / serving["index"]["folder"] / "index.faiss"
    with altered(path, flipped(path)):
        found = Live(candidate.workspace())
        assert not found.look() and found.now is None and "altered" in found.problem
