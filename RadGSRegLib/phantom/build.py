"""From parameters to CT, labels and subregions on any grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import find_objects, gaussian_filter, label
from scipy.spatial.transform import Rotation

from ..errors import InputError
from ..geometry import Rigid, Volume, invert_rigid, transform_points
from ..system import Progress, ProgressCallable
from .fields import FAR, Array, Points, coverage, smooth_max
from .parameters import SpineParameters, VertebraParameters
from .pelvis import SACRUM_BOX, ilium, rib, sacrum
from .placement import vertebra_poses
from .sizes import LABELS, MOBILE_LEVELS
from .texture import Texture
from .torso import Grid, paint_torso
from .vertebra import (
    BORDER_MM,
    CORPUS,
    CORPUS_BORDER,
    body_wall,
    bounds,
    end_planes,
    joint_surfaces,
    shape_of,
)

Matrix = NDArray[np.float64]
Region = str | Sequence[str] | tuple[ArrayLike, ArrayLike]

_DENSER = np.zeros(51, dtype=np.float32)
# Bone behind the body is denser inside as well: load goes through the facets.
_DENSER[[41, 42, 43, 44]] = (1.0, 0.6, 0.3, 0.3)
_DENSER[[45, 46, 47, 48]] = 1.8

SCANNER_BLUR_MM = 0.35
"""Standard deviation of the scanner's own point spread, mm."""


@dataclass(frozen=True)
class Phantom:
    """CT in HU (int16), label map and subregions (uint8) on one grid (LPS axes, mm).

    ``poses`` holds ``local_to_physical`` (4, 4) of every vertebra as built; ``label_names`` the
    name of every label of the map.
    """

    ct: Volume
    labels: Volume
    subregions: Volume
    label_names: dict[int, str]
    poses: dict[str, Matrix]


def random_poses(
    parameters: SpineParameters,
    seed: int | np.random.Generator,
    angle_deg: float = 5.0,
    offset_mm: float = 3.0,
) -> dict[str, Matrix]:
    """A rigid move (4, 4) of every vertebra about its own body's centre, in the spine's frame.

    Angles up to ``angle_deg`` about a random axis, offsets up to ``offset_mm``: how the spine on
    the operating table differs from the one in the CT. Same seed, same poses.
    """
    rng = np.random.default_rng(seed)
    moves = {}
    for name, pose in vertebra_poses(parameters).items():
        axis = rng.standard_normal(3)
        axis /= np.linalg.norm(axis)
        offset = rng.standard_normal(3)
        offset *= offset_mm * rng.uniform() ** (1 / 3) / np.linalg.norm(offset)
        turn = Rotation.from_rotvec(np.radians(angle_deg * rng.uniform()) * axis).as_matrix()
        centre = pose[:3, 3]
        moves[name] = Rigid.carrying(turn, centre, centre + offset).matrix
    return moves


def region_box(
    parameters: SpineParameters,
    region: Region = "lumbar",
    moves: Mapping[str, Matrix] | None = None,
    margin_mm: float = 6.0,
) -> tuple[Matrix, Matrix]:
    """The box (lower, upper), mm, that a region stands for.

    ``region`` is "lumbar" (L1 to L5), "spine" (T12 to sacrum), "trunk" (the whole body from T12 to
    the pelvis), the name of a vertebra or a list of names (just them), or the box itself.
    """
    names: tuple[str, ...]
    if isinstance(region, str) and region == "trunk":
        lower, upper = region_box(parameters, "spine", moves, margin_mm)
        half_w, half_d = parameters.trunk_width_mm / 2 + 10, parameters.trunk_depth_mm / 2 + 10
        from .torso import trunk_centre

        x, y = trunk_centre(parameters)
        lower[:2], upper[:2] = (x - half_w, y - half_d), (x + half_w, y + half_d)
        return lower, upper
    if isinstance(region, str):
        groups = {"lumbar": MOBILE_LEVELS[1:], "spine": (*MOBILE_LEVELS, "S1")}
        names = tuple(groups.get(region, (region,)))
    elif len(region) == 2 and not isinstance(region[0], str):
        return np.array(region[0], dtype=float), np.array(region[1], dtype=float)
    else:
        names = tuple(str(name) for name in region)
    unknown = [name for name in names if name not in LABELS]
    if unknown:
        raise InputError("phantom", f"no region named {unknown[0]}", f"use one of {list(LABELS)}")
    poses = _posed(parameters, moves)
    corners = []
    for name in names:
        box = SACRUM_BOX if name == "S1" else bounds(parameters.vertebrae[name])
        shrink = np.array([5.0, 5.0, 5.0])
        corners.append(_corners(poses[name], box[0] + shrink, box[1] - shrink))
    points = np.concatenate(corners)
    return points.min(0) - margin_mm, points.max(0) + margin_mm


