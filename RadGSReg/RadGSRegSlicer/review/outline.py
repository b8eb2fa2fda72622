"""What a closed surface casts onto an X-ray: closed lines, projected exactly by the camera.

A surface's outline is where its triangles turn from facing the source to facing away. Those edges
form closed loops; projected and summed with their sense, they wind about every pixel as often as
the pixel's ray enters the surface. So the winding number is the shadow: above zero inside the
silhouette, above one where the surface hides behind itself (pedicles, processes). It costs a few
milliseconds, since only the loops are drawn and not the triangles.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import vtk
from numpy.typing import ArrayLike, NDArray
from RadGSRegLib.geometry import Array
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

CELL_PX = 0.25
_MOST_CELLS = 600  # along the longer side; a larger shadow gets larger cells
_LEAST_FOLD_PX2 = 30.0
_SLIVER_CELLS = 2  # folds of up to twice as many cells across come from the voxels, not the bone


@dataclass(frozen=True)
class Outline:
    """Closed lines (N, 2) of (column, row), the first point repeated at the end.

    ``silhouette`` around the whole shadow, ``folds`` around where the surface hides behind itself.
    """

    silhouette: tuple[Array, ...]
    folds: tuple[Array, ...]

    def inside(self, columns: int, rows: int) -> NDArray[np.bool_]:
        """The pixels (rows, columns) of a picture whose centres the silhouette encloses."""
        if not self.silhouette:
            return np.zeros((rows, columns), dtype=bool)
        start = np.concatenate([line[:-1] for line in self.silhouette])
        end = np.concatenate([line[1:] for line in self.silhouette])
        # One row and column more on either side takes whatever lies outside the picture.
        low, high = np.array([0.0, 0.0]), np.array([columns + 2.0, rows + 2.0])
        start, end = (np.clip(points + 1.5, low, high) for points in (start, end))
        turns = _winding(start, end, np.ones(len(start)), (rows + 2, columns + 2))
        return np.asarray(turns[1:-1, 1:-1] % 2 != 0)

    @property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """(left, right, top, bottom) in pixels, None where there is no shadow."""
        if not self.silhouette:
            return None
        points = np.concatenate(self.silhouette)
        low, high = points.min(axis=0), points.max(axis=0)
        return float(low[0]), float(high[0]), float(low[1]), float(high[1])


class SilhouetteProjector:
    """Projects one closed mesh again and again; what does not hang on the pose is kept."""

    def __init__(self, points: ArrayLike, triangles: ArrayLike) -> None:
        """``points`` (N, 3) mm and ``triangles`` (M, 3) of a closed mesh, all turned the same."""
        self._points = np.asarray(points, dtype=float)
        corners = np.asarray(triangles, dtype=np.int64)
        first = self._points[corners[:, 0]]
        self._normals = np.cross(
            self._points[corners[:, 1]] - first, self._points[corners[:, 2]] - first
        )
        self._offsets = np.einsum("ij,ij->i", self._normals, first)
        edges = np.stack([corners, np.roll(corners, -1, axis=1)], axis=-1).reshape(-1, 2)
        self._senses = np.where(edges[:, 0] < edges[:, 1], 1, -1).reshape(-1, 3)
        keys = edges.min(axis=1) * len(self._points) + edges.max(axis=1)
        unique, inverse = np.unique(keys, return_inverse=True)
        self._edgeOfSide = inverse.reshape(-1, 3)
        self._edges = np.column_stack([unique // len(self._points), unique % len(self._points)])

    def outline(self, projection: ArrayLike, folds: bool = True) -> Outline:
        """The outline under a projection (3, 4), from the mesh's frame to homogeneous pixels.

        Empty where any part of the mesh is not in front of the source.
        """
        matrix = np.asarray(projection, dtype=float)
        homogeneous = self._points @ matrix[:, :3].T + matrix[:, 3]
        if not len(homogeneous) or float(homogeneous[:, 2].min()) <= 0.0:
            return Outline((), ())
        pixels = homogeneous[:, :2] / homogeneous[:, 2:3]
        start, end, count = self._boundary(matrix)
        if not len(start):
            return Outline((), ())
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        cell = max(CELL_PX, float((high - low).max()) / _MOST_CELLS)
        origin = low - 4.0 * cell
        shape = np.ceil((high - low) / cell).astype(int) + 9
        winding = _winding(
            (pixels[start] - origin) / cell,
            (pixels[end] - origin) / cell,
            count,
            (int(shape[1]), int(shape[0])),
        )
        silhouette = _contours(winding >= 1, origin, cell, 5, 4.0 * cell**2)
        hidden = (
            _contours(_opened(winding >= 2, _SLIVER_CELLS), origin, cell, 9, _LEAST_FOLD_PX2)
            if folds
            else ()
        )
        return Outline(silhouette, hidden)

    def _boundary(self, matrix: Array) -> tuple[Array, Array, Array]:
        """Edges between what faces the source and what does not: from, to, how often (signed)."""
        source = -np.linalg.solve(matrix[:, :3], matrix[:, 3])
        facing = self._normals @ source > self._offsets
        # Edges inside the facing part are run through once each way and cancel.
        net = np.bincount(
            self._edgeOfSide[facing].ravel(),
            weights=self._senses[facing].ravel(),
            minlength=len(self._edges),
        )
        kept = np.flatnonzero(net)
        return self._edges[kept, 0], self._edges[kept, 1], net[kept]


def _winding(start: Array, end: Array, count: Array, shape: tuple[int, int]) -> NDArray[np.int16]:
    """How often signed edges, in cell coordinates, wind about each cell's centre; 0 or above."""
    firstRow = np.ceil(np.minimum(start[:, 1], end[:, 1]) - 0.5).astype(np.int64)
    lastRow = np.ceil(np.maximum(start[:, 1], end[:, 1]) - 0.5).astype(np.int64)
    crossed = lastRow - firstRow
    edge = np.repeat(np.arange(len(start)), crossed)
    within = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed)
    row = firstRow[edge] + within
    part = (row + 0.5 - start[edge, 1]) / (end[edge, 1] - start[edge, 1])
    column = np.ceil(start[edge, 0] + part * (end[edge, 0] - start[edge, 0]) - 0.5)
    step = np.where(end[:, 1] > start[:, 1], 1.0, -1.0) * count
    flat = row * shape[1] + np.clip(column, 0, shape[1] - 1).astype(np.int64)
    steps = np.bincount(flat, weights=step[edge], minlength=shape[0] * shape[1])
    small = steps.astype(np.int16).reshape(shape)
    winding = np.cumsum(small, axis=1, dtype=np.int16)
    # Its sign says only which way round the picture is.
    return np.asarray(winding if int(winding.sum(dtype=np.int64)) >= 0 else -winding)


