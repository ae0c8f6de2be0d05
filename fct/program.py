"""Exported programs: one ``.pt2`` that returns (φ, ψ), written by torch.export and loaded by one loader that refuses pickle.

``torch.export.load`` by itself unpickles and can load compiled payloads, so :func:`load` looks at every record of the archive
first. Legend: N images, C channels, S side in pixels, D dimensions of φ, P bytes of ψ.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from fct.errors import BadInput
from fct.files import whole_file

LARGEST_BATCH = 4096
_JSON = re.compile(r"(models/[^/]+|data/(weights|constants)/[^/]+_config)\.json")
_RAW = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_PLAIN = {"archive_format", "archive_version", "byteorder", "version", ".data/version", ".data/serialization_id"}
_SAMPLES = re.compile(r"data/sample_inputs/[^/]+\.pt")
_PICKLE_OPCODE = b"\x80"
# what the graph may call: operators of a library, integer arithmetic on sizes
_OPERATOR = re.compile(r"torch\.ops\.(?!load|_)\w+\.(?!__)\w+(\.\w+)?|torch\.ops\.aten\.__(and|or|xor|lshift|rshift)__\.\w+")
_ARITHMETIC = re.compile(r"torch\._?sym_\w+|math\.[a-z]\w*|_operator\.(?!methodcaller|attrgetter|itemgetter|call)[a-z]\w*")
_SPEC = re.compile(r'null|"builtins\.(tuple|list|dict)"')
_SHAPE = {"size", "stride", "storage_offset", "dim", "numel", "shape", "ndim"}
_EXPRESSION = (
    ast.Expression,
    ast.Constant,
    ast.Name,
    ast.Load,
    ast.Call,
    ast.keyword,
    ast.Attribute,
    ast.Subscript,
    ast.Tuple,
    ast.Compare,
    ast.BoolOp,
    ast.BinOp,
    ast.UnaryOp,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
)

Embed = Callable[[Tensor], tuple[Tensor, Tensor]]


def export(program: nn.Module, channels: int, size: int, path: str | Path) -> None:
    """Export ``program`` ((N, C, S, S) uint8 → φ (N, D) float, ψ (N, P) int8) with a dynamic N of 1 … 4096.

    Raises:
        BadInput: the program does not return that, or torch cannot export it.
    """
    example = torch.zeros(2, channels, size, size, dtype=torch.uint8)
    program = program.eval()
    with torch.inference_mode():
        out = program(example)
    if not (isinstance(out, tuple) and len(out) == 2):
        raise BadInput("the program does not return (φ, ψ)", wanted="a tuple of two tensors", got=type(out).__name__)
    phi, psi = out
    if phi.ndim != 2 or not phi.is_floating_point() or psi.ndim != 2 or psi.dtype != torch.int8 or len(psi) != 2 or len(phi) != 2:
        raise BadInput(
            "the program's outputs have the wrong form",
            wanted="φ (N, D) float and ψ (N, P) int8",
            got=f"{tuple(phi.shape)} {phi.dtype} and {tuple(psi.shape)} {psi.dtype}",
        )
    try:
        exported = torch.export.export(program, (example,), dynamic_shapes=({0: torch.export.Dim("n", min=1, max=LARGEST_BATCH)},))
    except Exception as error:  # torch.export raises many kinds; the user needs the first line of the reason
        raise BadInput(
            "torch.export cannot export the program",
            got=str(error).strip().splitlines()[0],
            todo="see torch.export's documentation on control flow and dynamic shapes",
        ) from error
    for graph in exported.graph_module.modules():
        for node in graph.graph.nodes if isinstance(graph, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # paths and line numbers of this machine; they would make the fingerprint depend on both
    with whole_file(path) as part:
        buffer = io.BytesIO()
        torch.export.save(exported, buffer)
        part.write_bytes(buffer.getvalue())


def _records(path: Path) -> dict[str, bytes]:
    """Name without the archive's own first folder → bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            # zip readers disagree on which of two equal names counts, so that one would inspect what the other does not load
            if len(set(names)) < len(names):
                raise BadInput("the program holds a record twice", got=next(name for name in names if names.count(name) > 1), where=path)
            if len({name.partition("/")[0] for name in names}) > 1 or not all("/" in name for name in names):
                raise BadInput(
                    "the program's records are not in one folder", got=sorted({name.partition("/")[0] for name in names})[:4], where=path
                )
            return {name.split("/", 1)[1]: archive.read(name) for name in names if not name.endswith("/")}
    except FileNotFoundError as error:
        raise BadInput("the program is missing", wanted=path.name, where=path.parent) from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise BadInput("the program is not a readable .pt2 archive", got=str(error), where=path) from error


def _refuse(path: Path, record: str, reason: str) -> BadInput:
    return BadInput(
        f"the program holds {reason}",
        got=record,
        where=path,
        todo="export it anew with torch.export; pickles and compiled payloads are never loaded",
    )


def _plain(expression: Any) -> bool:
    """Whether an expression over sizes is arithmetic only: torch evaluates these strings as Python (sympy.sympify, guards)."""
    try:
        nodes = list(ast.walk(ast.parse(expression, mode="eval")))
    except (SyntaxError, ValueError, TypeError, RecursionError):
        return False
    for node in nodes:
        if not isinstance(node, _EXPRESSION):
            return False
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not re.fullmatch(r"\w*", node.value):
            return False
        if (isinstance(node, ast.Name) and node.id.startswith("__")) or (isinstance(node, ast.Attribute) and node.attr not in _SHAPE):
            return False
        if isinstance(node, ast.Call) and not (
            isinstance(node.func, ast.Attribute) or (isinstance(node.func, ast.Name) and node.func.id[:1].isupper())
        ):
            return False
    return True