def make_phantom(
    parameters: SpineParameters | None = None,
    spacing_mm: float | ArrayLike = 1.0,
    region: Region = "lumbar",
    *,
    moves: Mapping[str, Matrix] | None = None,
    soft_tissue: bool = True,
    progress: ProgressCallable | None = None,
) -> Phantom:
    """Build the phantom on a grid of ``spacing_mm`` (one number or (x, y, z)) over ``region``.

    The anatomy does not depend on the grid. ``moves`` (name to 4x4) moves vertebrae rigidly, as
    from `random_poses`; a vertebra's own shape never depends on them. Raises InputError for a
    spacing or region that makes no sense, Cancelled when ``progress`` asks to stop.
    """
    p = SpineParameters() if parameters is None else parameters
    report = Progress(progress)
    spacing = np.broadcast_to(np.asarray(spacing_mm, dtype=float), (3,))
    if not (np.isfinite(spacing).all() and (spacing > 0.2).all() and (spacing <= 6.0).all()):
        raise InputError("phantom", f"spacing {spacing.tolist()} mm", "use 0.2 to 6 mm")
    lower, upper = region_box(p, region, moves)
    count = np.maximum(np.ceil((upper - lower) / spacing).astype(int), 1)
    if count.prod() > 400_000_000:
        raise InputError("phantom", f"{count.prod()} voxels are too many", "use a coarser spacing")
    blur = float(np.sqrt(np.mean(spacing**2) / 12.0 + SCANNER_BLUR_MM**2))
    axes = [(lower[i] + spacing[i] * np.arange(count[i])).astype(np.float32) for i in range(3)]
    grid = Grid(axes[0], axes[1], axes[2], blur)

    report(0.0, "soft tissue")
    hu = paint_torso(p, grid) if soft_tissue else np.full(grid.shape, -1000.0, dtype=np.float32)
    nearest = np.full(grid.shape, FAR, dtype=np.float32)
    labels = np.zeros(grid.shape, dtype=np.uint8)
    parts = np.zeros(grid.shape, dtype=np.uint8)
    neutral, poses = vertebra_poses(p), _posed(p, moves)
    order = (*MOBILE_LEVELS, "S1")
    for index, name in enumerate(order):
        report(0.3 + 0.6 * index / len(order), name)
        if soft_tissue and name != "S1":
            _paint_disc(p, grid, hu, poses, name, order[index + 1])
    for index, name in enumerate(order):
        report(0.4 + 0.5 * index / len(order), name)
        if name == "S1":
            _paint_sacrum(p, grid, hu, nearest, labels, neutral, poses)
        else:
            _paint_vertebra(p, grid, hu, nearest, labels, parts, neutral, poses, index)

    _drop_islands(labels, parts, float(spacing.prod()))
    report(0.95, "noise")
    if p.noise_hu > 0:
        rng = np.random.default_rng(p.seed + 1)
        noise = rng.standard_normal(grid.shape, dtype=np.float32)
        smooth = gaussian_filter(noise, 0.55)
        hu += smooth * np.float32(p.noise_hu / smooth.std())
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = [axis[0] for axis in axes]
    ct = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    names = {number: name for name, number in LABELS.items() if (labels == number).any()}
    report(1.0, "phantom")
    return Phantom(
        Volume(ct, matrix), Volume(labels, matrix), Volume(parts, matrix), names, dict(poses)
    )


def _posed(p: SpineParameters, moves: Mapping[str, Matrix] | None) -> dict[str, Matrix]:
    poses = vertebra_poses(p)
    if moves:
        for name, move in moves.items():
            if name not in poses:
                raise InputError("phantom", f"cannot move {name}", f"use one of {list(poses)}")
            poses[name] = np.asarray(move, dtype=float) @ poses[name]
    return poses


