"""Settings of a fit, the names of its methods (:mod:`fct.forward.methods`), and the recipes known by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from fct.device import PRECISIONS
from fct.errors import BadInput
from fct.forward.methods import KNOWN
from fct.forward.spec import Closed, Learned

METHODS = tuple(KNOWN)  # in order of simplicity
CLOSED = tuple(name for name, method in KNOWN.items() if isinstance(method, Closed))
LEARNED = tuple(name for name, method in KNOWN.items() if isinstance(method, Learned))
AUTO = "auto"
# learned methods of papers; h without side-information feeds φ_old twice
PUBLISHED = tuple(name for name, method in KNOWN.items() if isinstance(method, Learned) and method.published)
FEWEST_STEPS = 300


@dataclass(frozen=True)
class FitSettings:
    """How h is fitted (params.yaml, ``fit``; the defaults are for files without a params.yaml).

    ``method``: one of METHODS, or ``auto``. ``members``: networks fitted alike and averaged. ``linear_member``: fastfill-pool's mean
    has the ridge map of the same pairs and pool as one more member. ``epochs``: passes over the labelled
    pairs, all views of an image counted. ``width``: of the two hidden layers after the branches. ``head_weight``: of the
    cross-entropy through the frozen head of the new model (needs labels and head). ``label_smoothing``: of that cross-entropy.
    ``pool_share``: part of every batch that is drawn from the unlabelled pool. ``freeze_norm``: BatchNorm keeps its statistics
    fixed in the second half (FCT's recipe). ``uncertainty``: fastfill-pool predicts a log-variance (FastFill, arXiv 2303.04766,
    eq. 3); without it σ comes from held-out residuals. ``precision``: of the networks' training, see :func:`fct.device.precision`.

    Raises:
        BadInput: an unknown method or a value out of range; the sentence names the key.

    Examples:
        >>> import numpy as np, fct
        >>> small = fct.FitSettings("fct", epochs=2, width=16, members=1, batch=32)
        >>> old = np.random.default_rng(0).normal(size=(100, 4)).astype("float32")
        >>> h = fct.fit(old, old[:, ::-1], settings=small)
        >>> h.method, h.about["settings"]["width"]
        ('fct', 16)
        >>> fct.FitSettings(epochs=0)
        Traceback (most recent call last):
        fct.errors.BadInput: fit.epochs is out of range; wanted a whole number, at least 1; got 0
    """

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid"}

    method: str = "fastfill-pool"
    members: int = 2
    linear_member: bool = True
    width: int = 512
    epochs: int = 6
    batch: int = 512
    learning_rate: float = 3e-3
    weight_decay: float = 3e-5
    head_weight: float = 0.2
    label_smoothing: float = 0.1
    pool_share: float = 0.75
    uncertainty: bool = True
    freeze_norm: bool = False
    precision: str = AUTO

    def __post_init__(self) -> None:
        if self.method not in (AUTO, *METHODS):
            raise BadInput("unknown method", wanted=", ".join((AUTO, *METHODS)), got=self.method)
        for key, least in (("members", 1), ("width", 1), ("epochs", 1), ("batch", 2)):  # BatchNorm needs two rows
            value = getattr(self, key)
            if not isinstance(value, int) or value < least:
                raise BadInput(f"fit.{key} is out of range", wanted=f"a whole number, at least {least}", got=value)
        for key, low, high, bounds in (
            ("learning_rate", 0.0, 1.0, "above 0, at most 1"),
            ("weight_decay", -1.0, 1.0, "0 to 1"),
            ("head_weight", -1.0, 1e6, "0 or more"),
        ):
            value = getattr(self, key)
            if not low < value <= high or value < 0:
                raise BadInput(f"fit.{key} is out of range", wanted=bounds, got=value)
        if self.precision not in PRECISIONS:
            raise BadInput("fit.precision has an unusable value", wanted=" or ".join(PRECISIONS), got=self.precision)
        for key in ("label_smoothing", "pool_share"):
            if not 0 <= getattr(self, key) < 1:
                raise BadInput(f"fit.{key} is out of range", wanted="0 or more and below 1", got=getattr(self, key))


def published(method: str, settings: FitSettings, views: int, *, batch: int = 256) -> FitSettings:
    """FCT's published recipe (arXiv 2112.02805, section 4): MSE, Adam 5e-4, width 2048, 80 epochs of one random view an image.

    80 epochs of one view are ``80 / views`` passes over all views. FastFill and LORTH build on the same recipe; FastFill adds the
    log-variance and the cross-entropy through the frozen head with the weight 1. The batch is 256 where the published 1,024 would
    leave only a couple of steps an epoch on a few thousand images.
    """
    spec = KNOWN[method]
    return replace(
        settings,
        method=method,
        members=1,
        linear_member=False,
        width=2048,
        epochs=max(1, round(80 / views)),
        batch=batch,
        learning_rate=5e-4,
        weight_decay=3.05e-5,
        head_weight=1.0 if "head" in spec.uses else 0.0,
        pool_share=0.0,
        uncertainty=isinstance(spec, Learned) and spec.variance,
        freeze_norm=True,
    )


def recipe(method: str, rows: int) -> FitSettings:
    """The settings of a method that is asked for by name, without settings of the user's own.

    A published learned method gets its recipe, with the published batch of 1,024 where there are at least 20,000 pairs. Others get
    the shipped settings, for so many pairs.

    Args:
        rows: pairs there are.
    """
    if method not in PUBLISHED:
        return adapted(FitSettings(method=method), rows)
    return published(method, FitSettings(), views=1, batch=1024 if rows >= 20_000 else 256)


def adapted(settings: FitSettings, rows: int) -> FitSettings:
    """The same recipe for few pairs: at least eight batches an epoch (of 32 rows or more), and at least FEWEST_STEPS steps."""
    batch = min(settings.batch, max(32, rows // 8))
    return replace(settings, batch=batch, epochs=max(settings.epochs, -(-FEWEST_STEPS // max(1, rows // batch))))
