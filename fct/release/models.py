"""Pretrained models by a short address: ``torchvision:NAME``, ``timm:NAME`` or ``FILE.py:FUNCTION``, with weights from a file.

Nothing is downloaded. Weights are tensors: safetensors, or what torch reads with ``weights_only=True``; a pickle of anything else is refused. A FILE.py is
code of the user's own, and runs as any script of theirs does.
"""

from __future__ import annotations

import importlib
import importlib.util
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fct.errors import BadInput

KINDS = "torchvision:NAME, timm:NAME or FILE.py:FUNCTION"


def model(address: str, weights: str | Path | None = None) -> nn.Module:
    """The model of an address, in eval mode on the CPU; without ``weights`` as the address makes it (random, but for a FILE.py that loads its own).

    Raises:
        BadInput: an address of no such kind, a library that is not installed, a name that it does not know (the near ones are named), a FUNCTION
            that makes no module, or weights that are no tensors or do not fit.
    """
    kind, _, name = address.partition(":")
    if kind == "torchvision":
        made = _torchvision(name)
    elif kind == "timm":
        made = _timm(name)
    elif ".py:" in address:
        path, _, function = address.rpartition(":")
        made = _built(Path(path), function)
    else:
        raise BadInput("this names no model", wanted=KINDS, got=address)
    if weights is not None:
        _load(made, Path(weights))
    return made.eval()


def _torchvision(name: str) -> nn.Module:
    models: Any = _library("torchvision.models", "pip install torchvision")
    if name not in models.list_models(module=models):
        raise BadInput("torchvision has no such model", wanted=_near(name, models.list_models(module=models)), got=name)
    made: nn.Module = models.get_model(name, weights=None)
    return made


def _timm(name: str) -> nn.Module:
    timm: Any = _library("timm", "pip install timm")
    if name not in timm.list_models():
        raise BadInput("timm has no such model", wanted=_near(name, timm.list_models()), got=name)
    made: nn.Module = timm.create_model(name, pretrained=False)
    return made


def _built(path: Path, function: str) -> nn.Module:
    if not path.is_file():
        raise BadInput("there is no such file", got=path, todo=f"wanted {KINDS}")
    spec = importlib.util.spec_from_file_location(f"fct_model_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # of a .py file
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        made = getattr(module, function)()
    except AttributeError as error:
        raise BadInput("the file has no such function, or it failed", got=str(error), where=path) from error
    except Exception as error:  # whatever a user's own code raises
        raise BadInput("the function failed", got=f"{type(error).__name__}: {error}", where=f"{path}:{function}") from error
    if not isinstance(made, nn.Module):
        raise BadInput("the function makes no torch module", got=type(made).__name__, where=f"{path}:{function}")
    return made


def _library(name: str, todo: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BadInput(f"{name.partition('.')[0]} is not installed", todo=todo) from error


def _near(name: str, names: list[str]) -> str:
    return f"such as {', '.join(get_close_matches(name, names, n=5, cutoff=0.3) or names[:5])}"


def _load(made: nn.Module, path: Path) -> None:
    """Put the tensors of a file into a model; a checkpoint may hold them below ``state_dict`` or ``model``."""
    if not path.is_file():
        raise BadInput("there is no such file of weights", got=path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds
        raise BadInput(
            "the weights are not tensors alone",
            wanted="a .safetensors file, or what torch.load reads with weights_only=True",
            got=str(error).strip().splitlines()[0][:200],
            where=path,
            todo="save model.state_dict() alone",
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise BadInput(
            "the weights are no dictionary of tensors", got=type(found).__name__, where=path, todo="save model.state_dict() alone"
        )
    try:
        made.load_state_dict(found)
    except RuntimeError as error:
        lines = str(error).strip().splitlines()
        raise BadInput("the weights do not fit the model", got=" ".join(line.strip() for line in lines[1:3])[:300], where=path) from error
