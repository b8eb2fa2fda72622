"""Rigid poses, cameras, C-arm angles, image grids, and LPS/RAS."""

from .camera import Camera, inverse_intrinsic
from .carm import CArmAngles, carm_angles, carm_camera
from .pose import (
    compose_about,
    exp_se3,
    invert_rigid,
    is_rigid,
    log_se3,
    lps_to_ras,
    ras_to_lps,
    rotation_angle_deg,
    transform_points,
    twist_about,
)
from .volume import Volume

__all__ = [
    "CArmAngles",
    "Camera",
    "Volume",
    "carm_angles",
    "carm_camera",
    "compose_about",
    "exp_se3",
    "inverse_intrinsic",
    "invert_rigid",
    "is_rigid",
    "log_se3",
    "lps_to_ras",
    "ras_to_lps",
    "rotation_angle_deg",
    "transform_points",
    "twist_about",
]
