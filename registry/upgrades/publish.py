"""The last step of an upgrade: put the candidate before people, in MLflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fct.arrays import digests, vectors
from fct.arrays.files import read_json, whole_file, write_json
from fct.datasets import manifest as manifests
from fct.forward.judging import as_text
from fct.sample import evaluation
from fct.sample.folder import PairsFolder
from registry import report
from registry.report.description import escape
from registry.revisions import entering
from registry.steps import once
from registry.upgrade_files import CANDIDATE, COSTS, ITEMS, PROMISE, REPORT, TRANSFORM, VERDICT
from registry.upgrades.champion import as_served
from registry.upgrades.upgrade import Upgrade


def review_of(upgrade: Upgrade, costs: dict[str, float | int | str]) -> report.Review:
    """Everything a reviewer should see, from the upgrade's files."""
    verdict = read_json(upgrade.folder / VERDICT)
    with np.load(upgrade.folder / ITEMS, allow_pickle=False) as data:
        ids, sigma, far = data["ids"], data["sigma"], data["far"]
    files: dict[str, Path] = {}
    if (upgrade.workspace.data / manifests.FILE).exists():  # given pairs have no images
        manifest = manifests.read_manifest(upgrade.workspace.data)
        files = dict(zip(manifest.id.tolist(), manifest.files, strict=True))
    natives = upgrade.natives()
    values = sample = carried = served = None
    if natives:
        target = upgrade.step(f"evaluation-v{natives[0]}")
        values, carried = evaluation.load(target), np.array(vectors.load(target / "carried.npy"))
        sample = PairsFolder(upgrade.pairs_folder(natives[0])).sample()
        served = as_served(upgrade, natives[0], sample)
    predicted = any(h.about.get("settings", {}).get("uncertainty") for h in upgrade.forwards().values())
    settings = upgrade.workspace.settings
    provenance = {
        "model": f"{settings.model} version {upgrade.version}",
        "champion": "none" if upgrade.champion is None else f"version {upgrade.champion}",
        "fingerprint": upgrade.new.fingerprint,
        "release": upgrade.new.digest(),
        "space": upgrade.space,
        "seed": str(settings.seed),
        "recipe": settings.fit.method,
        **{f"h v{m} to v{upgrade.version}": h.digest for m, h in upgrade.forwards().items()},
    }
    return report.Review(
        verdict=verdict,
        values=values,
        sample=sample,
        carried=carried,
        metric=upgrade.new.metric,
        sigma=sigma if predicted else None,
        gallery_ids=ids,
        far=far if natives else None,
        image_of=lambda one: _readable(files.get(one)),
        costs=costs,
        provenance=provenance,
        approve_value=f"<your name> {verdict['digest']}",
        served=served,
        auto=settings.promote.auto,
    )


def _readable(path: Path | None) -> Path | None:
    return path if path is not None and path.is_file() else None


def costs_of(upgrade: Upgrade, images_read: int) -> dict[str, float | int | str]:
    """What the upgrade cost, measured in this run."""
    transform = read_json(upgrade.folder / TRANSFORM)
    costs: dict[str, float | int | str] = {"gallery_rows": transform["rows"], "gallery_images_read": images_read}
    for m in upgrade.natives():
        h = read_json(upgrade.forward_folder(m) / "manifest.json")
        old = upgrade.release_of(m)
        costs |= {
            "fit_s": h["seconds"],
            "transform_us_per_item": round(1e6 * transform["seconds"] / max(1, transform["changed"]), 1),
            "side_bytes_per_item": old.side_bytes,
        }
    return costs


def card(upgrade: Upgrade, m: int) -> str:
    """The card of an h (Markdown): where it leads, what it was fitted on, what it was compared with, when not to use it."""
    manifest = read_json(upgrade.forward_folder(m) / "manifest.json")
    verdict = read_json(upgrade.folder / VERDICT)
    validation = manifest.get("validation", {})
    missing = [f"- {escape(sentence, 250)}" for sentence in manifest.get("inputs_missing", [])]
    return (
        f"# h: version {m} to version {upgrade.version}\n\n"
        f"- method `{manifest['method']}`, digest `{manifest['digest'][:12]}`, fitted in {manifest['seconds']} s on {manifest['pairs']} pairs and {manifest['pool']} unlabelled pool rows\n"
        f"- from embedder `{upgrade.release_of(m).fingerprint[:12]}` to `{upgrade.new.fingerprint[:12]}`\n"
        f"- mean cosine with native vectors on held-out sources: {validation.get('mean_cosine', 'not measured')}\n"
        f"- verdict of the upgrade it was made for: **{verdict['outcome']}**, `{verdict['digest'][:12]}`\n"
        + "".join(f"{line}\n" for line in missing)
        + f"\n{_ladder(validation)}"
        "Do not use it for items of another embedder, or for items far from what it was fitted on (gate *coverage*). "
        "It carries the new model's strengths and weaknesses over faithfully; it does not improve on them.\n"
    )


