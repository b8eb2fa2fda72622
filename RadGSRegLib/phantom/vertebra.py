"""The shape of one mobile vertebra (T12 to L5) in its own frame.

Local frame: origin at the body's centre, x to the person's left, y backwards, z upwards along the
body's axis (LPS when upright). All lengths in mm.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .fields import (
    FAR,
    Array,
    Points,
    ellipsoid,
    smooth_max,
    smooth_min,
    superellipse,
    swept_ellipse,
)
from .parameters import VertebraParameters

ARCH, SPINOUS, COSTAL_LEFT, COSTAL_RIGHT = 41, 42, 43, 44
SUPERIOR_LEFT, SUPERIOR_RIGHT, INFERIOR_LEFT, INFERIOR_RIGHT = 45, 46, 47, 48
CORPUS_BORDER, CORPUS = 49, 50

BORDER_MM = 2.4
"""How deep the subregion "corpus border" reaches below the body's surface."""

_SHELL_OF_PART = np.ones(51, dtype=np.float32)
# Facets and laminae carry the load behind; the processes are muscle levers with a thin shell.
_SHELL_OF_PART[[SUPERIOR_LEFT, SUPERIOR_RIGHT, INFERIOR_LEFT, INFERIOR_RIGHT]] = 1.35
_SHELL_OF_PART[[COSTAL_LEFT, COSTAL_RIGHT]] = 0.55
_SHELL_OF_PART[SPINOUS] = 0.7

JOINT_MM = 1.6
"""Width of a facet joint's space."""


@dataclass(frozen=True)
class Shape:
    """Distances (N,) to a vertebra's surface, thickness of its shell there, part numbers 41..50."""

    distance: Array
    shell: Array
    part: NDArray[np.uint8]


def bounds(p: VertebraParameters) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A local box (lower, upper) that holds the whole vertebra."""
    s = p.size
    half_width = max(s.transverse_span * (1 + abs(p.asymmetry)), s.width_lower, s.width_upper) / 2
    depth = max(s.depth_upper, s.depth_lower) / 2
    height = max(s.height_anterior, s.height_posterior) / 2
    lower = [-half_width - 6.0, -depth - 7.0, -height - 24.0]
    upper = [half_width + 6.0, depth + s.spinous_length + 7.0, height + 20.0]
    return np.array(lower), np.array(upper)


def end_planes(p: VertebraParameters, points: Points) -> tuple[Array, Array]:
    """Heights (N,) of the upper and the lower end plate above each point's (x, y)."""
    s = p.size
    depth = 0.5 * (s.depth_upper + s.depth_lower)
    middle = np.float32(s.half_height)
    slope = np.float32(0.5 * (s.height_posterior - s.height_anterior) / depth)
    tilt = np.clip(points.y, -depth, depth) * slope

    def hollow(width: float, length: float, dip: float, shift: float) -> Array:
        u = points.x / np.float32(0.44 * width)
        v = (points.y - np.float32(shift)) / np.float32(0.42 * length)
        return np.asarray(np.float32(dip) * np.maximum(1.0 - (u * u + v * v), 0.0) ** 0.75)

    top = middle + tilt - hollow(s.width_upper, s.depth_upper, p.concavity_upper, 1.0)
    bottom = -middle - tilt + hollow(s.width_lower, s.depth_lower, p.concavity_lower, 3.0)
    return top, bottom


def body_wall(p: VertebraParameters, points: Points, waist: float | None = None) -> Array:
    """Distance (N,) to the body's side wall, as if it went on above and below."""
    s = p.size
    level = np.clip(points.z / np.float32(s.half_height), -1.0, 1.0)
    upper = (level + 1.0) * np.float32(0.5)
    pinch = 1.0 - np.float32(p.waist if waist is None else waist) * (1.0 - np.abs(level) ** 2.6)
    a = (s.width_lower + upper * np.float32(s.width_upper - s.width_lower)) * 0.5 * pinch
    b = (s.depth_lower + upper * np.float32(s.depth_upper - s.depth_lower)) * 0.5
    # The front is rounder and longer than the back, which is nearly flat.
    y = points.y - np.float32(0.16) * b
    front = b * pinch * np.float32(1.16)
    back = b * np.float32(0.84)
    ahead = y < 0
    side = np.empty(len(points), dtype=np.float32)
    for part, depth, power in ((ahead, front, 2.15), (~ahead, back, 2.9)):
        side[part] = superellipse(points.x[part], y[part], a[part], depth[part], power)
    return side


