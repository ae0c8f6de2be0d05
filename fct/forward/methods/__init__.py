"""The methods of h, one file each: a module of this folder with a ``METHOD`` is one, and nothing else names it.

A module imports what computes (numpy, torch) inside its functions: lists of methods are read by every command.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from fct.forward.spec import Method


def _found() -> list[Method]:
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return sorted((module.METHOD for module in modules), key=lambda method: (method.rung, method.name))


KNOWN: dict[str, Method] = {method.name: method for method in _found()}  # simplest first
