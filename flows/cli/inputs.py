"""Columns that commands are given, read together, and what is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.common import say

if TYPE_CHECKING:
    from fct.arrays.reading import Kind

SHOWN = 10
SkipBad = Annotated[
    bool,
    typer.Option(
        "--skip-bad",
        help="Skip and list rows that cannot be used, instead of refusing the input: null, NaN, all zeros, or a norm more than a million "
        "times the median norm or less than a millionth of it.",
    ),
]


def kind_of(name: str) -> Kind:
    """What the column of an option holds, by its last word."""
    last = name.rpartition("_")[2]
    named: dict[str, Kind] = {"labels": "labels", "sources": "texts", "ids": "ids", "side": "side", "sigma": "numbers"}
    return named.get(last, "vectors")


def read(specs: dict[str, str | None], skip_bad: bool, *, between: str = "_") -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The columns of those that are given, whose rows correspond; and what was left out, which is said.

    Args:
        between: what stands in an option's name for an underline, in errors.
    """
    from fct.arrays.reading import Column, together

    asked = {name: Column(spec, name.replace("_", between), kind_of(name)) for name, spec in specs.items() if spec is not None}
    found = together(asked, skip_bad=skip_bad)
    listing("rows are left out", found.left)
    return found.arrays, found.left


def warn(sentences: list[str]) -> None:
    """What is worth knowing about the inputs, for people."""
    for sentence in sentences:
        say(f"fct: warning: {sentence}")


def listing(title: str, listed: list[tuple[str, str]]) -> None:
    """The first of what was left out, for people."""
    if listed:
        say(f"{len(listed)} {title}:")
        for one, reason in listed[:SHOWN]:
            say(f"  {one}: {reason}")
        if len(listed) > SHOWN:
            say(f"  … and {len(listed) - SHOWN} more (--json lists all)")
