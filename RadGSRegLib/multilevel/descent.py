"""Down the common cost of cameras and vertebrae."""

from __future__ import annotations

import numpy as np
import torch

from ..geometry import Array
from ..registration import StretchedGaussNewton
from ..system import Progress
from . import bounds
from .equations import Equations, Normal
from .unknowns import Setup


def descend(
    equations: Equations,
    setup: Setup,
    iterations: int,
    steps_per_matrix: int,
    progress: Progress,
    message: str = "refining cameras and vertebrae",
) -> tuple[Setup, Normal]:
    """Return the setup after so many steps, and its normal equations; their Hessian may be of an
    earlier step. A step that loses sight of the vertebrae, or costs more, is not taken."""
    walker, state = StretchedGaussNewton(damping=bounds.DAMPING), equations.at(setup)
    for number in range(iterations):
        progress(number / iterations, message)
        step = walker.step(_row(state.gradient), _row(state.hessian))
        there = equations.unknowns.moved(setup, step[0].numpy())
        last = number + 1 == iterations
        keep = last or (number + 1) % steps_per_matrix > 0
        tried = equations.at(there, state.hessian if keep else None)
        seen_still = tried.pixels >= bounds.STILL_SEEN * state.pixels
        fall = state.cost - tried.cost if seen_still else -np.inf
        taken = walker.learn(
            step,
            torch.tensor([fall], dtype=torch.float64),
            _row(state.gradient),
            _row(tried.gradient),
            torch.ones(1, dtype=torch.bool),
        )
        if bool(taken[0]):
            setup, state = there, tried
    return setup, state


def _row(numbers: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers))[None]