def _opened(region: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """A region without what is narrower than twice ``reach`` cells."""
    out = region.copy()
    for join in (np.logical_and, np.logical_or):
        for _ in range(reach):
            grown = out.copy()
            grown[1:] = join(grown[1:], out[:-1])
            grown[:-1] = join(grown[:-1], out[1:])
            grown[:, 1:] = join(grown[:, 1:], out[:, :-1])
            grown[:, :-1] = join(grown[:, :-1], out[:, 1:])
            out = grown
    return out


def _contours(
    inside: NDArray[np.bool_], origin: Array, cell: float, smooth: int, leastArea: float
) -> tuple[Array, ...]:
    """Closed lines around a region of cells (its edge is outside), in pixels."""
    if not inside.any():
        return ()
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    top, left = max(int(rows[0]) - 1, 0), max(int(columns[0]) - 1, 0)
    part = np.ascontiguousarray(
        inside[top : int(rows[-1]) + 2, left : int(columns[-1]) + 2], dtype=np.uint8
    )
    image = vtk.vtkImageData()
    image.SetDimensions(part.shape[1], part.shape[0], 1)
    image.GetPointData().SetScalars(numpy_to_vtk(part.ravel(), deep=False))
    contour = vtk.vtkFlyingEdges2D()
    contour.SetInputData(image)
    contour.SetValue(0, 0.5)
    contour.ComputeScalarsOff()
    join = vtk.vtkStripper()
    join.SetInputConnection(contour.GetOutputPort())
    join.SetMaximumLength(100_000)
    join.JoinContiguousSegmentsOn()
    join.Update()
    joined = join.GetOutput()
    if joined.GetNumberOfLines() == 0:
        return ()
    points = vtk_to_numpy(joined.GetPoints().GetData())[:, :2].astype(float)
    pixels = origin + (points + [left + 0.5, top + 0.5]) * cell
    offsets = vtk_to_numpy(joined.GetLines().GetOffsetsArray())
    order = vtk_to_numpy(joined.GetLines().GetConnectivityArray())
    lines = (pixels[order[first:last]] for first, last in itertools.pairwise(offsets))
    return tuple(_smoothed(line, smooth) for line in lines if abs(_area(line)) >= leastArea)


def _smoothed(line: Array, width: int) -> Array:
    """A closed line without the stairs of the cells: the running mean of ``width`` points."""
    points = line[:-1]
    if len(points) < 3 * width:
        return line
    half = width // 2
    around = np.concatenate([points[-half:], points, points[:half]])
    sums = np.cumsum(np.vstack([np.zeros((1, 2)), around]), axis=0)
    mean = (sums[width:] - sums[:-width]) / width
    return np.vstack([mean, mean[:1]])


def _area(line: Array) -> float:
    x, y = line[:, 0], line[:, 1]
    return 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
