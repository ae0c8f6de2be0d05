"""A headless Chromium that does in the MLflow UI what a person would do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-dev-shm-usage --window-size=1400,1900"
)


def missing() -> str:
    """Why there is no browser here; empty where there is one."""
    lacking = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"no {' and no '.join(lacking)} on this machine (Debian: apt-get install chromium chromium-driver)" if lacking else ""


@contextmanager
def opened() -> Iterator[Any]:
    """A driver of selenium's."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(shutil.which("chromium"))
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def read_version(driver: Any, url: str, model: str, version: int, shot: Path) -> str:
    """Open the page of a version and read all of its text, once the description is there. The page shows what was true when it was
    opened, and a verdict is reached some seconds before its description is written: so it is loaded again while the description lacks."""
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get(f"{url}/#/models/{quote(model, safe='')}/versions/{version}")
    for _ in range(6):
        try:
            WebDriverWait(driver, 20).until(lambda d: "To approve it" in d.find_element(By.TAG_NAME, "body").text)
            break
        except TimeoutException:
            driver.refresh()
    else:
        raise TimeoutException(
            f"no review page of {model} {version}; the page says: {driver.find_element(By.TAG_NAME, 'body').text[:1500]}"
        )
    driver.save_screenshot(str(shot))
    return str(driver.find_element(By.TAG_NAME, "body").text)


def set_tag(driver: Any, key: str, value: str, shot: Path) -> None:
    """Type a tag into the form on the version's page and add it."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    name = driver.find_element(By.CSS_SELECTOR, "[data-testid='tags-form-input-name']")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", name)
    name.send_keys(key)
    driver.find_element(By.CSS_SELECTOR, "[data-testid='tags-form-input-value']").send_keys(value)
    driver.find_element(By.CSS_SELECTOR, "[data-testid='add-tag-button']").click()
    WebDriverWait(driver, 600).until(lambda d: value in d.find_element(By.TAG_NAME, "body").text)
    driver.save_screenshot(str(shot))


def requests(driver: Any) -> list[str]:
    """Addresses that the browser asked for since it was opened, or last asked here."""
    import json

    said = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [one["params"]["request"]["url"] for one in said if one["method"] == "Network.requestWillBeSent"]


def prefer(driver: Any, scheme: str) -> None:
    """``light`` or ``dark``."""
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
