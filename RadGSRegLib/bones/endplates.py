"""Which way is up in a vertebra: the end plates of its body."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.stats import siegelslopes

from ..geometry import Array, Volume
from . import bounds

_ROUNDS = 4
_STEP_MM = 0.5
_ROWS, _COLUMNS = 13, 7
# A slope needs so many of the rays.
_LEAST_RAYS = 20


def endplate_up(mask: Volume, across: Array, start_up: Array) -> Array:
    """The direction (3,) midway between the normals of both end plates, in a plane.

    Rays go up and down from the middle of the largest ball inside of the bone, which lies in the
    body; where they leave the bone, a line is laid through the places over front and back (repeated
    medians, Siegel 1982: rims and spurs count little). ``across`` (3,) is normal to the plane
    of symmetry. Where no end plates are hit, or they
    are no such, it is ``start_up`` (3,) in that plane.
    """
    filled = np.pad(ndimage.binary_fill_holes(np.asarray(mask.array) != 0), 1)
    spacing_kji = mask.spacing[::-1]
    depth = ndimage.distance_transform_edt(filled, sampling=spacing_kji)
    deepest = np.array(np.unravel_index(int(depth.argmax()), depth.shape))
    middle = mask.physical_points([deepest[::-1] - 1.0])[0]
    radius = float(depth.max())
    soft = ndimage.gaussian_filter(filled.astype(np.float32), 1.0 / spacing_kji)
    world_to_index = mask.physical_to_index
    reach = bounds.PLATE_REACH * radius
    rows, columns = np.linspace(-reach, reach, _ROWS), np.linspace(-reach, reach, _COLUMNS)
    backwards_mm, sideways_mm = (grid.ravel() for grid in np.meshgrid(rows, columns))
    along_mm = np.arange(0.0, 2.2 * radius, _STEP_MM)
    up = _in_plane(start_up, across)
    for _ in range(_ROUNDS):
        back = np.cross(up, across)
        feet = middle + np.outer(sideways_mm, across) + np.outer(backwards_mm, back)
        slopes = []
        for sense in (1.0, -1.0):
            points = feet[:, None] + sense * along_mm[None, :, None] * up
            ijk = points @ world_to_index[:3, :3].T + world_to_index[:3, 3] + 1.0
            kji = np.moveaxis(ijk[..., ::-1], -1, 0)
            outside = ndimage.map_coordinates(soft, kji, order=1) < 0.5
            left = outside.any(axis=1) & ~outside[:, 0]
            if np.count_nonzero(left) < _LEAST_RAYS:
                continue
            height_mm = sense * along_mm[outside.argmax(axis=1)]
            slopes.append(float(siegelslopes(height_mm[left], backwards_mm[left])[0]))
        if len(slopes) < 2:
            return _in_plane(start_up, across)
        tilt = float(np.mean(np.arctan(slopes)))
        up = np.cos(tilt) * up - np.sin(tilt) * back
    # Steeper than that, it would be nearer to the front or the back.
    return up if up @ start_up > np.sqrt(0.5) else _in_plane(start_up, across)


def _in_plane(direction: Array, normal: Array) -> Array:
    part = direction - (direction @ normal) * normal
    return np.asarray(part / np.linalg.norm(part))
