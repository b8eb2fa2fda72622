"""What RegM's features become: the head that gives displacements and the one that gives a pose.

"displacement" says for each cell of a grid where the CT's bone that is there lies in the
reconstruction, and how sure it is; the pose is the rigid motion that fits these best (weighted
Procrustes, Kabsch 1976). "pose" is the published one (Shen et al., RadGS-Reg, 2025): the features
are pooled, and fully connected layers give a rotation and a translation, six degrees of freedom.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import bounds
from .rigid import POSE_NUMBERS, apply_step, step_from_raw

HEADS = ("displacement", "pose")
CELL_VOXELS = 4
_DISPLACEMENT_UNIT_MM = 10.0
# The deepest map is averaged over at most so many blocks to each side: over all of it little would
# be left of where a feature is (docs/experiments/networks.md).
_BLOCKS = 4


class Displacements(NamedTuple):
    """One comparison: ``places`` (N, 3) mm, the cells' middles; ``offsets`` (B, N, 3) mm, where the
    CT's bone of each cell lies in the reconstruction, less the cell's middle; ``mass`` (B, N) of
    bone per cell; ``weights`` (B, N), the head's trust times the mass."""

    places: Tensor
    offsets: Tensor
    mass: Tensor
    weights: Tensor


class DisplacementHead(nn.Module):
    """Features to displacements of cells, and these to poses.

    ``channels`` of the encoder's maps, ``width`` of what they are brought to; ``voxels`` per edge
    of a cube of ``box_mm``.
    """

    places: Tensor

    def __init__(self, channels: Sequence[int], width: int, voxels: int, box_mm: float) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            [nn.Identity() if c == width else nn.Conv3d(c, width, 1) for c in channels]
        )
        last = _zero(nn.Conv3d(width, 4, 1))
        self.layers = nn.Sequential(nn.Conv3d(width, width, 3, padding=1), nn.ReLU(), last)
        self.cells = voxels // CELL_VOXELS
        axis = (torch.arange(self.cells) + 0.5) * (box_mm / self.cells) - box_mm / 2.0
        k, j, i = torch.meshgrid(axis, axis, axis, indexing="ij")
        places = torch.stack([i, j, k], dim=-1).reshape(-1, 3)
        self.register_buffer("places", places, persistent=False)

    def forward(
        self, maps: Sequence[Tensor], ct: Tensor, poses: Tensor
    ) -> tuple[Tensor, Displacements]:
        """Return better poses (B, 4, 4), and what they were fitted to.

        ``ct`` (B, K, J, I) has been moved by ``poses`` (B, 4, 4) for ``maps`` of both volumes.
        """
        size = (self.cells,) * 3
        each = [_resized(lateral(m), size) for lateral, m in zip(self.laterals, maps, strict=True)]
        out = self.layers(sum(each[1:], each[0])).float().flatten(2).transpose(1, 2)
        mass = functional.avg_pool3d(ct[:, None], CELL_VOXELS).flatten(1).float()
        weights = mass * torch.exp(out[..., 3].clamp(-bounds.TRUST_LOG, bounds.TRUST_LOG))
        moves = Displacements(self.places, _DISPLACEMENT_UNIT_MM * out[..., :3], mass, weights)
        # In full precision: autocast would round millimetres to eight bits.
        with torch.autocast(poses.device.type, enabled=False):
            return fit_rigid(moves) @ poses, moves


class PoseHead(nn.Module):
    """Features to poses: a turn about the vertebra's centre and a shift.

    ``channels`` of the encoder's last map, ``edge`` of its cells to each side, ``hidden`` units.
    """

    def __init__(self, channels: int, edge: int, hidden: int = 256) -> None:
        super().__init__()
        self.blocks = min(edge, _BLOCKS)
        self.layers = nn.Sequential(
            nn.Linear(channels * self.blocks**3, hidden),
            nn.ReLU(),
            _zero(nn.Linear(hidden, POSE_NUMBERS)),
        )

    def forward(self, maps: Sequence[Tensor], ct: Tensor, poses: Tensor) -> tuple[Tensor, None]:
        """Return better poses (B, 4, 4), and that they were fitted to nothing; see
        `DisplacementHead.forward`."""
        pooled = functional.adaptive_avg_pool3d(maps[-1], self.blocks).flatten(1)
        raw = self.layers(pooled).float()
        with torch.autocast(poses.device.type, enabled=False):
            return apply_step(poses, *step_from_raw(raw)), None


def _zero(layer: nn.Conv3d | nn.Linear) -> nn.Module:
    """The layer with nothing in it: an untrained head leaves the CT where it is."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    if x.shape[2:] == size:
        return x
    return functional.interpolate(x, size=size, mode="trilinear", align_corners=False)


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
