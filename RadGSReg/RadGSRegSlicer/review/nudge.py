"""Moving the vertebra by hand, along and about the axes of an X-ray's picture."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from RadGSRegLib.geometry import Array, affine, orthonormalize, transform_points, translation
from scipy.spatial.transform import Rotation

from .views import sliceToRas

AXES = ("right", "up", "away", "tilt", "turn", "roll")
SHIFTS = AXES[:3]


@dataclass(frozen=True)
class Nudge:
    """Shifts in mm and turns in degrees, in the axes of a picture.

    ``right`` and ``up`` as seen on the picture, ``away`` from the source; ``tilt`` about the axis
    to the right (the top comes nearer), ``turn`` about the axis upwards, ``roll`` clockwise.
    """

    right: float = 0.0
    up: float = 0.0
    away: float = 0.0
    tilt: float = 0.0
    turn: float = 0.0
    roll: float = 0.0

    def plus(self, axis: str, amount: float) -> Self:
        """This one with more along or about one of `AXES`."""
        return replace(self, **{axis: getattr(self, axis) + amount})


def pictureAxes(xrayNode: Any) -> Array:
    """Rows (3, 3): right and up on the X-ray's picture, and away from its source; RAS."""
    from ..scene import xray

    matrix = sliceToRas(xrayNode)
    away = xray.getGeometry(xrayNode).camera.view_direction_world * [-1.0, -1.0, 1.0]
    return np.stack([matrix[:3, 0], matrix[:3, 1], away])


def nudged(base: ArrayLike, nudge: Nudge, axes: ArrayLike, centreCt: ArrayLike) -> Array:
    """A pose (4, 4) moved by a nudge in ``axes`` (`pictureAxes`), about the vertebra's centre.

    ``centreCt`` (3,) mm in the CT. Shifts move the centre; turns leave it where the shifts put it.
    """
    matrix = np.asarray(base, dtype=float)
    right, up, away = np.asarray(axes, dtype=float)
    centre = transform_points(matrix, np.asarray(centreCt, dtype=float)[None])[0]
    # Clockwise is about the axis into the screen, in a mirrored picture too.
    into = np.cross(up, right)
    vector = np.radians(nudge.tilt * right + nudge.turn * up + nudge.roll * into)
    turn = Rotation.from_rotvec(vector).as_matrix()
    shift = nudge.right * right + nudge.up * up + nudge.away * away
    moved = affine(turn, centre + shift) @ translation(-centre) @ matrix
    return orthonormalize(moved)
