"""Where Gaussians are split and which are dropped while a fresh cloud is fitted.

Where the image still wants a Gaussian to move although it is being fitted, one is not enough: it is
split in two along its longest axis. The halves have together the mass, the centre and the
covariance of the whole, so that the image hardly changes. Gaussians that carry next to nothing, or
that have left the box, are dropped.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..gaussians import GaussianCloud
from . import bounds

# The halves lie this many standard deviations to either side.
_SPREAD = 0.7


@dataclass(frozen=True)
class DensityControl:
    """``split_share`` of the Gaussians at most per round, ``most`` altogether.

    Split are those whose mean gradient is far above the median; dropped those whose peak is far
    below that of a typical one, the mass-weighted mean.
    """

    most: int
    split_share: float = 0.1

    def keep(self, cloud: GaussianCloud, lower: np.ndarray, upper: np.ndarray) -> Tensor:
        """Mask (N,) of the Gaussians that stay; never empty."""
        masses = cloud.masses()
        typical = (masses * cloud.densities).sum() / masses.sum().clamp_min(1e-12)
        low = torch.as_tensor(lower).to(cloud.means)
        high = torch.as_tensor(upper).to(cloud.means)
        inside = ((cloud.means >= low) & (cloud.means <= high)).all(1)
        stays = inside & (cloud.densities > bounds.PRUNE_BELOW * typical)
        if not bool(stays.any()):
            stays[masses.argmax()] = True
        return stays

    def to_split(self, gradients: Tensor) -> Tensor:
        """Indices (M,) of the Gaussians to split, by the length of their mean gradients (N,)."""
        room = min(int(self.split_share * len(gradients)), self.most - len(gradients))
        if room <= 0:
            return torch.zeros(0, dtype=torch.long, device=gradients.device)
        order = torch.sort(gradients, descending=True, stable=True).indices[:room]
        return order[gradients[order] > bounds.SPLIT_ABOVE * gradients.median()]


def halves(cloud: GaussianCloud) -> tuple[GaussianCloud, GaussianCloud]:
    """Every Gaussian as two along its longest axis, with its mass, mean and covariance."""
    rows = torch.arange(len(cloud), device=cloud.device)
    longest = cloud.scales.argmax(1)
    axis = cloud.rotations()[rows, :, longest]
    length = cloud.scales[rows, longest]
    narrow = (1.0 - _SPREAD**2) ** 0.5
    scales = cloud.scales.clone()
    scales[rows, longest] = narrow * length
    offset = _SPREAD * length[:, None] * axis
    densities = cloud.densities / (2.0 * narrow)
    first, second = (
        GaussianCloud(cloud.means + side * offset, scales.clone(), cloud.quaternions, densities)
        for side in (-1.0, 1.0)
    )
    return first, second
