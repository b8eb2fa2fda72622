"""Where the shadow of a sphere lies beside the shadow of its centre."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import Array, Camera, Distortion, distort, transform_points
from .types import Beads


def sphere_shift_px(camera: Camera, centres_world: ArrayLike, diameters_mm: ArrayLike) -> Array:
    """Say how far the centre of a sphere's outline lies from the projection of its centre.

    A sphere is shown as an ellipse, whose centre lies a little farther out from the principal
    point. With c the sphere's centre in camera axes and r its radius, the lines that touch the
    outline are those of the dual conic K (c c^T - r^2 I) K^T (R. Hartley and A. Zisserman,
    Multiple View Geometry, 2003, section 8.3), whose third column is the ellipse's centre. It is
    about focal length x tan(angle off the axis) x (r / depth)^2: hundredths of a pixel for
    beads. A grey profile within the outline shifts less than the outline, its middle not at all.

    Args:
        camera: of the picture.
        centres_world: (N, 3) in mm, in front of the source by more than the radius.
        diameters_mm: (N,) or a number.

    Returns:
        (N, 2) in pixels as (column, row), to be added to the projection of the centres.

    Raises:
        ValueError: where a sphere reaches the plane of the source: its outline is no ellipse.

    Example:
        >>> from RadGSRegLib.calibration import sphere_shift_px
        >>> from RadGSRegLib.geometry import Camera, pinhole
        >>> import numpy as np
        >>> camera = Camera(pinhole((4000.0, 4000.0), (512.0, 512.0)), np.eye(4), 1024, 1024)
        >>> sphere_shift_px(camera, [[0.0, 0.0, 800.0], [80.0, 0.0, 800.0]], 6.0).round(4)
        array([[0.    , 0.    ],
               [0.0056, 0.    ]])
    """
    centres = transform_points(camera.world_to_camera, np.asarray(centres_world, dtype=float))
    radii = np.broadcast_to(0.5 * np.asarray(diameters_mm, dtype=float), len(centres))
    if np.any(centres[:, 2] <= radii):
        raise ValueError("a sphere reaches the plane of the source: its outline is no ellipse")
    # The third column of K (c c^T - r^2 I) K^T, as K's third row is (0, 0, 1).
    column = centres * centres[:, 2:]
    column[:, 2] -= radii**2
    homogeneous = column @ camera.intrinsic.T
    # c's own: the same with r = 0.
    point = centres @ camera.intrinsic.T
    return np.asarray(
        homogeneous[:, :2] / homogeneous[:, 2:] - point[:, :2] / point[:, 2:], dtype=float
    )


def shadows_px(camera: Camera, beads: Beads, distortion: Distortion | None = None) -> Array:
    """Column, row and radius (N, 3) of the outlines of beads, whose frame is the world, pixels."""
    middles = camera.project(beads.centres_mm)
    if distortion is not None:
        middles = distort(middles, distortion)
    depth = transform_points(camera.world_to_camera, beads.centres_mm)[:, 2]
    return np.column_stack([middles, 0.5 * beads.diameters_mm * camera.focal_px / depth])


def in_picture(circles_px: Array, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which circles (N, 3) of column, row and radius reach into a picture of (columns, rows)."""
    middle, radius = circles_px[:, :2], circles_px[:, 2:]
    within = (middle > -radius) & (middle < np.array(size) - 1 + radius)
    return np.asarray(within.all(axis=1))
