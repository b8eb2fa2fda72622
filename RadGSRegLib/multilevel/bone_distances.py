"""How far points are from the bones of a label map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import Array, Volume, transform_points
from . import bounds


@dataclass(frozen=True, eq=False)
class BoneDistances:
    """Distances from bones, mm: 0 in a bone and continuous everywhere.

    ``near``: of each bone, at the CT's voxels around it; ``far``: of each, on coarse voxels of one
    grid over the whole CT. All hold distances between centres of voxels, and are interpolated
    linearly. Outside the CT a distance is that of the nearest point of the CT.
    """

    near: tuple[Volume, ...]
    far: tuple[Volume, ...]

    def at(self, points_ct: Array) -> Array:
        """The distances (B, N) mm from every bone of points (N, 3) mm."""
        index = transform_points(self.far[0].physical_to_index, points_ct)
        # Coarse distances err by the diagonal of a voxel at most.
        reach = bounds.NEAR_MM + 2.0 * float(self.far[0].spacing.max())
        out = np.empty((len(self.far), len(points_ct)))
        for distance, near, far in zip(out, self.near, self.far, strict=True):
            distance[:] = _interpolated(far, index)
            close = np.flatnonzero(distance < reach)
            inner = transform_points(near.physical_to_index, points_ct[close])
            beyond = np.maximum(-inner, inner - (np.array(near.size) - 1)).max(axis=1)
            close, inner = close[beyond <= 0], inner[beyond <= 0]
            exact = _interpolated(near, inner)
            # Whatever is nearer than NEAR_MM is inside, so nothing jumps where its voxels end.
            share = np.clip(2.0 * exact / bounds.NEAR_MM - 1.0, 0.0, 1.0)
            distance[close] = (1.0 - share) * exact + share * distance[close]
        return out


def bone_distances(labels: Volume, wanted: Sequence[int]) -> BoneDistances:
    """Measure the distances from bones of a label map. InputError for a label that is not in it."""
    from scipy import ndimage

    spacing = labels.spacing
    boxes = ndimage.find_objects(labels.array.astype(np.int32, copy=False))
    step = np.maximum(1, np.rint(bounds.FAR_STEP_MM / spacing)).astype(int)
    blocks = _blocks(labels, step)
    pads = np.ceil(bounds.NEAR_MM / spacing[::-1]).astype(int) + 1
    near, far = [], []
    for label in wanted:
        box = boxes[label - 1] if 0 < label <= len(boxes) else None
        if box is None:
            raise InputError(str(label), "is not in the segmentation", "check the label")
        low = [max(0, s.start - int(pad)) for s, pad in zip(box, pads, strict=True)]
        high = [s.stop + int(pad) for s, pad in zip(box, pads, strict=True)]
        around = labels.crop(low[::-1], high[::-1])
        mask = around.array == label
        near.append(around.with_array(_depth(mask, spacing)))
        coarse = np.zeros(blocks.array.shape, dtype=bool)
        coarse[tuple((np.argwhere(mask) + low).T // step[::-1, None])] = True
        far.append(blocks.with_array(_depth(coarse, blocks.spacing)))
    return BoneDistances(tuple(near), tuple(far))


def _blocks(labels: Volume, step: NDArray[np.int_]) -> Volume:
    """The grid of blocks of so many voxels along i, j and k that cover a volume."""
    size = -(-np.array(labels.size) // step)
    matrix = labels.index_to_physical.copy()
    matrix[:3, :3] *= step
    matrix[:3, 3] = labels.physical_points([(step - 1) / 2.0])[0]
    return Volume(np.zeros(size[::-1], dtype=bool), matrix)


def _depth(bone: NDArray[np.bool_], spacing: Array) -> NDArray[np.float32]:
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(~bone, sampling=spacing[::-1])
    return np.asarray(depth, dtype=np.float32)


def _interpolated(volume: Volume, index_ijk: Array) -> Array:
    from scipy import ndimage

    where = index_ijk.T[::-1]
    return np.asarray(
        ndimage.map_coordinates(volume.array, where, np.float64, order=1, mode="nearest")
    )
