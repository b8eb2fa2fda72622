"""Whether bone is bright or dark in an X-ray of which nothing is known but its pixels."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .observation import Observation

_DETAIL_MM = 5.0


def guess_sign(observation: Observation, pixel_mm: float) -> int:
    """+1 where more attenuation seems brighter, -1 where it seems darker.

    Bone (and metal) is compact and stands out of soft tissue, which is wide and smooth: detail is
    skewed towards what absorbs. A guess, for views without a prior only; with a prior the rendering
    decides.
    """
    if observation.sign:
        return observation.sign
    image = observation.image.cpu().double().numpy()
    valid = observation.valid.cpu().double().numpy()
    sigma = _DETAIL_MM / pixel_mm
    share = np.maximum(ndimage.gaussian_filter(valid, sigma), 1e-3)
    mean = ndimage.gaussian_filter(image * valid, sigma) / share
    detail = (image - mean)[ndimage.binary_erosion(valid > 0, iterations=2)]
    if detail.size < 100:
        return 1
    return 1 if float(np.mean((detail - detail.mean()) ** 3)) >= 0.0 else -1
