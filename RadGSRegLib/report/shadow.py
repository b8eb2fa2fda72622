"""What a vertebra casts onto a view at a given pose: its outline and a rendering of it alone.

Made for pictures, so speed and smooth lines count; registration has its own, exact renderers.
"""

from dataclasses import dataclass

import numpy as np
from contourpy import contour_generator
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ..geometry import Array, Camera, Volume, cut, mask_box, transform_points

SOFT_TISSUE_HU = 40.0
WATER_PER_MM = 0.0206
_LEAST_FOLD_MM2 = 12.0


@dataclass(frozen=True)
class Shadow:
    """A vertebra's projection, sampled on a window of a view.

    ``columns`` (W,) and ``rows`` (H,): the view's pixel coordinates of the samples. ``attenuation``
    (H, W): line integrals of the bone above soft tissue. ``outline``: lines (N, 2) of (column,
    row), the silhouette. ``folds``: the same where the surface hides behind itself, that is the
    edges of pedicles and processes inside the silhouette. ``centre_px`` (2,): where the
    centroid of the mask projects. ``pixels_per_mm``: at the vertebra's depth.
    """

    columns: Array
    rows: Array
    attenuation: Array
    outline: tuple[Array, ...]
    folds: tuple[Array, ...]
    centre_px: Array
    pixels_per_mm: float

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, right, top, bottom) of the outline in the view's pixels."""
        points = np.concatenate(self.outline) if self.outline else self._corners()
        low, high = points.min(axis=0), points.max(axis=0)
        return float(low[0]), float(high[0]), float(low[1]), float(high[1])

    def _corners(self) -> Array:
        return np.array([[self.columns[0], self.rows[0]], [self.columns[-1], self.rows[-1]]])


def cast_shadow(
    ct: Volume,
    labels: Volume,
    label: int,
    ct_to_world: ArrayLike,
    camera: Camera,
    *,
    samples: int = 200,
    step_mm: float = 1.0,
) -> Shadow:
    """Project the voxels of ``label`` through ``camera`` at the pose ``ct_to_world`` (4, 4).

    ``ct`` (HU) and ``labels`` share a grid. The window around the vertebra is sampled at no more
    than ``samples`` points along its longer side; rays are sampled every ``step_mm``. Raises
    ValueError when the label is not there or the vertebra is not in front of the camera.
    """
    mask, bone = _boxed(ct, labels, label)
    world_to_camera = np.asarray(camera.world_to_camera, dtype=float)
    box_to_camera = world_to_camera @ np.asarray(ct_to_world, dtype=float) @ mask.index_to_physical
    centre = np.argwhere(mask.array > 0.5).mean(axis=0)[::-1]
    centre_camera = transform_points(box_to_camera, centre[None])[0]
    corners = transform_points(
        box_to_camera, np.array(list(np.ndindex(2, 2, 2))) * (np.array(mask.size) - 1.0)
    )
    near, far = float(corners[:, 2].min()), float(corners[:, 2].max())
    if near <= 1.0:
        raise ValueError("the vertebra does not lie in front of the X-ray source")
    columns, rows = _window(camera, corners, samples)
    pixels = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    homogeneous = np.column_stack([pixels, np.ones(len(pixels))])
    directions = np.linalg.solve(camera.intrinsic, homogeneous.T).T  # depth 1 along the axis
    camera_to_box = np.linalg.inv(box_to_camera)
    start = camera_to_box[:3, 3]
    along = directions @ camera_to_box[:3, :3].T
    highest = np.zeros(len(pixels))
    entries = np.zeros(len(pixels), dtype=np.int16)
    inside = np.zeros(len(pixels), dtype=bool)
    integral = np.zeros(len(pixels))
    last = np.array(mask.size) - 1.0
    steps = np.linspace(near, far, max(2, int(np.ceil((far - near) / step_mm)) + 1))
    for depth in steps:
        index = start + depth * along
        here = np.flatnonzero(((index >= 0.0) & (index <= last)).all(axis=1))
        kji = index[here, ::-1].T
        occupied = np.zeros(len(pixels), dtype=np.float32)
        occupied[here] = ndimage.map_coordinates(mask.array, kji, order=1, mode="nearest")
        integral[here] += ndimage.map_coordinates(bone, kji, order=1, mode="nearest")
        now = occupied > 0.5
        entries += now & ~inside
        inside = now
        np.maximum(highest, occupied, out=highest)
    integral *= (steps[1] - steps[0]) * np.linalg.norm(directions, axis=1)
    shape = (len(rows), len(columns))
    pixels_per_mm = float(abs(camera.intrinsic[0, 0]) / centre_camera[2])
    spacing_mm = float(columns[1] - columns[0]) / pixels_per_mm
    folded = ndimage.gaussian_filter((entries >= 2).reshape(shape).astype(float), 1.5)
    least = _LEAST_FOLD_MM2 / spacing_mm**2
    centre_px = camera.intrinsic @ (centre_camera / centre_camera[2])
    return Shadow(
        columns,
        rows,
        integral.reshape(shape),
        _lines(columns, rows, highest.reshape(shape), 0.0),
        _lines(columns, rows, folded, least),
        centre_px[:2],
        pixels_per_mm,
    )


def _boxed(ct: Volume, labels: Volume, label: int) -> tuple[Volume, NDArray[np.float32]]:
    """The smoothed mask on its own box, and the excess attenuation (1/mm) inside it."""
    inside = np.asarray(labels.array) == label
    if not inside.any():
        raise ValueError(f"label {label} is not in the label map")
    box = mask_box(inside, labels.spacing, 0.0)
    part = cut(labels.with_array(inside), box)
    hounsfield = ct.array[box]
    excess = np.where(part.array, WATER_PER_MM * (hounsfield - SOFT_TISSUE_HU) / 1000.0, 0.0)
    bone = np.pad(np.maximum(excess, 0.0).astype(np.float32), 2)
    mask = np.pad(part.array.astype(np.float32), 2)
    matrix = part.index_to_physical.copy()
    matrix[:3, 3] = part.physical_points([[-2.0, -2.0, -2.0]])[0]
    # Rounded by less than a voxel, so that the lines show the vertebra and not its voxels.
    sigma = 0.8 * float(part.spacing.min()) / part.spacing[::-1]
    return Volume(ndimage.gaussian_filter(mask, sigma), matrix), bone


def _window(camera: Camera, corners: Array, samples: int) -> tuple[Array, Array]:
    homogeneous = corners @ camera.intrinsic.T
    pixels = homogeneous[:, :2] / homogeneous[:, 2:3]
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    step = float((high - low).max()) / (samples - 1)
    counts = np.maximum(2, np.ceil((high - low) / step).astype(int) + 1)
    return low[0] + step * np.arange(counts[0]), low[1] + step * np.arange(counts[1])


def _lines(columns: Array, rows: Array, field: Array, least_area: float) -> tuple[Array, ...]:
    """Iso-lines of ``field`` at one half; those around less than ``least_area`` samples are out."""
    lines = contour_generator(columns, rows, field).lines(0.5)
    step = float(columns[1] - columns[0])
    return tuple(
        line for line in map(np.asarray, lines) if abs(_area(line)) / step**2 >= least_area
    )


def _area(line: Array) -> float:
    x, y = line[:, 0], line[:, 1]
    return 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
