"""A holder for beads that a 3-D printer makes in one piece, without support.

A post stands under each bead, on one base plate, with a bore from above in whose round end the bead
sits. Thin walls join neighbouring posts, as high as the lower of the two. All of it is
vertical, so nothing hangs over.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from ..bones import Mesh, write_mesh
from ..errors import InputError
from ..geometry import Array, Rigid
from .types import Beads

# Chords of a bore of 3.2 mm lie 0.04 mm inside of it; half the step would make a file of 50 MB.
_STEP_MM = 0.75
_BASE_MM = 3.0
_WALL_MM = 2.0
# Of a post: around its bead, what is below the lowest bead's, and how far it widens, mm per mm.
_RIM_MM = 1.8
_LEAST_POST_MM = 4.0
_TAPER = 0.03
_MARGIN_MM = 6.0
_FAR_MM = 1e4


@dataclass(frozen=True)
class Holder:
    """A printable holder.

    ``mesh``: closed, mm, z upwards from the printer's bed. ``beads_to_print``: from the frame of
    the beads to that of the mesh.
    """

    mesh: Mesh
    beads_to_print: Rigid


def holder(
    beads: Beads, clearance_mm: float = 0.2, up: ArrayLike | None = None, step_mm: float = _STEP_MM
) -> Holder:
    """Make a holder for beads.

    Args:
        beads: in any frame, mm.
        clearance_mm: how much wider than its bead a bore is.
        up: the direction (3,) in the frame of the beads that is up on the printer; None takes the
            axis along which no two beads stand over each other and the posts are the shortest.
        step_mm: of the grid on which the surface is found; not more than a quarter of a bead.

    Returns:
        The holder; `write_holder` writes it as STL.

    Raises:
        InputError: where beads stand over each other, as seen along ``up`` or, without it, along
            every axis.

    Example:
        >>> from RadGSRegLib.calibration import holder, layout
        >>> made = holder(layout("two-plates"), step_mm=2.0)
        >>> bool(60 < made.mesh.enclosed_ml < 300)
        True
    """
    beads_to_print = _onto_the_bed(beads, _upright(beads, clearance_mm, up))
    centres = beads_to_print.apply(beads.centres_mm)
    mesh = _surface(centres, 0.5 * beads.diameters_mm, clearance_mm, step_mm)
    return Holder(mesh, beads_to_print)


def posts_under(beads: Beads, clearance_mm: float = 0.2) -> tuple[Array, Array] | None:
    """The posts of `holder`, for what simulates them: axes (N, 2, 3) from the bed to the seat of
    each bead, frame of the beads, mm, and radii (N,) at half their height; None where a holder
    is not possible."""
    try:
        beads_to_print = _onto_the_bed(beads, _upright(beads, clearance_mm, None))
    except InputError:
        return None
    seats = beads_to_print.apply(beads.centres_mm) - np.outer(beads.diameters_mm, [0, 0, 0.5])
    feet = seats * [1.0, 1.0, 0.0]
    axes = beads_to_print.inverse().apply(np.stack([feet, seats], axis=1).reshape(-1, 3))
    radii = _top_radius(0.5 * beads.diameters_mm, clearance_mm) + 0.5 * _TAPER * seats[:, 2]
    return axes.reshape(-1, 2, 3), radii


def write_holder(path: str | os.PathLike[str], made: Holder) -> None:
    """Write a holder as STL (or PLY, OBJ), whole or not at all; InputError for another suffix."""
    write_mesh(path, made.mesh)


def _top_radius(radii: Array, clearance_mm: float) -> Array:
    return np.asarray(radii + 0.5 * clearance_mm + _RIM_MM)


def _upright(beads: Beads, clearance_mm: float, up: ArrayLike | None) -> Array:
    """The rotation (3, 3) from the beads' frame to one with z up."""
    if up is not None:
        z = np.asarray(up, dtype=float)
        if z.shape != (3,) or not np.isfinite(z).all() or np.linalg.norm(z) < 1e-9:
            raise InputError("up", "is no direction", "give three numbers, not all zero")
        turn = _turn_to(z / np.linalg.norm(z))
        if _room(beads, turn, clearance_mm) < 0:
            remedy = "choose another direction, or let one be chosen"
            raise InputError("up", "makes beads stand over each other", remedy)
        return turn
    turns = [_turn_to(sign * axis) for axis in np.eye(3) for sign in (1.0, -1.0)]
    free = [turn for turn in turns if _room(beads, turn, clearance_mm) >= 0]
    if not free:
        remedy = "move beads aside, or give another direction up"
        raise InputError(beads.name, "has beads over each other along every axis", remedy)

    def plastic_mm(turn: Array) -> float:
        z = beads.centres_mm @ turn[2]
        return float(round((z - z.min()).sum(), 6))

    return min(free, key=plastic_mm)


