"""The gates by name: the modules of :mod:`registry.verdicts.gates`, found and not imported, for reading params.yaml needs the names alone."""

from __future__ import annotations

from pathlib import Path
from pkgutil import iter_modules

GATES = tuple(sorted(found.name for found in iter_modules([str(Path(__file__).parent / "gates")])))
