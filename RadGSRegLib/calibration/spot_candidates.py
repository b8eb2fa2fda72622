"""Where round shadows may be: peaks whose curvature is strong in every direction.

At a blob the picture bends in both directions, at the edge or the ridge of a bone in one only. So
the weaker of the two principal curvatures tells beads from bones, whatever the grey values about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.spatial import cKDTree

from ..geometry import Array
from .bounds import ABOUT_RADII, CLEAR_CURVATURE, FAINT, SAME_PLACE, SCALE_STEP, STRONG

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Candidates:
    """Where spots may be: ``centres_px`` (N, 2), ``radii_px`` (N,), ``clarity`` (N,)."""

    centres_px: Array
    radii_px: Array
    clarity: Array


def scales_px(radius_px: tuple[float, float]) -> Array:
    """The radii that are searched, from the least to the most (pixels)."""
    least, most = radius_px
    steps = max(1, int(np.ceil(np.log(most / least) / np.log(SCALE_STEP))))
    return np.geomspace(least, most, steps + 1) if most > least else np.array([least])


def candidates(
    picture: Image, radius_px: tuple[float, float], signs: tuple[int, ...], most: int
) -> dict[int, Candidates]:
    """Candidates for spots that are brighter (+1) or darker (-1), the ``most`` clearest of each."""
    pieces: dict[int, list[Array]] = {sign: [] for sign in signs}
    for radius in scales_px(radius_px):
        # Of a disc of radius r, the scale r / sqrt(2) has the strongest curvature in its centre.
        sigma = float(radius / np.sqrt(2.0))
        step = max(1, int(sigma / 2.0))
        smooth = _smooth(picture, sigma, step)
        for sign, curvature in _curvatures(smooth, signs).items():
            pieces[sign].append(
                _peaks(curvature * np.float32(sigma / step) ** 2, radius, step, most)
            )
    return {sign: _chosen(np.concatenate(parts), most) for sign, parts in pieces.items()}


def _smooth(picture: Image, sigma: float, step: int) -> Image:
    """The picture blurred by ``sigma``, in squares of ``step`` pixels."""
    if step > 1:
        height, width = (n // step * step for n in picture.shape)
        squares = picture[:height, :width].reshape(height // step, step, width // step, step)
        picture = squares.mean(axis=(1, 3))
        # A square blurs too.
        sigma = np.sqrt(sigma**2 - (step**2 - 1.0) / 12.0) / step
    return np.asarray(gaussian_filter(picture, sigma, mode="nearest", truncate=3.0))


def _curvatures(smooth: Image, signs: tuple[int, ...]) -> dict[int, Image]:
    """The weaker principal curvature (rows, columns) of each polarity, 0 where a side bends up."""
    padded = np.pad(smooth, 1, mode="edge")
    middle = 2.0 * smooth
    across = padded[1:-1, 2:] + padded[1:-1, :-2] - middle
    down = padded[2:, 1:-1] + padded[:-2, 1:-1] - middle
    mixed = 0.25 * (padded[2:, 2:] + padded[:-2, :-2] - padded[2:, :-2] - padded[:-2, 2:])
    mean = 0.5 * (across + down)
    spread = np.sqrt((0.5 * (across - down)) ** 2 + mixed**2)
    return {sign: np.maximum(-sign * mean - spread, 0.0) for sign in signs}


def _peaks(curvature: Image, radius: float, step: int, most: int) -> Array:
    """The clearest peaks (N, 5) of a scale: column, row, radius, clarity, curvature."""
    about = uniform_filter(curvature, 2 * round(ABOUT_RADII * radius / step) + 1, mode="reflect")
    # On a plateau the least noise would be clear: a floor, a share of what the strongest have.
    floor = FAINT * float(np.quantile(curvature[::2, ::2], STRONG)) + 1e-30
    clarity = curvature / (about + floor)
    rows, columns = np.nonzero(clarity > CLEAR_CURVATURE)
    padded = np.pad(curvature, 1, mode="constant")
    around = [padded[rows + i, columns + j] for i in range(3) for j in range(3)]
    peak = curvature[rows, columns] >= np.max(around, axis=0, initial=0.0)
    rows, columns = rows[peak], columns[peak]
    order = np.argsort(-clarity[rows, columns], kind="stable")[:most]
    rows, columns = rows[order], columns[order]
    middle = 0.5 * (step - 1)
    columns_px, rows_px = columns * step + middle, rows * step + middle
    full = np.full(len(rows), radius)
    values = clarity[rows, columns], curvature[rows, columns]
    return np.column_stack([columns_px, rows_px, full, *values]).astype(float)


def _chosen(peaks: Array, most: int) -> Candidates:
    """The clearest of all scales (N, 5), each place at its strongest scale."""
    peaks = peaks[np.argsort(-peaks[:, 4], kind="stable")]
    keep = distinct(peaks[:, :2], peaks[:, 2], SAME_PLACE)
    peaks = peaks[keep]
    peaks = peaks[np.argsort(-peaks[:, 3], kind="stable")][:most]
    return Candidates(peaks[:, :2], peaks[:, 2], peaks[:, 3])


def distinct(centres: Array, radii: Array, share: float) -> NDArray[np.int64]:
    """Of places nearer than a share of the larger radius the first (numbers, rising)."""
    keep = np.ones(len(centres), dtype=bool)
    if len(centres):
        pairs = cKDTree(centres).query_pairs(share * float(radii.max()), output_type="ndarray")
        apart = np.hypot(*(centres[pairs[:, 0]] - centres[pairs[:, 1]]).T)
        near = apart < share * np.maximum(radii[pairs[:, 0]], radii[pairs[:, 1]])
        for first, second in sorted(map(tuple, np.sort(pairs[near], axis=1))):
            keep[second] &= not keep[first]
    return np.nonzero(keep)[0]
