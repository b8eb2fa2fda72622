"""Whether bone is bright or dark in an X-ray of which nothing is known but its pixels."""

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from ..geometry import Camera
from .bounds import (
    AROUND_MM,
    BODY_MM,
    LEAST_SHARE_OF_POLARITY,
    POLARITY_CENTRE_MM,
    WIDE_BLUR_REACH,
)
from .resampling import blurred


def guess_sign(
    image: Tensor, valid: Tensor, camera: Camera, centre_world: ArrayLike, pixel_mm: float
) -> int:
    """Guess the sign of a window (rows, columns): +1 where more attenuation seems brighter, or -1.

    A vertebra absorbs more than what lies around it: at its centre (3,), world mm, the picture
    blurred to a body's width is brighter, or darker, than blurred to several times that. Used
    without a prior only; with one the rendering decides.
    """
    values, weight = (tensor.cpu().double().numpy() for tensor in (image, valid))
    column, row = camera.project(np.asarray(centre_world, dtype=float)[None])[0]
    rows, columns = np.mgrid[0 : values.shape[0], 0 : values.shape[1]]
    near = np.hypot(columns - column, rows - row) * pixel_mm < POLARITY_CENTRE_MM
    middle = near & (weight > 0)
    if not middle.any():
        return 1
    body, around = (
        blurred(values, weight, width / pixel_mm, WIDE_BLUR_REACH, LEAST_SHARE_OF_POLARITY)[0]
        for width in (BODY_MM, AROUND_MM)
    )
    return 1 if float((body - around)[middle].mean()) >= 0.0 else -1
