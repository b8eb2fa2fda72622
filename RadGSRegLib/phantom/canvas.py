"""The grid that bones are painted on: CT numbers, labels and subregions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import find_objects, label

from ..geometry import Array as Matrix
from ..geometry import invert_rigid, transform_points
from .fields import FAR, Array, Points, coverage

Box = tuple[slice, slice, slice]


@dataclass
class Grid:
    """An axis-aligned grid: coordinates of its voxel centres (mm, LPS) and the blur of a voxel."""

    x: Array
    y: Array
    z: Array
    sigma: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, J, I)."""
        return len(self.z), len(self.y), len(self.x)

    def box(self, lower: ArrayLike, upper: ArrayLike) -> Box:
        """The slices (k, j, i) of the voxels inside a box (mm)."""
        low, high = np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
        k, j, i = (
            slice(int(np.searchsorted(axis, low[n])), int(np.searchsorted(axis, high[n])))
            for axis, n in ((self.z, 2), (self.y, 1), (self.x, 0))
        )
        return k, j, i

    def points(self, box: Box) -> Points:
        """All voxel centres of a box, flat, in the order of the array."""
        z, y, x = np.meshgrid(self.z[box[0]], self.y[box[1]], self.x[box[2]], indexing="ij")
        return Points(x.ravel(), y.ravel(), z.ravel())


@dataclass(frozen=True)
class Spot:
    """Part of the grid: its box, flat indices (N,) in that, and their points in a bone's frame."""

    box: Box
    where: NDArray[np.intp]
    points: Points

    def take(self, chosen: NDArray[np.intp]) -> Spot:
        """Only some of the points."""
        return Spot(self.box, self.where[chosen], self.points.take(chosen))


@dataclass(frozen=True)
class Bone:
    """What is painted at the points of a spot, all (N,) but ``cortical`` (HU).

    ``distance`` to the bone's outside (mm, negative within), thickness of the ``shell`` (mm) and HU
    of the ``marrow``.
    """

    distance: Array
    shell: Array
    cortical: float
    marrow: Array


class Canvas:
    """Arrays (K, J, I) on a grid: ``hu``, ``labels``, ``parts``; how near each voxel's bone is."""

    def __init__(self, grid: Grid, hu: Array) -> None:
        self.grid = grid
        self.hu = hu
        self.nearest = np.full(grid.shape, FAR, dtype=np.float32)
        self.labels = np.zeros(grid.shape, dtype=np.uint8)
        self.parts = np.zeros(grid.shape, dtype=np.uint8)

    def spot(self, local_to_physical: Matrix, lower: ArrayLike, upper: ArrayLike) -> Spot | None:
        """The voxels inside a posed local box, if there are any."""
        corners = posed_corners(local_to_physical, lower, upper)
        box = self.grid.box(corners.min(0), corners.max(0))
        if min(s.stop - s.start for s in box) <= 0:
            return None
        local = self.grid.points(box).moved(invert_rigid(local_to_physical))
        inside = local.inside_box(lower, upper)
        return Spot(box, inside, local.take(inside)) if len(inside) else None

    def close(self, distance: Array) -> NDArray[np.intp]:
        """Where a bone is near enough to show in a blurred voxel."""
        return np.flatnonzero(distance < 3.2 * self.grid.sigma)

    def paint(self, spot: Spot, bone: Bone) -> None:
        """Lay bone over the soft tissue: outside, shell and marrow by their share of each voxel."""
        outer = coverage(bone.distance, self.grid.sigma)
        inner = coverage(bone.distance + bone.shell, self.grid.sigma)
        old = self.hu[spot.box].reshape(-1)[spot.where]
        value = (outer - inner) * np.float32(bone.cortical) + inner * bone.marrow
        # Where two bones share a voxel, each covers its part of what is left.
        new = np.maximum(
            old * (1.0 - outer) + value, np.where(old > 300, old, -1100.0) * (1 - inner)
        )
        _put(self.hu[spot.box], spot.where, new)

    def fill(self, spot: Spot, share: Array, value: float) -> None:
        """Mix a soft tissue of one HU into what is there."""
        old = self.hu[spot.box].reshape(-1)[spot.where]
        _put(self.hu[spot.box], spot.where, old + share * (np.float32(value) - old))

    def claim(
        self, spot: Spot, distance: Array, label: int, part: NDArray[np.uint8] | None = None
    ) -> None:
        """Label the voxels that lie inside this bone, and deeper than inside any other."""
        near = self.nearest[spot.box].reshape(-1)[spot.where]
        mine = (distance < near) & (distance < 0)
        chosen = spot.where[mine]
        _put(self.nearest[spot.box], chosen, distance[mine])
        _put(self.labels[spot.box], chosen, label)
        if part is not None:
            _put(self.parts[spot.box], chosen, part[mine])

    def drop_islands(self, voxel_mm3: float, limit_mm3: float = 600.0) -> None:
        """Unlabel crumbs that a facet joint cut off; pieces that the field's edge cut off stay."""
        whole = np.ones((3, 3, 3), dtype=int)
        for number, box in enumerate(find_objects(self.labels), start=1):
            if box is None:
                continue
            pieces, count = label(self.labels[box] == number, whole)
            if count < 2:
                continue
            for index, place in enumerate(find_objects(pieces), start=1):
                mine = pieces[place] == index
                touches = any(
                    b.start + s.start == 0 or b.start + s.stop == n
                    for b, s, n in zip(box, place, self.labels.shape, strict=True)
                )
                if touches or mine.sum() * voxel_mm3 > limit_mm3:
                    continue
                self.labels[box][place][mine] = 0
                self.parts[box][place][mine] = 0


def _put(here: NDArray[Any], where: NDArray[np.intp], values: ArrayLike) -> None:
    """Write values at flat indices of a part of the grid, in place."""
    here[np.unravel_index(where, here.shape)] = values


def posed_corners(local_to_physical: Matrix, lower: ArrayLike, upper: ArrayLike) -> Matrix:
    """The eight corners (8, 3), mm, of a posed local box."""
    ends = np.array([lower, upper], dtype=float).T
    corners = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(8, 3)
    return transform_points(local_to_physical, corners)
