"""Whether the order of backfill that is shipped, by σ, is better than chance."""

from __future__ import annotations

from fct.search.intervals import Bootstrap, difference
from registry.verdicts import curves
from registry.verdicts.declaration import OfSample, Values
from registry.verdicts.measurement import Measurement, absent, of
from registry.verdicts.settings import GateSettings


def measure(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
    """LB(AUC(shipped order) − mean AUC(random orders)) > 0 on mAP, where there is something to order."""
    if not curves.ordered(values):
        return [absent(curves.NO_ORDER)]
    found, reasons = [], []
    for population, drawn in curves.of_populations(values).items():
        gain = float(drawn["shipped_mAP"][-1].mean() - drawn["shipped_mAP"][0].mean())
        aucs = {name: drawn[f"{name}_mAP"].mean(axis=0) for name in ("shipped", "random", "oracle")}
        boot = Bootstrap(aucs, drawn["labels"], seed=seed)
        note = ", ".join(f"{name} {mean:.3f}" for name, mean in boot.means.items())
        if gain <= settings.order_margin:
            reasons.append(f"{population}: M(1) − M(0) is {gain:.3f} mAP, at most {settings.order_margin:g}, little left to order ({note})")
            continue
        note += "; top-1 " + ", ".join(f"{name} {drawn[f'{name}_top1'].mean():.3f}" for name in aucs)
        found.append(of(f"{population} AUC mAP", boot.estimate(difference("shipped", "random")), 0.0, strict=True, note=note))
    return found or [absent("; ".join(reasons), answered=True)]


GATE = OfSample(
    title="the shipped order of backfill beats chance",
    question="Is the shipped backfill order better than random orders?",
    measured="area under the backfilling curve: shipped order minus the mean of {random_orders} random orders; known and unseen, mAP",
    passes="lower bound > 0; applies if M(1) − M(0) > {order_margin}",
    keys=("order_margin", "random_orders"),
    place=9,
    needs=curves.needs,
    measure=measure,
)
