"""X-rays made ready for registration: one sign, valid pixels, windows at several resolutions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ..cases import View, attenuation_like
from ..geometry import Camera

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class PreparedView:
    """An X-ray whose values are monotone in attenuation up to a sign, scaled to about [0, 1].

    ``sign`` is +1 or -1 where it is known that bone is bright or dark, and 0 where it is not;
    ``valid`` (rows, columns) marks pixels that show the patient: not the collimator, not burnt out.
    ``noise`` is the standard deviation of the pixel noise, in units of ``pixels``.
    """

    name: str
    camera: Camera
    pixels: Pixels
    valid: NDArray[np.bool_]
    noise: float
    sign: int


@dataclass(frozen=True)
class Window:
    """A resampled window of a view: what one level of the search compares with a rendering."""

    camera: Camera
    image: Tensor
    valid: Tensor
    noise: float
    pixel_mm: float
    """Pixel size at the vertebra, mm."""


def prepare_view(view: View) -> PreparedView:
    """Bring a view's pixels to the common form; the display curve itself stays unknown.

    Raises InputError for a transmission without any counts.
    """
    pixels, valid = attenuation_like(view)
    sign = 0 if view.intensity == "display" else 1
    inside = pixels[valid] if valid.any() else pixels.ravel()
    low, high = np.percentile(inside, [0.5, 99.5])
    scaled = ((pixels - low) / max(float(high - low), 1e-12)).astype(np.float32)
    return PreparedView(
        view.name, view.camera, np.clip(scaled, -1.0, 2.0), valid, _noise(scaled, valid), sign
    )


def _noise(pixels: Pixels, valid: NDArray[np.bool_]) -> float:
    """Noise from the second difference along both axes (Immerkaer 1996), robust to edges."""
    kernel = np.outer([1.0, -2.0, 1.0], [1.0, -2.0, 1.0])
    response = ndimage.convolve(pixels, kernel)[valid]
    if response.size == 0:
        return 0.0
    return float(np.median(np.abs(response)) / 0.6745 / 6.0)


def window(
    view: PreparedView,
    centre_world: NDArray[np.float64],
    half_width_mm: float,
    pixel_mm: float,
    blur_mm: float,
) -> Window:
    """The part of a view within ``half_width_mm`` of a world point, at ``pixel_mm`` per pixel.

    All lengths are at the depth of the point; the image is blurred with a Gaussian of ``blur_mm``
    before it is sampled, over valid pixels only.
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

    sigma = np.sqrt(max((blur_mm * per_mm) ** 2 - 0.3**2, 0.0))
    positions = step * np.arange(count) - half
    rows = _Samples(row + positions, view.pixels.shape[0], sigma)
    columns = _Samples(column + positions, view.pixels.shape[1], sigma)
    weight = torch.from_numpy(view.valid[rows.part, columns.part]).float()
    pixels = torch.from_numpy(view.pixels[rows.part, columns.part])
    smooth_weight, smooth = rows.matrix @ torch.stack([weight, weight * pixels]) @ columns.matrix.T
    # Where nothing is valid within reach, the nearest pixels stand in.
    plain = pixels[rows.nearest][:, columns.nearest]
    image = torch.where(smooth_weight > 1e-3, smooth / smooth_weight.clamp_min(1e-3), plain)
    inside = torch.outer(rows.inside, columns.inside)
    effective = max(1.0, 2.0 * np.sqrt(np.pi) * sigma)
    return Window(
        camera=part,
        image=image,
        valid=inside * (smooth_weight > 0.7).float(),
        noise=view.noise / effective,
        pixel_mm=pixel_mm,
    )


class _Samples:
    """A line blurred and sampled at positions: a ``matrix`` (positions, n) by the n pixels of
    ``part``.

    A Gaussian of ``sigma`` pixels, cut off at three, then linear interpolation; positions beyond
    the line's ends count as at the end, and ``inside`` says which are not.
    """

    def __init__(self, positions: NDArray[np.float64], length: int, sigma: float) -> None:
        self.inside = torch.from_numpy((positions >= 0.0) & (positions <= length - 1.0)).float()
        held = np.clip(positions, 0.0, length - 1.0)
        low = np.minimum(held.astype(int), max(length - 2, 0))
        high = np.minimum(low + 1, length - 1)
        reach = int(3.0 * sigma + 0.5) if sigma > 0.25 else 0
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
