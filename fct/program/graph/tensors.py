"""Parameters, buffers and constants of a program, from the raw records of its archive."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fct.program.graph.rules import DTYPES, MOST
from fct.program.graph.steps import Refused

MOST_DIMS = 16


def json_of(records: Mapping[str, bytes], name: str) -> dict[str, Any]:
    try:
        found = json.loads(records[name])
    except (KeyError, ValueError, RecursionError) as error:
        raise Refused("a record that is missing or is no JSON", name) from error
    if not isinstance(found, dict):
        raise Refused("a record of another form", name)
    return found


def tensors(records: Mapping[str, bytes], folder: str, config: str, device: torch.device) -> dict[str, Tensor]:
    """Name → tensor of the raw records that a configuration describes."""
    if folder + config not in records:
        return {}
    entries = json_of(records, folder + config).get("config")
    if not isinstance(entries, dict):
        raise Refused("a record of another form", config)
    for name, entry in entries.items():
        if isinstance(entry, dict) and entry.get("use_pickle"):
            raise Refused("a pickle", f"{folder}{config}: {name}")
    found, whole = {}, {}
    for name, entry in entries.items():
        path = entry.get("path_name") if isinstance(entry, dict) else None
        if not isinstance(path, str) or folder + path not in records:
            raise Refused("a parameter whose numbers are not in the archive", name)
        meta = entry.get("tensor_meta")
        if not isinstance(meta, dict) or meta.get("layout") != 7 or meta.get("dtype") not in DTYPES:
            raise Refused("a parameter of another kind", name)
        dtype = DTYPES[meta["dtype"]]
        sizes, strides = ([_whole(one, name) for one in _list(meta.get(key), name)] for key in ("sizes", "strides"))
        offset = _whole(meta.get("storage_offset"), name)
        if (path, dtype) not in whole:  # parameters that share memory share it again
            data, stored = bytearray(records[folder + path]), torch.uint8 if dtype == torch.bool else dtype
            fits = len(data) > 0 and len(data) % stored.itemsize == 0
            memory = torch.frombuffer(data, dtype=stored) if fits else torch.empty(0, dtype=stored)
            whole[path, dtype] = memory != 0 if dtype == torch.bool else memory  # a truth in another byte than 0 or 1 is none
        memory = whole[path, dtype]
        last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        if math.prod(sizes) > MOST or (0 not in sizes and last >= len(memory)):
            raise Refused("a parameter that is larger than its numbers", name)
        found[name] = torch.zeros(sizes, dtype=dtype) if 0 in sizes else memory.as_strided(sizes, strides, offset)
    return {name: value.to(device) for name, value in found.items()}


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > MOST_DIMS:
        raise Refused("a parameter of another form", name)
    return value


def _whole(value: object, name: str) -> int:
    number = value.get("as_int") if isinstance(value, dict) else None
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise Refused("a parameter of another form", name)
    return number
