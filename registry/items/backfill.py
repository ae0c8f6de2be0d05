"""Backfilling: the serving release embeds carried items itself, the most uncertain first, batch by batch while it serves.

The order is that of FastFill (ICLR 2023, arXiv 2303.04766): by h's predicted uncertainty σ, as the space holds it. Every batch ends
with one ledger entry, a revision of the serving release; a run that is killed continues where it stopped, and what was embedded is not
embedded again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from fct.errors import BadInput
from registry import lock
from registry.items.batches import Batches
from registry.revisions import alarm, history
from registry.versions.follow import follow_later
from registry.workspace import Workspace


@dataclass
class Backfilled:
    """What a run did.

    Attributes:
        share: of the gallery's items that the serving release computed itself, before and after.
        steps: one a batch: share, predicted and measured mAP, the ledger entry.
        skipped: (id, why) of items whose image cannot be read; they stay as they were carried.
        why_not_measured: empty where mAP was measured on the live gallery.
    """

    share: tuple[float, float] = (0.0, 0.0)
    rows: int = 0
    embedded: int = 0
    steps: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    why_not_measured: str = ""
    stopped: str = ""


@alarm.stops
def backfill(
    workspace: Workspace,
    *,
    fraction: float | None = None,
    until_map: float | None = None,
    minutes: float | None = None,
    by: str,
    why: str = "",
    dry_run: bool = False,
    said: Callable[[dict[str, Any]], None] = lambda step: None,
) -> Backfilled:
    """Embed carried items with the serving release, the least certain first, until one of the limits is reached.

    Args:
        fraction: share of the gallery's items that are to be the release's own; what is so already counts.
        until_map: mAP on the live gallery. minutes: of work; the batch at hand is finished.
        dry_run: say what would be done, and do nothing.
        said: called with each step of the result.

    Raises:
        BadInput: nothing serves, no limit, a limit out of range, or mAP is to be reached and the gallery has no labels.
        NotPermitted: the canaries say that a batch is wrong, or files are damaged (:mod:`registry.revisions.alarm`); what served goes on serving.
    """
    serving = history.serving(workspace.ledger)
    if serving is None:
        raise BadInput("nothing serves, so nothing can be backfilled", todo="promote a release first")
    _limits(fraction, until_map, minutes)
    state, begun = Batches(workspace, serving), time.monotonic()
    result = Backfilled(why_not_measured=state.why_not_measured)
    if until_map is not None and state.why_not_measured:
        raise BadInput("mAP cannot be measured on the live gallery", got=state.why_not_measured, todo="use --fraction or --budget-minutes")
    share, ranked = state.share(), state.ranked()
    wanted = state.wanted(1.0 if fraction is None else fraction)
    result.share = (share, share)
    reached = state.measured()
    step = {"share": round(share, 4), "rows": 0, "predicted_mAP": state.predicted(share), "measured_mAP": reached, "entry": None}
    result.steps.append(step)
    said(step)
    if dry_run:
        result.rows, result.stopped = wanted, "nothing was done"
        result.share = (share, state.share(wanted))
        result.steps.append({"share": round(result.share[1], 4), "rows": wanted, "predicted_mAP": state.predicted(result.share[1])})
        return result

    def over() -> str:
        """Why it is time to stop; "" while it is not."""
        if until_map is not None and reached is not None and reached >= until_map:
            return f"mAP {reached:.4f} is reached"
        if minutes is not None and time.monotonic() - begun >= 60 * minutes:
            return f"{minutes:g} minutes are over"
        if result.rows >= wanted:
            return "the share is reached" if fraction is not None else "every item is done"
        return "no more images can be read" if at >= len(ranked) else ""

    settings, at = workspace.settings, 0
    with (
        lock.hold(workspace.locks, f"{settings.model}-backfill", f"{by}: backfill", lease_s=settings.promote.lock_lease_s) as held,
        tqdm(total=wanted, desc="backfilling", unit="item", mininterval=1) as bar,
    ):
        state.gallery = workspace.gallery.fenced(held.check)
        entry = state.commit(ranked[:0], by=by, why=why)  # what a run that was killed has left
        while entry is not None or not over():
            if entry is None:  # images that cannot be read leave their place to the next in the order
                part = ranked[at : at + min(settings.backfill.batch_rows, wanted - result.rows)]
                at += len(part)
                good, embedded = state.embed(part, result.skipped)
                entry = state.commit(good, by=by, why=why)
                result.embedded, result.rows = result.embedded + embedded, result.rows + len(good)
                bar.update(len(good))
            if entry is not None:
                reached, share = state.measured(), state.share()
                step = {"share": round(share, 4), "rows": int(entry.detail["items"]), "predicted_mAP": state.predicted(share)}
                step |= {"measured_mAP": reached, "entry": entry.number}
                result.steps.append(step)
                said(step)
                entry = None
        result.stopped = over()
    result.share = (result.share[0], state.share())
    if len(result.steps) > 1:
        follow_later(workspace)
    return result


def _limits(fraction: float | None, until_map: float | None, minutes: float | None) -> None:
    """BadInput where there is no limit, or one that cannot be."""
    if fraction is None and until_map is None and minutes is None:
        raise BadInput("the backfill needs a limit", wanted="--fraction, --until-mAP or --budget-minutes")
    for name, value in (("--fraction", fraction), ("--until-mAP", until_map)):
        if value is not None and not 0 < value <= 1:
            raise BadInput(f"{name} has an unusable value", wanted="above 0, at most 1", got=value)
    if minutes is not None and not minutes > 0:
        raise BadInput("--budget-minutes has an unusable value", wanted="above 0", got=minutes)
