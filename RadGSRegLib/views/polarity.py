"""Whether bone is bright or dark in an X-ray of which nothing is known but its pixels."""

import itertools
from collections.abc import Sequence

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
from .types import PreparedView

# Each more doubles the choices that a search looks at.
_MOST_DEVICES = 3


def sign_choices(views: Sequence[PreparedView]) -> list[tuple[int, ...]]:
    """Return all signs that views may have: unknown ones of one device are alike.

    With many devices, those of all are.

    Example:
        >>> from dataclasses import replace
        >>> from RadGSRegLib.views import prepare_views, sign_choices
        >>> unknown = [replace(view, sign=0) for view in prepare_views(case.views)]
        >>> sign_choices(unknown)
        [(1, 1), (-1, -1)]
    """
    devices = list(dict.fromkeys(view.device for view in views if not view.sign))
    few = len(devices) <= _MOST_DEVICES
    each = itertools.product((1, -1), repeat=len(devices))
    choices = []
    for signs in each if few else [(sign,) * len(devices) for sign in (1, -1)]:
        of = dict(zip(devices, signs, strict=True))
        choices.append(tuple(view.sign or of[view.device] for view in views))
    return choices


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
