"""How a camera's picture of points moves with the points, and with the camera."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array
from .camera import Camera
from .pose import skew, transform_points

CAMERA_PARAMETERS = 9
"""Rotation vector (camera axes, radians), source (world, mm), focal length, principal point column
and row (pixels)."""


def projection_by_point(camera: Camera, points_world: ArrayLike) -> Array:
    """How pixels move with points (N, 3) in world mm: (N, 2, 3), pixels per mm."""
    in_camera = transform_points(camera.world_to_camera, points_world)
    return np.asarray(_by_place(camera, in_camera) @ camera.world_to_camera[:3, :3])


def projection_by_camera(camera: Camera, points_world: ArrayLike) -> Array:
    """How pixels of points (N, 3) in world mm move with the camera's parameters: (N, 2, 9).

    Their order is that of `CAMERA_PARAMETERS`: the camera turns about its source by a rotation
    vector on the left of its rotation; the source moves; the focal length (`Camera.focal_px`)
    grows, both axes' in their ratio.
    """
    in_camera = transform_points(camera.world_to_camera, points_world)
    by_place = _by_place(camera, in_camera)
    out = np.zeros((len(in_camera), 2, CAMERA_PARAMETERS))
    out[:, :, :3] = -by_place @ skew(in_camera)
    out[:, :, 3:6] = -by_place @ camera.world_to_camera[:3, :3]
    slopes = in_camera[:, :2] / in_camera[:, 2:]
    out[:, :, 6] = slopes @ camera.intrinsic[:2, :2].T / camera.focal_px
    out[:, 0, 7] = out[:, 1, 8] = 1.0
    return out


def _by_place(camera: Camera, in_camera: Array) -> Array:
    """How pixels move with points (N, 3) in camera axes: (N, 2, 3)."""
    depth = in_camera[:, 2]
    k = camera.intrinsic[:2, :2]
    out = np.empty((len(in_camera), 2, 3))
    out[:, :, :2] = k / depth[:, None, None]
    out[:, :, 2] = -(in_camera[:, :2] @ k.T) / depth[:, None] ** 2
    return out
