"""The part of an X-ray that shows the box to reconstruct, resampled and nearly in attenuation.

Registration prepares its own pictures; here the grid must be that of the box, the scale of known
line integrals must be kept, and nothing may be clipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ..cases import View, attenuation_like
from ..errors import InputError
from ..geometry import Camera

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Observation:
    """A window of a view: ``image`` and ``valid`` (rows, columns), float32.

    ``valid`` is 1 where the pixel shows the patient and 0 elsewhere. ``sign`` is +1 where more
    attenuation is known to be brighter in ``image`` and 0 where that is not known. ``gain_known``:
    ``image`` is line integrals up to an offset; ``offset_known``: that offset is zero.
    """

    name: str
    camera: Camera
    image: Tensor
    valid: Tensor
    sign: int
    gain_known: bool
    offset_known: bool


def observe(
    view: View, corners_world: Array, pixel_mm: float, *, device: str = "cpu"
) -> Observation:
    """The window of a view that a box (its corners (8, 3), world mm) projects into.

    Pixels are ``pixel_mm`` wide at the middle of the box. Raises InputError where the box lies
    behind the source, or where the image shows less than a tenth of its window.
    """
    camera = view.camera
    depths = corners_world @ camera.world_to_camera[2, :3] + camera.world_to_camera[2, 3]
    if depths.min() < 50.0:
        raise InputError(view.name, "the vertebra lies at or behind the source", "check the views")
    uv = camera.project(corners_world)
    focal = float(np.sqrt(abs(np.linalg.det(camera.intrinsic[:2, :2]))))
    step = pixel_mm * focal / float(depths.mean())
    low, high = uv.min(0), uv.max(0)
    columns, rows = (int(n) for n in np.ceil((high - low) / step) + 1)
    if max(columns, rows) > 2048:
        raise InputError(view.name, "the box covers too many pixels", "use a larger pixel_mm")
    part = camera.window(low[0], low[1], columns, rows, step)

    pixels, mask = attenuation_like(view)
    weight = mask.astype(np.float32)
    # As wide as the pixels to come, so that none is passed over.
    sigma = 0.4 * step if step > 1.0 else 0.0
    if sigma > 0.0:
        share = ndimage.gaussian_filter(weight, sigma, mode="constant", truncate=3.0)
        smooth = ndimage.gaussian_filter(pixels * weight, sigma, mode="constant", truncate=3.0)
        smooth = np.where(share > 1e-3, smooth / np.maximum(share, 1e-3), 0.0)
    else:
        share, smooth = weight, pixels
    where = np.mgrid[0:rows, 0:columns].astype(np.float64) * step
    where += np.array([low[1], low[0]])[:, None, None]
    image = ndimage.map_coordinates(smooth, where, order=1, mode="nearest")
    valid = ndimage.map_coordinates(share, where, order=1, mode="constant") > 0.7
    if valid.mean() < 0.1:
        raise InputError(view.name, "shows next to nothing of the vertebra", "check the geometry")
    if view.intensity == "display":
        below, above = np.percentile(image[valid], [1.0, 99.0])
        image = (image - below) / max(float(above - below), 1e-12)
    return Observation(
        name=view.name,
        camera=part,
        image=torch.from_numpy(np.where(valid, image, 0.0).astype(np.float32)).to(device),
        valid=torch.from_numpy(valid.astype(np.float32)).to(device),
        sign=0 if view.intensity == "display" else 1,
        gain_known=view.intensity != "display",
        offset_known=view.intensity == "attenuation",
    )
