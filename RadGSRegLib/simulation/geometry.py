"""The C-arm's two views and random rigid moves."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from ..geometry import Array, Camera, Rigid, affine, pinhole
from .parameters import SimulationParameters

AP, LATERAL = "AP", "LA"


def c_arm_camera(
    parameters: SimulationParameters,
    view: str,
    primary_deg: float = 0.0,
    secondary_deg: float = 0.0,
    principal_offset_px: ArrayLike = (0.0, 0.0),
) -> Camera:
    """The camera of one view about the isocentre, which is the world's origin.

    AP: the source is behind the patient and the beam goes forward (-y); lateral: it goes to the
    patient's left (+x). ``primary_deg`` turns the C-arm about the patient's axis, ``secondary_deg``
    towards head or feet. The image's rows run downwards, from head to feet.
    """
    base = {AP: np.array([0.0, -1.0, 0.0]), LATERAL: np.array([1.0, 0.0, 0.0])}[view]
    level = Rotation.from_euler("z", primary_deg, degrees=True).apply(base)
    tilt = np.radians(secondary_deg)
    z = np.cos(tilt) * level + np.sin(tilt) * np.array([0.0, 0.0, 1.0])
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    axes = np.stack([x, np.cross(z, x), z])
    world_to_camera = affine(axes, [0.0, 0.0, parameters.source_isocentre_mm])
    focal = parameters.source_detector_mm / parameters.pixel_mm
    middle = (parameters.size_px - 1) / 2.0 + np.asarray(principal_offset_px, dtype=float)
    size = parameters.size_px
    return Camera(pinhole((focal, focal), middle), world_to_camera, size, size)


def move_about(centre: ArrayLike, rotation: Rotation, offset: ArrayLike) -> Array:
    """The rigid transform (4, 4) that turns about ``centre`` (3,) and then shifts by ``offset``."""
    c = np.asarray(centre, dtype=float)
    return Rigid.carrying(rotation.as_matrix(), c, c + np.asarray(offset, dtype=float)).matrix


def random_turn(generator: np.random.Generator, degrees: float) -> Rotation:
    """A turn about a random axis by up to ``degrees``."""
    axis = generator.standard_normal(3)
    axis /= np.linalg.norm(axis)
    return Rotation.from_rotvec(np.radians(degrees * generator.uniform()) * axis)


def random_offset(generator: np.random.Generator, length: float) -> Array:
    """An offset (3,) uniform in a ball of radius ``length``."""
    direction = generator.standard_normal(3)
    direction /= np.linalg.norm(direction)
    return np.asarray(direction * length * generator.uniform() ** (1.0 / 3.0))
