"""The state of a fit of Gaussians: all that a step depends on, so that it can be taken up again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..gaussians import GaussianCloud
from ..reconstruction import FreeCloud

_NAMES = ("means", "scales", "quaternions", "densities")


@dataclass
class FitState:
    """Gaussians with Adam's memory, and how far their fit has come.

    ``gathered`` (N,): the lengths of the means' gradients since Gaussians were last split;
    ``order``: the views that come next; ``looks``: how often the cloud was judged; ``best``: what
    the judge said of the best cloud, that cloud, and its step.
    """

    free: FreeCloud
    gathered: Tensor
    generator: np.random.Generator
    order: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    steps: int = 0
    looks: int = 0
    best: tuple[float, GaussianCloud, int] | None = None

    def cloud(self) -> GaussianCloud:
        """The best cloud so far, or the last where nothing judges."""
        return self.free.cloud().detach() if self.best is None else self.best[1]

    def kept(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return it as tensors and JSON values."""
        tensors = {f"free.{name}": tensor for name, tensor in self.free.state().items()}
        tensors["gathered"] = self.gathered
        facts: dict[str, Any] = {
            "steps": self.steps,
            "looks": self.looks,
            "order": self.order.tolist(),
            "generator": self.generator.bit_generator.state,
        }
        if self.best is not None:
            value, cloud, step = self.best
            tensors |= {f"best.{n}": t for n, t in zip(_NAMES, cloud.tensors, strict=True)}
            facts["best"] = [value, step]
        return tensors, facts

    def take_up(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Go on from what `kept` returned. Raises KeyError or ValueError where it is not that."""
        like = self.gathered
        free = {n[len("free.") :]: t for n, t in tensors.items() if n.startswith("free.")}
        self.free.take_up(free)
        self.gathered = tensors["gathered"].to(like)
        if len(self.gathered) != len(self.free.tensors[0]):
            raise ValueError("gradients of another number of Gaussians")
        self.generator.bit_generator.state = facts["generator"]
        self.order = np.array(facts["order"], dtype=int)
        self.steps, self.looks = int(facts["steps"]), int(facts["looks"])
        if "best" in facts:
            value, step = facts["best"]
            cloud = GaussianCloud(*(tensors[f"best.{name}"].to(like) for name in _NAMES))
            self.best = (float(value), cloud, int(step))


def fresh_state(
    cloud: GaussianCloud,
    narrowest_mm: float,
    rates: tuple[float, float, float, float],
    seed: int,
    *,
    slower: float = 0.0,
) -> FitState:
    """Return the state before the first step; ``rates`` and ``slower`` as of `FreeCloud`."""
    free = FreeCloud(cloud, narrowest_mm, rates, slower)
    gathered = torch.zeros(len(cloud)).to(cloud.means)
    return FitState(free, gathered, np.random.default_rng(seed))
