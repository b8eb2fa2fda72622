"""Whether bone is bright or dark in an X-ray of which nothing is known but its pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from .observation import Observation

# About a vertebral body, and the spine with what lies beside it.
_BODY_MM, _AROUND_MM = 12.0, 30.0
_CENTRE_MM = 15.0


def guess_sign(observation: Observation, centre_world: ArrayLike, pixel_mm: float) -> int:
    """+1 where more attenuation seems brighter, -1 where it seems darker.

    A vertebra absorbs more than what lies around it: at its centre (3,), world mm, the picture
    blurred to a body's width is brighter, or darker, than blurred to several times that. Right in
    all 70 simulated views tried, from clicked centres; the skewness of detail was right in 40 %
    of them. Used without a prior only; with one the rendering decides.
    """
    if observation.sign:
        return observation.sign
    image = observation.image.cpu().double().numpy()
    valid = observation.valid.cpu().double().numpy()

    def blurred(width_mm: float) -> np.ndarray:
        sigma = width_mm / pixel_mm
        share = np.maximum(ndimage.gaussian_filter(valid, sigma, mode="constant"), 1e-6)
        return np.asarray(ndimage.gaussian_filter(image * valid, sigma, mode="constant") / share)

    column, row = observation.camera.project(np.asarray(centre_world, dtype=float)[None])[0]
    rows, columns = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    near = np.hypot(columns - column, rows - row) * pixel_mm < _CENTRE_MM
    middle = near & (valid > 0)
    if not middle.any():
        return 1
    return 1 if float((blurred(_BODY_MM) - blurred(_AROUND_MM))[middle].mean()) >= 0.0 else -1
