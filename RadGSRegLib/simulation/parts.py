"""What rays meet in a CT that was taken apart, part by part, on any device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..drr import project_volume
from ..geometry import Array, Camera, Volume
from .scene import Scene

Image = NDArray[np.float32]

_SAMPLES_PER_VOXEL = 1.5


@dataclass(frozen=True)
class Part:
    """One part of the body on a device: densities (K, J, I) g/cm^3 of soft tissue and bone.

    ``number``: the label whose pose it has, 0 for the rest; ``step_mm`` between samples.
    """

    number: int
    soft: Tensor
    bone: Tensor
    index_to_physical: Array
    step_mm: float


def parts_on(scene: Scene, device: torch.device | str) -> list[Part]:
    """Bring the parts of a scene to a device, the rest first."""

    def there(volume: Volume) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(volume.array, np.float32)).to(device)

    pieces = {0: scene.rest, **scene.vertebrae}
    return [
        Part(
            number,
            there(piece.soft),
            there(piece.bone),
            piece.soft.index_to_physical,
            float(piece.soft.spacing.min()) / _SAMPLES_PER_VOXEL,
        )
        for number, piece in pieces.items()
    ]


@torch.no_grad()
def line_integrals(
    parts: Sequence[Part], ct_to_world: Mapping[int, Array], camera: Camera
) -> tuple[Image, Image]:
    """Project parts, each in its own pose: line integrals of soft tissue and bone, (g/cm^3) mm,
    (rows, columns), by the library's own projector."""

    def projected(part: Part, voxels: Tensor) -> Tensor:
        return project_volume(
            voxels,
            camera.intrinsic,
            camera.world_to_camera @ ct_to_world[part.number],
            camera.size,
            index_to_physical=part.index_to_physical,
            step_mm=part.step_mm,
        )

    first, *others = parts
    soft, bone = projected(first, first.soft), projected(first, first.bone)
    for part in others:
        soft = soft + projected(part, part.soft)
        bone = bone + projected(part, part.bone)
    return soft.cpu().numpy(), bone.cpu().numpy()
