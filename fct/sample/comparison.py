"""The table that keeps an upgrade honest: h beside raw pixels, ψ alone, a stored thumbnail, the field's methods and full backfill.

All rows search the same items with the same queries; h's are fitted on the same pairs. Legend: N items, C channels, S side in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from fct import forward
from fct.forward.settings import FitSettings, published
from fct.program import programs
from fct.release.folder import Release
from fct.sample import evaluation
from fct.sample.folder import PairsFolder, Sample
from fct.search.intervals import Bootstrap, rho

ROWS = {
    "pixels": "raw pixels",
    "old": "v1/v1",
    "side": "side-information alone",
    "thumbnail": "v2 on a thumbnail of the same bytes",
    "ridge": "v2/h(v1, ψ₁) ridge regression",
    "fct": "v2/h(v1, ψ₁) FCT as published",
    "shipped": "v2/h(v1, ψ₁) as shipped",
    "new": "v2/v2",
}
BITS = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Thumbnail:
    """A stored thumbnail: ``side`` pixels a side, ``bits`` a pixel."""

    side: int
    bits: int

    def apply(self, images: np.ndarray) -> np.ndarray:
        """(N, C, S, S) uint8 → the same shape, as it looks after being stored and enlarged again."""
        x = torch.from_numpy(images).float() / 255
        small = functional.interpolate(x, size=(self.side, self.side), mode="bilinear", antialias=True)
        levels = 2**self.bits - 1
        back = functional.interpolate((small * levels).round() / levels, size=images.shape[-2:], mode="bilinear")
        return (back * 255).round().clamp(0, 255).to(torch.uint8).numpy()


def thumbnails(budget_bytes: int, channels: int, largest: int) -> list[Thumbnail]:
    """For each number of bits, the largest thumbnail that the bytes allow."""
    sides = [(min(largest, math.isqrt(8 * budget_bytes // (bits * channels))), bits) for bits in BITS]
    return [Thumbnail(side, bits) for side, bits in sides if side >= 4]


def best_thumbnail(
    new: Release, program: programs.Embed, images: np.ndarray, sample: Sample, budget_bytes: int, device: torch.device
) -> Thumbnail:
    """The thumbnail with the best mAP of v2/v2(thumbnail) on the evaluation sample.

    Args:
        program: of ``new``, on the device. images: (N, C, S, S) uint8, row by row of the sample.
    """
    scored = []
    for thumbnail in thumbnails(budget_bytes, images.shape[1], images.shape[2]):
        gallery, _ = programs.embed(program, thumbnail.apply(images), device=device)
        scored.append((float(evaluation.search(sample, sample.new, gallery, new.metric).ap.mean()), thumbnail))
    return max(scored, key=lambda pair: pair[0])[1]


def fct_as_published(pairs: Path, settings: FitSettings, views: int, *, seed: int, device: str) -> forward.Forward:
    """FCT as published (arXiv 2112.02805, section 4), which knows no pool, on the pairs and with what the shipped h is given."""
    arrays: dict[str, Any] = {name: PairsFolder(pairs).load("fitting", name) for name in ("old", "side", "new", "labels", "sources")}
    return forward.fit(**arrays, settings=published("fct", settings, views), title="FCT as published", seed=seed, device=device)


def table(
    sample: Sample,
    psi: np.ndarray,
    images: np.ndarray,
    shipped: np.ndarray,
    references: dict[str, forward.Forward],
    thumbnail: Thumbnail,
    new: Release,
    program: programs.Embed,
    *,
    seed: int,
    device: torch.device,
) -> dict[str, Any]:
    """Row → population → metric → estimate, with ρ of top-1 and mAP.

    Args:
        sample: the audited items with their native vectors in both spaces and the side-information that h is given (the live gallery,
            after its images are back). psi: (N, P) what is stored of it.
        images: (N, C, S, S) uint8 of these items, for pixels and thumbnails alone.
        shipped: (N, E) their rows in the space that serves.
        program: of ``new``, on the device.
    """
    flat = 255.0 - images.reshape(len(images), -1).astype(np.float32)
    flat[~flat.any(axis=1)] = 1.0  # an empty image still has a direction
    thumb, _ = programs.embed(program, thumbnail.apply(images), device=device)
    side = psi.astype(np.float32)
    galleries: dict[str, tuple[np.ndarray, np.ndarray]] = {
        "pixels": (flat, flat),
        "old": (sample.old, sample.old),
        "side": (side, side),
        "thumbnail": (sample.new, thumb),
        **{name: (sample.new, h.transform(sample.old, sample.side if h.side_dim else None)[0]) for name, h in references.items()},
        "shipped": (sample.new, shipped),
        "new": (sample.new, sample.new),
    }
    found = {
        name: evaluation.search(sample, query, gallery, new.metric if name != "pixels" else "cosine")
        for name, (query, gallery) in galleries.items()
    }
    rows = found["new"].rows
    out: dict[str, Any] = {name: {} for name in galleries}
    for population in sorted(set(sample.populations.tolist())):
        chosen = sample.populations[rows] == population
        values = {f"{name}_{metric}": result.metric(metric)[chosen] for name, result in found.items() for metric in evaluation.NAMES}
        boot = Bootstrap(values, sample.labels[rows][chosen], seed=seed)
        for name in galleries:
            out[name][population] = {metric: evaluation.as_json(boot.mean(f"{name}_{metric}")) for metric in evaluation.NAMES} | {
                f"ρ {metric}": evaluation.as_json(boot.estimate(rho(f"old_{metric}", f"{name}_{metric}", f"new_{metric}")))
                for metric in ("top1", "mAP")
            }
    return out


def as_text(rows: dict[str, Any], populations: tuple[str, ...] = ("known", "unseen")) -> str:
    """The table in Markdown; fractions with their 90 % interval, ρ as a fraction."""

    def cell(estimate: dict[str, Any], digits: int = 3) -> str:
        if estimate["value"] is None:
            return "–"
        low, high = (f"{x:.{digits}f}" if x is not None else "…" for x in (estimate["lower"], estimate["upper"]))
        return f"{estimate['value']:.{digits}f} [{low}, {high}]"

    lines = ["| query model / gallery | classes | top-1 | top-5 | mAP | ρ top-1 | ρ mAP |", "|---|---|---|---|---|---|---|"]
    for name, label in ROWS.items():
        for population in populations:
            if name in rows and population in rows[name]:
                r = rows[name][population]
                bounded = name in ("old", "new", "pixels", "side")
                rho = ["–", "–"] if bounded else [cell(r["ρ top1"], 2), cell(r["ρ mAP"], 2)]
                lines.append(f"| {label} | {population} | {cell(r['top1'])} | {cell(r['top5'])} | {cell(r['mAP'])} | {rho[0]} | {rho[1]} |")
    return "\n".join(lines)
