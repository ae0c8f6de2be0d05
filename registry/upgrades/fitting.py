"""Fit h on a folder of pairs, and the closed form that it has to beat."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fct import forward
from fct.forward.manifest import READS
from fct.sample.folder import PairsFolder

CLOSED_FORM = "ridge"


def fit_pairs(
    folder: Path, head: tuple[np.ndarray, np.ndarray] | None, settings: forward.FitSettings, *, seed: int, device: str, title: str
) -> forward.Forward:
    """Fit h on a folder of pairs (:func:`fct.sample.pairs.write_pairs`)."""
    pairs = PairsFolder(folder)
    fitting: dict[str, Any] = {name: pairs.load("fitting", name) for name in ("old", "side", "new", "labels", "sources")}
    if pairs.has("fitting", "units"):  # of given pairs: sources and copies
        fitting["sources"] = pairs.load("fitting", "units")
    bare = fitting["side"].shape[1] == 0  # an adopted release may have no side-information
    pool: dict[str, Any] = {f"pool_{name}": pairs.load("pool", name) for name in ("old", "side", "new")} if pairs.has("pool") else {}
    if bare:
        fitting["side"] = None
        pool.pop("pool_side", None)
    h = forward.fit(**fitting, **pool, head=head, settings=settings, seed=seed, device=device, title=title)
    return replace(h, about=h.about | {READS: pairs.reads()})


def fit_closed(folder: Path, settings: forward.FitSettings, *, seed: int) -> forward.Forward:
    """The best closed form, ridge regression with the same side-information, on the same pairs and pool as h."""
    return fit_pairs(folder, None, replace(settings, method=CLOSED_FORM), seed=seed, device="cpu", title="closed form")


def copies_of(folder: Path) -> Any:
    """What a folder of pairs says of copies, part by part: their share, and of images how many were kept from h because of them."""
    return PairsFolder(folder).about().get("copies", "not known: these pairs were made by earlier code")
