"""The process that programs run in. It is started by :mod:`fct.program.sandbox` with the numbers of sockets, one for each of its threads.

python -m fct.program.sandbox.child FD …
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from typing import Any

import numpy as np
import torch

from fct.program import graph, operators
from fct.program.sandbox import seal, wire

LOOK_S = 0.5
Answer = tuple[dict[str, Any], list[bytes]]  # a header, and φ and ψ
_opened: list[str] = []


def warm() -> None:
    """Have torch open and set up whatever it does at its first operators, while it can. One thread: others would stay outside."""
    torch.set_num_threads(1)
    operators.listed()
    with torch.inference_mode():
        images = torch.zeros(2, 3, 16, 16)
        maps = torch.nn.functional.conv2d(images, torch.zeros(4, 3, 3, 3), padding=1)
        torch.nn.functional.interpolate(maps, size=(8, 8), mode="bicubic")
        rows = maps.flatten(2).transpose(1, 2) @ torch.zeros(4, 8)
        torch.nn.functional.scaled_dot_product_attention(rows, rows, rows).softmax(-1)
        torch.linalg.vector_norm(rows)


def begin(talking: list[socket.socket]) -> dict[str, bool]:
    """Seal this process at the first word, which says that the other side lives."""
    said = wire.receive_header(talking[0])
    assert said["do"] == "seal"
    sys.addaudithook(lambda event, given: _opened.append(str(given[0])) if event == "open" else None)
    found = seal.seal(gpu=said["gpu"])
    _opened.clear()
    return found


class Programs:
    """What was loaded, by number."""

    def __init__(self) -> None:
        self._loaded: list[Any] = []
        self._adding = threading.Lock()

    def load(self, said: dict[str, Any], blocks: list[bytes]) -> Answer:
        with self._adding:  # what is admitted is one list a process
            operators.admit(said["operators"])
            device = torch.device(said["device"])
            try:
                program = graph.read(dict(zip(said["names"], blocks, strict=True)), device)
            except graph.Refused as error:
                return {"refused": error.what, "got": str(error.got), "todo": error.todo}, []
            self._loaded.append((program, device))
            return {"program": len(self._loaded) - 1}, []

    def run(self, said: dict[str, Any], pixels: bytes) -> Answer:
        program, device = self._loaded[said["program"]]
        if torch.get_num_threads() != said["threads"]:
            torch.set_num_threads(said["threads"])
        images = torch.from_numpy(np.frombuffer(pixels, dtype=np.uint8).reshape(said["shape"]).copy())
        try:
            with torch.inference_mode():
                phi, psi = program(images.to(device))
                phi, psi = phi.float().cpu().contiguous(), psi.cpu().contiguous()
        except Exception as error:
            return {"failed": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}, []
        return {"phi": phi.shape[1], "psi": psi.shape[1]}, [phi.numpy().tobytes(), psi.numpy().tobytes()]


def serve(talking: socket.socket, programs: Programs) -> None:
    """Answer until the other side closes."""
    try:
        while True:
            said = wire.receive_header(talking)
            blocks = [wire.receive(talking, size) for size in said["sizes"]]
            if said["do"] == "load":
                answer, out = programs.load(said, blocks)
            else:
                answer, out = programs.run(said, blocks[0])
            wire.send(talking, answer | {"opened": _opened[:100]}, out)
    finally:  # closed or nonsense, or a fault of ours: a thread that ends alone would leave the other side waiting
        os._exit(0)


def main(numbers: list[str]) -> None:
    """Seal this process, then answer until the process that started it is gone."""
    parent = os.getppid()
    talking = [socket.socket(fileno=int(number)) for number in numbers]
    warm()
    wire.send(talking[0], begin(talking), [])
    programs = Programs()
    for one in talking:
        threading.Thread(target=serve, args=(one, programs), daemon=True).start()
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
