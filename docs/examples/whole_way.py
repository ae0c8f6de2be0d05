"""The whole way, timed, with a browser as the approver: what docs/operations.md shows.

After `make demo`, `fct up` and docs/examples/train_v3.py:

    .venv/bin/python docs/examples/whole_way.py build/releases/v3 [--write]

It registers the folder with MLflow alone (docs/examples/register.py), waits for the verdict, reads the review page in a headless Chromium,
sets the tag as the page says (with a version's number in place of the folder it begins there), and waits until `fct status` says that the version serves. ``--write`` puts transcript and screenshots into
docs/operations.md and docs/operations/.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

ROOT = Path(__file__).parents[2]
PAGE, SHOTS = ROOT / "docs/operations.md", ROOT / "docs/operations"
FCT = Path(sys.executable).parent / "fct"


def status() -> dict[str, Any]:
    done = subprocess.run([FCT, "status", "--json"], cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def wait(client: MlflowClient, model: str, version: str, what: str) -> None:
    """Until MLflow's copy of the status says so (looking costs the machine next to nothing); anything that ends otherwise ends this."""
    while True:
        found = client.get_model_version(model, version).tags.get("fct.status")
        if found == what:
            return
        if found in ("invalid", "refused", "inconclusive", "rejected"):
            sys.exit(f"version {version} is {found}: {status()['versions'][version]['next']}")
        time.sleep(0.5)


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from tests.end_to_end import browser

    folder, write = sys.argv[1], "--write" in sys.argv
    place = SHOTS if write else ROOT / "build/whole-way"
    place.mkdir(parents=True, exist_ok=True)
    before = status()
    model, url = before["model"], before["services"]["mlflow"]["url"]
    client = MlflowClient(tracking_uri=url, registry_uri=url)
    lines, begun = [], time.monotonic()

    def say(text: str) -> None:
        lines.append(f"{time.monotonic() - begun:6.1f} s  {text}")
        print(lines[-1], flush=True)

    if folder.isdigit():  # registered before, and judged anew
        version = folder
        wait(client, model, version, "passed")
        say(
            f"{model} version {version} waits with a passed verdict, its review page is in the MLflow UI; {before['serving']['release']} serves"
        )
    else:
        done = subprocess.run(
            [sys.executable, ROOT / "docs/examples/register.py", folder, model, url], cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(done.stderr)
        version = done.stdout.strip().splitlines()[-1].split()[-1]
        say(f"{model} version {version} is registered by a script that knows MLflow alone; {before['serving']['release']} serves")
        wait(client, model, version, "passed")
        say("its gallery is carried over, its gates have passed, its review page is in the MLflow UI; no command was typed")
    with browser.opened() as driver:
        text = browser.read_version(driver, url, model, int(version), place / "review.png")
        value = re.search(r"<your name> ([0-9a-f]{64})", text)
        assert value is not None, text
        say(f"a person has read the page and sets fct.approve = Ana Diaz {value[1]}")
        browser.set_tag(driver, "fct.approve", f"Ana Diaz {value[1]}", place / "approved.png")
        wait(client, model, version, "serving")
        say(
            f"model and gallery are promoted together, the alias champion points at version {client.get_model_version_by_alias(model, 'champion').version}"
        )
        assert status()["serving"]["release"] == int(version)
        say(f"`fct status` says that {model} {version} serves")
        time.sleep(3)
        driver.refresh()
        browser.read_version(driver, url, model, int(version), place / "serving.png")
    if write:
        page = PAGE.read_text(encoding="utf-8")
        block = "<!-- timed:begin -->\n```text\n" + "\n".join(lines) + "\n```\n<!-- timed:end -->"
        PAGE.write_text(re.sub("<!-- timed:begin -->.*?<!-- timed:end -->", lambda _: block, page, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
