"""Signed distance fields (negative inside, mm) on scattered points, and how to blend them.

Everything works on flat float32 arrays. A field that is far away is not computed: a primitive is
evaluated only inside its own box, and elsewhere reports `FAR`, so a shape made of thirty parts
costs little more than its parts do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float32]

FAR = np.float32(8.0)
"""Distance reported outside a primitive's box, mm; larger than every blending width."""


@dataclass(frozen=True)
class Points:
    """Coordinates (N,) each, float32, mm, of one local frame."""

    x: Array
    y: Array
    z: Array

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def of(cls, points: ArrayLike) -> Points:
        """From an array (N, 3)."""
        p = np.asarray(points, dtype=np.float32)
        return cls(*np.ascontiguousarray(p.T))

    def take(self, where: NDArray[np.intp]) -> Points:
        """The points at the indices ``where``."""
        return Points(self.x[where], self.y[where], self.z[where])

    def moved(self, matrix: NDArray[np.float64]) -> Points:
        """The points taken by a rigid matrix (4, 4) to another frame."""
        m = matrix.astype(np.float32)
        return Points(*(self.x * a + self.y * b + self.z * c + d for a, b, c, d in m[:3]))

    def inside_box(self, lower: ArrayLike, upper: ArrayLike) -> NDArray[np.intp]:
        """Indices of the points within an axis-aligned box."""
        low = np.asarray(lower, dtype=np.float32)
        high = np.asarray(upper, dtype=np.float32)
        keep = (self.z > low[2]) & (self.z < high[2])
        keep &= (self.y > low[1]) & (self.y < high[1])
        keep &= (self.x > low[0]) & (self.x < high[0])
        return np.flatnonzero(keep)


def smooth_min(a: Array, b: Array, width: float) -> Array:
    """The union of two fields, rounded over ``width`` mm (quadratic smooth minimum)."""
    h = np.maximum(np.float32(width) - np.abs(a - b), 0.0, dtype=np.float32)
    return np.asarray(np.minimum(a, b) - h * h * np.float32(0.25 / width), dtype=np.float32)


def smooth_max(a: Array, b: Array, width: float) -> Array:
    """The intersection of two fields, rounded over ``width`` mm."""
    return np.asarray(-smooth_min(-a, -b, width), dtype=np.float32)


def swept_ellipse(
    points: Points,
    start: ArrayLike,
    end: ArrayLike,
    side: ArrayLike,
    radii_start: tuple[float, float],
    radii_end: tuple[float, float],
) -> Array:
    """Distance (N,) to an elliptic rod from ``start`` to ``end`` with rounded ends.

    ``side`` (3,) is the direction of the first radius, made normal to the rod's axis; the second
    radius is normal to both. Radii (mm) change linearly along the rod. First-order distance
    (value over gradient), exact for a round rod.
    """
    a = np.asarray(start, dtype=float)
    b = np.asarray(end, dtype=float)
    axis = b - a
    length = float(np.linalg.norm(axis))
    axis = axis / max(length, 1e-6)
    first = np.asarray(side, dtype=float)
    first = first - axis * (first @ axis)
    first /= np.linalg.norm(first)
    second = np.cross(axis, first)

    out = np.full(len(points), FAR, dtype=np.float32)
    reach = max(*radii_start, *radii_end) + float(FAR)
    where = points.inside_box(np.minimum(a, b) - reach, np.maximum(a, b) + reach)
    if len(where) == 0:
        return out
    near = points.take(where)
    x, y, z = near.x - np.float32(a[0]), near.y - np.float32(a[1]), near.z - np.float32(a[2])

    def along(direction: NDArray[np.float64]) -> Array:
        d = direction.astype(np.float32)
        return np.asarray(x * d[0] + y * d[1] + z * d[2])

    t = along(axis)
    fraction = np.clip(t / np.float32(max(length, 1e-6)), 0.0, 1.0)
    beyond = t - fraction * np.float32(length)
    r1 = np.float32(radii_start[0]) + fraction * np.float32(radii_end[0] - radii_start[0])
    r2 = np.float32(radii_start[1]) + fraction * np.float32(radii_end[1] - radii_start[1])
    r0 = np.minimum(r1, r2)
    u, v, w = along(first) / r1, along(second) / r2, beyond / r0
    value = np.sqrt(u * u + v * v + w * w)
    slope = np.sqrt((u / r1) ** 2 + (v / r2) ** 2 + (w / r0) ** 2)
    distance = np.where(value > 1e-3, value * (value - 1.0) / np.maximum(slope, 1e-6), -r0)
    out[where] = np.minimum(distance, FAR)
    return out


