"""RegM, from two volumes to a pose: 3-D encoder and pose head (math.md section 3).

Both volumes are cubes of the same grid: the reconstruction in the box's frame, the CT's vertebra in
centred CT axes. The pose is centred CT to box: six numbers of rotation (continuous), translation
as a share of the box.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from .encoders import Residual, norm
from .rigid import apply_step, rotation_from_6d

# Attenuation of dense bone above soft tissue, 1/mm: volumes are seen in this unit.
_DENSE_BONE = 0.03


@dataclass(frozen=True)
class RegMConfig:
    """``voxels`` per edge of a cube of ``box_mm``; ``width`` of the first convolution."""

    voxels: int = 40
    box_mm: float = 100.0
    width: int = 8
    hidden: int = 192

    def __post_init__(self) -> None:
        if self.voxels < 16 or self.width < 1 or not self.box_mm > 0:
            raise InputError("registration network", "a size is too small", "check it")

    @property
    def spacing_mm(self) -> float:
        """Voxel edge."""
        return self.box_mm / self.voxels

    def index_to_box(self) -> Tensor:
        """(4, 4): voxel (i, j, k) to mm, the cube's middle at the origin."""
        out = torch.diag(torch.tensor([self.spacing_mm] * 3 + [1.0], dtype=torch.float64))
        out[:3, 3] = -self.spacing_mm * (self.voxels - 1) / 2.0
        return out


class RegM(nn.Module):
    """Volumes to poses."""

    def __init__(self, config: RegMConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.encoder = nn.Sequential(
            nn.Conv3d(2, width, 5, stride=2, padding=2, bias=False),
            norm(width),
            nn.ReLU(),
            Residual(width, 2 * width, 2, dims=3),
            Residual(2 * width, 4 * width, 2, dims=3),
            Residual(4 * width, 8 * width, dims=3),
        )
        self.head = nn.Sequential(
            nn.Linear(8 * width * 27, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, 9),
        )
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, reconstructed: Tensor, ct: Tensor) -> Tensor:
        """Poses (B, 4, 4), centred CT to box, of volumes (B, K, J, I) each, 1/mm."""
        both = torch.stack([reconstructed, ct], dim=1) / _DENSE_BONE
        # One unit each, whatever the absolute scale of the reconstruction is.
        both = both / both.flatten(2).std(dim=2).clamp_min(1e-6)[..., None, None, None]
        features = functional.adaptive_avg_pool3d(self.encoder(both), 3).flatten(1)
        raw = self.head(features)
        rotation = rotation_from_6d(
            raw.new_tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]) + 0.2 * raw[:, :6]
        )
        shift = 0.06 * self.config.box_mm * raw[:, 6:]
        start = torch.eye(4, device=raw.device, dtype=raw.dtype).repeat(len(raw), 1, 1)
        return apply_step(start, rotation, shift)


def move_volume(volumes: Tensor, poses: Tensor, box_mm: float) -> Tensor:
    """Cubes (B, K, J, I) moved by rigid poses (B, 4, 4) about their middles, on the same grid.

    Trilinear, zero beyond; differentiable by both.
    """
    back = poses[:, :3, :3].transpose(1, 2)
    shift = -(back @ poses[:, :3, 3:])
    # grid_sample's unit is half the cube, its axes are (i, j, k) as ours.
    theta = torch.cat([back, shift * (2.0 / box_mm)], dim=2)
    shape = (len(volumes), 1, *volumes.shape[1:])
    grid = functional.affine_grid(theta, list(shape), align_corners=False)
    moved = functional.grid_sample(volumes[:, None], grid, align_corners=False)
    return moved[:, 0]
