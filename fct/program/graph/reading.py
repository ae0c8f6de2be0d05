"""From the records of an archive to a graph: its signature, and what stands in its first places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fct.program.graph.building import Builder
from fct.program.graph.rules import NUMBER
from fct.program.graph.running import Graph
from fct.program.graph.steps import Refused, freed
from fct.program.graph.tensors import json_of, tensors
from fct.program.graph.values import Values, tensor_name

MODEL = "models/model.json"
WEIGHTS, CONSTANTS = ("data/weights/", "model_weights_config.json"), ("data/constants/", "model_constants_config.json")
SCHEMA = 8  # major version of torch.export's archives


def read(records: Mapping[str, bytes], device: torch.device | None = None) -> Graph:
    """The graph of an archive's records (name without the archive's own folder → bytes).

    Raises:
        Refused: it is no graph that only computes.
    """
    try:
        return _read(records, torch.device("cpu") if device is None else device)
    except (TypeError, AttributeError, KeyError, ValueError, IndexError, OverflowError, RecursionError, RuntimeError) as error:
        raise Refused("JSON of another form than torch.export writes", f"{type(error).__name__}: {error}") from error


def _read(records: Mapping[str, bytes], device: torch.device) -> Graph:
    for name, wanted in (("byteorder", b"little"), ("archive_format", b"pt2"), ("archive_version", b"0")):
        if records.get(name, wanted) != wanted:
            raise Refused(f"another {name.replace('_', ' ')}", records[name])
    model = json_of(records, MODEL)
    version, module = model.get("schema_version"), model.get("graph_module")
    if not isinstance(version, Mapping) or version.get("major") != SCHEMA:
        raise Refused("another version of torch.export's archives", version)
    if not isinstance(module, Mapping) or not isinstance(module.get("graph"), Mapping) or not isinstance(module.get("signature"), Mapping):
        raise Refused("no graph", type(module).__name__)
    graph, signature = module["graph"], module["signature"]
    builder = Builder(device)
    values = builder.values
    start, given = _inputs(values, graph, signature, records, device)
    steps = builder.steps(graph.get("nodes"))
    results = _results(values, signature)
    whole = [*start, *[None] * (len(values.places) - len(start))]
    hard = tuple(at in values.frozen for at in results)
    return Graph(freed(steps, results, range(len(start))), whole, given, results, hard, _shape(graph, values, given))


def _inputs(
    values: Values, graph: Mapping[str, Any], signature: Mapping[str, Any], records: Mapping[str, bytes], device: torch.device
) -> tuple[list[Any], int]:
    """What stands in the first places (parameters, buffers, constants), and the place of the images."""
    specs, inputs = signature.get("input_specs"), graph.get("inputs")
    if not isinstance(specs, list) or not isinstance(inputs, list) or len(specs) != len(inputs):
        raise Refused("a signature that does not fit the graph", "input_specs")
    with torch.inference_mode(False):  # so that they count what is written to them
        stored = tensors(records, *WEIGHTS, device) | tensors(records, *CONSTANTS, device)
    start: list[Any] = []
    given: list[int] = []
    for spec, one in zip(specs, inputs, strict=True):
        kind, said = next(iter(spec.items())) if isinstance(spec, Mapping) and len(spec) == 1 else ("", None)
        if not isinstance(said, Mapping):
            raise Refused("an input of another form", kind)
        if kind == "constant_input":
            value = said.get("value")
            if not isinstance(value, Mapping) or len(value) != 1:
                raise Refused("a constant of another kind", kind)
            values.place(said.get("name"), False, NUMBER)
            start.append(None if "as_none" in value else values.number(value))
            continue
        name = tensor_name(one)
        if kind == "user_input":
            if tensor_name(said.get("arg")) != name:
                raise Refused("a signature that does not fit the graph", name)
            given.append(values.place(name, True))
            values.images = given[0]
            start.append(None)
            continue
        key = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}.get(kind)
        if key is None:
            raise Refused("an input of another kind", kind)
        if not isinstance(said.get("arg"), Mapping) or said["arg"].get("name") != name or said.get(key) not in stored:
            raise Refused("a parameter that is not in the archive", said.get(key))
        values.place(name, True)
        start.append(stored[said[key]])
    if len(given) != 1:
        raise Refused("not one input of images", len(given))
    return start, given[0]


def _results(values: Values, signature: Mapping[str, Any]) -> tuple[int, ...]:
    specs = signature.get("output_specs")
    found = []
    for spec in specs if isinstance(specs, list) else ():
        kind, said = next(iter(spec.items())) if isinstance(spec, Mapping) and len(spec) == 1 else ("", None)
        if kind != "user_output" or not isinstance(said, Mapping):
            raise Refused("an output that is no result: the program changes what it is given, or itself", kind)
        found.append(values.ref(tensor_name(said.get("arg"))).at)
    if len(found) != 2:
        raise Refused("not two results, φ and ψ", len(found))
    return tuple(found)


def _shape(graph: Mapping[str, Any], values: Values, given: int) -> tuple[int | None, ...]:
    """Sizes of the images; None where any is taken."""
    name = next(name for name, place in values.places.items() if place == given)
    meta = graph["tensor_values"].get(name) if isinstance(graph.get("tensor_values"), Mapping) else None
    sizes = meta.get("sizes") if isinstance(meta, Mapping) else None
    if not isinstance(sizes, list) or not isinstance(meta, Mapping) or meta.get("dtype") != 1 or len(sizes) != 4:
        raise Refused("an input that is no uint8 image", name)
    found = tuple(one.get("as_int") if isinstance(one, Mapping) and isinstance(one.get("as_int"), int) else None for one in sizes)
    if found[0] is not None:
        todo = 'export it anew with a free first dimension: dynamic_shapes=({0: torch.export.Dim("n", min=1, max=4096)},)'
        raise Refused("a batch size that its export has fixed", found[0], todo)
    return found
