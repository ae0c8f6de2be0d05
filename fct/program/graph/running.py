"""Running a graph that was checked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fct.errors import BadInput
from fct.program.graph.steps import Step, run


class Graph:
    """(N, C, S, S) uint8 → φ (N, D), ψ (N, P), on the device that it was read for."""

    def __init__(
        self,
        steps: tuple[Step, ...],
        start: list[Any],
        given: int,
        results: tuple[int, ...],
        hard: tuple[bool, ...],
        shape: tuple[int | None, ...],
    ):
        self._steps, self._start, self._given, self._results, self._shape = steps, start, given, results, shape
        self._hard = hard  # results that may be the image's memory, or a parameter's: they are copied
        self._changed = False
        self._kept = [value for value in start if isinstance(value, Tensor)]

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Run it.

        Raises:
            BadInput: images of another type or shape than it was exported for, or a step that cannot be done.
        """
        wrong = images.dtype != torch.uint8 or images.ndim != len(self._shape)
        if wrong or any(wanted is not None and size != wanted for size, wanted in zip(images.shape, self._shape, strict=True)):
            shape = ", ".join("N" if size is None else str(size) for size in self._shape)
            raise BadInput("the images do not fit the program", wanted=f"({shape}) uint8", got=f"{tuple(images.shape)} {images.dtype}")
        if self._changed:
            raise BadInput(
                "the program changed itself at an earlier call, and is not run again", todo="export it anew, without in-place operators"
            )
        kept = [value for value in (*self._kept, images) if not value.is_inference()]  # inference tensors count nothing
        before = [value._version for value in kept]
        values = list(self._start)
        values[self._given] = images
        try:
            run(self._steps, values)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise BadInput("the program cannot be run on these images", got=said, todo="export it anew") from error
        finally:
            # cannot happen after the checks; vectors would depend on what came before
            self._changed = [value._version for value in kept] != before
        if self._changed:
            raise BadInput("the program changed an image, a parameter or a constant", todo="export it anew, without in-place operators")
        phi, psi = (values[at].clone() if hard else values[at] for at, hard in zip(self._results, self._hard, strict=True))
        if (
            phi.ndim != 2
            or not phi.is_floating_point()
            or psi.ndim != 2
            or psi.dtype != torch.int8
            or not len(phi) == len(psi) == len(images)
        ):
            got = f"{tuple(phi.shape)} {phi.dtype} and {tuple(psi.shape)} {psi.dtype}"
            raise BadInput(
                "the program's outputs have the wrong form", wanted=f"φ ({len(images)}, D) float and ψ ({len(images)}, P) int8", got=got
            )
        return phi, psi
