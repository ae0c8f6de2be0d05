"""The documentation site has every page, and reads every page as GitHub does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FIRST = {"README.md", "RESULTS.md", "CONTRIBUTING.md", "CHANGELOG.md"}
PAGES = sorted({path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")} | FIRST)
BLOCK = re.compile(r"[-*] |\d+\. |\|")  # a list or a table begins
WITHIN = re.compile(r"[-*] |\d+\. |\|| {2,}\S")  # it goes on


class Loader(yaml.SafeLoader):
    """MkDocs' own tags name Python functions, which no navigation needs."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    return loaded


def named(part: Any) -> Iterator[str]:
    """The pages of a navigation, in order."""
    if isinstance(part, str):
        yield part
    else:
        for one in part.values() if isinstance(part, dict) else part:
            yield from named(one)


def test_the_navigation_names_every_page_once() -> None:
    assert sorted(named(config()["nav"])) == PAGES
    assert len(PAGES) > 40


def test_a_newcomer_begins_with_the_readme() -> None:
    assert next(named(config()["nav"])) == "README.md"


def test_the_api_pages_name_what_is_public() -> None:
    import fct

    text = (ROOT / "docs/api/fct.md").read_text(encoding="utf-8")
    assert set(re.findall(r"(?m)^::: fct\.(\w+)$", text)) == {name for name in fct.__all__ if not name.startswith("_")}
    for name in ("release", "side", "forward", "errors"):
        assert f"\n::: fct.{name}\n" in (ROOT / f"docs/api/{name}.md").read_text(encoding="utf-8")


def test_nothing_of_the_site_comes_from_elsewhere() -> None:
    found = config()
    assert found["theme"]["font"] is False and found["use_directory_urls"] is False
    assert [one for one in found["extra"]["polyfills"] if "iframe-worker" in one] == ["scripts/iframe-worker.js"]


def misread(text: str) -> list[str]:
    """The lines that MkDocs takes for more of the paragraph above, and GitHub for a list, a table or more of a list's item."""
    found, before, fenced = [], "", False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced:
            begins = BLOCK.match(line) and before.strip() and not WITHIN.match(before) and not before.startswith("#")
            continues = re.match(r" {1,3}\S", line) and not before.strip()
            found += [line] if begins or continues else []
        before = line
    return found


@pytest.mark.parametrize("page", PAGES)
def test_the_site_reads_a_page_as_github_does(page: str) -> None:
    assert misread((ROOT / page).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("wrong", ["Three:\n- a", "```\nx\n```\n| a |", "- a\n\n  more", "So:\n1. a"])
def test_what_would_be_misread_is_noticed(wrong: str) -> None:
    assert len(misread(wrong)) == 1


@pytest.mark.parametrize("right", ["# A\n- a\n- b", "Three:\n\n- a\n  more\n- b", "```\nx\n- y\n```\n", "- a\n\n    more\n"])
def test_what_is_read_alike_passes(right: str) -> None:
    assert misread(right) == []
