"""Pairs made from CTs alone, on which RegM learns before there are reconstructions."""

from dataclasses import dataclass

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..errors import InputError
from . import bounds

# So many poses are drawn for a pair, of which one is taken.
_DRAWN = 8


@dataclass(frozen=True)
class CtPairs:
    """How far the CTs of pairs are moved: turned by up to ``rotation_deg`` about each axis of the
    CT and shifted by up to ``translation_mm`` along each, evenly (the paper's: 20 and 50)."""

    rotation_deg: float = 20.0
    translation_mm: float = 50.0

    def __post_init__(self) -> None:
        if not (0 <= self.rotation_deg <= 180 and 0 <= self.translation_mm < 1000):
            raise InputError("CT pairs", "a range is negative or too large", "20 degrees, 50 mm")

    def draw(self, points: Tensor, box_mm: float, generator: torch.Generator | None) -> Tensor:
        """Draw poses (B, 4, 4) float32, centred CT to box, of vertebrae with surface ``points``
        (B, P, 3) mm, for cubes of ``box_mm``.

        A shift of 50 mm may move part of a vertebra out of the cube. What is out is cut off, in the
        volume that stands for the reconstruction as in the moved CT that eq. 3 compares with it:
        RegM learns from what is left, as when a box is put beside a vertebra. Where less is left
        than `bounds.LEFT_IN_CUBE` of the surface another pose is drawn; of eight such ones, that
        which leaves most is taken. The paper does not say what it does. Its cube of 128 mm never
        comes to that.
        """
        shape = (_DRAWN, len(points), 3)
        turns = self.rotation_deg * (2.0 * torch.rand(shape, generator=generator) - 1.0)
        shifts = self.translation_mm * (2.0 * torch.rand(shape, generator=generator) - 1.0)
        matrices = Rotation.from_euler(
            "xyz", turns.reshape(-1, 3).numpy(), degrees=True
        ).as_matrix()
        poses = torch.eye(4).repeat(_DRAWN, len(points), 1, 1)
        poses[..., :3, :3] = torch.from_numpy(matrices).float().view(*shape[:2], 3, 3)
        poses[..., :3, 3] = shifts
        poses = poses.to(points.device)
        moved = points @ poses[..., :3, :3].transpose(2, 3) + poses[..., None, :3, 3]
        share = (moved.abs() < box_mm / 2.0).all(-1).float().mean(-1)
        # The first that leaves enough; they are all alike beyond that.
        enough = torch.where(share >= bounds.LEFT_IN_CUBE, 2.0, share)
        return poses[enough.argmax(0), torch.arange(len(points), device=points.device)]
