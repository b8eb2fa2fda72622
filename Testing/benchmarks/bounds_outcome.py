"""What a trial of `bench_bounds.py` says."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Outcome:
    """What a run said: a status, what it yields (N,), scores (M,), and whether that is wrong."""

    status: str
    numbers: NDArray[np.float64]
    scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    wrong: bool = False
