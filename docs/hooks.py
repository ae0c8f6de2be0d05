"""What MkDocs and mkdocstrings do not do by themselves for the site of `make docs` (mkdocs.yml)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).parents[1]
FIRST = ("README.md", "RESULTS.md", "CONTRIBUTING.md", "CHANGELOG.md")
SCRIPTS = ("scripts/mermaid.js", "scripts/iframe-worker.js")
LINK = re.compile(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)")
ROLE = re.compile(r":\w+:`~?([\w.]+)`")


def on_files(files: Files, config: Any) -> Files:
    """Give every page the path that it has in the repository, and add the root's pages and the files that pages link to."""

    def of(name: str, root: Path = ROOT, **more: Any) -> File:
        return File(name, str(root), config.site_dir, config.use_directory_urls, **more)

    own = [file for file in files if file.src_dir == config.docs_dir]
    found = Files([file for file in files if file.src_dir != config.docs_dir])
    for file in [*(of(name) for name in FIRST), *(of(f"docs/{file.src_uri}", inclusion=file.inclusion) for file in own)]:
        found.append(file)
    for page in found.documentation_pages():
        path = Path(page.abs_src_path)
        for link in LINK.findall(path.read_text(encoding="utf-8")):
            target = (path.parent / link).resolve()
            if target.is_file() and target.is_relative_to(ROOT) and target.relative_to(ROOT).as_posix() not in found.src_uris:
                found.append(of(target.relative_to(ROOT).as_posix()))
    for name in SCRIPTS:
        found.append(of(name, ROOT / "build/docs-env"))
    return found


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Tables of numbers have every method's name in them, and would come before the page that explains it in every search."""
    if page.file.src_uri.startswith("docs/results/"):
        page.meta["search"] = {"exclude": True}
    elif page.file.src_uri == "RESULTS.md":
        page.meta["search"] = {"boost": 0.1}
    return markdown


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Only pages with a diagram load mermaid, which has three megabytes."""
    if 'class="mermaid"' not in output:
        return output
    script = f'<script src="{get_relative_url(SCRIPTS[0], page.url)}"></script>'
    return output.replace("</head>", f"{script}</head>", 1)


class Roles(griffe.Extension):
    """Docstrings name code as ``:func:`fct.fit```: a link where the site has it, else code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = ROLE.sub(r"<autoref optional identifier='\1'><code>\1</code></autoref>", obj.docstring.value)
