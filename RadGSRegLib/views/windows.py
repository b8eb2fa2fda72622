"""A window of a view about a point, at the resolution of a stage.

Registration takes many windows of one view, all on grids along its axes: there blur and linear
interpolation are one small matrix for either axis, which is faster than `resampling` at any places.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from .bounds import (
    BLUR_REACH,
    LEAST_SHARE,
    VALID_SHARE,
    WINDOW_INTERPOLATION_PX,
    WINDOW_LEAST_BLUR_PX,
)
from .types import PreparedView, Window


def window(
    view: PreparedView,
    centre_world: NDArray[np.float64],
    half_width_mm: float,
    pixel_mm: float,
    blur_mm: float,
) -> Window:
    """Take the part of a view within ``half_width_mm`` of a world point (3,), mm.

    It has pixels of ``pixel_mm``. All lengths are at the depth of the point; the image is blurred
    with a Gaussian of ``blur_mm`` before it is sampled, over valid pixels only.
    """
    camera = view.camera
    in_camera = camera.world_to_camera[:3, :3] @ centre_world + camera.world_to_camera[:3, 3]
    focal = float(np.sqrt(abs(np.linalg.det(camera.intrinsic[:2, :2]))))
    per_mm = focal / float(in_camera[2])
    step = pixel_mm * per_mm
    column, row = camera.project(centre_world[None])[0]
    count = 2 * int(np.ceil(half_width_mm / pixel_mm)) + 1
    half = (count - 1) / 2 * step
    part = camera.window(column - half, row - half, count, count, step)

    sigma = np.sqrt(max((blur_mm * per_mm) ** 2 - WINDOW_INTERPOLATION_PX**2, 0.0))
    positions = step * np.arange(count) - half
    rows = _Samples(row + positions, view.pixels.shape[0], sigma)
    columns = _Samples(column + positions, view.pixels.shape[1], sigma)
    weight = torch.from_numpy(view.valid[rows.part, columns.part]).float()
    pixels = torch.from_numpy(view.pixels[rows.part, columns.part])
    smooth_weight, smooth = rows.matrix @ torch.stack([weight, weight * pixels]) @ columns.matrix.T
    # Where nothing is valid within reach, the nearest pixels stand in.
    plain = pixels[rows.nearest][:, columns.nearest]
    mean = smooth / smooth_weight.clamp_min(LEAST_SHARE)
    inside = torch.outer(rows.inside, columns.inside)
    effective = max(1.0, 2.0 * np.sqrt(np.pi) * sigma)
    return Window(
        camera=part,
        image=torch.where(smooth_weight > LEAST_SHARE, mean, plain),
        valid=inside * (smooth_weight > VALID_SHARE).float(),
        noise=view.noise / effective,
        pixel_mm=pixel_mm,
    )


class _Samples:
    """A line blurred and sampled at positions: a ``matrix`` (positions, n) by the n pixels of
    ``part``.

    A Gaussian of ``sigma`` pixels, then linear interpolation; positions beyond the line's ends
    count as at the end, and ``inside`` says which are not.
    """

    def __init__(self, positions: NDArray[np.float64], length: int, sigma: float) -> None:
        self.inside = torch.from_numpy((positions >= 0.0) & (positions <= length - 1.0)).float()
        held = np.clip(positions, 0.0, length - 1.0)
        low = np.minimum(held.astype(int), max(length - 2, 0))
        high = np.minimum(low + 1, length - 1)
        reach = int(BLUR_REACH * sigma + 0.5) if sigma > WINDOW_LEAST_BLUR_PX else 0
        first, stop = max(int(low.min()) - reach, 0), min(int(high.max()) + reach + 1, length)
        self.part = slice(first, stop)
        self.nearest = torch.from_numpy(np.round(held).astype(int) - first)
        pixels = np.arange(first, stop)
        share = held - low
        matrix = (1.0 - share[:, None]) * _gaussian(pixels - low[:, None], sigma, reach)
        matrix += share[:, None] * _gaussian(pixels - high[:, None], sigma, reach)
        self.matrix = torch.from_numpy(matrix.astype(np.float32))


def _gaussian(offsets: NDArray[np.int_], sigma: float, reach: int) -> NDArray[np.float64]:
    """Weights of pixels at these offsets, which sum to one over all within ``reach``."""
    if reach == 0:
        return np.asarray(offsets == 0, dtype=float)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = np.concatenate([[0.0], kernel / kernel.sum(), [0.0]])
    return np.asarray(kernel[np.clip(offsets, -reach - 1, reach + 1) + reach + 1])
