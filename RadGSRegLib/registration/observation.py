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
    weight = view.valid.astype(np.float32)
    if sigma > 0.25:
        smooth_weight = ndimage.gaussian_filter(weight, sigma, mode="constant", truncate=3.0)
        smooth = ndimage.gaussian_filter(
            view.pixels * weight, sigma, mode="constant", truncate=3.0
        ) / np.maximum(smooth_weight, 1e-3)
    else:
        smooth_weight, smooth = weight, view.pixels
    rows, columns = np.mgrid[0:count, 0:count].astype(np.float64)
    positions = [row - half + step * rows, column - half + step * columns]
    image = ndimage.map_coordinates(smooth, positions, order=1, mode="nearest")
    valid = ndimage.map_coordinates(smooth_weight, positions, order=1, mode="constant")
    effective = max(1.0, 2.0 * np.sqrt(np.pi) * sigma)
    return Window(
        camera=part,
        image=torch.from_numpy(image.astype(np.float32)),
        valid=torch.from_numpy((valid > 0.7).astype(np.float32)),
        noise=view.noise / effective,
        pixel_mm=pixel_mm,
    )
