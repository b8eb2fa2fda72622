"""Which pixels of an X-ray show the patient, and their values as something like attenuation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import InputError
from .types import View

# Areas at the lowest or highest value that cover more than this share are no anatomy.
_STUCK_SHARE = 0.002
_MARGIN_MM = 3.0


def attenuation_like(view: View) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Pixels (rows, columns) that are monotone in attenuation, and which of them are anatomy.

    Line integrals stay as they are; transmissions become line integrals up to an offset (the
    brightest pixel is 0); display values stay, of unknown curve and sign. Not anatomy: large areas
    stuck at the lowest or highest value (the collimator, burnt-out air), and 3 mm around them at
    the detector. Raises InputError for a transmission without any counts.
    """
    pixels = np.asarray(view.pixels, dtype=np.float32)
    if view.intensity == "attenuation":
        return pixels, np.ones(pixels.shape, dtype=bool)
    valid = _not_stuck(pixels, max(round(_MARGIN_MM / view.pixel_spacing_mm[0]), 2))
    if view.intensity == "transmission":
        counts = pixels[pixels > 0]
        if not counts.size:
            raise InputError(
                f'view "{view.name}"', "no pixel has a positive value", 'check its "intensity"'
            )
        floor = max(float(np.percentile(counts, 0.1)), 1e-12)
        pixels = np.asarray(np.log(counts.max()) - np.log(np.maximum(pixels, floor)), np.float32)
    return pixels, valid


def _not_stuck(pixels: NDArray[np.float32], grow: int) -> NDArray[np.bool_]:
    valid = np.ones(pixels.shape, dtype=bool)
    low, high = float(pixels.min()), float(pixels.max())
    margin = 2e-4 * (high - low)
    for stuck in (pixels <= low + margin, pixels >= high - margin):
        pieces, count = ndimage.label(stuck)
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
        large = np.flatnonzero(sizes > _STUCK_SHARE * pixels.size) + 1
        if large.size:
            valid &= ~ndimage.binary_dilation(np.isin(pieces, large), iterations=grow)
    return valid
