"""How a picture deviates from a pinhole's: barrel, pincushion and S shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array

_STEPS = 200
_NEAR_PX = 1e-6


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


def distort(points_px: ArrayLike, distortion: Distortion) -> Array:
    """Where points (N, 2), (column, row) of a pinhole's picture, are shown (N, 2).

    Example:
        >>> from RadGSRegLib.geometry import Distortion, distort, undistort
        >>> pincushion = Distortion((100.0, 100.0), 100.0, radial=(0.02, 0.0))
        >>> distort([[200.0, 100.0], [150.0, 100.0]], pincushion)
        array([[202.  , 100.  ],
               [150.25, 100.  ]])
        >>> undistort([[202.0, 100.0]], pincushion).round(6)
        array([[200., 100.]])
    """
    centre, unit = np.asarray(distortion.centre_px), distortion.unit_px
    offsets = (_points(points_px) - centre) / unit
    stretch, cos, sin = _bent(offsets, distortion)
    dx, dy = offsets.T
    shown = np.stack([cos * dx - sin * dy, sin * dx + cos * dy], axis=1)
    return np.asarray(centre + unit * stretch[:, None] * shown)


def undistort(points_px: ArrayLike, distortion: Distortion) -> Array:
    """Where points (N, 2), (column, row) as shown, are in a pinhole's picture (N, 2), to 1e-6 px.

    The inverse of `distort`, by iteration to a fixed point. Raises ValueError where the distortion
    folds the picture so far out that there is none.
    """
    centre, unit = np.asarray(distortion.centre_px), distortion.unit_px
    shown = (_points(points_px) - centre) / unit
    x, y = shown.T
    offsets = shown
    with np.errstate(all="ignore"):
        for _ in range(_STEPS):
            stretch, cos, sin = _bent(offsets, distortion)
            before = offsets
            turned = np.stack([cos * x + sin * y, cos * y - sin * x], axis=1)
            offsets = turned / stretch[:, None]
            moved_px = float(np.abs(offsets - before).max(initial=0.0)) * unit
            # Each step shrinks the rest: a tenth leaves room for slow ones.
            if moved_px < 0.1 * _NEAR_PX:
                return np.asarray(centre + unit * offsets)
    raise ValueError("the distortion is too strong to be undone at these points")


def _points(points_px: ArrayLike) -> Array:
    points = np.asarray(points_px, dtype=float)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points in a picture are (N, 2), not {points.shape}")
    return points


def _bent(offsets: Array, distortion: Distortion) -> tuple[Array, Array, Array]:
    """Stretch, and cosine and sine of the turn, at offsets (N, 2) in units."""
    square = (offsets**2).sum(axis=1)
    radial, spiral = distortion.radial, distortion.spiral
    stretch = 1.0 + (radial[0] + radial[1] * square) * square
    angle = (spiral[0] + spiral[1] * square) * square
    return stretch, np.cos(angle), np.sin(angle)