def _code(value: Any) -> str | None:
    """The first thing in a graph's JSON that torch would run and that is neither an operator nor arithmetic over sizes, or None."""
    if isinstance(value, list):
        return next((found for item in value if (found := _code(item))), None)
    if not isinstance(value, dict):
        return None
    target = value.get("target") if "inputs" in value and "outputs" in value else None
    if target is not None and not (isinstance(target, str) and (_OPERATOR.fullmatch(target) or _ARITHMETIC.fullmatch(target))):
        return str(target)
    if "expr_str" in value and not _plain(value["expr_str"]):
        return str(value["expr_str"])
    for guard in value.get("guards_code") or []:
        if not _plain(guard):
            return str(guard)
    for key in ("in_spec", "out_spec"):
        for kind in re.findall(r'"type"\s*:\s*("[^"]*"|[^,}\s]+)', str(value.get(key) or "")):
            if not _SPEC.fullmatch(kind):
                return kind
    for symbol in value.get("range_constraints") or {}:
        if not re.fullmatch(r"\w+", symbol):
            return str(symbol)
    return next((found for item in value.values() if (found := _code(item))), None)


def inspect(path: str | Path) -> dict[str, bytes]:
    """Records of the archive, if every one is JSON, a raw tensor, or accepted by weights-only loading.

    Raises:
        BadInput: missing or damaged archive, records outside of its one folder or twice; a pickle, a compiled payload, an unknown
            record, or code in the graph, by name.
    """
    path = Path(path)
    records = _records(path)
    if "models/model.json" not in records:
        raise BadInput("the program is not a torch.export archive", wanted="a record models/model.json", where=path)
    for name, data in records.items():
        if name in _PLAIN:
            continue
        if _JSON.fullmatch(name):
            try:
                config = json.loads(data)
            except ValueError as error:
                raise _refuse(path, name, "a record that is not JSON") from error
            if name.startswith("models/"):
                if (found := _code(config)) is not None:
                    raise _refuse(path, f"{name}: {found[:80]}", "code in place of operators and sizes")
                continue
            entries = config.get("config") if isinstance(config, dict) else None
            if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
                raise _refuse(path, name, "a configuration of another form")
            if any(entry.get("use_pickle") for entry in entries.values()):
                raise _refuse(path, name, "a pickle")
        elif _SAMPLES.fullmatch(name):
            try:
                torch.load(io.BytesIO(data), weights_only=True)
            except Exception as error:
                raise _refuse(path, name, "a pickle that weights-only loading refuses") from error
        elif not _RAW.fullmatch(name):
            raise _refuse(path, name, "a record of an unknown kind (a pickle or a compiled payload)")
        elif (data[:1] == _PICKLE_OPCODE and data[-1:] == b".") or data[:4] == b"PK\x03\x04":
            raise _refuse(path, name, "a pickle in place of a raw tensor")
    return records


def fingerprint(path: str | Path, preprocessing: dict[str, object]) -> str:
    """SHA-256 over the program's records (not the zip around them) and the preprocessing: who made a vector."""
    digest = hashlib.sha256(json.dumps(preprocessing, sort_keys=True).encode())
    for name, data in sorted(_records(Path(path)).items()):
        if name != ".data/serialization_id":
            digest.update(name.encode() + hashlib.sha256(data).digest())
    return digest.hexdigest()


def load(path: str | Path, device: torch.device | None = None) -> Embed:
    """Load a program after :func:`inspect` found nothing to refuse.

    Returns:
        a function (N, C, S, S) uint8 → φ (N, D) float32, ψ (N, P) int8; N at most 4096.
    """
    inspect(path)
    try:
        module = torch.export.load(Path(path)).module()
    except Exception as error:  # torch raises almost anything on records that do not fit each other
        raise BadInput(
            "torch cannot load the program",
            got=(str(error).strip() or type(error).__name__).splitlines()[0][:200],
            where=path,
            todo="export it anew",
        ) from error
    return module.to(device) if device is not None else module


def traced(program: Embed, images: np.ndarray) -> Embed:
    """The same function without Python between its operators: some three times quicker for one image, and other threads go on meanwhile.

    TorchScript records it on the first image. It is used only where it gives the same bits for each of the (N, C, S, S) uint8 images, alone
    and all together; else, and where it cannot be recorded, the program itself comes back.
    """
    block = torch.from_numpy(np.ascontiguousarray(images))
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its age, and of sizes that are checked in Python: the comparison below decides
            found = torch.jit.trace(program, block[:1], check_trace=False)
            for part in (*block.split(1), block):
                if not all(torch.equal(one, other) for one, other in zip(program(part), found(part), strict=True)):
                    return program
    except Exception:  # torch raises many kinds, and the program itself is as good
        return program
    return found  # type: ignore[no-any-return]


def embed(
    program: Embed, images: np.ndarray, *, device: torch.device, batch: int = 512, title: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Run a program over (N, C, S, S) uint8 images.

    Returns:
        φ (N, D) float32 and ψ (N, P) int8.

    Raises:
        BadInput: no images.
    """
    if len(images) == 0:
        raise BadInput("there are no images to embed", got=0, where=title)
    phi, psi = [], []
    with torch.inference_mode(), tqdm(total=len(images), desc=title, unit="image", disable=title is None, mininterval=1) as bar:
        for start in range(0, len(images), batch):
            block = torch.from_numpy(np.ascontiguousarray(images[start : start + batch])).to(device)
            first, second = program(block)
            phi.append(first.float().cpu().numpy())
            psi.append(second.cpu().numpy())
            bar.update(len(block))
    return np.concatenate(phi), np.concatenate(psi)
