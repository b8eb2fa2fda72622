"""How much pictures look alike in what no display curve makes, and whether an X-ray shows what is
predicted of another camera."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from ..drr import SystemMatrix
from ..geometry import Array, Camera
from ..reconstruction import Box
from . import bounds

# Details: what is left of a picture's means over 3 pixels without those over 13.
_FINE_PX, _COARSE_PX = 1, 6
# Details count in units of their own strength within so many pixels, and where they are weak, of
# this share of its median.
_NEAR_PX, _WEAK = 3, 0.1
# A picture that shows fewer pixels away from its rim is not judged.
_LEAST_PIXELS = 16


def agreement(rendered: Tensor, wanted: Tensor, weight: Tensor) -> list[float]:
    """How well the details of each view and of its rendering agree: correlations (V,).

    All are (V, rows, columns); NaN where too little is shown. Only details: gain and offset say
    nothing of the geometry.
    """
    out = []
    for image, target, mask in zip(rendered, wanted, weight, strict=True):
        whole = _mean(mask, _COARSE_PX) > 0.999
        out.append(_correlation(_details(image), _details(target), whole))
    return out


def leads(rendered: Tensor, wanted: Tensor, weight: Tensor, pixel_mm: float) -> list[float]:
    """How much better the details of each view agree with its rendering in their own place than
    farther away (V,); infinite where they fit best in or beside it, NaN where too little is shown.

    Near 0 or below for a view taken from somewhere else. Arguments as of `agreement`; ``pixel_mm``
    at the patient.
    """
    beside, away, reach_px = (
        max(round(mm / pixel_mm), 1)
        for mm in (bounds.BESIDE_MM, bounds.AWAY_MM, bounds.FARTHEST_MM)
    )
    reach = range(-reach_px, reach_px + 1)
    moves = [(row, column) for row in reach for column in reach]
    far = torch.tensor([max(abs(row), abs(column)) for row, column in moves])
    out = []
    for image, target, mask in zip(rendered, wanted, weight, strict=True):
        whole = _mean(mask, _COARSE_PX) > 0.999
        inside = torch.zeros_like(whole)
        inside[reach_px:-reach_px, reach_px:-reach_px] = True
        drawn, there = _details(image), _details(target)
        fits = torch.tensor(
            [
                _correlation(
                    drawn.roll(move, (0, 1)), there, whole & whole.roll(move, (0, 1)) & inside
                )
                for move in moves
            ]
        )
        if bool(fits.isnan().any()):
            out.append(float("nan"))
        elif int(far[int(fits.argmax())]) <= beside:
            out.append(float("inf"))
        else:
            out.append(float(fits[far == 0] - fits[far >= away].max()))
    return out


def likeness(rendered: Tensor, wanted: Tensor, weight: Tensor) -> list[float]:
    """How well the details of each view and of its rendering agree whatever the display does to
    them: correlations (V,) as of `agreement`, of details in units of their strength nearby.

    A curve changes contrast from place to place, most of all where it ends: at the skin beside
    burnt-out air an edge outweighs all bones. So the steepest parts of a view do not count.
    """
    out = []
    for image, target, mask in zip(rendered, wanted, weight, strict=True):
        flat = _flat(target, mask)
        out.append(_correlation(_even(image, flat), _even(target, flat), flat))
    return out


def likeness_moved(
    voxels: Tensor, grid: Box, camera: Camera, wanted: Tensor, weight: Tensor
) -> float:
    """The likeness of a view (rows, columns) where what voxels (K, J, I) on ``grid`` predict of a
    moved camera is most like it; NaN where too little is shown.

    The camera is turned about the middle of the grid and shifted across its line of sight, by
    `bounds.MOVED_DEG` and `bounds.MOVED_MM`.
    """
    cameras = moved_cameras(camera, grid.centre)
    shape = (grid.size[2], grid.size[1], grid.size[0])
    images = SystemMatrix(cameras, grid.index_to_world, shape, device=voxels.device).forward(voxels)
    flat = _flat(wanted, weight)
    there = _even(wanted, flat)
    return max(_correlation(_even(image, flat), there, flat) for image in images)


def moved_cameras(camera: Camera, centre_world: Array) -> list[Camera]:
    """Return the camera turned about a point (3,), world mm, by some angles about 26 axes, and
    shifted across its line of sight to eight sides."""
    out = []
    for way in product((-1, 0, 1), repeat=3):
        axis = np.array(way, dtype=float)
        if not axis.any():
            continue
        for angle in bounds.MOVED_DEG:
            turn = np.eye(4)
            rotation = Rotation.from_rotvec(np.radians(angle) * axis / np.linalg.norm(axis))
            turn[:3, :3] = rotation.as_matrix()
            turn[:3, 3] = centre_world - turn[:3, :3] @ centre_world
            out.append(_at(camera, camera.world_to_camera @ turn))
        if way[2] == 0:
            for length in bounds.MOVED_MM:
                shift = np.eye(4)
                shift[:3, 3] = length * axis / np.linalg.norm(axis)
                out.append(_at(camera, shift @ camera.world_to_camera))
    return out


def _at(camera: Camera, world_to_camera: Array) -> Camera:
    return Camera(camera.intrinsic, world_to_camera, camera.columns, camera.rows)


def _flat(picture: Tensor, weight: Tensor) -> Tensor:
    """Where (rows, columns) a picture is shown all around and is not among its steepest parts."""
    whole = _mean(weight, _COARSE_PX) > 0.999
    if not bool(whole.any()):
        return whole
    smooth = _mean(picture * weight, _NEAR_PX) / _mean(weight, _NEAR_PX).clamp_min(1e-6)
    down, right = torch.gradient(smooth)
    steep = (down.square() + right.square()).sqrt()
    return whole & (steep <= torch.quantile(steep[whole], bounds.FLAT_SHARE))


def _even(picture: Tensor, where: Tensor) -> Tensor:
    """Details in units of their strength nearby, as far as that is known ``where``."""
    details = _details(picture)
    strength = _mean(details.square() * where, _NEAR_PX)
    strength = strength / _mean(where.to(picture), _NEAR_PX).clamp_min(1e-6)
    if not bool(where.any()):
        return details
    return details / (strength + _WEAK * strength[where].median() + 1e-12).sqrt()


def _correlation(first: Tensor, second: Tensor, where: Tensor) -> float:
    """Of two pictures (rows, columns) in some pixels; NaN for too few."""
    a, b = first[where], second[where]
    if len(a) < _LEAST_PIXELS:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float((a @ b) / (a.norm() * b.norm()).clamp_min(1e-12))


def _details(picture: Tensor) -> Tensor:
    return _mean(picture, _FINE_PX) - _mean(picture, _COARSE_PX)


def _mean(picture: Tensor, reach: int) -> Tensor:
    """Means over squares of 2 ``reach`` + 1 pixels, with zeros beyond the rim."""
    size = 2 * reach + 1
    mean: Tensor = functional.avg_pool2d(picture[None, None], size, stride=1, padding=reach)[0, 0]
    return mean
