"""Make the list of operators that a release's program may call, ``fct/program/operators.txt``: ``python -m benchmarks.operators``.

It is what these models call once torch.export has recorded them: the embedders of this project, torchvision's ResNet-18 and -50,
EfficientNet-B0, MobileNetV3, ConvNeXt-T, RegNet, DenseNet, ViT-B/16 and Swin-T, and the towers written below as DINOv2, CLIP and SigLIP
have them; then a few idioms of preprocessing and side-information. What breaks a rule of :func:`fct.program.graph.objection` stops the command.
Each model is also read back and run, and its vectors are compared with the module's own.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import zipfile

import torch
from torch import nn

from benchmarks.operator_models import Program, models
from fct import side
from fct.errors import BadInput
from fct.program import graph, operators

OUT = operators.FILE
HEAD = "# Operators that a release's program may call; made by `python -m benchmarks.operators`, which says from what.\n"


def whole(net: nn.Module) -> nn.Module:
    """A module that returns (φ, ψ)."""
    return net if isinstance(net, side.Program) else Program(net).eval()


def exported(net: nn.Module, pixels: int) -> dict[str, bytes]:
    """Records of the archive that torch.export makes."""
    program, example = whole(net), torch.zeros(2, 3, pixels, pixels, dtype=torch.uint8)
    dynamic = ({0: torch.export.Dim("n", min=1, max=4096)},)
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(program, (example,), dynamic_shapes=dynamic), buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}


def called(records: dict[str, bytes]) -> set[str]:
    """Names of the operators that an archive's graphs call."""
    found: set[str] = set()

    def look(value: object) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("target"), str) and "inputs" in value:
                found.add(value["target"])
            for one in value.values():
                look(one)
        elif isinstance(value, list):
            for one in value:
                look(one)

    look(json.loads(records[graph.MODEL])["graph_module"])
    return {name for name in found if name.startswith("torch.ops.aten.")} - graph.IGNORED


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0]).parse_args()
    torch.manual_seed(0)
    found: set[str] = set()
    for name, net, pixels in models():
        net = net.eval()
        records = exported(net, pixels)
        names = called(records)
        for one in sorted(names):
            if reason := graph.objection(graph.overload_of(one)):
                raise BadInput("a model calls an operator that may not be on the list", got=f"{one}: {reason}", where=name)
        operators.admit(names)
        images = torch.randint(0, 256, (3, 3, pixels, pixels), dtype=torch.uint8)
        with torch.inference_mode():
            phi, psi = graph.read(records)(images)
            wanted, codes = whole(net)(images)
        if not torch.allclose(phi, wanted, atol=1e-5) or not torch.equal(psi, codes):
            raise BadInput("a program read back gives other vectors", got=float((phi - wanted).abs().max()), where=name)
        print(f"{name:<20} {len(names):>3} operators, {len(names - found)} new", file=sys.stderr, flush=True)
        found |= names
    OUT.write_text(HEAD + "\n".join(sorted(found)) + "\n", encoding="ascii")
    print(f"{len(found)} operators in {OUT.name}")


if __name__ == "__main__":
    main()
