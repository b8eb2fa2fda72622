"""What one plane alone leaves open: how far away the bone is."""

from __future__ import annotations

import numpy as np

from ..cases import View
from ..geometry import Array, Rigid, skew
from . import bounds

# Of a surface, to tell its mean error.
_POINTS = 200


def sight_ct(view: View, ct_to_world: Array, centre_ct: Array) -> Array:
    """Return the line of sight (3,) through the bone's centre, away from the source, along the CT's
    axes."""
    at = Rigid(ct_to_world)
    sight_world = at.apply(centre_ct) - view.camera.source_world
    turned: Array = at.rotation.T @ (sight_world / np.linalg.norm(sight_world))
    return turned


def with_open_depth(covariance: Array, along_ct: Array) -> Array:
    """Return a pose's covariance (6, 6) with what no fit to one plane says of itself: by how much
    more it leaves the bone away from its place along a line of sight (3,)."""
    out = np.array(covariance, dtype=float)
    out[3:, 3:] += bounds.OPEN_DEPTH_MM**2 * np.outer(along_ct, along_ct)
    return out


def error_parts_mm(
    covariance: Array, points_from_centre: Array, along_ct: Array
) -> dict[str, float]:
    """Split the expected error of points (N, 3) under a covariance (6, 6): along a line of sight
    (3,), and across it, root mean squares."""
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
