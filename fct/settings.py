"""Settings of the blocks ``train``, ``embed`` and ``index`` of params.yaml. Reading them needs neither torch nor numpy."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import ClassVar

from fct.errors import BadInput

LOSSES = ("softmax", "arcface", "supervised-contrastive")
EXACT_BELOW = 50_000  # rows that may be answers
INDEXES = ("auto", "flat", "hnsw", "ivf")
DEVICES = ("auto", "cpu", "gpu")
BITS = (8, 4, 2, 1)  # of a code of ψ, as a release may declare them
KINDS = ("simclr", "vicreg", "pca", "picture", "thumbnail")


@dataclass(frozen=True)
class EmbedderSettings:
    """How one version's embedder is made (params.yaml, ``train.v1.embedder`` …).

    Attributes:
        classes: the fraction of the known classes (by sorted name, every other one first) that it is trained on.
        label_smoothing: of the softmax loss; the other losses have none.
        loss: ``softmax`` (cross-entropy of a linear head), ``arcface`` or ``supervised-contrastive`` (:mod:`fct.embedder.losses`).

    Raises:
        BadInput: unknown loss.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid"}

    architecture: str
    dim: int
    classes: float
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float
    loss: str = "softmax"

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise BadInput("embedder.loss has an unusable value", wanted=" or ".join(LOSSES), got=self.loss)


@dataclass(frozen=True)
class SideSettings:
    """params.yaml, ``train.v1.side``: which kinds, how many dimensions and bits, how SimCLR and VICReg are trained.

    Attributes:
        kinds: any of :data:`KINDS`, each once; their codes stand in ψ in this order.
        dims: of each kind, one number for all or one for each. A thumbnail's is its pixels, a square number.
        simclr_width, simclr_epochs, simclr_batch, simclr_temperature, simclr_learning_rate: of the encoder; VICReg takes all but the
            temperature.
        bits: of every code, 8, 4, 2 or 1.
        bytes: of each kind. The PCA's components share them, and ``dims`` and ``bits`` do not count; 0: dims × bits says how many.
        images: splits of the data that ψ is prepared from, without labels; never validation or gallery.
        drawing_epochs: passes over them that train what draws a picture again.

    Raises:
        BadInput: a value is out of its range.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid"}

    kinds: tuple[str, ...]
    dims: int | tuple[int, ...]
    simclr_width: int
    simclr_epochs: int
    simclr_batch: int
    simclr_temperature: float
    simclr_learning_rate: float
    bits: int = 8
    bytes: int = 0
    images: tuple[str, ...] = ("train",)
    drawing_epochs: int = 4

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise BadInput("side.bits has an unusable value", wanted=" or ".join(map(str, BITS)), got=self.bits)
        if isinstance(self.dims, tuple) and len(self.dims) != len(self.kinds):
            raise BadInput("side.dims does not fit side.kinds", wanted=f"one number, or {len(self.kinds)}", got=list(self.dims))
        if min(self.each, default=1) < 1:
            raise BadInput("side.dims has an unusable value", wanted="at least 1", got=self.dims)
        if self.bytes < 0 or (self.bytes and "thumbnail" in self.kinds):
            wanted = "0 with the kind thumbnail, whose pixels have all as many bits" if self.bytes > 0 else "0 or more"
            raise BadInput("side.bytes has an unusable value", wanted=wanted, got=self.bytes)
        if self.drawing_epochs < 1:
            raise BadInput("side.drawing_epochs has an unusable value", wanted="at least 1", got=self.drawing_epochs)
        wrong = [split for split in self.images if not split.startswith(("train", "fitting", "pool"))]
        if wrong or not self.images:
            raise BadInput("side.images has an unusable value", wanted="train, fitting or pool", got=list(self.images))
        pixels = dict(zip(self.kinds, self.each, strict=True)).get("thumbnail", 1)
        if math.isqrt(pixels) ** 2 != pixels:
            raise BadInput("a thumbnail's dims are its pixels", wanted="a square number such as 64, 144 or 256", got=pixels)

    @property
    def each(self) -> tuple[int, ...]:
        """Dimensions of each kind."""
        return self.dims if isinstance(self.dims, tuple) else (self.dims,) * len(self.kinds)


@dataclass(frozen=True)
class EmbedSettings:
    """params.yaml, ``embed``: the splits that are fitting images (labelled) and pool (unlabelled), views of each, batch of a program.

    ``pool_recombined``: further views of the pool, of pictures put together from two (:func:`fct.embedder.augment.recombined`).
    ``preview``: give h what the new embedder sees in ψ, where ψ is a picture (:mod:`fct.release.preview`).
    """

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid"}

    fitting: tuple[str, ...]
    pool: tuple[str, ...]
    views: int
    pool_views: int
    pool_recombined: int
    preview: bool
    batch: int


@dataclass(frozen=True)
class IndexSettings:
    """How to build an index.

    Attributes:
        kind: ``flat`` (exact), ``hnsw``, ``ivf``, or ``auto``: flat below ``flat_below`` rows, else HNSW.
        flat_below: rows under which ``auto`` is exact.
        hnsw_m: links of a node. ef_construction, ef_search: breadth of the search while building and while searching.
        ivf_lists: number of lists, at most N / 39 (faiss wants 39 training rows for each). ivf_probes: lists visited by a search.
        device: ``cpu``, ``gpu`` or ``auto`` (a GPU where faiss has one). It builds flat and IVF indexes; they are kept for the CPU.
        seed: of the clustering of IVF.
        exact_below: where a filter or deletions leave fewer rows, each of them is compared: a graph or lists would miss some. Of searching,
            not of building.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    kind: str
    flat_below: int
    hnsw_m: int
    ef_construction: int
    ef_search: int
    ivf_lists: int
    ivf_probes: int
    device: str
    seed: int
    exact_below: int = EXACT_BELOW

    def of_building(self) -> dict[str, object]:
        """What the index depends on."""
        return {name: value for name, value in asdict(self).items() if name != "exact_below"}

    def __post_init__(self) -> None:
        if self.kind not in INDEXES or self.device not in DEVICES:
            wanted = f"kind of {', '.join(INDEXES)} and device of {', '.join(DEVICES)}"
            raise BadInput("an index cannot be built this way", wanted=wanted, got=f"{self.kind}, {self.device}")
        positive = {name: value for name, value in asdict(self).items() if name.startswith(("hnsw", "ef", "ivf"))}
        wrong = {name: value for name, value in positive.items() if value < 1} | ({"hnsw_m": 1} if self.hnsw_m == 1 else {})
        if wrong:
            raise BadInput("an index cannot be built this way", wanted="positive whole numbers, hnsw_m at least 2", got=wrong)

    def kind_for(self, rows: int) -> str:
        """The kind of index for so many rows."""
        return ("flat" if rows < self.flat_below else "hnsw") if self.kind == "auto" else self.kind
