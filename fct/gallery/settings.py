"""Settings of the block ``index`` of params.yaml. Reading them needs neither torch nor numpy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

from fct.errors import BadInput

EXACT_BELOW = 50_000  # rows that may be answers
INDEXES = ("auto", "flat", "hnsw", "ivf")
DEVICES = ("auto", "cpu", "gpu")


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
