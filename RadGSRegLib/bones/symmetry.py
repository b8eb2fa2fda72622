"""The plane in which a bone is its own mirror image."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import ndimage
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from ..geometry import Array, Volume
from . import bounds

_STEP_DEG = 5.0
# So many voxels say how well mirror images agree.
_SAMPLES = 3000
# Of the simplex: rad, and mm in units in which a step of each is as large.
_SIMPLEX, _MM = 0.06, 20.0


def mirror_normal(mask: Volume, reference: Array) -> Array:
    """The normal (3,) of the plane of symmetry, towards the first axis of ``reference``.

    Args:
        mask: 1 in the bone, else 0.
        reference: (3, 3) rotation; its first column is about the normal.
    """
    spacing_kji = mask.spacing[::-1]
    pad = np.ceil(4.0 * bounds.MIRROR_BLUR_MM / spacing_kji).astype(int)
    values = np.pad(np.asarray(mask.array, dtype=np.float32), [(int(n), int(n)) for n in pad])
    soft = ndimage.gaussian_filter(values, bounds.MIRROR_BLUR_MM / spacing_kji)
    points = mask.physical_points(np.argwhere(mask.array)[:, ::-1].astype(float))
    centre = points.mean(axis=0)
    around = points[:: max(1, len(points) // _SAMPLES)] - centre
    world_to_index = mask.physical_to_index

    most = np.radians(bounds.MOST_TURNED_DEG)

    def normal(turn: Array) -> Array:
        about_y, about_z = np.clip(turn, -most, most)
        rotation = Rotation.from_rotvec([0.0, about_y, about_z]).as_matrix()
        return np.asarray(reference @ rotation[:, 0])

    def agreement(turn: Array, offset_mm: float) -> float:
        across = normal(turn)
        mirrored = around - 2.0 * np.outer(around @ across - offset_mm, across) + centre
        ijk = mirrored @ world_to_index[:3, :3].T + world_to_index[:3, 3]
        return float(ndimage.map_coordinates(soft, (ijk[:, ::-1] + pad).T, order=1).mean())

    steps = np.linspace(-most, most, 1 + 2 * round(bounds.MOST_TURNED_DEG / _STEP_DEG))
    # From the middle outwards, so that the reference decides where nothing else does.
    turns = sorted(product(steps, steps), key=lambda turn: turn[0] ** 2 + turn[1] ** 2)
    best = max(turns, key=lambda turn: agreement(np.array(turn), 0.0))
    start = np.array([*best, 0.0])
    fitted = minimize(
        lambda x: -agreement(x[:2], _MM * x[2]),
        start,
        method="Nelder-Mead",
        options={
            "initial_simplex": np.vstack([start, start + _SIMPLEX * np.eye(3)]),
            "xatol": 5e-4,
            "fatol": 1e-6,
        },
    )
    return normal(fitted.x[:2])
