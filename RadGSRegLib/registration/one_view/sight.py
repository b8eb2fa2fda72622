"""Along the line of sight of an X-ray, and across it."""

from __future__ import annotations

import numpy as np

from ...geometry import Array, Camera, Rigid, skew

# Of a surface, to tell its mean error.
_POINTS = 200


def sight_world(camera: Camera, ct_to_world: Array, centre_ct: Array) -> Array:
    """Return the line of sight (3,) through the bone's centre, away from the source, unit."""
    away = Rigid(ct_to_world).apply(centre_ct) - camera.source_world
    return np.asarray(away / np.linalg.norm(away))


def sight_ct(camera: Camera, ct_to_world: Array, centre_ct: Array) -> Array:
    """Return the same along the CT's axes."""
    turned: Array = ct_to_world[:3, :3].T @ sight_world(camera, ct_to_world, centre_ct)
    return turned


def with_depth_variance(covariance: Array, along_ct: Array, variance_mm2: float) -> Array:
    """Return a pose's covariance (6, 6) with more variance along a line of sight (3,)."""
    out = np.array(covariance, dtype=float)
    out[3:, 3:] += variance_mm2 * np.outer(along_ct, along_ct)
    return out


def error_parts_mm(
    covariance: Array, points_from_centre: Array, along_ct: Array
) -> dict[str, float]:
    """Split the expected error of points (N, 3) under a covariance (6, 6): along a line of sight
    (3,), and across it, root mean squares.

    Returns "depth_error_mm" and "in_plane_error_mm".
    """
    along = whole = 0.0
    some = points_from_centre[:: max(len(points_from_centre) // _POINTS, 1)]
    for point in some:
        jacobian = np.hstack([-skew(point), np.eye(3)])
        spread = jacobian @ covariance @ jacobian.T
        along += float(along_ct @ spread @ along_ct)
        whole += float(np.trace(spread))
    return {
        "depth_error_mm": float(np.sqrt(along / len(some))),
        "in_plane_error_mm": float(np.sqrt(max(whole - along, 0.0) / len(some))),
    }
