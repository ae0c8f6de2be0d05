"""Checking the steps of a graph, one after the other, and making them callable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fct.program.graph.rules import (
    ARITHMETIC,
    AUTOCAST,
    BLOCKS,
    CAREFUL,
    CHOICES,
    DTYPES,
    FRESH,
    IGNORED,
    NUMBER,
    RETURNS,
    TENSOR,
    TENSORS,
    permitted,
)
from fct.program.graph.steps import Ref, Refused, Step, Sub, freed, places
from fct.program.graph.values import Values, number_name, tensor_name

MOST_STEPS = 100_000


class Builder:
    """Checks one graph and makes its steps. ``values``: what its steps can refer to by now."""

    def __init__(self, device: torch.device):
        self.values = Values(device)

    def steps(self, nodes: object) -> list[Step]:
        if not isinstance(nodes, list) or len(nodes) > MOST_STEPS:
            raise Refused("too many steps, or none", type(nodes).__name__)
        return [step for node in nodes if (step := self.step(node)) is not None]

    def step(self, node: object) -> Step | None:
        if not isinstance(node, Mapping) or not isinstance(node.get("target"), str):
            raise Refused("a step of another form", node)
        target, inputs, outputs = node["target"], node.get("inputs"), node.get("outputs")
        if not isinstance(inputs, list) or not isinstance(outputs, list):
            raise Refused("a step of another form", target)
        if target in IGNORED:
            return None
        if target in BLOCKS:
            return self.wrapped(target, inputs, outputs)
        if target in ARITHMETIC:
            values = [self.values.number(one) for one in self.named(inputs, unnamed=True).values()]
            return Step(ARITHMETIC[target], {}, tuple(values), self.outputs(outputs, [NUMBER], frozen=False), ())
        return self.called(permitted(target), target, inputs, outputs)

    def named(self, inputs: list[Any], unnamed: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for at, one in enumerate(inputs):
            name = one.get("name") if isinstance(one, Mapping) else None
            if not isinstance(name, str) or not isinstance(one.get("arg"), Mapping) or len(one["arg"]) != 1:
                raise Refused("an argument of another form", one)
            name = f"{at}" if unnamed else name
            if name in found:
                raise Refused("an argument given twice", name)
            found[name] = one["arg"]
        return found

    def called(self, overload: Any, target: str, inputs: list[Any], outputs: list[Any]) -> Step:
        schema, given = overload._schema, self.named(inputs)
        base = schema.name.partition("::")[2]
        plain = base.rstrip("_")  # in place or not
        arguments: dict[str, Any] = {}
        for argument in schema.arguments:
            if argument.name not in given:
                if not argument.has_default_value():
                    raise Refused("an operator without an argument that it needs", f"{target} {argument.name}")
                continue
            place = plain, argument.name
            value = self.values.value(str(argument.real_type), given.pop(argument.name), place, target)
            if argument.name in ("train", "training") and value is not False:
                raise Refused("an operator that trains", target)
            if (place in CHOICES) and (isinstance(value, bool) or value not in CHOICES[place]):
                raise Refused("a number that the operator does not know", f"{target} {argument.name}")
            if argument.name == "use_input_stats" and (value is not False and (arguments["running_mean"] or arguments["running_var"])):
                raise Refused("an operator that trains", target)
            if argument.name == "dropout_p" and value != 0:
                raise Refused("an operator that draws at random", target)
            if (
                argument.alias_info is not None
                and argument.alias_info.is_write
                and (not isinstance(value, Ref) or value.at in self.values.frozen)
            ):
                raise Refused("an operator that changes an image, a parameter or a constant", target)
            arguments[argument.name] = value
        if given:
            raise Refused("an argument that the operator does not have", f"{target} {next(iter(given))}")
        if base == "sym_size":
            if arguments["self"] != Ref(-1 if self.values.images is None else self.values.images):  # another may hang on what they show
                raise Refused("a size of something else than its images", target)
            return Step(_size, {}, (arguments["self"], arguments["dim"]), self.outputs(outputs, [NUMBER], frozen=False), ())
        fresh = FRESH.fullmatch(base) is not None and not any(argument.alias_info is not None for argument in schema.arguments)
        frozen = not fresh and any(at in self.values.frozen for at in places(arguments.values()))
        returns = [RETURNS.get(str(result.real_type), NUMBER) for result in schema.returns]
        call = CAREFUL[plain](overload) if plain in CAREFUL else overload
        return Step(call, arguments, (), self.outputs(outputs, returns, frozen=frozen), ())

    def outputs(self, outputs: list[Any], returns: list[str], *, frozen: bool) -> tuple[int | tuple[int, ...] | None, ...]:
        """Places of what a call returns, which is of the kinds ``returns``."""
        if len(outputs) != len(returns):
            raise Refused("an operator with another number of results", len(outputs))
        found: list[int | tuple[int, ...] | None] = []
        for one, wanted in zip(outputs, returns, strict=True):
            form, value = next(iter(one.items())) if isinstance(one, Mapping) and len(one) == 1 else ("", None)
            if wanted == TENSOR and form == "as_tensor" and isinstance(value, Mapping):
                found.append(self.values.place(value.get("name"), frozen))
            elif wanted == TENSORS and form == "as_tensors" and isinstance(value, list):
                found.append(tuple(self.values.place(part.get("name") if isinstance(part, Mapping) else None, frozen) for part in value))
            elif wanted == NUMBER and form in ("as_sym_int", "as_sym_float", "as_sym_bool") and isinstance(value, Mapping):
                found.append(self.values.place(value.get("as_name"), False, NUMBER))
            elif form == "as_none":
                found.append(None)
            else:
                raise Refused("a result of another kind", form)
        return tuple(found)

    def wrapped(self, target: str, inputs: list[Any], outputs: list[Any]) -> Step:
        """A block with gradients on or off, which is no matter here, or with another precision."""
        given = list(self.named(inputs, unnamed=True).values())
        at = next((place for place, one in enumerate(given) if "as_graph" in one), None)
        if at is None or not isinstance(given[at]["as_graph"], Mapping):
            raise Refused("a block without a graph", target)
        operands = [self.values.tensor(one) for one in given[at + 1 :]]
        inner = Builder(self.values.device)
        graph = given[at]["as_graph"].get("graph")
        if not isinstance(graph, Mapping) or len(operands) != len(graph.get("inputs") or ()):
            raise Refused("a block with another number of operands", target)
        given_at = []
        for one, operand in zip(graph["inputs"], operands, strict=True):
            outside = operand.at if isinstance(operand, Ref) else None
            if outside is not None and self.values.kinds[outside] == TENSOR:
                given_at.append(inner.values.place(tensor_name(one), outside in self.values.frozen))
            else:
                given_at.append(inner.values.place(number_name(one), False, NUMBER))
        steps = inner.steps(graph.get("nodes"))
        results = tuple(inner.values.ref(tensor_name(one)).at for one in graph.get("outputs") or ())
        sub = Sub(freed(steps, results), len(inner.values.places), tuple(given_at), results)
        call: Callable[..., Any] = sub
        if target == AUTOCAST:
            call = self.autocast(given[:at], sub)
        hard = any(result in inner.values.frozen for result in results)
        if len(outputs) == 1 and isinstance(outputs[0], Mapping) and "as_tensors" in outputs[0]:
            return Step(call, {}, (operands,), self.outputs(outputs, [TENSORS], frozen=hard), ())
        call = _alone(call) if len(outputs) == 1 else call
        return Step(call, {}, (operands,), self.outputs(outputs, [TENSOR] * len(results), frozen=hard), ())

    def autocast(self, given: list[Any], sub: Sub) -> Callable[..., Any]:
        values = [next(iter(one.items())) for one in given]
        kinds = [kind for kind, _ in values]
        if len(values) != 4 or kinds[0] != "as_string" or values[0][1] not in ("cpu", "cuda"):
            raise Refused("a change of precision of another form", kinds)
        dtype = None if kinds[1] == "as_none" else self.values.pick(DTYPES, values[1][1], "a type of numbers")
        enabled = values[2][1]
        if not isinstance(enabled, bool) or dtype not in (None, torch.bfloat16, torch.float16):
            raise Refused("a change of precision of another form", dtype)
        device = self.values.device.type

        def call(operands: list[Any]) -> list[Any]:
            with torch.autocast(device, dtype=dtype, enabled=enabled):
                return sub(operands)

        return call


def _size(value: Tensor, dim: int) -> int:
    return value.shape[dim]


def _alone(call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda operands: call(operands)[0]
