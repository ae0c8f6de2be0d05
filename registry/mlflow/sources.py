"""Where a version's artifacts may lie. Who may register a version writes its ``source``; that alone makes nobody here open a folder or call a host.

Admitted are the workspace's own store, the artifact proxy of the tracking server itself, and what params.yaml names in
``registry.artifact_roots``. What a version, a run or an experiment says of itself never adds to that.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fct.errors import NotPermitted

PROXY = "mlflow-artifacts"
Place = tuple[str, str, tuple[str, ...]]  # scheme, host, segments of the path


def local(address: str) -> Path | None:
    """The folder that an address without a scheme, or with ``file:``, names; None for any other."""
    parsed = urlsplit(address)
    if parsed.scheme not in ("", "file") or parsed.netloc not in ("", "localhost"):
        return None
    return Path(unquote(parsed.path))


def place_of(address: str) -> Place | None:
    """Where an address leads, links followed; None where two readers could understand it differently."""
    if not address.isprintable():  # readers leave out line ends
        return None
    try:
        parsed = urlsplit(address)
        folder = local(address)
        if folder is not None:
            return ("file", "", folder.resolve().parts) if folder.is_absolute() and not (parsed.query or parsed.fragment) else None
    except (ValueError, OSError, RuntimeError):  # no address, a null in a path, a loop of links
        return None
    path = unquote(parsed.path)
    segments = tuple(part for part in path.split("/") if part)
    odd = parsed.query or parsed.fragment or "@" in parsed.netloc or "\\" in path or "%" in path or not path.isprintable()
    return None if odd or {".", ".."} & set(segments) else (parsed.scheme.lower(), parsed.netloc.lower(), segments)


def below(address: str, root: str) -> bool:
    """Whether an address leads to a root or below it."""
    one, other = place_of(address), place_of(root)
    return one is not None and other is not None and one[:2] == other[:2] and one[2][: len(other[2])] == other[2]


def roots(uri: str, folder: Path, more: Iterable[str]) -> list[str]:
    """What is admitted: of a tracking server at ``uri``, of a workspace, and ``more`` as params.yaml says."""
    own = [(folder / "artifacts").as_uri()]
    if uri.startswith("http"):
        own += [f"{PROXY}:/", f"{PROXY}://{urlsplit(uri).netloc}/"]
    return [*own, *more]


def admit(address: str, admitted: Iterable[str], what: str) -> None:
    """NotPermitted where an address is below none of ``admitted``; ``what`` has it."""
    if not any(below(address, root) for root in admitted):
        raise NotPermitted(
            f"{what} lies where nothing is fetched from",
            got=address,
            todo="if that place is yours, add it to registry.artifact_roots in params.yaml",
        )


def resolved(client: Any, source: str) -> str:
    """The address behind ``runs:/RUN/PATH`` and ``models:/m-ID``, as the registry's own records say; any other comes back as it is."""
    if source.startswith("runs:/"):
        run_id, _, path = source.removeprefix("runs:/").strip("/").partition("/")
        return f"{client.get_run(run_id).info.artifact_uri.rstrip('/')}/{path}"
    if source.startswith("models:/m-"):
        return str(client.get_logged_model(source.removeprefix("models:/")).artifact_location)
    return source


def contained(folder: Path, names: Iterable[str], root: Path) -> None:
    """NotPermitted where one of these files of a folder is no plain file below ``root`` once every link is followed."""
    for name in names:
        path = folder / name
        if path.is_symlink() or path.exists():
            real = path.resolve()
            if not (real.is_file() and real.is_relative_to(root.resolve())):
                raise NotPermitted("a release's file is no plain file of the registry's store", got=name, where=folder)