def _canal(p: VertebraParameters, points: Points) -> Array:
    """Distance (N,) to the vertebral canal: rounded in front, narrowing to a point behind."""
    s = p.size
    half = s.canal_depth / 2
    v = points.y - np.float32(s.half_depth + half - 0.8)
    narrowing = np.clip((v + half) / (2 * half), 0.0, 1.0)
    a = np.float32(s.canal_width / 2) * (1.0 - np.float32(0.55) * narrowing**1.6)
    b = np.full(len(points), half, dtype=np.float32)
    return superellipse(points.x, v, a, b, 2.2)


def _pair(p: VertebraParameters, side: int) -> float:
    return 1.0 + side * p.asymmetry


def _superior_facet(p: VertebraParameters, points: Points, side: int) -> Array:
    """The superior articular process of one ``side`` (+1 left, -1 right)."""
    s = p.size
    wall = s.half_depth
    top = s.half_height
    x0 = s.canal_width / 2
    angle = np.radians(s.facet_angle)
    blade = np.array([side * np.sin(angle), np.cos(angle), 0.0])
    root = np.array([side * (x0 + 4.5), wall + 9.5, 0.2 * top])
    tip = np.array([side * (x0 + 7.0), wall + 10.5, top + 6.5 * _pair(p, side)])
    facet = swept_ellipse(points, root, tip, blade, (6.4, 4.6), (7.4, 3.2))
    knob = ellipsoid(points, tip + [side * 1.8, 4.0, -7.0], (4.2, 4.8, 5.2))
    return smooth_min(facet, knob, 3.0)


def _inferior_facet(p: VertebraParameters, points: Points, side: int) -> Array:
    """The inferior articular process of one ``side``; lies behind and inside the one below."""
    s = p.size
    wall = s.half_depth
    top = s.half_height
    x0 = s.canal_width / 2
    angle = np.radians(s.facet_angle + 4.0)
    blade = np.array([side * np.sin(angle), np.cos(angle), 0.0])
    root = np.array([side * (x0 + 0.5), wall + 14.0, -0.25 * top])
    tip = np.array([side * (x0 + 2.0), wall + 14.5, -top - 11.0 * _pair(p, side)])
    return swept_ellipse(points, root, tip, blade, (6.8, 4.6), (7.2, 4.2))


def joint_surfaces(p: VertebraParameters, points: Points) -> tuple[Array, Array]:
    """Distances (N,) to both superior and to both inferior articular processes."""
    superior = np.minimum(_superior_facet(p, points, 1), _superior_facet(p, points, -1))
    inferior = np.minimum(_inferior_facet(p, points, 1), _inferior_facet(p, points, -1))
    return superior, inferior


def _parts(p: VertebraParameters, points: Points) -> list[tuple[int, Array]]:
    """Everything behind the body as (part number, distance), before blending."""
    s = p.size
    wall = s.half_depth
    top = s.half_height
    x0 = s.canal_width / 2
    apex = wall + s.canal_depth
    parts: list[tuple[int, Array]] = []
    for side, costal, superior, inferior in (
        (1, COSTAL_LEFT, SUPERIOR_LEFT, INFERIOR_LEFT),
        (-1, COSTAL_RIGHT, SUPERIOR_RIGHT, INFERIOR_RIGHT),
    ):
        xp = x0 + s.pedicle_width / 2 - 0.5
        start = (side * xp, wall - 5.0, 0.40 * top)
        end = (side * (xp - 0.5), wall + 9.0, 0.34 * top)
        pedicle = swept_ellipse(
            points,
            start,
            end,
            (1.0, 0.0, 0.0),
            (s.pedicle_width / 2, s.pedicle_height / 2 + 0.5),
            (s.pedicle_width / 2, s.pedicle_height / 2 - 1.0),
        )
        start = (side * (x0 + 3.5), wall + 9.5, 0.30 * top)
        end = (side * (x0 + 0.0), wall + 14.0, -0.55 * top)
        pars = swept_ellipse(points, start, end, (1.0, 0.0, 0.0), (5.4, 4.4), (5.0, 3.8))
        start = (side * (x0 - 0.5), wall + 13.0, -0.38 * top)
        end = (side * 1.0, apex + 4.5, -0.52 * top)
        lamina = swept_ellipse(points, start, end, (0.0, 0.30, -0.95), (9.0, 3.2), (11.0, 3.5))
        arch = smooth_min(smooth_min(pedicle, pars, 3.0), lamina, 3.0)
        parts.append((ARCH, arch))

        span = 0.5 * s.transverse_span * _pair(p, side)
        reach = max(span - (x0 + 8.0), 1.0)
        root = np.array([side * (x0 + 6.0), wall + 8.0, 0.24 * top])
        bend = root + [side * 0.55 * reach, 0.40 * p.transverse_sweep, p.transverse_rise * 0.7]
        tip = root + [side * reach, p.transverse_sweep * min(1.0, reach / 20.0), p.transverse_rise]
        inner = swept_ellipse(points, root, bend, (0.0, 1.0, 0.0), (4.4, 6.6), (2.7, 5.2))
        outer = swept_ellipse(points, bend, tip, (0.0, 1.0, 0.0), (2.7, 5.2), (2.2, 4.4))
        parts.append((costal, smooth_min(inner, outer, 2.0)))
        parts.append((superior, _superior_facet(p, points, side)))
        parts.append((inferior, _inferior_facet(p, points, side)))

    half = p.spinous_height / 2
    root = np.array([0.0, apex + 3.0, -0.36 * top])
    tip = np.array([0.5 * s.spinous_length * p.asymmetry, wall + s.spinous_length - 3.0, root[2]])
    tip[2] -= p.spinous_drop
    middle = 0.5 * (root + tip)
    blade = swept_ellipse(
        points, root, middle, (1.0, 0.0, 0.0), (3.4, half - 0.5), (2.3, half - 1.0)
    )
    back = swept_ellipse(points, middle, tip, (1.0, 0.0, 0.0), (2.3, half - 1.0), (3.8, half - 2.0))
    parts.append((SPINOUS, smooth_min(blade, back, 2.0)))
    return parts


