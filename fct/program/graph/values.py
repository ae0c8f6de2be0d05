"""The values of one graph: which there are, and what an argument of a step stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from fct.program.graph.rules import DTYPES, FORMATS, LAST, LAYOUTS, MOST, NUMBER, OPEN_ENDED, STRINGS, TENSOR
from fct.program.graph.steps import Ref, Refused


class Values:
    """Names of values and their places. ``device``: the one that the program is loaded for."""

    def __init__(self, device: torch.device):
        self.device = device
        self.places: dict[str, int] = {}
        self.kinds: list[str] = []  # of each place: what is declared a number is never a tensor, and the other way round
        self.images: int | None = None  # the place of the images, in the graph itself
        self.frozen: set[int] = set()  # places whose memory may be the image's, a parameter's or a constant's

    def place(self, name: object, frozen: bool, kind: str = TENSOR) -> int:
        """A new value's place."""
        if not isinstance(name, str) or name in self.places:
            raise Refused("a value without a name, or two of one name", name)
        at = self.places[name] = len(self.places)
        self.kinds.append(kind)
        if frozen:
            self.frozen.add(at)
        return at

    def ref(self, value: object, kind: str = TENSOR) -> Ref:
        name = value.get("name", value.get("as_name")) if isinstance(value, Mapping) else value
        if not isinstance(name, str) or name not in self.places:
            raise Refused("a value that nothing made", name)
        if self.kinds[self.places[name]] != kind:
            raise Refused(f"a {self.kinds[self.places[name]]} in the place of a {kind}", name)
        return Ref(self.places[name])

    def tensor(self, one: Mapping[str, Any]) -> Any:
        if "as_tensor" in one:
            return self.ref(one["as_tensor"])
        return self.number(one)

    def number(self, one: Mapping[str, Any], *, open_ended: bool = False) -> Any:
        """A number, or the place of one. ``open_ended``: it may be "to the end"."""
        ((kind, value),) = one.items()
        if kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
            if not isinstance(value, Mapping) or len(value) != 1:
                raise Refused("a size of another form", value)
            ((kind, value),) = value.items()
            if kind == "as_name":
                return self.ref(value, NUMBER)
        if kind == "as_float" and isinstance(value, str) and value in ("Infinity", "-Infinity", "NaN"):
            return float(value.replace("Infinity", "inf"))
        if kind == "as_bool" and isinstance(value, bool):
            return value
        if (
            kind == "as_int"
            and isinstance(value, int)
            and not isinstance(value, bool)
            and (abs(value) <= MOST or (open_ended and value == LAST))
        ):
            return value
        if kind == "as_float" and isinstance(value, float | int) and not isinstance(value, bool):
            return float(value)
        raise Refused("an argument of another kind", kind)

    def value(self, kind: str, one: Mapping[str, Any], place: tuple[str, str], target: str) -> Any:
        """An argument as its schema wants it."""
        ((form, value),) = one.items()
        if kind.startswith("Optional["):
            if form == "as_none" or (form == "as_optional_tensor" and isinstance(value, Mapping) and "as_none" in value):
                return None
            kind = kind.removeprefix("Optional[").removesuffix("]")
        if form == "as_optional_tensor" and isinstance(value, Mapping):
            form, value = "as_tensor", value.get("as_tensor")
        if kind == "Tensor" and form == "as_tensor":
            return self.ref(value)
        if kind == "Tensor" and form in ("as_int", "as_float", "as_bool", "as_sym_int", "as_sym_float"):
            return self.number(one)  # torch takes a number for a tensor without dimensions
        if kind == "List[Tensor]" and form == "as_tensors" and isinstance(value, list):
            return [self.ref(part) for part in value]
        if kind == "List[Optional[Tensor]]" and isinstance(value, list):
            if form == "as_tensors":
                return [self.ref(part) for part in value]
            if form == "as_optional_tensors" and all(isinstance(part, Mapping) for part in value):
                return [None if "as_none" in part else self.ref(part.get("as_tensor")) for part in value]
        if kind in ("int", "SymInt", "float", "number", "bool", "SymBool"):
            found = self.number(one, open_ended=place == OPEN_ENDED)
            if kind in ("int", "SymInt") and not isinstance(found, Ref) and (isinstance(found, bool) or not isinstance(found, int)):
                raise Refused("an argument of another kind", f"{target} {place[1]}")
            if kind == "bool" and not isinstance(found, bool):
                raise Refused("an argument of another kind", f"{target} {place[1]}")
            return found
        if kind in ("List[int]", "List[SymInt]", "List[float]", "List[bool]") and isinstance(value, list):
            if form == "as_sym_ints":
                return [self.number({"as_sym_int": part}) for part in value]
            single = {"as_ints": "as_int", "as_floats": "as_float", "as_bools": "as_bool"}.get(form)
            if single is not None:
                return [self.number({single: part}) for part in value]
        if kind in ("List[int]", "List[SymInt]") and form == "as_int":
            return [self.number(one)]
        if kind == "ScalarType" and form == "as_scalar_type":
            return self.pick(DTYPES, value, "a type of numbers")
        if kind == "Layout" and form == "as_layout":
            return self.pick(LAYOUTS, value, "a layout")
        if kind == "MemoryFormat" and form == "as_memory_format":
            return self.pick(FORMATS, value, "a memory format")
        if kind == "Device" and form == "as_device" and isinstance(value, Mapping) and value.get("type") in ("cpu", "cuda"):
            return self.device
        if kind == "str" and form == "as_string" and isinstance(value, str):
            allowed = STRINGS.get(place)
            if isinstance(allowed, re.Pattern) and allowed.fullmatch(value) and len(value) < 200:
                return value
            if isinstance(allowed, frozenset) and value in allowed:
                return value
            raise Refused("a string that is not one of those that the operator takes", f"{target} {value!r}")
        raise Refused("an argument of another kind", f"{target} {place[1]}: {form}")

    @staticmethod
    def pick(known: Mapping[int, Any], value: object, what: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, int) or value not in known:
            raise Refused(f"{what} that programs may not use", value)
        return known[value]


def number_name(one: object) -> str | None:
    value = next(iter(one.values()), None) if isinstance(one, Mapping) else None
    return value.get("as_name") if isinstance(value, Mapping) else None


def tensor_name(one: object) -> str | None:
    value = one.get("as_tensor") if isinstance(one, Mapping) else None
    return value.get("name") if isinstance(value, Mapping) else None
