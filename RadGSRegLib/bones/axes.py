"""A vertebra's own axes, from a mask of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from ..errors import InputError
from ..geometry import Array, Volume, affine, is_rigid
from .endplates import endplate_up
from .symmetry import mirror_normal


def bone_axes(mask: Volume, patient_to_world: ArrayLike | None = None) -> Array:
    """Find a vertebra's own axes from its mask: mirror symmetry, then its end plates.

    Left and right are across the plane in which the mask is most its own mirror image; up is midway
    between both end plates in that plane. The plane is looked for within 35 degrees of the
    patient's, so that axes are never flipped. How far they lie from anatomical ones is measured in
    docs/experiments/beam.md.

    Args:
        mask: not 0 in the bone, world frame.
        patient_to_world: (3, 3) rotation, how the patient lies in the world; None: the world's axes
            are the patient's (LPS).

    Returns:
        ``axes_to_world`` (4, 4), rigid: the origin is the mask's centroid; x leads to the
        vertebra's left, y to its back, z up.

    Raises:
        InputError: where the mask has fewer than four voxels, or ``patient_to_world`` is no
            rotation.

    Example:
        >>> from RadGSRegLib.bones import bone_axes
        >>> target = case.labels.with_array(case.labels.array == case.label)
        >>> bone_axes(target).shape
        (4, 4)
    """
    patient = _rotation(patient_to_world)
    inside = np.asarray(mask.array) != 0
    if np.count_nonzero(inside) < 4:
        raise InputError("the mask", "has too few voxels to have axes", "give that of a bone")
    k, j, i = ndimage.find_objects(inside.astype(np.uint8))[0]
    bone = mask.with_array(inside).crop((i.start, j.start, k.start), (i.stop, j.stop, k.stop))
    across = mirror_normal(bone, patient)
    up = endplate_up(bone, across, patient[:, 2])
    centre = bone.physical_points(np.argwhere(bone.array)[:, ::-1].astype(float)).mean(axis=0)
    return affine(np.column_stack([across, np.cross(up, across), up]), centre)


def _rotation(patient_to_world: ArrayLike | None) -> Array:
    if patient_to_world is None:
        return np.eye(3)
    rotation = np.asarray(patient_to_world, dtype=float)
    if rotation.shape != (3, 3) or not is_rigid(affine(rotation, np.zeros(3))):
        raise InputError("the patient's axes", "are no rotation", "give a 3x3 rotation")
    return rotation
