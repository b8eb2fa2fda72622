"""Burnt-out air beside the patient says whether bone is bright or dark."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..cases import View
from .bounds import (
    AIR_AHEAD,
    AIR_SHARE,
    AIR_STEP,
    AIR_WIDTH,
    SKIN_GROWTH,
    STUCK_RANGE,
    STUCK_SHARE,
)


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
    patient thickens. A collimator is a step. Dense bone that an export has cut off looks like air:
    an area at either end that is nearly as steep means that nothing is known.
    """
    low, high = float(pixels.min()), float(pixels.max())
    steep = [_skin_slope(np.abs(pixels - end) / max(high - low, 1e-12)) for end in (low, high)]
    if steep[0] > AIR_AHEAD * steep[1]:
        return 1
    return -1 if steep[1] > AIR_AHEAD * steep[0] else 0


def _skin_slope(from_end: NDArray[np.float32]) -> float:
    """How far values are from an end of the range, a little beside the areas that are stuck there.

    0 where no area is large enough to be air, or where it ends in a step.
    """
    pieces, count = ndimage.label(from_end <= STUCK_RANGE)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    large = np.flatnonzero(sizes > STUCK_SHARE * from_end.size) + 1
    area = np.isin(pieces, large)
    if area.mean() < AIR_SHARE:
        return 0.0
    distance = ndimage.distance_transform_edt(~area)
    width = AIR_WIDTH * max(from_end.shape)
    near = from_end[(distance > width / 4) & (distance <= width / 2)]
    far = from_end[(distance > width) & (distance <= 2 * width)]
    if not near.size or not far.size:
        return 0.0
    close, slope = float(np.median(near)), float(np.median(far))
    return slope if close < AIR_STEP and slope > SKIN_GROWTH * close else 0.0
