"""Which spots of calibrated views are of one bead, and where that bead is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ..geometry import Array, Camera, triangulate
from .bounds import SAME_SIZE
from .types import Spots


def triangulated(
    spots_per_view: list[Spots], cameras: list[Camera], most_mm: float
) -> tuple[Array, NDArray[np.int64], Array]:
    """Triangulate beads from the spots of two or more calibrated views.

    The rays of two spots of different views that pass within twice ``most_mm``, and would be of
    about the same size in the world, propose a bead; in each other view it takes the spot nearest
    to its shadow. Beads in more views come first, then those whose rays meet best; each spot is
    of one bead at the most. In two views a spot may by chance lie where a bead of the other could
    be: what is proposed by false spots has to be refused by more views, or by what is known of
    the beads.

    Args:
        spots_per_view: those of each view.
        cameras: of the views, in one world, mm.
        most_mm: how far a bead's point may lie from its rays (root mean square, mm).

    Returns:
        points (N, 3) in world mm; pairs (N, views), numbers of spots, -1 where a view has none;
        residuals (N,), the root mean square of the distances from point to rays, mm.

    Raises:
        ValueError: for fewer than two views, or another number of cameras.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.calibration import Spots, triangulated
        >>> from RadGSRegLib.geometry import Camera, pinhole
        >>> k = pinhole((2000.0, 2000.0), (255.5, 255.5))
        >>> frontal, lateral = np.eye(4), np.eye(4)
        >>> lateral[:3, :3] = [[0, 0, -1], [0, 1, 0], [1, 0, 0]]
        >>> frontal[2, 3] = lateral[2, 3] = 800.0
        >>> cameras = [Camera(k, frontal, 512, 512), Camera(k, lateral, 512, 512)]
        >>> beads = np.array([[0.0, 10.0, 20.0], [15.0, -5.0, 0.0]])
        >>> size = np.full(2, 3.0)
        >>> spots = [Spots(c.project(beads), size, size) for c in cameras]
        >>> points, pairs, residual_mm = triangulated(spots, cameras, most_mm=0.1)
        >>> np.allclose(points, beads), pairs.tolist()
        (True, [[0, 0], [1, 1]])
    """
    if len(cameras) < 2 or len(cameras) != len(spots_per_view):
        raise ValueError("triangulation needs the spots and the cameras of at least two views")
    rays = [c.ray_directions(s.centres_px) for c, s in zip(cameras, spots_per_view, strict=True)]
    proposed: dict[tuple[int, ...], tuple[Array, float]] = {}
    for first, second in combinations(range(len(cameras)), 2):
        for a, b, middle in _meeting(cameras, rays, (first, second), most_mm):
            if not _alike(spots_per_view, cameras, {first: a, second: b}, middle):
                continue
            row = _row(spots_per_view, cameras, rays, {first: a, second: b}, middle, most_mm)
            if row not in proposed:
                proposed[row] = _point(spots_per_view, cameras, row)
    order = sorted(
        (row for row, (_, residual) in proposed.items() if residual <= most_mm),
        key=lambda row: (row.count(-1), proposed[row][1]),
    )
    taken: set[tuple[int, int]] = set()
    rows = []
    for row in order:
        spots = {(view, spot) for view, spot in enumerate(row) if spot >= 0}
        if not spots & taken:
            taken |= spots
            rows.append(row)
    rows.sort(key=lambda row: tuple(n if n >= 0 else len(proposed) for n in row))
    points = np.array([proposed[row][0] for row in rows], dtype=float).reshape(-1, 3)
    residuals = np.array([proposed[row][1] for row in rows], dtype=float)
    return points, np.array(rows, dtype=np.int64).reshape(-1, len(cameras)), residuals


def _meeting(
    cameras: list[Camera], rays: list[Array], views: tuple[int, int], most_mm: float
) -> list[tuple[int, int, Array]]:
    """The pairs of spots of two views whose rays pass within 2 ``most_mm``, and their middles."""
    first, second = views
    first_rays, second_rays = rays[first], rays[second]
    base = cameras[second].source_world - cameras[first].source_world
    along = first_rays @ second_rays.T
    apart = 1.0 - along**2
    if not apart.size or apart.min() < 1e-6:
        return []  # no spots, or parallel views: their rays fix no point
    to_first, to_second = (first_rays @ base)[:, None], (second_rays @ base)[None, :]
    first_depth = (to_first - along * to_second) / apart
    second_depth = (along * to_first - to_second) / apart
    on_first = cameras[first].source_world + first_depth[..., None] * first_rays[:, None]
    on_second = cameras[second].source_world + second_depth[..., None] * second_rays[None]
    gap = np.linalg.norm(on_first - on_second, axis=-1)
    near = (gap <= 2.0 * most_mm) & (first_depth > 0) & (second_depth > 0)
    middles = 0.5 * (on_first + on_second)
    return [(int(a), int(b), middles[a, b]) for a, b in zip(*np.nonzero(near), strict=True)]


def _alike(
    spots: list[Spots], cameras: list[Camera], chosen: dict[int, int], middle: Array
) -> bool:
    """Whether spots would be of about the same size at a point."""
    sizes = [
        spots[view].radii_px[spot]
        * float(np.linalg.norm(middle - cameras[view].source_world))
        / cameras[view].focal_px
        for view, spot in chosen.items()
    ]
    return bool(max(sizes) <= SAME_SIZE * min(sizes))


def _row(
    spots: list[Spots],
    cameras: list[Camera],
    rays: list[Array],
    chosen: dict[int, int],
    middle: Array,
    most_mm: float,
) -> tuple[int, ...]:
    """The spot of each view that a bead at a point has, -1 where there is none near enough."""
    row = []
    for view, camera in enumerate(cameras):
        if view in chosen or not len(spots[view]):
            row.append(chosen.get(view, -1))
            continue
        offset = middle - camera.source_world
        away = np.linalg.norm(offset - (rays[view] @ offset)[:, None] * rays[view], axis=1)
        spot = int(np.argmin(away))
        fits = away[spot] <= 2.0 * most_mm and _alike(
            spots, cameras, {**chosen, view: spot}, middle
        )
        row.append(spot if fits else -1)
    return tuple(row)


def _point(spots: list[Spots], cameras: list[Camera], row: tuple[int, ...]) -> tuple[Array, float]:
    """The point of a row of spots, and its distance from their rays (mm)."""
    views = [view for view, spot in enumerate(row) if spot >= 0]
    pixels = np.array([spots[view].centres_px[row[view]] for view in views])
    return triangulate([cameras[view] for view in views], pixels)
