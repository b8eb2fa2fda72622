"""A vertebra's own axes, from a mask of it."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError
from ..geometry import Array, Volume, affine, is_rigid


def bone_axes(mask: Volume, patient_to_world: ArrayLike | None = None) -> Array:
    """Find a vertebra's own axes from its mask.

    Args:
        mask: not 0 in the bone, world frame.
        patient_to_world: (3, 3) rotation, how the patient lies in the world; None: the world's axes
            are the patient's (LPS).

    Returns:
        ``axes_to_world`` (4, 4), rigid: the origin is the mask's centroid; x leads to the
        vertebra's left, y to its back, z up. Of the directions that the shape leaves open, those
        nearest to the patient's axes are taken, so that nothing is ever flipped.

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
    kji = np.argwhere(np.asarray(mask.array) != 0)
    if len(kji) < 4:
        raise InputError("the mask", "has too few voxels to have axes")
    points = mask.physical_points(kji[:, ::-1].astype(float))
    centre = points.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((points - centre).T))
    return affine(nearest_frame(vectors, patient), centre)


def nearest_frame(directions: Array, reference: Array) -> Array:
    """The rotation (3, 3) of three perpendicular directions (columns), in the order and with the
    signs in which it is nearest to another."""
    best, most = reference, -np.inf
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            frame = directions[:, order] * np.array(signs)
            near = float((frame * reference).sum())
            if near > most and np.linalg.det(frame) > 0:
                best, most = frame, near
    return best


def _rotation(patient_to_world: ArrayLike | None) -> Array:
    if patient_to_world is None:
        return np.eye(3)
    rotation = np.asarray(patient_to_world, dtype=float)
    if rotation.shape != (3, 3) or not is_rigid(affine(rotation, np.zeros(3))):
        raise InputError("the patient's axes", "are no rotation", "give a 3x3 rotation")
    return rotation
