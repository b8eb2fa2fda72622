"""How a picture deviates from a pinhole's, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array

_NEAR_PX = 1e-10
_STEPS = 50


@dataclass(frozen=True)
class Distortion:
    """How a picture deviates from a pinhole's: where a point is shown, of where it should be.

    With r the distance from ``centre_px`` (column, row) over ``unit_px``, and x = (dx, dy) that
    offset over ``unit_px``, a point is shown at

        centre + unit ((1 + radial[0] r^2 + radial[1] r^4) R(spiral[0] r^2 + spiral[1] r^4) x),

    R(a) the rotation by a radians: barrel or pincushion, and the S shape that the earth's magnetic
    field gives an image intensifier (R. Fahrig et al., Med Phys 24, 1997).
    """

    centre_px: tuple[float, float]
    unit_px: float
    radial: tuple[float, float] = (0.0, 0.0)
    spiral: tuple[float, float] = (0.0, 0.0)


def _turned(offset: Array, angle: Array) -> Array:
    """Offsets (N, 2), each rotated by its angle (N,) from columns to rows."""
    sine, cosine = np.sin(angle), np.cos(angle)
    x, y = offset.T
    return np.column_stack([cosine * x - sine * y, sine * x + cosine * y])


def distort(points_px: ArrayLike, distortion: Distortion) -> Array:
    """Where points (N, 2) = (column, row) of a pinhole's picture are shown, pixels (N, 2).

    Example:
        >>> from RadGSRegLib.geometry import Distortion, distort, undistort
        >>> pincushion = Distortion((100.0, 100.0), 100.0, radial=(0.02, 0.0))
        >>> distort([[200.0, 100.0], [150.0, 100.0]], pincushion)
        array([[202.  , 100.  ],
               [150.25, 100.  ]])
        >>> undistort([[202.0, 100.0]], pincushion).round(6)
        array([[200., 100.]])
    """
    centre = np.asarray(distortion.centre_px)
    offset = (_points(points_px) - centre) / distortion.unit_px
    square = np.sum(offset**2, axis=1)
    (k1, k2), (s1, s2) = distortion.radial, distortion.spiral
    stretched = offset * (1.0 + k1 * square + k2 * square**2)[:, None]
    return centre + distortion.unit_px * _turned(stretched, s1 * square + s2 * square**2)


def undistort(points_px: ArrayLike, distortion: Distortion) -> Array:
    """Where shown points (N, 2) = (column, row) would be in a pinhole's picture, pixels (N, 2).

    The inverse of `distort`, to 1e-9 px: the distance from the centre by Newton's method, then
    the rotation. Raises ValueError where the distortion folds the picture over itself before it
    reaches a point.
    """
    centre = np.asarray(distortion.centre_px)
    shown = (_points(points_px) - centre) / distortion.unit_px
    target = np.linalg.norm(shown, axis=1)
    (k1, k2), (s1, s2) = distortion.radial, distortion.spiral
    radius = target.copy()
    apart = np.zeros_like(radius)
    for _ in range(_STEPS):
        square = radius**2
        apart = radius * (1.0 + k1 * square + k2 * square**2) - target
        if np.abs(apart).max(initial=0.0) * distortion.unit_px < _NEAR_PX:
            break
        slope = 1.0 + 3.0 * k1 * square + 5.0 * k2 * square**2
        # A point beyond the fold has no slope to follow: it stays and is complained about.
        radius = np.maximum(radius - apart / np.where(slope > 1e-3, slope, np.inf), 0.0)
    slope = 1.0 + 3.0 * k1 * radius**2 + 5.0 * k2 * radius**4
    if (np.abs(apart) * distortion.unit_px > 1e-9).any() or (slope <= 0.0).any():
        raise ValueError("the distortion folds the picture over itself within it")
    square = radius**2
    direction = shown / np.where(target > 0.0, target, 1.0)[:, None]
    straight = _turned(direction, -(s1 * square + s2 * square**2)) * radius[:, None]
    return np.asarray(centre + distortion.unit_px * straight)


def _points(points_px: ArrayLike) -> Array:
    points = np.asarray(points_px, dtype=float)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points in a picture are (N, 2), not {points.shape}")
    return points
