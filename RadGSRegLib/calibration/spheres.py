"""Where the shadow of a sphere lies beside the shadow of its centre."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..geometry import Array, Camera, transform_points


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
