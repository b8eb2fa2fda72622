"""Rigid poses, cameras, C-arm angles, image grids, masks, and LPS/RAS."""

from .camera import Camera, intrinsic_problem, inverse_intrinsic, triangulate
from .carm import (
    PATIENT_POSITIONS,
    CArmAngles,
    carm_angles,
    carm_camera,
    carm_rotation,
    room_to_patient,
)
from .mask import centroid, cut, mask_box, surface_points
from .pose import (
    compose_about,
    exp_se3,
    invert_rigid,
    is_rigid,
    log_se3,
    lps_to_ras,
    orthonormalize,
    ras_to_lps,
    rotation_angle_deg,
    skew,
    transform_points,
    translation,
    twist_about,
)
from .rigid import Rigid
from .volume import Volume

__all__ = [
    "intrinsic_problem",
    "PATIENT_POSITIONS",
    "CArmAngles",
    "Camera",
    "Rigid",
    "Volume",
    "carm_angles",
    "carm_camera",
    "carm_rotation",
    "centroid",
    "compose_about",
    "cut",
    "exp_se3",
    "inverse_intrinsic",
    "invert_rigid",
    "is_rigid",
    "log_se3",
    "lps_to_ras",
    "mask_box",
    "orthonormalize",
    "ras_to_lps",
    "room_to_patient",
    "rotation_angle_deg",
    "skew",
    "surface_points",
    "transform_points",
    "translation",
    "triangulate",
    "twist_about",
]
