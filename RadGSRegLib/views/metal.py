"""Where the shadows of beads and markers hide the patient."""

from __future__ import annotations

import numpy as np

from ..cases import View
from .bounds import METAL_MARGIN_MM, METAL_MARGIN_PX
from .types import Mask


def metal_shadows(view: View) -> Mask | None:
    """Where (rows, columns) a view shows metal, its blurred rim included; None where it says none.

    A circle of ``View.metal_px`` grows by 1.5 mm at the detector, by a pixel at least.
    """
    if not view.metal_px:
        return None
    rows, columns = view.pixels.shape
    shadows = np.zeros((rows, columns), dtype=bool)
    margin = max(METAL_MARGIN_MM / min(view.pixel_spacing_mm), METAL_MARGIN_PX)
    for column, row, radius in view.metal_px:
        reach = radius + margin
        near_rows = _within(row, reach, rows)
        near_columns = _within(column, reach, columns)
        v, u = np.ogrid[near_rows, near_columns]
        shadows[near_rows, near_columns] |= (u - column) ** 2 + (v - row) ** 2 <= reach**2
    return shadows


def _within(middle: float, reach: float, count: int) -> slice:
    """The pixels of ``count`` that are so near to the middle."""
    first = int(np.clip(np.ceil(middle - reach), 0, count))
    return slice(first, int(np.clip(np.floor(middle + reach) + 1, first, count)))
