"""What a method of h says about itself: lists, ``auto``, help and documents follow from it, and reading it needs neither torch nor numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from fct.forward.closed import Affine
    from fct.forward.losses import Compared
    from fct.forward.material import Material

USES = {"side": "ψ", "labels": "labels", "head": "head", "pool": "pool"}  # what there can be beside the pairs → its word in docs/methods.md


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method of h.

    ``rung``: how simple it is; ``auto`` climbs from low to high. ``help``: a sentence for ``fct fit --help``. ``h``, ``minimises``,
    ``source``: its row in docs/methods.md. ``uses``: what it makes use of beside the pairs, of USES; ``needs``: without which of them
    ``auto`` leaves it out. ``auto``: whether it is a candidate at all. ``equal_dims``: whether D = E is all it can do.
    """

    name: str
    rung: int
    help: str
    h: str
    minimises: str
    source: str
    uses: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    auto: bool = True
    equal_dims: bool = False

    def fits(self, old: int, new: int) -> bool:
        """Whether it can carry ``old`` dimensions into ``new``."""
        return old == new or not self.equal_dims


@dataclass(frozen=True, kw_only=True)
class Closed(Method):
    """An affine map, found by linear algebra alone.

    ``fit``: the material and the number of the fold to leave out (−1 = none) → weight (D + P, E) and bias (E,), float64. ``about``: what
    the manifest says of what was chosen.
    """

    fit: Callable[[Material, int], Affine]
    about: Callable[[Material], dict[str, Any]] = lambda _: {}


@dataclass(frozen=True, kw_only=True)
class Learned(Method):
    """FCT's network, trained by a loss.

    ``loss``: a batch → what is minimised, a scalar. ``published``: asked for by name it gets FCT's recipe, and without side-information
    φ_old twice. ``variance``: it learns a log-variance; the others get σ from held-out residuals. ``sure``: σ counts for less where the
    new model's head is sure. ``linear``: the ridge map is one more member of the networks' mean.
    """

    loss: Callable[[Compared], Tensor]
    published: bool = False
    variance: bool = False
    sure: bool = False
    linear: bool = False
