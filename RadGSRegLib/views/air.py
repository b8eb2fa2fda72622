"""Burnt-out air beside the patient says whether bone is bright or dark."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..cases import View
from .bounds import (
    AIR_AHEAD,
    AIR_LEAST_PX,
    AIR_PIXELS,
    AIR_SHARE,
    AIR_STEP,
    AIR_WIDTH,
    SKIN_GROWTH,
)
from .cleaning import stuck_areas
from .types import Mask


def signs_by_air(views: Sequence[View]) -> list[int]:
    """Return the sign of each `display` view, as far as burnt-out air shows it: +1, -1, or 0.

    Views of one device have one sign: where one of them shows it and none the other, it is that of
    all. Views of another intensity have 0 here.
    """
    shown: dict[str, set[int]] = {}
    for view in views:
        if view.intensity == "display":
            shown.setdefault(view.device, set()).add(air_sign(view.pixels))
    decided = {device: sum(signs) for device, signs in shown.items()}
    return [decided[v.device] if v.intensity == "display" else 0 for v in views]


def air_sign(pixels: NDArray[np.float32]) -> int:
    """Return +1 where air (so that bone is bright) is at the low end of the values (rows, columns),
    -1 where it is at the high end, 0 where that is not to be seen.

    Air next to skin is burnt out over a large area, and from there values change steadily, as the
    patient thickens. A collimator is a step, or lies in the corners. Dense bone that an export has
    cut off may look like air: where the other end might be that, nothing is known.
    """
    # Skin is not thinner than a few pixels of a smaller picture.
    step = max(max(pixels.shape) // AIR_PIXELS, 1)
    few = pixels[::step, ::step]
    low, high = float(few.min()), float(few.max())
    at_low, at_high = (
        _skin_slope(area, np.abs(few - end) / max(high - low, 1e-12))
        for area, end in zip(stuck_areas(few), (low, high), strict=True)
    )
    if 0.0 < at_low < np.inf and at_low > AIR_AHEAD * at_high:
        return 1
    return -1 if 0.0 < at_high < np.inf and at_high > AIR_AHEAD * at_low else 0


def _skin_slope(area: Mask, from_end: NDArray[np.float32]) -> float:
    """How far values are from an end of the range, a little beside the area that is stuck there.

    0 where no area is large enough to be air, or it is a collimator; infinite where it is neither.
    """
    if area.mean() < AIR_SHARE:
        return 0.0
    distance = ndimage.distance_transform_edt(~area)
    width = max(AIR_WIDTH * max(from_end.shape), AIR_LEAST_PX)
    edges = width * np.array([0.25, 0.5, 1.0, 2.0, 3.0])
    rings = [from_end[(distance > a) & (distance <= b)] for a, b in itertools.pairwise(edges)]
    if not all(ring.size for ring in rings):
        return 0.0
    away = np.array([np.median(ring) for ring in rings])
    growth = away[1:] / np.maximum(away[:-1], 1e-9)
    if away[0] < AIR_STEP and SKIN_GROWTH[0] < growth.min() and growth.max() < SKIN_GROWTH[1]:
        return float(away[-1])
    corners = area[[0, 0, -1, -1], [0, -1, 0, -1]].sum()
    return 0.0 if away[0] >= AIR_STEP or corners >= 3 else np.inf
