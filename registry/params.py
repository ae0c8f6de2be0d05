"""Reading params.yaml: every key there, none unknown, each value of its type and range."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from fct.errors import BadInput, FctError
from fct.gallery.settings import EXACT_BELOW
from fct.program import operators, sandbox
from registry.settings import Settings

# Keys that came later, and what a params.yaml without them means: nobody's project stops for a new setting.
ADDED: dict[str, Any] = {
    "data.roots": [],
    "index.exact_below": EXACT_BELOW,
    "fit.precision": "auto",
    "program": {"operators": [], "unapproved": "sandbox"},
    "program.unapproved": "sandbox",
    "registry": {"artifact_roots": []},
    "serve": {"hosts": []},
}


def _missing(kind: Any, value: Any, where: str) -> str | None:
    """The first key that the dataclass has and the mapping has not: params.yaml is complete, defaults hide typos."""
    if is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        for field in fields(kind):
            path = f"{where}{field.name}"
            if field.name not in value:
                return path
            found = _missing(hints[field.name], value[field.name], f"{path}.")
            if found:
                return found
    elif isinstance(value, dict) and getattr(kind, "__origin__", None) is dict:
        for key, item in value.items():
            found = _missing(kind.__args__[1], item, f"{where}{key}.")
            if found:
                return found
    return None


def read(path: str | Path = "params.yaml") -> Settings:
    """Read and validate ``path``.

    Raises:
        BadInput: missing file, not YAML, an unknown or missing key, a value of the wrong type or out of range; names the key.
    """
    import yaml
    from pydantic import TypeAdapter, ValidationError

    path = Path(path)
    try:
        raw = yaml.load(
            path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )  # libyaml, where it is there: a tenth of the time
    except FileNotFoundError as error:
        raise BadInput(
            "there is no params.yaml here",
            wanted=path.name,
            where=path.absolute().parent,
            todo="run the command in the project's folder or pass --params; fct init begins a project",
        ) from error
    except yaml.YAMLError as error:
        raise BadInput("params.yaml is not valid YAML", got=" ".join(str(error).split()), where=path) from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("params.yaml cannot be read", wanted="a text file in UTF-8", got=str(error), where=path) from error
    if not isinstance(raw, dict):
        raise BadInput("params.yaml is not a mapping", got=type(raw).__name__, where=path)
    _fill(raw)
    odd = _odd(raw, "")
    if odd is not None:
        raise BadInput(f"params.yaml, {odd[0]}: not a plain number or text", got=repr(odd[1]), where=path, todo="put quotes around text")
    lacking = _missing(Settings, raw, "")
    try:
        # as JSON, because strict validation then takes mappings for dataclasses and lists for tuples
        settings = TypeAdapter(Settings).validate_json(json.dumps(raw), strict=True) if lacking is None else None
        if settings is None:
            unknown = _unknown(Settings, raw, "")
            hint = f"; is {unknown} a typo?" if unknown else ""
            raise BadInput(f"params.yaml lacks the key {lacking}{hint}", where=path)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if isinstance(first.get("ctx", {}).get("error"), FctError):
            raise BadInput(f"params.yaml, {key}: {first['ctx']['error']}", where=path) from error
        kinds = {"unexpected_keyword_argument": "is not a known key", "extra_forbidden": "is not a known key"}
        problem = kinds.get(first["type"], first["msg"][0].lower() + first["msg"][1:])
        raise BadInput(f"params.yaml, {key}: {problem}", got=repr(first["input"]), where=path) from error
    operators.admit(settings.program.operators)
    sandbox.insist(settings.program.unapproved == "refuse")
    return settings


def _fill(raw: dict[str, Any]) -> None:
    """Give an older params.yaml the keys of :data:`ADDED` that it lacks."""
    for path, value in ADDED.items():
        *blocks, key = path.split(".")
        place: Any = raw
        for block in blocks:
            place = place.get(block) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.setdefault(key, deepcopy(value))


def _unknown(kind: Any, value: Any, where: str) -> str | None:
    if is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        for key, item in value.items():
            if key not in hints:
                return f"{where}{key}"
            found = _unknown(hints[key], item, f"{where}{key}.")
            if found:
                return found
    elif isinstance(value, dict) and getattr(kind, "__origin__", None) is dict:
        for key, item in value.items():
            found = _unknown(kind.__args__[1], item, f"{where}{key}.")
            if found:
                return found
    return None


def _odd(value: Any, where: str) -> tuple[str, Any] | None:
    """The first key whose value YAML read as something that is no setting: a date, bytes, NaN or infinity."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return next((found for key, item in pairs if (found := _odd(item, f"{where}.{key}" if where else str(key)))), None)
    plain = value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    return None if plain else (where, value)
