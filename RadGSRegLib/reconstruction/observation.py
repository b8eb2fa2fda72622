"""The part of an X-ray that shows the box to reconstruct, resampled and nearly in attenuation.

Registration takes windows about a point; here the grid must be that of the box, the scale of known
line integrals must be kept, and nothing may be clipped.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Array, Camera
from ..views import PreparedView, blurred, rescaled, sampled
from ..views import bounds as of_views
from . import bounds


@dataclass(frozen=True)
class Observation:
    """A window of a view: ``image`` and ``valid`` (rows, columns), float32.

    ``valid`` is 1 where the pixel shows the patient and 0 elsewhere. ``sign``, ``gain_known`` and
    ``offset_known`` say of ``image`` what they say of a `PreparedView`'s values.
    """

    name: str
    camera: Camera
    image: Tensor
    valid: Tensor
    sign: int
    gain_known: bool
    offset_known: bool


def observe(
    view: PreparedView, corners_world: Array, pixel_mm: float, *, device: str = "cpu"
) -> Observation:
    """Take the window of a view that a box (its corners (8, 3), world mm) projects into.

    Pixels are ``pixel_mm`` wide at the middle of the box. Raises InputError where the box lies
    behind the source, or where the image shows less than a tenth of its window.
    """
    camera = view.camera
    depths = corners_world @ camera.world_to_camera[2, :3] + camera.world_to_camera[2, 3]
    if depths.min() < bounds.LEAST_DEPTH_MM:
        raise InputError(view.name, "the vertebra lies at or behind the source", "check the views")
    uv = camera.project(corners_world)
    step = pixel_mm * camera.focal_px / float(depths.mean())
    low, high = uv.min(0), uv.max(0)
    columns, rows = (int(n) for n in np.ceil((high - low) / step) + 1)
    if max(columns, rows) > bounds.MOST_PIXELS:
        raise InputError(view.name, "the box covers too many pixels", "use a larger pixel_mm")
    part = camera.window(low[0], low[1], columns, rows, step)

    # As wide as the pixels to come, so that none is passed over.
    sigma = of_views.BOX_BLUR_SHARE * step if step > 1.0 else 0.0
    weight = view.valid.astype(np.float32)
    smooth, share = blurred(view.values, weight, sigma, of_views.BLUR_REACH, of_views.LEAST_SHARE)
    where = np.mgrid[0:rows, 0:columns].astype(np.float64) * step
    where += np.array([low[1], low[0]])[:, None, None]
    image, valid = sampled(smooth, share, where[0], where[1])
    if valid.mean() < of_views.LEAST_VALID_OF_BOX:
        raise InputError(view.name, "shows next to nothing of the vertebra", "check the geometry")
    if not view.gain_known:
        image = rescaled(image, image[valid], of_views.BOX_PERCENTILES)
    return Observation(
        name=view.name,
        camera=part,
        image=torch.from_numpy(np.where(valid, image, 0.0).astype(np.float32)).to(device),
        valid=torch.from_numpy(valid.astype(np.float32)).to(device),
        sign=view.sign,
        gain_known=view.gain_known,
        offset_known=view.offset_known,
    )
