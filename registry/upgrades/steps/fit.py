"""The step *fit*: an h from each native version, and the closed form that it has to beat."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fct import device as devices
from fct.arrays import digests
from fct.sample.folder import PairsFolder
from registry.steps import once
from registry.upgrades.fitting import fit_closed, fit_pairs
from registry.upgrades.upgrade import Upgrade


def fit(upgrade: Upgrade) -> dict[str, Any]:
    """One h per native version present, always straight from native."""
    return {f"v{m}": _fit(upgrade, m) for m in upgrade.natives()}


def _fit(upgrade: Upgrade, m: int) -> Any:
    """The h from version ``m``, and the closed form that it has to beat, each once."""
    settings, folder = upgrade.workspace.settings, upgrade.pairs_folder(m)
    inputs = {
        "pairs": digests.of_file(PairsFolder(folder).about_file),
        "vectors": upgrade.pairs_digest(m),
        "settings": asdict(settings.fit),
        "precision": devices.precision(settings.fit.precision, devices.pick(settings.device)),
        "seed": settings.seed,
    }

    def make() -> dict[str, Any]:
        title = f"h v{m} to v{upgrade.version}"
        h = fit_pairs(folder, upgrade.new.head(), settings.fit, seed=settings.seed, device=settings.device, title=title)
        h.save(upgrade.forward_folder(m))
        return {"seconds": h.about["seconds"], "digest": h.digest}

    def make_closed() -> dict[str, Any]:
        closed = fit_closed(folder, settings.fit, seed=settings.seed)
        closed.save(upgrade.closed_folder(m))
        return {"seconds": closed.about["seconds"], "digest": closed.digest}

    result, _ = once("fit", upgrade.forward_folder(m), inputs, make)
    once("fit", upgrade.closed_folder(m), inputs, make_closed)
    return result
