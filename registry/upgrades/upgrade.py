"""The upgrade of a gallery to version n: what its steps share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fct import forward
from fct.arrays import digests
from fct.arrays.files import read_json
from fct.gallery.names import space_name
from fct.release.folder import Release
from registry.revisions import kept, names
from registry.steps import RECIPES
from registry.upgrade_files import CONTRACT
from registry.workspace import Workspace


@dataclass(frozen=True)
class Upgrade:
    """The upgrade of one registered model to version ``version``: its release, its folders and its h's. What it does: :mod:`registry.upgrades.steps`."""

    workspace: Workspace
    version: int

    @cached_property
    def folder(self) -> Path:
        return self.workspace.upgrade_folder(self.version)

    @cached_property
    def new(self) -> Release:
        return kept.opened(self.workspace, self.version, check=False)

    @cached_property
    def champion(self) -> int | None:
        """The release that served when this upgrade started (the step *contract* writes it down); else the one that serves."""
        known = self.folder / CONTRACT
        if known.exists() and read_json(known).get("ok"):
            found = read_json(known)["champion"]
            return None if found is None else int(found)
        return self.workspace.ledger.release()

    def natives(self) -> list[int]:
        """Native versions in the gallery that must be carried over: all before n. What a later release embedded cannot be carried back."""
        return [m for m in self.workspace.gallery.native_versions() if m < self.version]

    def release_of(self, version: int) -> Release:
        return kept.opened(self.workspace, version, check=False)

    @cached_property
    def _gone(self) -> frozenset[str]:
        return names.gone(self.workspace.ledger.entries())

    def step(self, name: str) -> Path:
        """The folder of a step."""
        return names.step(self.workspace, self.version, name, self._gone)

    def steps(self, pattern: str) -> list[Path]:
        """Folders and files of steps that are there, by a pattern."""
        return names.steps(self.workspace, self.version, pattern, self._gone)

    def pairs_folder(self, native: int) -> Path:
        return self.step(f"pairs-v{native}")

    def forward_folder(self, native: int) -> Path:
        return self.folder / f"h-v{native}"

    def closed_folder(self, native: int) -> Path:
        """The closed form on the same pairs as the h from ``native``, which that h has to beat."""
        return self.folder / f"closed-v{native}"

    def forwards(self, natives: Iterable[int] | None = None) -> dict[int, forward.Forward]:
        """The h's from these native versions; by default from all that the gallery has."""
        return {m: forward.load(self.forward_folder(m)) for m in (self.natives() if natives is None else natives)}

    @cached_property
    def space(self) -> str:
        name = space_name(self.version, {m: h.digest for m, h in self.forwards().items()}, RECIPES["transform"])
        return names.unused(name, self._gone)

    def pairs_digest(self, m: int) -> str:
        """Of every array of the pairs from ``m``."""
        folder = self.pairs_folder(m)
        return digests.of_json({path.relative_to(folder).as_posix(): digests.of_file(path) for path in sorted(folder.rglob("*.npy"))})
