"""A CT that was taken apart, as the ray kernels read it: kept on a device for all its X-rays."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import Array, Volume
from .drawing import Surroundings
from .scene import Piece, Scene, fade_of

# Samples to a voxel along the ray, two thirds of the full simulator's, in three quarters of the
# time (docs/experiments/pairs.md). Mass lengths of phantoms at 2 mm and 1.5 mm, of each realism,
# change in the mean by 0.7 % of their deviation at most.
_SAMPLES = 1.0
# From so many pixels to a voxel of the rest on, two pixels share a ray: between the two. Its mass
# lengths are then within 2 % of their deviation, else within 1.2 % (test_simulation_batch.py).
_SHARE_FROM = 1.4


@dataclass(frozen=True)
class Voxels:
    """One part of the body: ``data`` (K, J, I, 4), its outermost voxels zero.

    Of a vertebra: soft tissue, bone (g/cm^3), the target's excess (1/mm), and 0. Of the rest: soft
    tissue, bone, how far the CT counts there (`scene.fade_of`), and 0. ``cells`` (K, J, I) uint8:
    whether any of the eight voxels from this one on is anything but zero. ``step``: mm in depth
    between samples.
    """

    data: Tensor
    cells: Tensor
    index_to_physical: Array
    step: float

    @property
    def size(self) -> tuple[int, int, int]:
        """(I, J, K)."""
        k, j, i, _ = self.data.shape
        return i, j, k

    def to(self, device: torch.device | str) -> Voxels:
        """Return the same on another device."""
        return replace(self, data=self.data.to(device), cells=self.cells.to(device))


@dataclass(frozen=True)
class SceneOnDevice:
    """What the X-rays of one CT share: the parts of `scene.Scene` on a device, what is around them,
    and the ``centroids`` (3,) mm of the vertebrae.

    ``bare``: the rest without a trunk around it; ``embedded``: faded, for within one.
    """

    centroids: dict[int, Array]
    surroundings: Surroundings
    vertebrae: dict[int, Voxels]
    bare: Voxels
    embedded: Voxels
    spacing_mm: float

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.bare.data.device

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        parts = [self.bare, self.embedded, *self.vertebrae.values()]
        return sum(part.data.nbytes + part.cells.nbytes for part in parts)

    def every(self, pixel_mm: float) -> int:
        """How many pixels of ``pixel_mm`` at the patient are as wide as the rest's voxels: the
        rest shows nothing finer, so that its rays are that much fewer along each axis."""
        return 2 if self.spacing_mm >= _SHARE_FROM * pixel_mm else 1


def scene_on_device(
    ct: Volume, scene: Scene, excess: dict[int, Volume], device: torch.device | str = "cpu"
) -> SceneOnDevice:
    """Bring a scene to a device; ``excess`` (1/mm) by label, on grids that go with the pieces'."""
    vertebrae = {
        number: _piece(piece, excess.get(number)).to(device)
        for number, piece in scene.vertebrae.items()
    }
    rest = scene.rest
    fade = fade_of(rest.soft)
    faded = Piece(
        rest.soft.with_array(rest.soft.array * fade), rest.bone.with_array(rest.bone.array * fade)
    )
    return SceneOnDevice(
        scene.centroids,
        Surroundings.of(ct, scene),
        vertebrae,
        _rest(rest, np.ones_like(fade)).to(device),
        _rest(faded, fade).to(device),
        float(rest.soft.spacing.min()),
    )


def _piece(piece: Piece, excess: Volume | None) -> Voxels:
    shape = piece.soft.array.shape
    data = np.zeros((*shape, 4), dtype=np.float32)
    data[..., 0], data[..., 1] = piece.soft.array, piece.bone.array
    if excess is not None:
        _lay(data[..., 2], piece.soft, excess)
    kji = np.argwhere((data != 0).any(-1))
    first, last = (kji.min(0), kji.max(0) + 1) if len(kji) else (np.zeros(3, int), np.ones(3, int))
    data = data[tuple(slice(*ends) for ends in zip(first, last, strict=True))]
    data = np.pad(data, [(1, 1)] * 3 + [(0, 0)])
    return _voxels(data, piece.soft, first - 1)


def _rest(rest: Piece, fade: NDArray[np.float32]) -> Voxels:
    data = np.stack([rest.soft.array, rest.bone.array, fade, np.zeros_like(fade)], axis=-1)
    data = np.pad(data, [(1, 1)] * 3 + [(0, 0)]).astype(np.float32)
    return _voxels(data, rest.soft, np.full(3, -1))


def _voxels(
    data: NDArray[np.float32],
    grid: Volume,
    first: NDArray[np.int_],
) -> Voxels:
    """``data`` begins at the index ``first`` (k, j, i) of ``grid``."""
    matrix = grid.index_to_physical.copy()
    matrix[:3, 3] = grid.physical_points(first[None, ::-1].astype(float))[0]
    filled = (data[..., :3] != 0).any(-1)
    for axis in range(3):
        filled = filled | np.roll(filled, -1, axis)
    cells = torch.from_numpy(filled.astype(np.uint8))
    step = float(grid.spacing.min()) / _SAMPLES
    return Voxels(torch.from_numpy(np.ascontiguousarray(data)), cells, matrix, step)


def _lay(into: NDArray[np.float32], grid: Volume, part: Volume) -> None:
    """Lay ``part`` into an array (K, J, I) on ``grid``, of which its grid is a piece."""
    first = np.linalg.inv(grid.index_to_physical) @ part.index_to_physical @ [0, 0, 0, 1]
    k, j, i = np.rint(first[2::-1]).astype(int)
    whole, cut = [], []
    for begin, own, size in zip((k, j, i), part.array.shape, into.shape, strict=True):
        low, high = max(begin, 0), min(begin + own, size)
        whole.append(slice(low, max(low, high)))
        cut.append(slice(low - begin, max(low, high) - begin))
    into[tuple(whole)] = part.array[tuple(cut)]