def _turn_to(z: Array) -> Array:
    helper = np.eye(3)[int(np.argmin(np.abs(z)))]
    x = np.cross(helper, z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def _room(beads: Beads, turn: Array, clearance_mm: float) -> float:
    """What is left, mm, between each bead's bore and the others' rims, seen from above."""
    plan = (beads.centres_mm @ turn.T)[:, :2]
    radii = 0.5 * beads.diameters_mm + 0.5 * clearance_mm
    apart = pdist(plan) - pdist(radii[:, None], lambda a, b: float((a + b)[0]))
    return float(apart.min()) - 0.5 * _RIM_MM


def _onto_the_bed(beads: Beads, turn: Array) -> Rigid:
    turned = beads.centres_mm @ turn.T
    lowest = (turned[:, 2] - 0.5 * beads.diameters_mm).min() - _LEAST_POST_MM - _BASE_MM
    middle = 0.5 * (turned.min(axis=0) + turned.max(axis=0))
    return Rigid.from_parts(turn, [-middle[0], -middle[1], -lowest])


def _surface(centres: Array, radii: Array, clearance_mm: float, step_mm: float) -> Mesh:
    """Marching cubes of the signed distance, mm, negative inside."""
    try:
        from skimage.measure import marching_cubes
    except ImportError:
        raise InputError("a holder", "needs scikit-image", "pip install scikit-image") from None
    widest = _top_radius(radii, clearance_mm) + _TAPER * centres[:, 2]
    tops = centres[:, 2] + 0.5 * radii
    low = np.array([*(centres[:, :2] - widest[:, None]).min(axis=0) - _MARGIN_MM, -2.0 * step_mm])
    high = np.array([*(centres[:, :2] + widest[:, None]).max(axis=0) + _MARGIN_MM, tops.max()])
    size = np.ceil((high + 3.0 * step_mm - low) / step_mm).astype(int)
    # A little beside round numbers, so that no plane lies on points of the grid.
    low = low + 0.013 * step_mm
    grid = _Grid(low, step_mm, np.full(tuple(size), 1.0, dtype=np.float32))
    _add_base(grid, centres, widest)
    for start, end in _neighbours(centres):
        _add_wall(grid, centres[start], centres[end], min(tops[start], tops[end]))
    for centre, radius, top in zip(centres, _top_radius(radii, clearance_mm), tops, strict=True):
        _add_post(grid, centre, radius, top)
    for centre, radius in zip(centres, radii, strict=True):
        _bore(grid, centre, radius, clearance_mm)
    points, triangles, _, _ = marching_cubes(grid.values, 0.0, gradient_direction="descent")
    return Mesh(points.astype(float) * step_mm + low, triangles.astype(np.int64))


def _neighbours(centres: Array) -> list[tuple[int, int]]:
    """Pairs of posts with a wall between them: the shortest net that joins all, where high posts
    rather go with high ones, whose wall holds both."""
    plan, height = centres[:, :2], centres[:, 2:]
    tree = minimum_spanning_tree(squareform(pdist(plan) + 2.0 * pdist(height))).tocoo()
    return sorted((int(a), int(b)) for a, b in zip(tree.row, tree.col, strict=True))


@dataclass(frozen=True)
class _Grid:
    """Signed distances (I, J, K), bounded to 1 mm, at ``low`` + index times ``step`` mm."""

    low: Array
    step: float
    values: NDArray[np.float32]

    def box(self, low: ArrayLike, high: ArrayLike) -> tuple[tuple[slice, ...], list[Array]]:
        """The part between two corners with 1 mm around, and its coordinates along each axis."""
        size = np.array(self.values.shape)
        first = np.floor((np.asarray(low) - 1.0 - self.low) / self.step).astype(int)
        last = np.ceil((np.asarray(high) + 1.0 - self.low) / self.step).astype(int) + 1
        first, last = np.clip(first, 0, size), np.clip(last, 0, size)
        axes = np.ogrid[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]
        places = [start + self.step * axis for start, axis in zip(self.low, axes, strict=True)]
        return tuple(slice(a, b) for a, b in zip(first, last, strict=True)), places

    def add(self, part: tuple[slice, ...], distance: Array) -> None:
        """Join a body to what is there."""
        self.values[part] = np.minimum(self.values[part], np.clip(distance, -1.0, 1.0))

    def take(self, part: tuple[slice, ...], distance: Array) -> None:
        """Take a body away from what is there."""
        self.values[part] = np.maximum(self.values[part], -np.clip(distance, -1.0, 1.0))


def _add_base(grid: _Grid, centres: Array, widest: Array) -> None:
    low = (centres[:, :2] - widest[:, None]).min(axis=0) - 0.5 * _MARGIN_MM
    high = (centres[:, :2] + widest[:, None]).max(axis=0) + 0.5 * _MARGIN_MM
    part, (x, y, z) = grid.box([*low, 0.0], [*high, _BASE_MM])
    flat = np.maximum(np.maximum(low[0] - x, x - high[0]), np.maximum(low[1] - y, y - high[1]))
    grid.add(part, np.maximum(flat, np.maximum(-z, z - _BASE_MM)))


def _add_wall(grid: _Grid, start: Array, end: Array, top: float) -> None:
    low = np.minimum(start, end)[:2] - _WALL_MM
    high = np.maximum(start, end)[:2] + _WALL_MM
    part, (x, y, z) = grid.box([*low, 0.0], [*high, top])
    along = (end - start)[:2] / np.linalg.norm((end - start)[:2])
    beside = np.abs((x - start[0]) * -along[1] + (y - start[1]) * along[0])
    middle = 0.5 * (start + end)
    length = np.abs((x - middle[0]) * along[0] + (y - middle[1]) * along[1])
    half = 0.5 * float(np.linalg.norm((end - start)[:2]))
    flat = np.maximum(beside - 0.5 * _WALL_MM, length - half)
    grid.add(part, np.maximum(flat, np.maximum(-z, z - top)))


def _add_post(grid: _Grid, centre: Array, radius: float, top: float) -> None:
    foot = radius + _TAPER * centre[2]
    part, (x, y, z) = grid.box([*(centre[:2] - foot), 0.0], [*(centre[:2] + foot), top])
    outside = np.hypot(x - centre[0], y - centre[1]) - (radius + _TAPER * (centre[2] - z))
    grid.add(part, np.maximum(outside, np.maximum(-z, z - top)))


def _bore(grid: _Grid, centre: Array, radius: float, clearance_mm: float) -> None:
    """A bore whose round end touches the bead's lowest point, so that it sits at its place."""
    wide = radius + 0.5 * clearance_mm
    seat = centre + [0.0, 0.0, 0.5 * clearance_mm]
    low = [*(centre[:2] - wide), centre[2] - wide]
    part, (x, y, z) = grid.box(low, [*(centre[:2] + wide), _FAR_MM])
    below = np.minimum(z - seat[2], 0.0)
    grid.take(part, np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + below**2) - wide)
