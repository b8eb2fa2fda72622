"""What Gaussians are predicted around: a grid that fills the box, or a vertebra's own cloud.

The published code predicts 10,000 Gaussians around a grid. A cloud of a vertebra (the mean of many,
or the patient's own) as anchors needs far fewer, and leaves the network only what differs: where it
is and how its shape departs.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ..gaussians import GaussianCloud, multiply_quaternions
from .crops import BOX_MM

NUMBERS = 11
"""Per Gaussian: position 3, scale 3, quaternion 4, density 1."""

# softplus of this is one: raw zeros leave an anchor's density as it is.
_ONE = math.log(math.e - 1.0)
_GRID_DENSITY = 0.004
# A grid to begin a training with holds about what a vertebra does, where most of that is. An even
# one is so far from every vertebra that the first thing a network learns from eq. 2 is to show
# nothing, for good: softplus has no slope there (docs/learning.md).
_GRID_WIDTH_MM = 15.0


def grid_cloud(edge: int, extent_mm: float = 0.75 * BOX_MM) -> GaussianCloud:
    """Fill a cube of ``extent_mm`` about the origin evenly with ``edge``^3 round Gaussians.

    The vertebra is smaller than the box, so the grid need not reach the box's faces.
    """
    step = extent_mm / edge
    axis = (np.arange(edge) + 0.5) * step - extent_mm / 2.0
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    means = torch.from_numpy(np.stack([x.ravel(), y.ravel(), z.ravel()], 1)).float()
    count = len(means)
    unit = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1)
    densities = torch.full((count,), _GRID_DENSITY)
    return GaussianCloud(means, torch.full((count, 3), 0.5 * step), unit, densities)


def nearest_grid(count: int) -> GaussianCloud:
    """Fill the box as `grid_cloud` does with the cube of numbers nearest to ``count`` (22^3 for the
    paper's 10,000), dense in its middle only."""
    grid = grid_cloud(max(round(count ** (1.0 / 3.0)), 1))
    away = grid.means.square().sum(1) / (2.0 * _GRID_WIDTH_MM**2)
    return replace(grid, densities=grid.densities * torch.exp(-away))


class Anchors(nn.Module):
    """Anchors (a cloud in centred axes, mm) and how raw numbers move Gaussians away from them.

    Raw zeros are the anchors themselves. Positions stay within ``reach_mm`` of them (tanh), scales
    within a factor of two, densities are positive. ``embedding`` numbers per anchor are learned, so
    that one network serves all of them; ``free`` anchors also learn raw numbers of their own, which
    hold for all pictures.
    """

    means: Tensor
    scales: Tensor
    quaternions: Tensor
    densities: Tensor

    def __init__(
        self, cloud: GaussianCloud, *, reach_mm: float, embedding: int, free: bool = True
    ) -> None:
        super().__init__()
        self.free = free
        still = cloud.detach().to("cpu", torch.float32)
        for name, tensor in zip(
            ("means", "scales", "quaternions", "densities"), still.tensors, strict=True
        ):
            self.register_buffer(name, tensor.clone())
        self.reach_mm = reach_mm
        self.base = nn.Parameter(torch.zeros(len(still), NUMBERS))
        self.embedding = nn.Parameter(0.3 * torch.randn(len(still), embedding))

    def __len__(self) -> int:
        return int(self.means.shape[0])

    def cloud(self) -> GaussianCloud:
        """Return the anchors as they were given."""
        return GaussianCloud(self.means, self.scales, self.quaternions, self.densities)

    def offsets(self, raw: Tensor) -> Tensor:
        """Return how far raw (B, N, 11) moves Gaussians from their anchors (B, N, 3), mm in the
        anchors' axes."""
        free = raw[..., :3] + self.base[:, :3] if self.free else raw[..., :3]
        return self.reach_mm * torch.tanh(free)

    def decode(self, raw: Tensor, poses: Tensor, stretch: Tensor) -> list[GaussianCloud]:
        """Move anchors to clouds in the box's frame by raw (B, N, 11), poses (B, 4, 4), stretch
        (B, 3) factors.

        The stretch acts along the anchors' own axes, before the pose.
        """
        offset = self.offsets(raw)
        if self.free:
            raw = raw + self.base
        sizes = self.scales * torch.exp(math.log(2.0) * torch.tanh(raw[..., 3:6]))
        turn = torch.nn.functional.normalize(
            raw.new_tensor([1.0, 0.0, 0.0, 0.0]) + 0.3 * raw[..., 6:10], dim=-1
        )
        density = self.densities * torch.nn.functional.softplus(raw[..., 10] + _ONE)
        clouds = []
        mean_stretch = stretch.prod(dim=1).pow(1.0 / 3.0)
        for n in range(len(raw)):
            local = GaussianCloud(
                (self.means + offset[n]) * stretch[n],
                sizes[n] * mean_stretch[n],
                multiply_quaternions(self.quaternions, turn[n]),
                density[n],
            )
            clouds.append(local.transformed(poses[n]))
        return clouds

    def posed_means(self, poses: Tensor, stretch: Tensor) -> Tensor:
        """Return where the anchors themselves are (B, N, 3), box mm."""
        stretched = self.means * stretch[:, None]
        return stretched @ poses[:, :3, :3].transpose(1, 2) + poses[:, None, :3, 3]


def project(points: Tensor, intrinsics: Tensor, extrinsics: Tensor) -> Tensor:
    """Project points (B, N, 3) mm to pixels (B, V, N, 2); K (B, V, 3, 3), box_to_camera (B, V,
    4, 4)."""
    in_camera = torch.einsum("bvij,bnj->bvni", extrinsics[..., :3, :3], points)
    in_camera = in_camera + extrinsics[..., None, :3, 3]
    homogeneous = torch.einsum("bvij,bvnj->bvni", intrinsics, in_camera)
    return homogeneous[..., :2] / homogeneous[..., 2:].clamp_min(1.0)


def sample_features(maps: Tensor, pixels: Tensor, size_px: int) -> Tensor:
    """Sample features (B, V, N, F) of maps (B, V, F, h, w) at the full picture's pixels (B, V,
    N, 2)."""
    batch, views = maps.shape[:2]
    grid = (2.0 * pixels + 1.0) / size_px - 1.0
    features = torch.nn.functional.grid_sample(
        maps.flatten(0, 1),
        grid.flatten(0, 1)[:, :, None, :],
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    return features[..., 0].transpose(1, 2).reshape(batch, views, -1, maps.shape[2])
