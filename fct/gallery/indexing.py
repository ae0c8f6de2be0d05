"""Building an index for a space and writing it to a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fct.arrays.digests import of_file, of_json
from fct.arrays.files import whole_folder, write_json
from fct.arrays.vectors import check
from fct.errors import BadInput
from fct.gallery.index import Searcher, faiss_here, prepared
from fct.gallery.settings import IndexSettings


def _gpus(device: str) -> int:
    faiss = faiss_here()

    found = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    if device == "gpu" and not found:
        raise BadInput("an index was to be built on a GPU", wanted="faiss with a GPU", got="none", todo="set index.device to auto or cpu")
    return 0 if device == "cpu" else found


def build(vectors: np.ndarray, metric: str, settings: IndexSettings) -> Any:
    """A faiss index of ``vectors`` (N, D), row i of the index being row i of the array.

    Args:
        metric: ``cosine`` (rows are scaled to norm 1, inner product) or ``l2``.

    Raises:
        BadInput: NaN, zero rows, no rows, an unknown metric, or a GPU was demanded where there is none.
    """
    faiss = faiss_here()

    rows = prepared(check("vectors", vectors), metric)
    n, dim = rows.shape
    kind, measure = settings.kind_for(n), faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    gpus = _gpus(settings.device)
    moved = None
    if metric == "l2":
        moved = faiss.CenteringTransform(dim)
        moved.train(rows.astype(np.float64).mean(axis=0, keepdims=True).astype(np.float32))
        rows = moved.apply(rows)
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, settings.hnsw_m, measure)
        index.hnsw.efConstruction, index.hnsw.efSearch = settings.ef_construction, settings.ef_search
        index.add(rows)
        return _after(moved, index)
    if kind == "ivf":
        index = faiss.index_factory(dim, f"IVF{max(1, min(settings.ivf_lists, n // 39))},Flat", measure)
        index.cp.seed = settings.seed
    else:
        index = faiss.IndexFlat(dim, measure)
    if gpus:
        resources = faiss.StandardGpuResources()
        index = faiss.index_cpu_to_gpu(resources, 0, index)
    index.train(rows)
    index.add(rows)
    index = faiss.index_gpu_to_cpu(index) if gpus else index
    if kind == "ivf":
        index.nprobe = settings.ivf_probes
    return _after(moved, index)


def _after(moved: Any, index: Any) -> Any:
    """The index behind a transformation that is there."""
    if moved is None:
        return index
    whole = faiss_here().IndexPreTransform(moved, index)
    moved.this.disown()  # it and the index are the whole's now
    index.this.disown()
    whole.own_fields = True
    return whole


def save(
    index: Any, ids: Sequence[str] | np.ndarray, folder: str | Path, content: str, settings: IndexSettings, metric: str
) -> dict[str, Any]:
    """Write ``index.faiss``, ``ids.npy`` and ``index.json`` to ``folder``, all or nothing, and return what index.json holds.

    Args:
        content: content digest of the space. settings, metric: what the index was built with.

    Returns:
        content, rows, dim, metric, kind, build (settings), faiss (version), identity (digest of all these), files (name → SHA-256).
    """
    faiss = faiss_here()

    names = Searcher(index, ids, metric).ids
    about = {"content": content, "rows": len(names), "dim": index.d, "metric": metric, "kind": settings.kind_for(len(names))}
    about |= {"build": settings.of_building(), "faiss": faiss.__version__} | ({"centred": True} if metric == "l2" else {})
    with whole_folder(folder) as part:
        faiss.write_index(index, str(part / "index.faiss"))
        with open(part / "ids.npy", "wb") as file:
            np.save(file, np.char.encode(names, "utf-8"), allow_pickle=False)
        files = {name: of_file(part / name) for name in ("ids.npy", "index.faiss")}
        about |= {"identity": of_json(about), "files": files}
        write_json(part / "index.json", about)
    return about
