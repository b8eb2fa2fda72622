"""Bones and discs laid on the canvas: shape, shell, marrow."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
from scipy.spatial.transform import Rotation

from ..geometry import Array as Matrix
from ..geometry import affine, invert_rigid, translation
from ..vertebrae import LABEL_SCHEMES
from .canvas import Bone, Canvas, Spot
from .fields import FAR, Array, Points, coverage, smooth_max
from .parameters import SpineParameters, VertebraParameters
from .pelvis import SACRUM_BOX, ilium, rib, sacrum
from .sizes import LABELS, MOBILE_LEVELS, LevelSize
from .texture import Texture
from .vertebra import Shape, body_wall, bounds, end_planes, joint_surfaces, shape_of

ORDER = (*MOBILE_LEVELS, "S1")
_NUMBERS = {level: number for number, level in LABEL_SCHEMES["verse"].items()}
# From one thoracic vertebra to the next higher: lengths, and the lean of the body's axis.
_HIGHER = 0.97
_KYPHOSIS_DEG = 5.0
# How much longer ribs are.
_LONGER = 1.2

_DENSER = np.zeros(51, dtype=np.float32)
# Bone behind the body is denser inside as well: load goes through the facets.
_DENSER[[41, 42, 43, 44]] = (1.0, 0.6, 0.3, 0.3)
_DENSER[[45, 46, 47, 48]] = 1.8


@dataclass(frozen=True)
class Spine:
    """A spine's parameters; ``local_to_physical`` of its vertebrae as they grew, and as they stand.

    A vertebra's shape depends on its neighbours as they grew, never on how they have moved.
    """

    parameters: SpineParameters
    neutral: Mapping[str, Matrix]
    poses: Mapping[str, Matrix]

    def beside(self, name: str, points: Points, other: str) -> Points:
        """Points of a vertebra in the frame of one beside it."""
        return points.moved(invert_rigid(self.neutral[other]) @ self.neutral[name])

    def roughened(self, index: int, points: Points) -> Points:
        """Points displaced by a smooth random field: bone is nowhere as smooth as an ellipse."""
        p = self.parameters
        field = Texture(p.seed + 300 + index, (5.0, 5.0, 5.0), size=24)
        # One field read at three far-apart places gives three independent components.
        dx = field(points)
        dy = field(Points(points.x + 37.0, points.y, points.z))
        dz = field(Points(points.x, points.y + 41.0, points.z))
        a = np.float32(p.roughness_mm)
        return Points(points.x + a * dx, points.y + a * dy, points.z + a * dz)


def _marrow(
    p: SpineParameters, v: VertebraParameters, points: Points, index: int, sigma: float
) -> Array:
    """HU (N,) inside the shell: struts along the axis, denser towards the end plates."""
    struts = Texture(p.seed + 100 + index, (1.0, 1.0, 4.0), sigma)
    patches = Texture(p.seed + 200 + index, (5.0, 5.0, 6.0), sigma, size=24)
    edge = np.clip((np.abs(points.z) / np.float32(v.size.half_height)) - 0.55, 0.0, 1.0)
    mean = np.float32(v.trabecular_hu) * (0.88 + 0.55 * edge)
    value = mean * (1.0 + 0.6 * struts(points) + 0.15 * patches(points))
    # The basivertebral vein opens in the middle of the posterior wall.
    vein = (
        (points.x / 7.0) ** 2
        + (points.z / 3.0) ** 2
        + ((points.y - v.size.half_depth + 4.0) / 9.0) ** 2
    )
    return np.asarray(value - 110.0 * np.exp(-vein), dtype=np.float32)


def paint_vertebra(spine: Spine, canvas: Canvas, index: int) -> None:
    """Paint a mobile vertebra, the ``index``-th from above; T12 with its ribs."""
    name, p = MOBILE_LEVELS[index], spine.parameters
    v = p.vertebrae[name]
    if name == "T12":
        _paint_ribs(v, canvas, spine.poses[name])
    spot = canvas.spot(spine.poses[name], *bounds(v))
    if spot is None:
        return
    above = None
    if index > 0:
        upper = MOBILE_LEVELS[index - 1]
        there = spine.roughened(index - 1, spine.beside(name, spot.points, upper))
        above = joint_surfaces(p.vertebrae[upper], there)[1]
    lower = ORDER[index + 1]
    there = spine.roughened(index + 1, spine.beside(name, spot.points, lower))
    below = sacrum(p, there)[1] if lower == "S1" else joint_surfaces(p.vertebrae[lower], there)[0]
    shape = shape_of(v, spine.roughened(index, spot.points), above, below)
    _paint_shape(spine, canvas, spot, shape, name, index)


def paint_thoracic(spine: Spine, canvas: Canvas, count: int) -> None:
    """Paint ``count`` vertebrae above T12, each with its ribs and the disc below it.

    They are built as T12 is, a little smaller and leaning a little more to the front from one to
    the next, with ribs that are longer.
    """
    names = (*(f"T{12 - n}" for n in range(count, 0, -1)), "T12")
    vertebrae, poses = dict(spine.parameters.vertebrae), dict(spine.poses)
    for upper, lower in reversed(list(pairwise(names))):
        below, at = vertebrae[lower], poses[lower]
        sizes = {f.name: _HIGHER * getattr(below.size, f.name) for f in fields(LevelSize)[:-2]}
        vertebrae[upper] = replace(below, size=replace(below.size, **sizes), osteophytes=())
        size = vertebrae[upper].size
        step = below.size.half_height + size.disc_below + size.half_height
        lean = Rotation.from_euler("x", _KYPHOSIS_DEG, degrees=True).as_matrix()
        poses[upper] = affine(at[:3, :3] @ lean, at[:3, 3] + step * at[:3, 2])
    longer = Spine(replace(spine.parameters, vertebrae=vertebrae), poses, poses)
    for n, (upper, lower) in enumerate(pairwise(names), -count):
        v = vertebrae[upper]
        paint_disc(longer, canvas, upper, lower)
        _paint_ribs(v, canvas, poses[upper], _LONGER**-n)
        spot = canvas.spot(poses[upper], *bounds(v))
        if spot is None:
            continue
        there = longer.roughened(n + 1, longer.beside(upper, spot.points, lower))
        joint = joint_surfaces(vertebrae[lower], there)[0]
        shape = shape_of(v, longer.roughened(n, spot.points), None, joint)
        _paint_shape(longer, canvas, spot, shape, upper, n)


def _paint_shape(
    spine: Spine, canvas: Canvas, spot: Spot, shape: Shape, name: str, index: int
) -> None:
    """Paint and label a vertebra of a shape (distance, shell and part at the spot's points)."""
    p, v = spine.parameters, spine.parameters.vertebrae[name]
    close = canvas.close(shape.distance)
    spot = spot.take(close)
    distance, shell, part = shape.distance[close], shape.shell[close], shape.part[close]
    uneven = Texture(p.seed + 400 + index, (3.0, 3.0, 3.0), size=24)(spot.points)
    shell = shell * np.clip(1.0 + 0.3 * uneven, 0.4, 1.7)
    marrow = _marrow(p, v, spot.points, index, canvas.grid.sigma)
    marrow = marrow + _DENSER[part] * np.float32(v.trabecular_hu)
    canvas.paint(spot, Bone(distance, shell, v.cortical_hu, marrow))
    canvas.claim(spot, distance, _NUMBERS[name], part)


def _paint_ribs(v: VertebraParameters, canvas: Canvas, pose: Matrix, longer: float = 1.0) -> None:
    wall = v.size.half_depth
    reach = 118.0 * longer
    for side in (1, -1):
        low, high = (14.0, reach) if side > 0 else (-reach, -14.0)
        drop, back = 70.0 * longer, wall + 40.0 * longer
        spot = canvas.spot(pose, (low, wall - 24.0, -drop), (high, back, 16.0))
        if spot is not None:
            distance = rib(spot.points, side, wall, longer)
            _paint_even(canvas, spot, distance, 0.9, v.cortical_hu * 0.9, 120.0)


def _paint_even(
    canvas: Canvas, spot: Spot, distance: Array, shell: float, cortical: float, marrow: float
) -> None:
    """A bone whose shell (mm) and marrow (HU) are the same everywhere."""
    close = canvas.close(distance)
    bone = Bone(
        distance[close],
        np.full(len(close), shell, dtype=np.float32),
        cortical,
        np.full(len(close), marrow, dtype=np.float32),
    )
    canvas.paint(spot.take(close), bone)


def paint_sacrum(spine: Spine, canvas: Canvas) -> None:
    """Paint the sacrum and both ilia."""
    p = spine.parameters
    l5 = p.vertebrae["L5"]
    scale = l5.size.width_lower / 49.4
    upright = translation(spine.poses["S1"][:3, 3])
    for side in (1, -1):
        low, high = (30.0, 150.0) if side > 0 else (-150.0, -30.0)
        spot = canvas.spot(upright, (low, -70.0, -90.0), (high, 75.0, 50.0))
        if spot is not None:
            distance = ilium(spot.points, side, scale)
            _paint_even(canvas, spot, distance, 1.1, l5.cortical_hu, 0.8 * l5.trabecular_hu)
    spot = canvas.spot(spine.poses["S1"], *SACRUM_BOX)
    if spot is None:
        return
    points = spot.points
    distance, facets = sacrum(p, spine.roughened(len(MOBILE_LEVELS), points))
    there = spine.roughened(len(MOBILE_LEVELS) - 1, spine.beside("S1", points, "L5"))
    above = joint_surfaces(l5, there)[1]
    keep_off = np.where((facets < 4.0) & (points.z > -8.0), 1.6 - above, -FAR).astype(np.float32)
    distance = smooth_max(distance, keep_off, 0.5)
    close = canvas.close(distance)
    spot, distance = spot.take(close), distance[close]
    shell = np.full(len(close), 0.8, dtype=np.float32)
    struts = Texture(p.seed + 150, (0.9, 0.9, 1.6), canvas.grid.sigma)(spot.points)
    marrow = np.float32(0.8 * l5.trabecular_hu) * (1.0 + 0.55 * struts)
    canvas.paint(spot, Bone(distance, shell, l5.cortical_hu, marrow))
    canvas.claim(spot, distance, LABELS["S1"])


def paint_disc(spine: Spine, canvas: Canvas, upper: str, lower: str) -> None:
    """Paint the disc between two neighbours, as they stand."""
    v = spine.parameters.vertebrae[upper]
    half = v.size.half_height
    reach = max(v.size.width_lower, v.size.depth_lower) / 2 + 8.0
    low = (-reach, -reach, -half - v.size.disc_below - 10.0)
    spot = canvas.spot(spine.poses[upper], low, (reach, reach, -half + 8.0))
    if spot is None:
        return
    points = spot.points
    bottom = end_planes(v, points)[1]
    below = points.moved(invert_rigid(spine.poses[lower]) @ spine.poses[upper])
    if lower == "S1":
        roof = np.zeros(len(points), dtype=np.float32)
        wall = body_wall(v, points, 0.0)
    else:
        w = spine.parameters.vertebrae[lower]
        roof = end_planes(w, below)[0]
        wall = 0.5 * (body_wall(v, points, 0.0) + body_wall(w, below, 0.0))
    distance = np.maximum(np.maximum(points.z - bottom, roof - below.z), wall - 0.5)
    share = coverage(distance.astype(np.float32), max(canvas.grid.sigma, 0.6))
    canvas.fill(spot, share, 85.0)