def _ladder(validation: dict[str, Any]) -> str:
    """What was compared on held-out rows, what lost included."""
    rows = validation.get("candidates") or []
    metrics = [name for name in ("top1", "mAP", "cosine") if rows and name in rows[0]]
    if not rows:
        return ""
    lines = [
        f"| on {validation['held_out']} held-out rows | {' | '.join(metrics)} | minus the chosen one | seconds |",
        f"|{'---|' * (len(metrics) + 3)}",
    ]
    for row in rows:
        lead = row["difference_to_chosen"]
        span = "" if row["method"] == validation["chosen"] else as_text(lead)
        name = f"**{row['method']}**" if row["method"] == validation["chosen"] else row["method"]
        lines.append(f"| {name} | {' | '.join(f'{row[metric]:.3f}' for metric in metrics)} | {span} | {row['seconds']:.1f} |")
    return "\n".join([*lines, "", escape(validation["reason"], 600), "", ""])


def publish(upgrade: Upgrade, images_read: int) -> dict[str, Any]:
    """Write report and description, log them to a run of their own, register the h's, and mark the version."""
    releases = upgrade.workspace.releases
    verdict = read_json(upgrade.folder / VERDICT)
    target = upgrade.folder / CANDIDATE

    def make() -> dict[str, Any]:
        review = review_of(upgrade, costs_of(upgrade, images_read))
        page = upgrade.folder / REPORT
        with whole_file(page) as part:
            part.write_text(report.html(review), encoding="utf-8")
        write_json(upgrade.folder / COSTS, review.costs)
        files = {
            "verdict": upgrade.folder / VERDICT,
            "report": page,
            "costs": upgrade.folder / COSTS,
            "canaries": upgrade.folder / PROMISE,
        }
        champion = upgrade.champion
        name = (
            f"{releases.model}: v{champion} → v{upgrade.version}"
            if champion is not None
            else f"{releases.model}: v{upgrade.version}, first release"
        )
        run_id = releases.publish_candidate(upgrade.version, files, flat_metrics(verdict), name)
        releases.describe(upgrade.version, report.markdown(replace(review, page=releases.artifact_page(run_id, REPORT))))
        forwards = {
            f"v{m}": releases.publish_forward(upgrade.forward_folder(m), h.digest, m, upgrade.version, card(upgrade, m))
            for m, h in upgrade.forwards().items()
        }
        result = {"run_id": run_id, "verdict": verdict["digest"], "forwards": forwards, "files": approved_files(upgrade)}
        write_json(target, result)
        return result

    measured = {name: digest for name, digest in approved_files(upgrade).items() if name != REPORT}
    result, _ = once("publish", target, {"verdict": verdict["digest"], "files": measured}, make)
    upgrade.workspace.releases.mark(upgrade.version, verdict["outcome"], verdict["digest"])
    return dict(result)


def approved_files(upgrade: Upgrade) -> dict[str, str]:
    """Path below the upgrade's folder → digest of its bytes, for every file that a promotion reads there, and for the report that people read.

    The ledger's entry *approve* names the digest of candidate.json, which holds this.
    """
    paths = [path for path in entering.candidate_files(upgrade.workspace, upgrade.version) if path.name != CANDIDATE]
    return {path.relative_to(upgrade.folder).as_posix(): digests.of_file(path) for path in paths}


def flat_metrics(verdict: dict[str, Any]) -> dict[str, float]:
    """MLflow metrics: ``known.nh.top1`` … and each gate's value, so that MLflow's compare view is useful."""
    found: dict[str, float] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict) and "value" in value:
            if value["value"] is not None:
                found[name] = float(value["value"])
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{name}.{key}" if name else str(key).replace("→", "-"))

    walk(verdict["metrics"], "")
    for gate in verdict["gates"]:
        if gate["value"] is not None:
            key = f"gate.{gate['gate']}.{gate['subject']}".replace("ρ", "rho").replace("→", "-")
            found["".join(c if c.isalnum() or c in "._-/ " else "_" for c in key)] = float(gate["value"])
    return found
