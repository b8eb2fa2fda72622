"""Sacrum, the upper part of the iliac bones, and the ribs of T12, as distance fields (mm)."""

import numpy as np

from .fields import FAR, Array, Points, smooth_max, smooth_min, swept_ellipse, swept_path
from .parameters import SpineParameters

SACRUM_BOX = (np.array([-72.0, -32.0, -112.0]), np.array([72.0, 52.0, 24.0]))


def sacrum(parameters: SpineParameters, points: Points) -> tuple[Array, Array]:
    """Distance (N,) to the sacrum and to its superior articular processes.

    Local frame: origin at the middle of the sacral end plate, z along the plate's normal.
    """
    size = parameters.vertebrae["L5"].size
    scale = size.width_lower / 49.4
    a = 0.5 * size.width_lower
    b = 0.5 * size.depth_lower * 0.95
    # The sacrum is bent forward: its lower end comes back under the body.
    spine = [(0.0, 0.0, -10.0), (0.0, 1.0, -37.0), (0.0, -6.0, -59.0), (0.0, -20.0, -78.0)]
    radii = [(a, b), (0.70 * a, 0.62 * b), (0.52 * a, 0.45 * b), (0.36 * a, 0.36 * b)]
    side_axis, back_axis = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
    out = swept_path(points, np.multiply(spine, scale), [side_axis] * 3, radii, 3.0)
    out = smooth_max(out, points.z, 2.0)

    facets = np.full(len(points), FAR, dtype=np.float32)
    half_canal = size.canal_width / 2
    wall = 0.5 * size.depth_lower
    for s in (1.0, -1.0):
        start, end = (s * 0.55 * a, 3.0, -14.0), (s * 2.02 * a, 12.0, -20.0)
        wing = swept_ellipse(points, start, end, back_axis, (0.75 * b, 14.0), (0.85 * b, 17.0))
        start, end = (s * 1.85 * a, 13.0, -24.0), (s * 0.75 * a, 0.0, -68.0)
        flank = swept_ellipse(points, start, end, back_axis, (0.75 * b, 12.0), (0.35 * b, 10.0))
        out = smooth_min(smooth_min(out, wing, 5.0), flank, 5.0)
        angle = np.radians(size.facet_angle + 4.0)
        blade = (s * np.sin(angle), np.cos(angle), 0.0)
        start = (s * (half_canal + 6.0), wall + 9.0, -8.0)
        end = (s * (half_canal + 8.0), wall + 9.5, 7.0)
        facet = swept_ellipse(points, start, end, blade, (6.5, 5.0), (6.8, 3.2))
        facets = np.minimum(facets, facet)
        start = (s * (half_canal + 9.0), wall + 8.5, -3.0)
        end = (s * (half_canal + 9.0), wall - 2.0, -20.0)
        pillar = swept_ellipse(points, start, end, side_axis, (6.5, 5.5), (8.0, 6.5))
        out = smooth_min(out, pillar, 4.0)
        start, end = (s * (half_canal + 2.0), wall + 12.0, -14.0), (s * 1.0, wall + 21.0, -18.0)
        lamina = swept_ellipse(points, start, end, (0.0, 0.2, -0.98), (8.0, 3.6), (8.0, 3.6))
        out = smooth_min(smooth_min(out, facet, 3.0), lamina, 3.0)
        start, end = (s * 14.0, wall + 8.0, -30.0), (s * 8.0, wall - 11.0, -72.0)
        back = swept_ellipse(points, start, end, side_axis, (9.0, 3.0), (7.0, 2.6))
        out = smooth_min(out, back, 3.0)
    start, end = (0.0, wall + 24.0, -20.0), (0.0, wall - 8.0, -74.0)
    crest = swept_ellipse(points, start, end, side_axis, (3.0, 6.0), (3.0, 4.0))
    out = smooth_min(out, crest, 3.0)
    start, end = (0.0, wall + 8.0, 14.0), (0.0, 1.0, -70.0)
    canal = swept_ellipse(points, start, end, side_axis, (half_canal, 8.0), (6.0, 3.0))
    out = smooth_max(out, -canal, 1.5)
    for s in (1.0, -1.0):
        for x, z in ((s * 0.86 * a, -30.0), (s * 0.74 * a, -52.0)):
            ventral, dorsal = (x, -30.0, z - 4), (x, 40.0, z + 4)
            hole = swept_ellipse(points, ventral, dorsal, side_axis, (5.0, 5.0), (4.0, 4.0))
            out = smooth_max(out, -hole, 2.0)
    return out, facets


def ilium(points: Points, side: int, scale: float) -> Array:
    """Distance (N,) to the upper part of one iliac wing.

    Frame: upright, at the middle of the sacral end plate.
    """
    path = [(47.0, 42.0, -38.0), (66.0, 34.0, -22.0), (96.0, 4.0, -14.0), (128.0, -48.0, -26.0)]
    radii = [(8.0, 26.0), (6.0, 38.0), (3.6, 48.0), (6.5, 36.0)]
    scaled = np.multiply(path, [side * scale, scale, scale])
    normals = [(y, -x, 0.0) for x, y, _ in np.diff(scaled, axis=0)]
    return swept_path(points, scaled, normals, radii, 4.0)


def rib(points: Points, side: int, wall: float, longer: float = 1.0) -> Array:
    """Distance (N,) to the twelfth rib of one side, in the frame of T12; of one so many times
    ``longer``, in that of a vertebra above."""
    course = ((22.0, 3.0, 4.0), (52.0, 26.0, -10.0), (86.0, 20.0, -36.0), (106.0, -8.0, -56.0))
    path = [(side * (22.0 + longer * (x - 22.0)), wall + y, longer * z) for x, y, z in course]
    radii = [(4.0, 5.0), (3.0, 6.0), (2.8, 6.0), (2.2, 4.0)]
    return swept_path(points, path, [(0.3 * side, 1.0, 0.0)] * 3, radii, 2.0)
