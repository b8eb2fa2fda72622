"""Where round shadows may be: peaks whose curvature is strong in every direction.

At a blob the picture bends in both directions, at the edge or the ridge of a bone in one only. So
the weaker of the two principal curvatures tells beads from bones, whatever the grey values about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter, uniform_filter

from ..geometry import Array
from .bounds import ABOUT_RADII, CLEAR_CURVATURE, SCALE_STEP

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
        for sign, curvature in _curvatures(picture, sigma, step, signs).items():
            pieces[sign].append(_peaks(curvature, float(radius), step, most))
    chosen = {}
    for sign, parts in pieces.items():
        every = np.concatenate(parts)
        every = every[np.argsort(-every[:, 3], kind="stable")][:most]
        chosen[sign] = Candidates(every[:, :2], every[:, 2], every[:, 3])
    return chosen


def _curvatures(
    picture: Image, sigma: float, step: int, signs: tuple[int, ...]
) -> dict[int, Image]:
    """The weaker principal curvature (rows, columns) of each polarity, on every ``step``-th pixel."""
    smooth = gaussian_filter(picture, sigma, mode="nearest", truncate=3.0)[::step, ::step]
    padded = np.pad(smooth, 1, mode="edge")
    middle = 2.0 * smooth
    across = padded[1:-1, 2:] + padded[1:-1, :-2] - middle
    down = padded[2:, 1:-1] + padded[:-2, 1:-1] - middle
    mixed = 0.25 * (padded[2:, 2:] + padded[:-2, :-2] - padded[2:, :-2] - padded[:-2, 2:])
    mean = 0.5 * (across + down)
    spread = np.sqrt((0.5 * (across - down)) ** 2 + mixed**2)
    return {sign: np.maximum(-sign * mean - spread, 0.0) for sign in signs}


def _peaks(curvature: Image, radius: float, step: int, most: int) -> Array:
    """The clearest peaks (N, 4) of a scale: column, row, radius, clarity."""
    size = 2 * max(1, round(0.5 * radius / step)) + 1
    about = uniform_filter(curvature, 2 * round(ABOUT_RADII * radius / step) + 1, mode="reflect")
    # Where nothing is but a plateau, rounding would stand out: a floor.
    floor = 0.1 * float(about.mean()) + 1e-12
    clarity = curvature / (about + floor)
    peak = (curvature == maximum_filter(curvature, size)) & (clarity > CLEAR_CURVATURE)
    rows, columns = np.nonzero(peak)
    order = np.argsort(-clarity[rows, columns], kind="stable")[:most]
    rows, columns = rows[order], columns[order]
    full = np.full(len(rows), radius)
    return np.column_stack([columns * step, rows * step, full, clarity[rows, columns]]).astype(float)
