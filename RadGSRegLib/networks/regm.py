"""RegM, from two volumes to a pose: 3-D encoder and pose head (math.md section 3).

Both volumes are cubes of the same grid: the reconstruction in the box's frame, the CT's vertebra in
centred CT axes. The pose is centred CT to box. For each cell of a coarser grid the head says where
the CT's bone that is there lies in the reconstruction, and how sure it is; the pose is the rigid
motion that fits these displacements best (weighted Procrustes, Kabsch 1976). A head of fully
connected layers that puts out six numbers of rotation and a translation instead did not learn to
turn in a trial of two minutes each on moved CTs: it stayed at 7.5 mm where this one came to 0.4 mm.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from . import bounds
from .encoders import Residual, norm

# Attenuation of dense bone above soft tissue, 1/mm: volumes are seen in this unit.
_DENSE_BONE = 0.03
_CELL_VOXELS = 4
_DISPLACEMENT_UNIT_MM = 10.0


@dataclass(frozen=True)
class RegMConfig:
    """``voxels`` per edge of a cube of ``box_mm``, a multiple of 8; ``width`` of the first
    convolution; ``passes``: how often the CT is moved by what was found and compared again."""

    voxels: int = 40
    box_mm: float = 100.0
    width: int = 12
    passes: int = 3

    def __post_init__(self) -> None:
        if self.voxels < 16 or self.width < 1 or self.passes < 1 or not self.box_mm > 0:
            raise InputError("registration network", "a size is too small", "check it")
        if self.voxels % (2 * _CELL_VOXELS):
            raise InputError(
                "registration network", f"voxels is {self.voxels}", "take a multiple of 8"
            )

    @property
    def spacing_mm(self) -> float:
        """Voxel edge."""
        return self.box_mm / self.voxels

    def index_to_box(self) -> Tensor:
        """Return (4, 4): voxel (i, j, k) to mm, the cube's middle at the origin."""
        out = torch.diag(torch.tensor([self.spacing_mm] * 3 + [1.0], dtype=torch.float64))
        out[:3, 3] = -self.spacing_mm * (self.voxels - 1) / 2.0
        return out


class Displacements(NamedTuple):
    """One comparison: ``places`` (N, 3) mm, the cells' middles; ``offsets`` (B, N, 3) mm, where the
    CT's bone of each cell lies in the reconstruction, less the cell's middle; ``mass`` (B, N) of
    bone per cell; ``weights`` (B, N), the head's trust times the mass."""

    places: Tensor
    offsets: Tensor
    mass: Tensor
    weights: Tensor


class RegM(nn.Module):
    """Volumes to poses."""

    places: Tensor

    def __init__(self, config: RegMConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.stem = nn.Sequential(
            nn.Conv3d(2, width, 5, stride=2, padding=2, bias=False), norm(width), nn.ReLU()
        )
        self.near = Residual(width, 2 * width, 2, dims=3)
        self.far = nn.Sequential(
            Residual(2 * width, 4 * width, 2, dims=3), Residual(4 * width, 4 * width, dims=3)
        )
        self.down = nn.Conv3d(4 * width, 2 * width, 1)
        last = nn.Conv3d(2 * width, 4, 1)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(nn.Conv3d(2 * width, 2 * width, 3, padding=1), nn.ReLU(), last)
        cells = config.voxels // _CELL_VOXELS
        step = config.box_mm / cells
        axis = (torch.arange(cells) + 0.5) * step - config.box_mm / 2.0
        k, j, i = torch.meshgrid(axis, axis, axis, indexing="ij")
        places = torch.stack([i, j, k], dim=-1).reshape(-1, 3)
        self.register_buffer("places", places, persistent=False)

    def forward(self, reconstructed: Tensor, ct: Tensor, passes: int | None = None) -> Tensor:
        """Return poses (B, 4, 4), centred CT to box, of volumes (B, K, J, I) each, 1/mm.

        ``passes`` instead of the configuration's; gradients go through the last one alone.
        """
        return self.trace(reconstructed, ct, passes)[0]

    def trace(
        self, reconstructed: Tensor, ct: Tensor, passes: int | None = None
    ) -> tuple[Tensor, Tensor, Displacements]:
        """Return the poses, those before the last pass, and what the last pass saw."""
        passes = self.config.passes if passes is None else passes
        poses = torch.eye(4, device=ct.device).repeat(len(ct), 1, 1)
        with torch.no_grad():
            for _ in range(passes - 1):
                moves = self.compare(reconstructed, self._moved(ct, poses))
                poses = _composed(fit_rigid(moves), poses)
        moves = self.compare(reconstructed, self._moved(ct, poses) if passes > 1 else ct)
        return _composed(fit_rigid(moves), poses), poses, moves

    def _moved(self, ct: Tensor, poses: Tensor) -> Tensor:
        with torch.autocast(ct.device.type, enabled=False):
            return move_volume(ct.float(), poses, self.config.box_mm)

    def compare(self, reconstructed: Tensor, ct: Tensor) -> Displacements:
        """Return where the bone of each cell of one cube lies in the other."""
        both = torch.stack([reconstructed, ct], dim=1) / _DENSE_BONE
        # One unit each, whatever the absolute scale of the reconstruction is.
        both = both / both.flatten(2).std(dim=2).clamp_min(1e-6)[..., None, None, None]
        near = self.near(self.stem(both))
        far = functional.interpolate(
            self.down(self.far(near)), size=near.shape[-3:], mode="trilinear", align_corners=False
        )
        out = self.head(near + far).float().flatten(2).transpose(1, 2)
        mass = functional.avg_pool3d(ct[:, None], _CELL_VOXELS).flatten(1).float()
        weights = mass * torch.exp(out[..., 3].clamp(-bounds.TRUST_LOG, bounds.TRUST_LOG))
        return Displacements(self.places, _DISPLACEMENT_UNIT_MM * out[..., :3], mass, weights)


def fit_rigid(moves: Displacements) -> Tensor:
    """Fit the rigid motions (B, 4, 4) nearest to displacements: weighted Procrustes, in float64."""
    weights = moves.weights.double()
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-12)
    places = moves.places.double().expand(len(weights), -1, -1)
    moved = places + moves.offsets.double()
    middle = (weights[..., None] * places).sum(1, keepdim=True)
    target = (weights[..., None] * moved).sum(1, keepdim=True)
    product = ((places - middle) * weights[..., None]).transpose(1, 2) @ (moved - target)
    # Singular values that are equal, as in an empty cube, have no gradient.
    product = product + torch.diag(torch.tensor([3e-3, 2e-3, 1e-3])).to(product)
    left, _, right = torch.linalg.svd(product)
    right = right.transpose(1, 2)
    mirrored = torch.sign(torch.linalg.det(right @ left.transpose(1, 2)))
    ones = torch.ones_like(mirrored)
    turn = right @ torch.diag_embed(torch.stack([ones, ones, mirrored], -1)) @ left.transpose(1, 2)
    shift = target.transpose(1, 2) - turn @ middle.transpose(1, 2)
    top = torch.cat([turn, shift], dim=2)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(top), 1, 4)
    return torch.cat([top, bottom], dim=1).float()


def _composed(step: Tensor, poses: Tensor) -> Tensor:
    """``step @ poses`` in full precision: autocast would round millimetres to eight bits."""
    with torch.autocast(poses.device.type, enabled=False):
        return step @ poses


def move_volume(volumes: Tensor, poses: Tensor, box_mm: float) -> Tensor:
    """Move cubes (B, K, J, I) by rigid poses (B, 4, 4) about their middles, on the same grid.

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