def swept_path(
    points: Points,
    path: Iterable[ArrayLike],
    sides: Iterable[ArrayLike],
    radii: Iterable[tuple[float, float]],
    width: float,
) -> Array:
    """Distance (N,) to rods from point to point of a path, blended over ``width`` mm.

    ``sides`` as in `swept_ellipse`, of each rod; ``radii`` (mm) at each point.
    """
    out = np.full(len(points), FAR, dtype=np.float32)
    rods = zip(pairwise(path), sides, pairwise(radii), strict=True)
    for (start, end), side, (radii_start, radii_end) in rods:
        rod = swept_ellipse(points, start, end, side, radii_start, radii_end)
        out = smooth_min(out, rod, width)
    return out


def ellipsoid(points: Points, centre: ArrayLike, radii: ArrayLike) -> Array:
    """Distance (N,) to an axis-aligned ellipsoid, first order."""
    c = np.asarray(centre, dtype=np.float32)
    r = np.asarray(radii, dtype=np.float32)
    out = np.full(len(points), FAR, dtype=np.float32)
    where = points.inside_box(c - r - FAR, c + r + FAR)
    if len(where) == 0:
        return out
    near = points.take(where)
    u, v, w = (near.x - c[0]) / r[0], (near.y - c[1]) / r[1], (near.z - c[2]) / r[2]
    value = np.sqrt(u * u + v * v + w * w)
    slope = np.sqrt((u / r[0]) ** 2 + (v / r[1]) ** 2 + (w / r[2]) ** 2)
    distance = np.where(value > 1e-3, value * (value - 1.0) / np.maximum(slope, 1e-6), -r.min())
    out[where] = np.minimum(distance, FAR)
    return out


def superellipse(u: Array, v: Array, a: Array, b: Array, power: float) -> Array:
    """First-order distance to (|u/a|^p + |v/b|^p) = 1 in the plane; ``a`` and ``b`` may vary."""
    p = np.float32(power)
    nu = np.maximum(np.abs(u) / a, np.float32(1e-4))
    nv = np.maximum(np.abs(v) / b, np.float32(1e-4))
    pu, pv = nu ** (p - 1), nv ** (p - 1)
    value = pu * nu + pv * nv
    gauge = value ** np.float32(1.0 / power)
    slope = (value / gauge) ** np.float32(-1.0) * np.sqrt((pu / a) ** 2 + (pv / b) ** 2)
    return np.asarray((gauge - 1.0) / np.maximum(slope, 1e-6), dtype=np.float32)


def coverage(distance: Array, sigma: float) -> Array:
    """The share (N,) of a blurred voxel that lies inside: a smooth step of width ``sigma`` mm.

    For a flat surface this is the exact average over a Gaussian aperture, so that differences of
    two coverages give the partial volume of a shell much thinner than the voxel.
    """
    t = np.clip(distance * np.float32(1.0 / sigma), -3.0, 3.0)
    # Logistic approximation of the normal distribution function, error below 2e-4.
    return np.asarray(
        1.0 / (1.0 + np.exp(np.float32(1.5976) * t + np.float32(0.07056) * t**3)),
        dtype=np.float32,
    )