def shape_of(
    p: VertebraParameters,
    points: Points,
    above: Array | None = None,
    below: Array | None = None,
) -> Shape:
    """The vertebra's shape at ``points`` (local frame).

    ``above`` and ``below`` are distances (N,) at the same points to the inferior articular
    processes of the vertebra above and to the superior ones of the vertebra below, in the unmoved
    spine: the facets give way to them, so that a joint space of `JOINT_MM` stays.
    """
    top, bottom = end_planes(p, points)
    wall = body_wall(p, points)
    plates = np.maximum(points.z - top, bottom - points.z)
    body = smooth_max(wall, plates, 1.6)
    canal = _canal(p, points)
    body = smooth_max(body, -canal, 2.5)
    depth = p.size.half_depth
    middle = p.size.half_height
    for angle, end, radius in p.osteophytes:
        a = np.radians(angle)
        x, y = 0.48 * p.size.width_upper * np.sin(a), -depth * np.cos(a)
        rim = (x, y, end * (middle - 1.0))
        spur = ellipsoid(points, rim, (radius * 1.2, radius * 1.2, radius * 0.8))
        body = smooth_min(body, spur, 3.0)

    distance = np.minimum(body, FAR)
    part = np.full(len(points), CORPUS, dtype=np.uint8)
    part[body > -BORDER_MM] = CORPUS_BORDER
    # Walls and end plates have their own thickness; posterior elements a much thicker shell.
    shell = np.where(plates > wall, np.float32(p.end_plate_mm), np.float32(p.shell_mm))

    behind = np.flatnonzero(points.y > np.float32(depth - 16.0))
    near = points.take(behind)
    arch = np.full(len(behind), FAR, dtype=np.float32)
    arch_part = np.full(len(behind), ARCH, dtype=np.uint8)
    closest = np.full(len(behind), FAR, dtype=np.float32)
    for number, value in _parts(p, near):
        if number in (SUPERIOR_LEFT, SUPERIOR_RIGHT) and above is not None:
            value = np.maximum(value, (value - above[behind] + np.float32(JOINT_MM)) * 0.5)
        if number in (INFERIOR_LEFT, INFERIOR_RIGHT) and below is not None:
            value = np.maximum(value, (value - below[behind] + np.float32(JOINT_MM)) * 0.5)
        # The arch claims a point only where it is clearly the closest: processes grow out of it.
        claim = value + np.float32(1.0) if number == ARCH else value
        mine = claim < closest
        arch_part[mine] = number
        closest = np.minimum(claim, closest)
        arch = smooth_min(arch, value, 2.5)
    arch = smooth_max(arch, -canal[behind] - np.float32(0.3), 1.5)
    # A pedicle starts inside the body; there the body's own wall counts.
    outside = arch < body[behind]
    blended = smooth_min(arch, body[behind], 2.5)
    distance[behind] = np.minimum(blended, FAR)
    part[behind[outside]] = arch_part[outside]
    weight = np.clip((body[behind] - arch) / np.float32(4.0) + 0.5, 0.0, 1.0)
    thickness = np.float32(p.posterior_shell_mm) * _SHELL_OF_PART[arch_part]
    # Pedicles are thinner-walled than laminae.
    thickness *= np.clip(0.6 + 0.05 * (near.y - np.float32(depth)), 0.6, 1.0)
    shell[behind] += weight * (thickness - shell[behind])
    return Shape(distance, shell.astype(np.float32), part)
