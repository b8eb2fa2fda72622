"""Path lengths (mm) of rays through simple bodies, in closed form: trunk, gas, metal tools.

Rays: ``source`` (3,), unit ``directions`` (..., 3), all in world mm.
"""

import numpy as np
from numpy.typing import ArrayLike

from ..geometry import Array


def quadric_chord(
    source: ArrayLike, directions: ArrayLike, centre: ArrayLike, shape: ArrayLike
) -> tuple[Array, Array]:
    """Entry and exit parameters where ``|shape (p - centre)| = 1``; equal where a ray misses.

    ``shape`` (M, 3): three rows for an ellipsoid (axes over radii), two for an endless elliptic
    cylinder.
    """
    a = np.asarray(shape, dtype=float)
    d = np.asarray(directions, dtype=float) @ a.T
    o = a @ (np.asarray(source, dtype=float) - np.asarray(centre, dtype=float))
    dd, od = (d * d).sum(-1), (d * o).sum(-1)
    # The discriminant itself would cancel badly with the source 700 mm away; the ray's point
    # nearest to the centre does not.
    t0 = -od / np.maximum(dd, 1e-12)
    nearest = o + t0[..., None] * d
    half = np.sqrt(np.maximum(1.0 - (nearest * nearest).sum(-1), 0.0) / np.maximum(dd, 1e-12))
    return t0 - half, t0 + half


def ellipsoid_path(
    source: ArrayLike, directions: ArrayLike, centre: ArrayLike, axes: ArrayLike, radii: ArrayLike
) -> Array:
    """Length (...) inside an ellipsoid; ``axes`` (3, 3) one unit axis per row, ``radii`` (3,) mm.

    With two axes and radii it is an endless elliptic cylinder.
    """
    shape = np.asarray(axes, dtype=float) / np.asarray(radii, dtype=float)[:, None]
    enter, leave = quadric_chord(source, directions, centre, shape)
    return np.asarray(leave - enter)


def cylinder_path(
    source: ArrayLike,
    directions: ArrayLike,
    start: ArrayLike,
    end: ArrayLike,
    radius: float,
    inner_radius: float = 0.0,
) -> Array:
    """Length (...) inside a solid (or hollow) round cylinder with flat ends."""
    a, b = np.asarray(start, dtype=float), np.asarray(end, dtype=float)
    length = float(np.linalg.norm(b - a))
    axis = (b - a) / length
    helper = np.eye(3)[int(np.argmin(np.abs(axis)))]
    u = np.cross(axis, helper)
    u /= np.linalg.norm(u)
    frame = np.stack([u, np.cross(axis, u)])
    d = np.asarray(directions, dtype=float)
    s = np.asarray(source, dtype=float)
    along = d @ axis
    safe = np.where(np.abs(along) < 1e-9, 1e-9, along)
    first, second = (a - s) @ axis / safe, (b - s) @ axis / safe
    low, high = np.minimum(first, second), np.maximum(first, second)

    def inside(r: float) -> Array:
        enter, leave = quadric_chord(s, d, a, frame / r)
        return np.asarray(np.maximum(np.minimum(leave, high) - np.maximum(enter, low), 0.0))

    out = inside(radius)
    return out - inside(inner_radius) if inner_radius > 0 else out
