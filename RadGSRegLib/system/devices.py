"""What a record calls the device that something was computed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def device_name(device: torch.device | str) -> str:
    """Name a device for a record: "cpu", or its number and its card's name, as in "cuda:0
    (NVIDIA H200)"."""
    import torch

    there = torch.device(device)
    if there.type != "cuda":
        return there.type
    number = torch.cuda.current_device() if there.index is None else there.index
    return f"cuda:{number} ({torch.cuda.get_device_name(number)})"
