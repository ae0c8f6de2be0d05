"""Steps of a graph: values by their places, calls, and when a value is read for the last time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


class Refused(Exception):
    """What is wrong with a graph, and where; :func:`fct.program.programs.load` makes it a BadInput."""

    def __init__(self, what: str, got: object, todo: str | None = None):
        super().__init__(what, got)
        self.what, self.got, self.todo = what, str(got)[:120], todo


@dataclass(frozen=True)
class Ref:
    """A value by its place."""

    at: int


@dataclass(frozen=True)
class Step:
    """One call. ``outputs``: places of its results, one for each, or one list of places for a result that is a list."""

    call: Callable[..., Any]
    arguments: dict[str, Any]
    positional: tuple[Any, ...]
    outputs: tuple[int | tuple[int, ...] | None, ...]
    over: tuple[int, ...]  # places that nobody reads any more


def run(steps: tuple[Step, ...], values: list[Any]) -> None:
    def fill(argument: Any) -> Any:
        if type(argument) is Ref:
            return values[argument.at]
        return [fill(one) for one in argument] if type(argument) is list else argument

    for step in steps:
        out = step.call(*[fill(one) for one in step.positional], **{name: fill(one) for name, one in step.arguments.items()})
        for place, value in zip(step.outputs, out if len(step.outputs) > 1 else (out,), strict=True):
            if isinstance(place, tuple):
                for one, part in zip(place, value, strict=True):
                    values[one] = part
            elif place is not None:
                values[place] = value
        for place in step.over:
            values[place] = None


class Sub:
    """A graph within the graph: takes its operands, returns its results."""

    def __init__(self, steps: tuple[Step, ...], size: int, given: tuple[int, ...], results: tuple[int, ...]):
        self.steps, self.size, self.given, self.results = steps, size, given, results

    def __call__(self, operands: list[Any]) -> list[Any]:
        values: list[Any] = [None] * self.size
        for place, value in zip(self.given, operands, strict=True):
            values[place] = value
        run(self.steps, values)
        return [values[place] for place in self.results]


def places(arguments: Iterable[Any]) -> list[int]:
    found: list[int] = []
    for one in arguments:
        if isinstance(one, Ref):
            found.append(one.at)
        elif isinstance(one, list):
            found += places(one)
    return found


def freed(steps: list[Step], results: tuple[int, ...], keep: Iterable[int] = ()) -> tuple[Step, ...]:
    """The steps, each with the places that are read there for the last time."""
    late = {*results, *keep}
    found = []
    for step in reversed(steps):
        made = [place for out in step.outputs for place in (out if isinstance(out, tuple) else (out,)) if place is not None]
        used = {*places([*step.positional, *step.arguments.values()]), *made}
        found.append(Step(step.call, step.arguments, step.positional, step.outputs, tuple(used - late)))
        late |= used
    return tuple(reversed(found))
