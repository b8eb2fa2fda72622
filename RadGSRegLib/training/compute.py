"""Where and how the networks of a training compute: device, precision, compiled or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from ..errors import Cancelled, InputError

_LONGEST_REASON = 160


@dataclass(frozen=True)
class Compute:
    """``precision``: "float32", "bfloat16" (networks under autocast), or "auto": bfloat16 where
    ``device`` is a CUDA device that computes with it. ``compile``: networks through torch.compile.
    ``threads``: how many torch may use for a step.
    """

    device: torch.device | str = "cpu"
    precision: str = "auto"
    compile: bool = False
    threads: int = 1

    @property
    def reduced(self) -> bool:
        """Whether the networks run in bfloat16."""
        if self.precision == "auto":
            device = torch.device(self.device)
            # Before Ampere it is emulated, slowly.
            return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        return self.precision == "bfloat16"


class Compiled:
    """Networks whose forward passes run compiled while a step is made, until that fails."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self._networks = list(networks)
        self._fast: list[Callable[..., object]] = []

    def run(self, step: Callable[[], None], untouched: Callable[[], bool]) -> str:
        """Make a step; where compiling fails, make it again without, as from now on.

        What is compiled fails where it is first called or first differentiated, so that a step is
        the least that can be repeated: ``untouched`` says whether it has changed nothing yet.
        Returns why nothing is compiled any more, once, else an empty text. What fails without
        compiling too is raised.
        """
        if not self._networks:
            step()
            return ""
        try:
            with self._swapped():
                step()
        except (InputError, Cancelled):
            raise
        except Exception as error:
            if not untouched():
                raise
            self._networks = []
            step()
            return f"compiling the networks failed ({_reason(error)}); training goes on without"
        return ""

    @property
    def works(self) -> bool:
        """Whether steps are compiled."""
        return bool(self._networks)

    @contextmanager
    def _swapped(self) -> Iterator[None]:
        if not self._fast:
            # Batches have two sizes at most; for any size inductor fails on the groups in 3-D.
            self._fast = [
                torch.compile(network.forward, dynamic=False) for network in self._networks
            ]
        # Not `nn.Module.compile`, which cannot be undone: all else uses the networks as they are.
        for network, fast in zip(self._networks, self._fast, strict=True):
            network.forward = fast
        try:
            yield
        finally:
            for network in self._networks:
                del network.forward


def _reason(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    said = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 3] + "..."
