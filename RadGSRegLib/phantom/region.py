"""How vertebrae move, and the box that a region of the spine stands for."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from ..errors import InputError
from ..geometry import Array, Rigid
from .canvas import posed_corners
from .parameters import SpineParameters
from .pelvis import SACRUM_BOX
from .placement import vertebra_poses
from .sizes import LABELS, MOBILE_LEVELS
from .torso import trunk_centre
from .vertebra import bounds

Region = str | Sequence[str] | tuple[ArrayLike, ArrayLike]


def random_poses(
    parameters: SpineParameters,
    seed: int | np.random.Generator,
    angle_deg: float = 5.0,
    offset_mm: float = 3.0,
) -> dict[str, Array]:
    """A rigid move (4, 4) of every vertebra about its own body's centre, in the spine's frame.

    Angles up to ``angle_deg`` about a random axis, offsets up to ``offset_mm``: how the spine on
    the operating table differs from the one in the CT. Same seed, same poses.
    """
    rng = np.random.default_rng(seed)
    moves = {}
    for name, pose in vertebra_poses(parameters).items():
        axis = rng.standard_normal(3)
        axis /= np.linalg.norm(axis)
        offset = rng.standard_normal(3)
        offset *= offset_mm * rng.uniform() ** (1 / 3) / np.linalg.norm(offset)
        turn = Rotation.from_rotvec(np.radians(angle_deg * rng.uniform()) * axis).as_matrix()
        centre = pose[:3, 3]
        moves[name] = Rigid.carrying(turn, centre, centre + offset).matrix
    return moves


def posed_vertebrae(
    parameters: SpineParameters, moves: Mapping[str, Array] | None
) -> dict[str, Array]:
    """`vertebra_poses` after ``moves``. Raises InputError for a name that is not there."""
    poses = vertebra_poses(parameters)
    for name, move in (moves or {}).items():
        if name not in poses:
            raise InputError("phantom", f"cannot move {name}", f"use one of {list(poses)}")
        poses[name] = np.asarray(move, dtype=float) @ poses[name]
    return poses


def region_box(
    parameters: SpineParameters,
    region: Region = "lumbar",
    moves: Mapping[str, Array] | None = None,
    margin_mm: float = 6.0,
) -> tuple[Array, Array]:
    """The box (lower, upper), mm, that a region stands for.

    ``region`` is "lumbar" (L1 to L5), "spine" (T12 to sacrum), "trunk" (the whole body from T12 to
    the pelvis), the name of a vertebra or a list of names (just them), or the box itself.
    """
    names: tuple[str, ...]
    if isinstance(region, str) and region == "trunk":
        lower, upper = region_box(parameters, "spine", moves, margin_mm)
        half_w, half_d = parameters.trunk_width_mm / 2 + 10, parameters.trunk_depth_mm / 2 + 10
        x, y = trunk_centre(parameters)
        lower[:2], upper[:2] = (x - half_w, y - half_d), (x + half_w, y + half_d)
        return lower, upper
    if isinstance(region, str):
        groups = {"lumbar": MOBILE_LEVELS[1:], "spine": (*MOBILE_LEVELS, "S1")}
        names = tuple(groups.get(region, (region,)))
    elif len(region) == 2 and not isinstance(region[0], str):
        return np.array(region[0], dtype=float), np.array(region[1], dtype=float)
    else:
        names = tuple(str(name) for name in region)
    unknown = [name for name in names if name not in LABELS]
    if unknown:
        raise InputError("phantom", f"no region named {unknown[0]}", f"use one of {list(LABELS)}")
    poses = posed_vertebrae(parameters, moves)
    corners = []
    for name in names:
        low, high = SACRUM_BOX if name == "S1" else bounds(parameters.vertebrae[name])
        corners.append(posed_corners(poses[name], low + 5.0, high - 5.0))
    points = np.concatenate(corners)
    return points.min(0) - margin_mm, points.max(0) + margin_mm
