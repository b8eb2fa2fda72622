"""Rigid transforms on SE(3), 4x4 and row-major, acting on column vectors (mm).

Convention, stated once for the whole project: a pose ``a_to_b`` is perturbed **on the right, about
a centre** given in frame ``a`` ::

    a_to_b(xi) = a_to_b @ C @ exp(xi) @ C^-1,   C = translation by centre_a

with the twist ``xi = (rx, ry, rz, tx, ty, tz)``: rotation vector in radians, then translation in
mm, both along the axes of frame ``a``. Rotation and translation therefore decouple at the centre.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from .arrays import Array

THREE_DECIMALS = 2e-3
"""How far R R^T of a rotation with three decimals may be from the identity: 5e-4 in each element
make at most 2 sqrt(3) 5e-4 = 1.74e-3 (of a million random ones: 1.69e-3). A shear of 0.12 degrees
is more.
"""

_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def skew(vector: ArrayLike) -> Array:
    """The matrix (..., 3, 3) whose product with x is the cross product ``vector x x``, for vectors
    (..., 3)."""
    v = np.asarray(vector, dtype=float)
    out = np.zeros((*v.shape, 3))
    out[..., 2, 1], out[..., 0, 2], out[..., 1, 0] = v[..., 0], v[..., 1], v[..., 2]
    return out - out.swapaxes(-1, -2)


def twist_generators() -> Array:
    """The derivatives (6, 4, 4) of `exp_se3` by the six numbers of a twist, at zero."""
    out = np.zeros((6, 4, 4))
    out[:3, :3, :3] = [skew(axis) for axis in np.eye(3)]
    out[3:, :3, 3] = np.eye(3)
    return out


def _rotation_and_left_jacobian(rotation_vector: Array) -> tuple[Array, Array]:
    """Rodrigues' formula, and its integral (..., 3, 3), for vectors (..., 3)."""
    angle = np.linalg.norm(rotation_vector, axis=-1)[..., None, None]
    k = skew(rotation_vector)
    square = k @ k
    small = angle < 1e-4
    safe = np.where(small, 1.0, angle)
    sine = np.where(small, 1.0 - angle**2 / 6.0, np.sin(safe) / safe)
    a = np.where(small, 0.5 - angle**2 / 24.0, (1.0 - np.cos(safe)) / safe**2)
    b = np.where(small, 1.0 / 6.0, (safe - np.sin(safe)) / safe**3)
    return np.eye(3) + sine * k + a * square, np.eye(3) + a * k + b * square


def exp_se3(twist: ArrayLike) -> Array:
    """The rigid transform (..., 4, 4) of a twist (..., 6): rotation vector (rad), then translation
    (mm)."""
    xi = np.asarray(twist, dtype=float)
    rotation, left = _rotation_and_left_jacobian(xi[..., :3])
    return affine(rotation, (left @ xi[..., 3:, None])[..., 0])


def log_se3(matrix: ArrayLike) -> Array:
    """The twist (6,) of a rigid transform (4, 4), inverse of `exp_se3` for angles below pi."""
    m = np.asarray(matrix, dtype=float)
    rotation_vector = Rotation.from_matrix(m[:3, :3]).as_rotvec()
    translation = np.linalg.solve(_rotation_and_left_jacobian(rotation_vector)[1], m[:3, 3])
    return np.concatenate([rotation_vector, translation])


def affine(linear: ArrayLike, offset: ArrayLike) -> Array:
    """The transform (..., 4, 4) that multiplies by ``linear`` (..., 3, 3) and then adds ``offset``
    (..., 3)."""
    move = np.asarray(offset, dtype=float)
    out = np.zeros((*move.shape[:-1], 4, 4))
    out[..., :3, :3] = linear
    out[..., :3, 3] = move
    out[..., 3, 3] = 1.0
    return out


def translation(offset: ArrayLike) -> Array:
    """The transform (..., 4, 4) that adds ``offset`` (..., 3) mm."""
    return affine(np.eye(3), offset)


def compose_about(a_to_b: ArrayLike, twist: ArrayLike, centre_a: ArrayLike) -> Array:
    """``a_to_b`` (..., 4, 4) perturbed on the right by ``twist`` (..., 6) about ``centre_a`` (...,
    3) mm."""
    centre = np.asarray(centre_a, dtype=float)
    moved = np.asarray(a_to_b, dtype=float) @ translation(centre) @ exp_se3(twist)
    return orthonormalize(moved @ translation(-centre))


def twist_about(a_to_b: ArrayLike, other_a_to_b: ArrayLike, centre_a: ArrayLike) -> Array:
    """The twist (6,) that takes ``a_to_b`` to ``other_a_to_b`` under `compose_about`."""
    centre = np.asarray(centre_a, dtype=float)
    delta = invert_rigid(a_to_b) @ np.asarray(other_a_to_b, dtype=float)
    return log_se3(translation(-centre) @ delta @ translation(centre))


def invert_rigid(a_to_b: ArrayLike) -> Array:
    """``b_to_a`` of a rigid ``a_to_b`` (4, 4)."""
    m = np.asarray(a_to_b, dtype=float)
    return affine(m[:3, :3].T, -m[:3, :3].T @ m[:3, 3])


def orthonormalize(a_to_b: ArrayLike) -> Array:
    """The nearest rigid transform (polar decomposition of the rotation part), (..., 4, 4)."""
    matrix = np.asarray(a_to_b, dtype=float)
    u, _, vt = np.linalg.svd(matrix[..., :3, :3])
    u[..., -1] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return affine(u @ vt, matrix[..., :3, 3])


def is_rigid(matrix: ArrayLike, tolerance: float = 1e-3) -> bool:
    """Whether a 4x4 is finite, orthonormal, right-handed and has the last row (0, 0, 0, 1)."""
    m = np.asarray(matrix, dtype=float)
    if m.shape != (4, 4) or not np.isfinite(m).all():
        return False
    rotation = m[:3, :3]
    return bool(
        np.abs(rotation @ rotation.T - np.eye(3)).max() < tolerance
        and np.linalg.det(rotation) > 0
        and np.abs(m[3] - [0, 0, 0, 1]).max() < 1e-9
    )


def transform_points(a_to_b: ArrayLike, points_a: ArrayLike) -> Array:
    """Points (N, 3), or one (3,), mm of frame ``a`` in frame ``b``; the matrix is affine."""
    m = np.asarray(a_to_b, dtype=float)
    return np.asarray(np.asarray(points_a, dtype=float) @ m[:3, :3].T + m[:3, 3])


def rotation_angle_deg(a_to_b: ArrayLike) -> float:
    """The rotation angle of a rigid transform, degrees in [0, 180]."""
    rotation = Rotation.from_matrix(np.asarray(a_to_b, dtype=float)[:3, :3])
    return float(np.degrees(rotation.magnitude()))


def lps_to_ras(a_to_b_lps: ArrayLike) -> Array:
    """The same physical transform for points given in RAS instead of LPS."""
    return np.asarray(_LPS_RAS @ np.asarray(a_to_b_lps, dtype=float) @ _LPS_RAS)


def ras_to_lps(a_to_b_ras: ArrayLike) -> Array:
    """The same physical transform for points given in LPS instead of RAS."""
    return lps_to_ras(a_to_b_ras)
