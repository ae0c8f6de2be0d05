"""Where torch computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fct.errors import BadInput

if TYPE_CHECKING:
    import torch


def pick(device: str = "auto") -> torch.device:
    """``auto`` is the first GPU when there is one, else the CPU; anything else is a torch device string.

    Raises:
        BadInput: the device is unknown or not there.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise BadInput("unknown device", wanted="auto, cpu, cuda or cuda:N", got=device) from error
    if chosen.type not in ("cpu", "cuda"):  # torch knows many names of devices that are not there
        raise BadInput("unknown device", wanted="auto, cpu, cuda or cuda:N", got=device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise BadInput("no GPU is visible to torch", wanted=device, got="cpu only", todo="set device to auto or cpu")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise BadInput("there is no such GPU", wanted=device, got=f"{torch.cuda.device_count()} visible", todo="set device to auto or cuda")
    return chosen


def use_threads(threads: int) -> None:
    """Set torch's CPU threads; too many (two processes with two each on two cores) make a step 15 times slower."""
    import torch

    torch.set_num_threads(threads)