def _corners(pose: Matrix, lower: ArrayLike, upper: ArrayLike) -> Matrix:
    ends = np.array([lower, upper], dtype=float)
    grid = np.array(
        [[ends[a, 0], ends[b, 1], ends[c, 2]] for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    )
    return transform_points(pose, grid)


def _local(
    grid: Grid, pose: Matrix, lower: ArrayLike, upper: ArrayLike
) -> tuple[tuple[slice, slice, slice], NDArray[np.intp], Points] | None:
    """The grid's box around a posed local box, flat indices in it, and their local points."""
    corners = _corners(pose, lower, upper)
    box = grid.box(corners.min(0), corners.max(0))
    if min(s.stop - s.start for s in box) <= 0:
        return None
    m = invert_rigid(pose).astype(np.float32)
    g = grid.points(box)
    local = Points(
        g.x * m[0, 0] + g.y * m[0, 1] + g.z * m[0, 2] + m[0, 3],
        g.x * m[1, 0] + g.y * m[1, 1] + g.z * m[1, 2] + m[1, 3],
        g.x * m[2, 0] + g.y * m[2, 1] + g.z * m[2, 2] + m[2, 3],
    )
    inside = local.inside_box(lower, upper)
    return (box, inside, local.take(inside)) if len(inside) else None


def _moved(points: Points, matrix: Matrix) -> Points:
    m = matrix.astype(np.float32)
    return Points(
        points.x * m[0, 0] + points.y * m[0, 1] + points.z * m[0, 2] + m[0, 3],
        points.x * m[1, 0] + points.y * m[1, 1] + points.z * m[1, 2] + m[1, 3],
        points.x * m[2, 0] + points.y * m[2, 1] + points.z * m[2, 2] + m[2, 3],
    )


def _roughened(p: SpineParameters, index: int, points: Points) -> Points:
    """Points displaced by a smooth random field: bone is nowhere as smooth as an ellipse."""
    field = Texture(p.seed + 300 + index, (5.0, 5.0, 5.0), size=24)
    # One field read at three far-apart places gives three independent components.
    dx = field(points)
    dy = field(Points(points.x + 37.0, points.y, points.z))
    dz = field(Points(points.x, points.y + 41.0, points.z))
    a = np.float32(p.roughness_mm)
    return Points(points.x + a * dx, points.y + a * dy, points.z + a * dz)


def _compose(
    hu: Array,
    box: tuple[slice, slice, slice],
    where: NDArray[np.intp],
    distance: Array,
    shell: Array,
    cortical: float,
    marrow: Array,
    sigma: float,
) -> None:
    """Lay bone over the soft tissue: outside, shell and marrow by their share of each voxel."""
    here = hu[box]
    flat = here.reshape(-1)
    outer = coverage(distance, sigma)
    inner = coverage(distance + shell, sigma)
    old = flat[where]
    bone = (outer - inner) * np.float32(cortical) + inner * marrow
    # Where two bones share a voxel, each covers its part of what is left.
    flat[where] = np.maximum(
        old * (1.0 - outer) + bone, np.where(old > 300, old, -1100.0) * (1 - inner)
    )
    hu[box] = flat.reshape(here.shape)


def _claim(
    nearest: Array,
    labels: NDArray[np.uint8],
    box: tuple[slice, slice, slice],
    where: NDArray[np.intp],
    distance: Array,
    label: int,
    parts: NDArray[np.uint8] | None = None,
    part: NDArray[np.uint8] | None = None,
) -> None:
    shape = nearest[box].shape
    near = nearest[box].reshape(-1)
    mine = (distance < near[where]) & (distance < 0)
    chosen = where[mine]
    near[chosen] = distance[mine]
    nearest[box] = near.reshape(shape)
    flat = labels[box].reshape(-1)
    flat[chosen] = label
    labels[box] = flat.reshape(shape)
    if parts is not None and part is not None:
        flat = parts[box].reshape(-1)
        flat[chosen] = part[mine]
        parts[box] = flat.reshape(shape)


def _drop_islands(
    labels: NDArray[np.uint8], parts: NDArray[np.uint8], voxel_mm3: float, limit_mm3: float = 600.0
) -> None:
    """Unlabel crumbs that a facet joint cut off; pieces that the field's edge cut off stay."""
    whole = np.ones((3, 3, 3), dtype=int)
    for number, box in enumerate(find_objects(labels), start=1):
        if box is None:
            continue
        pieces, count = label(labels[box] == number, whole)
        if count < 2:
            continue
        for index, place in enumerate(find_objects(pieces), start=1):
            mine = pieces[place] == index
            ends = [(b.start + s.start, b.start + s.stop) for b, s in zip(box, place, strict=True)]
            touches = any(
                low == 0 or high == n for (low, high), n in zip(ends, labels.shape, strict=True)
            )
            if touches or mine.sum() * voxel_mm3 > limit_mm3:
                continue
            labels[box][place][mine] = 0
            parts[box][place][mine] = 0


def _marrow(
    p: SpineParameters, v: VertebraParameters, points: Points, index: int, sigma: float
) -> Array:
    """HU (N,) inside the shell: struts along the axis, denser towards the end plates."""
    struts = Texture(p.seed + 100 + index, (1.0, 1.0, 4.0), sigma)
    patches = Texture(p.seed + 200 + index, (5.0, 5.0, 6.0), sigma, size=24)
    half = 0.25 * (v.size.height_anterior + v.size.height_posterior)
    depth = 0.25 * (v.size.depth_upper + v.size.depth_lower)
    edge = np.clip((np.abs(points.z) / np.float32(half)) - 0.55, 0.0, 1.0)
    mean = np.float32(v.trabecular_hu) * (0.88 + 0.55 * edge)
    value = mean * (1.0 + 0.6 * struts(points) + 0.15 * patches(points))
    # The basivertebral vein opens in the middle of the posterior wall.
    vein = (points.x / 7.0) ** 2 + (points.z / 3.0) ** 2 + ((points.y - depth + 4.0) / 9.0) ** 2
    return np.asarray(value - 110.0 * np.exp(-vein), dtype=np.float32)


def _paint_vertebra(
    p: SpineParameters,
    grid: Grid,
    hu: Array,
    nearest: Array,
    labels: NDArray[np.uint8],
    parts: NDArray[np.uint8],
    neutral: Mapping[str, Matrix],
    poses: Mapping[str, Matrix],
    index: int,
) -> None:
    name = MOBILE_LEVELS[index]
    v = p.vertebrae[name]
    if name == "T12":
        _paint_ribs(v, grid, hu, poses[name])
    found = _local(grid, poses[name], *bounds(v))
    if found is None:
        return
    box, where, points = found
    above = below = None
    if index > 0:
        upper = MOBILE_LEVELS[index - 1]
        there = _moved(points, invert_rigid(neutral[upper]) @ neutral[name])
        there = _roughened(p, index - 1, there)
        above = joint_surfaces(p.vertebrae[upper], there)[1]
    lower = (*MOBILE_LEVELS, "S1")[index + 1]
    there = _moved(points, invert_rigid(neutral[lower]) @ neutral[name])
    there = _roughened(p, index + 1, there)
    below = sacrum(p, there)[1] if lower == "S1" else joint_surfaces(p.vertebrae[lower], there)[0]
    shape = shape_of(v, _roughened(p, index, points), above, below)
    close = np.flatnonzero(shape.distance < 3.2 * grid.sigma)
    where, points = where[close], points.take(close)
    distance, shell, part = shape.distance[close], shape.shell[close], shape.part[close]
    uneven = Texture(p.seed + 400 + index, (3.0, 3.0, 3.0), size=24)(points)
    shell = shell * np.clip(1.0 + 0.3 * uneven, 0.4, 1.7)
    marrow = _marrow(p, v, points, index, grid.sigma) + _DENSER[part] * np.float32(v.trabecular_hu)
    _compose(hu, box, where, distance, shell, v.cortical_hu, marrow, grid.sigma)
    _claim(nearest, labels, box, where, distance, LABELS[name], parts, part)


def _paint_ribs(v: VertebraParameters, grid: Grid, hu: Array, pose: Matrix) -> None:
    wall = 0.25 * (v.size.depth_upper + v.size.depth_lower)
    for side in (1, -1):
        low, high = (14.0, 118.0) if side > 0 else (-118.0, -14.0)
        found = _local(grid, pose, (low, wall - 24.0, -70.0), (high, wall + 40.0, 16.0))
        if found is None:
            continue
        box, where, points = found
        distance = rib(points, side, wall)
        close = np.flatnonzero(distance < 3.2 * grid.sigma)
        shell = np.full(len(close), 0.9, dtype=np.float32)
        marrow = np.full(len(close), 120.0, dtype=np.float32)
        _compose(
            hu, box, where[close], distance[close], shell, v.cortical_hu * 0.9, marrow, grid.sigma
        )


def _paint_sacrum(
    p: SpineParameters,
    grid: Grid,
    hu: Array,
    nearest: Array,
    labels: NDArray[np.uint8],
    neutral: Mapping[str, Matrix],
    poses: Mapping[str, Matrix],
) -> None:
    bone = p.vertebrae["L5"]
    scale = bone.size.width_lower / 49.4
    upright = np.eye(4)
    upright[:3, 3] = poses["S1"][:3, 3]
    for side in (1, -1):
        low, high = (30.0, 150.0) if side > 0 else (-150.0, -30.0)
        found = _local(grid, upright, (low, -70.0, -90.0), (high, 75.0, 50.0))
        if found is None:
            continue
        box, where, points = found
        distance = ilium(points, side, scale)
        close = np.flatnonzero(distance < 3.2 * grid.sigma)
        shell = np.full(len(close), 1.1, dtype=np.float32)
        marrow = np.full(len(close), 0.8 * bone.trabecular_hu, dtype=np.float32)
        _compose(
            hu, box, where[close], distance[close], shell, bone.cortical_hu, marrow, grid.sigma
        )
    found = _local(grid, poses["S1"], *SACRUM_BOX)
    if found is None:
        return
    box, where, points = found
    distance, facets = sacrum(p, _roughened(p, len(MOBILE_LEVELS), points))
    there = _moved(points, invert_rigid(neutral["L5"]) @ neutral["S1"])
    there = _roughened(p, len(MOBILE_LEVELS) - 1, there)
    above = joint_surfaces(bone, there)[1]
    keep_off = np.where((facets < 4.0) & (points.z > -8.0), 1.6 - above, -FAR).astype(np.float32)
    distance = smooth_max(distance, keep_off, 0.5)
    close = np.flatnonzero(distance < 3.2 * grid.sigma)
    where, points, distance = where[close], points.take(close), distance[close]
    shell = np.full(len(close), 0.8, dtype=np.float32)
    struts = Texture(p.seed + 150, (0.9, 0.9, 1.6), grid.sigma)(points)
    marrow = np.float32(0.8 * bone.trabecular_hu) * (1.0 + 0.55 * struts)
    _compose(hu, box, where, distance, shell, bone.cortical_hu, marrow, grid.sigma)
    _claim(nearest, labels, box, where, distance, LABELS["S1"])


def _paint_disc(
    p: SpineParameters,
    grid: Grid,
    hu: Array,
    poses: Mapping[str, Matrix],
    upper: str,
    lower: str,
) -> None:
    v = p.vertebrae[upper]
    half = 0.25 * (v.size.height_anterior + v.size.height_posterior)
    reach = max(v.size.width_lower, v.size.depth_lower) / 2 + 8.0
    low = (-reach, -reach, -half - v.size.disc_below - 10.0)
    found = _local(grid, poses[upper], low, (reach, reach, -half + 8.0))
    if found is None:
        return
    box, where, points = found
    bottom = end_planes(v, points)[1]
    below = _moved(points, invert_rigid(poses[lower]) @ poses[upper])
    if lower == "S1":
        roof = np.zeros(len(points), dtype=np.float32)
        wall = body_wall(v, points, 0.0)
    else:
        w = p.vertebrae[lower]
        roof = end_planes(w, below)[0]
        wall = 0.5 * (body_wall(v, points, 0.0) + body_wall(w, below, 0.0))
    distance = np.maximum(np.maximum(points.z - bottom, roof - below.z), wall - 0.5)
    share = coverage(distance.astype(np.float32), max(grid.sigma, 0.6))
    here = hu[box]
    flat = here.reshape(-1)
    old = flat[where]
    flat[where] = old + share * (np.float32(85.0) - old)
    hu[box] = flat.reshape(here.shape)


__all__ = [
    "BORDER_MM",
    "CORPUS",
    "CORPUS_BORDER",
    "Phantom",
    "Region",
    "make_phantom",
    "random_poses",
    "region_box",
]
