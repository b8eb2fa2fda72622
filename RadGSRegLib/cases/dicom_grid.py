"""The grid of CT slices: one for all of them, or a refusal that says which slice is off it."""

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..geometry import Array
from . import bounds
from .dicom_slices import Slice
from .itk_image import check_axes


def slices_by_place(slices: list[Slice]) -> list[list[Slice]]:
    """Slices in order along their normal; those at the same place together."""
    axes = np.mean([s.axes for s in slices], axis=0)
    normal = np.cross(axes[0], axes[1])
    normal = normal / np.linalg.norm(normal)
    ordered = sorted(slices, key=lambda s: (float(s.position @ normal), s.path))
    places = [[ordered[0]]]
    for item in ordered[1:]:
        if np.abs(item.position - places[-1][0].position).max() < bounds.SAME_MM:
            places[-1].append(item)
        else:
            places.append([item])
    return places


def _corners(item: Slice) -> Array:
    """The centres (4, 3) of a slice's corner pixels, mm."""
    columns, rows = item.size[0] - 1, item.size[1] - 1
    indices = np.array([[0, 0], [columns, 0], [0, rows], [columns, rows]], dtype=float)
    return np.asarray(item.position + indices @ item.axes)


def _with_step(slices: list[Slice], axes: Array, step: Array) -> tuple[Array, Array]:
    """The grid (4, 4) with a step from slice to slice, and how far each slice is off it, mm."""
    count = len(slices)
    middle = np.mean([s.position for s in slices], axis=0)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = axes[0], axes[1], step
    matrix[:3, 3] = middle - (count - 1) / 2 * step
    columns, rows = slices[0].size
    index = np.array([[0, 0], [columns - 1, 0], [0, rows - 1], [columns - 1, rows - 1]])
    plane = matrix[:3, 3] + index @ axes
    off = [
        np.linalg.norm(_corners(item) - plane - n * step, axis=1).max()
        for n, item in enumerate(slices)
    ]
    return matrix, np.array(off)


def grid_of(folder: Path, slices: list[Slice], besides: str = "") -> tuple[Array, float]:
    """index_to_physical (4, 4) of slices in order, and how far a corner is off it at most, mm.

    ``besides`` goes into the complaint about a hole. Raises InputError for holes, slices that are
    uneven or off the line, and axes that are sheared.
    """
    count = len(slices)
    axes = np.mean([s.axes for s in slices], axis=0)
    positions = np.array([s.position for s in slices])
    numbers = np.arange(count) - (count - 1) / 2
    step = numbers @ positions / (numbers @ numbers)  # the line that fits best
    normal = np.cross(axes[0], axes[1])
    heights = np.diff(positions @ normal) / np.linalg.norm(normal)
    usual = float(np.median(heights))
    hole = int(np.argmax(heights))
    if heights[hole] > bounds.HOLE * usual:
        raise InputError(
            folder,
            f"has uneven slices: {heights[hole]:.3g} mm after slice {hole + 1} of {count} "
            f"({slices[hole].path.name}), {usual:.3g} mm otherwise{besides}",
            "is a slice missing?",
        )
    upright = normal * (step @ normal) / (normal @ normal)
    matrix, off = _with_step(slices, axes, step)
    if np.linalg.norm(step - upright) > bounds.SKEW * np.linalg.norm(step):
        # a moved slice tilts the line of few: right angles are taken where they fit as well
        straight, straight_off = _with_step(slices, axes, upright)
        if straight_off.max() < bounds.OFF_GRID_MM:
            matrix, off = straight, straight_off
    worst = int(np.argmax(off))
    if off[worst] > bounds.OFF_GRID_MM:
        raise InputError(
            folder,
            f"has uneven slices: {slices[worst].path.name} lies {off[worst]:.2g} mm off the even "
            f"grid of the {count} slices",
            "is a slice missing, moved or turned?",
        )
    check_axes(matrix, folder)
    return matrix, float(off[worst])
