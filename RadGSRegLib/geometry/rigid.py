"""A rigid transform as a value: apply it, invert it, chain it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array
from .pose import affine, invert_rigid, transform_points


@dataclass(frozen=True, eq=False)
class Rigid:
    """Move points rigidly from frame ``a`` to frame ``b``: a value to apply, invert and chain.

    Args:
        matrix: (4, 4), taken as float64; acts on column vectors in mm. Whether it is rigid is for
            `is_rigid` to say.

    Raises:
        ValueError: for another shape.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.geometry import Rigid
        >>> ct_to_world = Rigid.from_parts(np.diag([-1.0, -1.0, 1.0]), [10.0, 0.0, 5.0])
        >>> ct_to_world.apply([1.0, 2.0, 3.0])
        array([ 9., -2.,  8.])
        >>> (ct_to_world.inverse() @ ct_to_world).apply([1.0, 2.0, 3.0])
        array([1., 2., 3.])
    """

    matrix: Array

    def __post_init__(self) -> None:
        matrix = np.asarray(self.matrix, dtype=np.float64)
        if matrix.shape != (4, 4):
            raise ValueError(f"a rigid transform is a 4x4 matrix, not {matrix.shape}")
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def from_parts(cls, rotation: ArrayLike, translation: ArrayLike) -> Rigid:
        """Put a rotation (3, 3) and a translation (3,) mm together."""
        return cls(affine(rotation, translation))

    @classmethod
    def carrying(cls, rotation: ArrayLike, point_a: ArrayLike, point_b: ArrayLike) -> Rigid:
        """Turn by a rotation (3, 3) so that ``point_a`` (3,) mm comes to lie at ``point_b``."""
        turn = np.asarray(rotation, dtype=np.float64)
        return cls.from_parts(turn, np.asarray(point_b) - turn @ np.asarray(point_a))

    @property
    def rotation(self) -> Array:
        """The rotation (3, 3)."""
        return self.matrix[:3, :3]

    @property
    def translation(self) -> Array:
        """The translation (3,) mm: where the origin of frame ``a`` lies in frame ``b``."""
        return self.matrix[:3, 3]

    def apply(self, points_a: ArrayLike) -> Array:
        """Express a point (3,) or points (N, 3) mm of frame ``a`` in frame ``b``."""
        points = np.asarray(points_a, dtype=np.float64)
        if points.ndim == 1:
            return np.asarray(self.rotation @ points + self.translation)
        return transform_points(self.matrix, points)

    def inverse(self) -> Rigid:
        """``b_to_a``."""
        return Rigid(invert_rigid(self.matrix))

    def __matmul__(self, other_c_to_a: Rigid) -> Rigid:
        """``c_to_b``: first the other, then this."""
        return Rigid(self.matrix @ other_c_to_a.matrix)
