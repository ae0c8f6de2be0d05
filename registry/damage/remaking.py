"""Features made again from images, for the rows that a damaged file held: read as an ingest reads, embedded by the release that served.

No digest of an image was recorded. That an image still is the picture that was embedded follows from rows that its features became, in
spaces that are whole: what is made again must give the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fct import device as devices
from fct.arrays import flaws
from fct.arrays.vectors import NOISE
from fct.errors import BadInput
from fct.forward import Forward
from fct.gallery import fragments
from fct.gallery.names import Batch, features_name
from fct.program import programs
from fct.release.folder import Release
from registry.images import Arrival, admitted
from registry.items.arrivals import PART
from registry.items.batches import asked
from registry.revisions.revision import Revision
from registry.upgrades import rereading
from registry.upgrades.maker import Maker
from registry.workspace import Workspace

CARRIED = 0.1  # of a row's norm: h stretches the last bits, and a level of ψ, to less; another picture is further away


@dataclass
class Features:
    """Rows of ``features/v{version}`` made again, in memory: ids (N,) str, phi (N, D) float32, psi (N, P) int8.

    Attributes:
        gone: (id, why) of rows that cannot be made. compared: how many were compared with rows of whole spaces.
    """

    version: int
    ids: np.ndarray
    phi: np.ndarray
    psi: np.ndarray
    gone: list[tuple[str, str]] = field(default_factory=list)
    compared: int = 0

    def keep(self, rows: np.ndarray) -> None:
        self.ids, self.phi, self.psi = self.ids[rows], self.phi[rows], self.psi[rows]


class Images:
    """The images of items as a release embeds them: canaries are its own, others lie where the items say.

    Args:
        roots: where files may lie besides, as for an ingest; ``data.roots`` count anyway, and the folders that ingests named.
    """

    def __init__(self, workspace: Workspace, version: int, release: Release, roots: Sequence[str | Path] = ()):
        self.release, items = release, workspace.gallery.items()
        self._walked = admitted(workspace, roots)
        self._uris = dict(zip(items["id"].tolist(), items["image_uri"].tolist(), strict=True))
        self._canaries = dict(zip(*release.canaries(), strict=True))
        device = devices.pick(workspace.settings.device)
        program = asked(workspace, version, release, device)
        self.embed = lambda images: programs.embed(program, images, device=device)

    def read(self, one: str) -> np.ndarray:
        """(C, S, S) uint8. BadInput where it cannot be read, or may not."""
        if one in self._canaries:
            return np.asarray(self._canaries[one])
        return Arrival(one, "", "", self._uris[one], walked=self._walked).read(self.release.size, self.release.mode)[0]


def from_images(images: Images, version: int, wanted: np.ndarray) -> Features:
    """Embed the images of items again, part by part. Nothing is written.

    Args:
        wanted: (N,) ids, sorted.
    """
    parts, gone = list[tuple[np.ndarray, np.ndarray, np.ndarray]](), list[tuple[str, str]]()
    with tqdm(total=len(wanted), desc="embedding again", unit="image", mininterval=1) as bar:
        for start in range(0, len(wanted), PART):
            read, good = [], []
            for one in wanted[start : start + PART].tolist():
                try:
                    read.append(images.read(one))
                    good.append(one)
                except BadInput as error:
                    gone.append((one, str(error)))
            if read:
                phi, psi = images.embed(np.stack(read))
                flawed, names = flaws.find("its vector", phi), np.array(good, dtype=str)
                gone += flawed.listed(names)
                parts.append((names[~flawed.bad], phi[~flawed.bad], psi[~flawed.bad]))
            bar.update(len(wanted[start : start + PART]))
    release = images.release
    empty = np.empty(0, dtype=str), np.empty((0, release.dim), np.float32), np.empty((0, release.side_dim), np.int8)
    ids, phi, psi = (np.concatenate(some) for some in zip(empty, *parts, strict=True))
    return Features(version, ids, phi, psi, gone)


def compare(
    workspace: Workspace,
    made: Features,
    revisions: Mapping[int, Revision],
    forwards: Mapping[int, dict[int, Forward]],
    without: Mapping[str, Sequence[int]],
) -> None:
    """Move to ``gone`` what does not give the rows that it became when it was embedded.

    Args:
        revisions: release → revision, in whose space rows are looked for. forwards: release → its h's. without: table → fragments that are
            damaged.
    """
    other, seen = np.zeros(len(made.ids), dtype=bool), np.zeros(len(made.ids), dtype=bool)
    for number, revision in revisions.items():
        space = revision.space
        rows = fragments.others(workspace.gallery.root, space, without.get(space, ()), ["id", "vector", "origin"])
        theirs = np.isin(rows["id"], made.ids)
        theirs[theirs] = rereading.sources(number, rows["origin"][theirs]) == made.version
        if theirs.any():
            at = np.searchsorted(made.ids, rows["id"][theirs])
            maker = Maker(workspace, number, forwards[number])
            again, _, _ = maker.make(made.version, Batch(made.ids[at], made.phi[at], made.psi[at]))
            most = (NOISE if number == made.version else CARRIED) * np.linalg.norm(again, axis=1)
            other[at] |= np.linalg.norm(again - rows["vector"][theirs], axis=1) > most
            seen[at] = True
    made.compared = int(seen.sum())
    made.gone += [(one, "its image is another picture than when it was embedded") for one in made.ids[other].tolist()]
    made.keep(~other)


def write(workspace: Workspace, made: Features, images: Images) -> None:
    """Write the rows to their table, and read some back, whose images are read and embedded once more.

    Raises:
        NotPermitted: a row is not what its image gives.
    """
    gallery, release, rows = workspace.gallery, images.release, workspace.settings.transform.batch_rows
    for start in range(0, len(made.ids), rows):
        part = slice(start, start + rows)
        gallery.add_features(made.version, release.fingerprint, made.ids[part], made.phi[part], made.psi[part], psi_bits=release.side_bits)
    some = rereading.chosen(made.ids, features_name(made.version))
    if len(some):
        rereading.check_features(gallery, made.version, some, np.stack([images.read(one) for one in some.tolist()]), images.embed)
