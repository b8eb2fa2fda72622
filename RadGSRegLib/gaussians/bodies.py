"""Several rigid clouds in one frame, to be rendered apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from .cloud import GaussianCloud


@dataclass(frozen=True)
class Bodies:
    """Rigid clouds, each in its own coordinates, and their numbers in one table for the kernels.

    Raises ValueError where there is no cloud.
    """

    clouds: tuple[GaussianCloud, ...]
    table: Tensor = field(init=False, repr=False, compare=False)
    """(N, 16) float32: mean, M = diag(1/s) R' by rows, s^2, density (warp_setup_kernel)."""
    body_of: Tensor = field(init=False, repr=False, compare=False)
    """(N,) int32: which body each Gaussian belongs to."""
    first: Tensor = field(init=False, repr=False, compare=False)
    """(B + 1,) int32: where each body's Gaussians begin in the table, and the end."""

    def __post_init__(self) -> None:
        if not self.clouds:
            raise ValueError("bodies need at least one cloud")
        rows, owners = [], []
        for n, cloud in enumerate(self.clouds):
            single = cloud.detach().to(dtype=torch.float32)
            factors = single.precision_factors().reshape(-1, 9)
            parts = [single.means, factors, single.scales**2, single.densities[:, None]]
            rows.append(torch.cat(parts, 1))
            owners.append(torch.full((len(cloud),), n, dtype=torch.int32, device=cloud.device))
        object.__setattr__(self, "table", torch.cat(rows).contiguous())
        object.__setattr__(self, "body_of", torch.cat(owners))
        ends = [0, *accumulate(len(cloud) for cloud in self.clouds)]
        first = torch.tensor(ends, dtype=torch.int32).to(self.table.device)
        object.__setattr__(self, "first", first)

    @property
    def device(self) -> torch.device:
        """Where the clouds are."""
        return self.table.device

    def to(self, device: torch.device | str) -> Bodies:
        """Return the bodies on another device."""
        wanted = torch.device(device)
        return self if wanted == self.device else Bodies(tuple(c.to(wanted) for c in self.clouds))

    def __len__(self) -> int:
        return len(self.clouds)
