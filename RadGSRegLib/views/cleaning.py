"""Which pixels of an X-ray show the patient, and their values as something like attenuation."""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from ..cases import View
from ..errors import InputError
from .bounds import (
    COUNT_FLOOR_PERCENTILE,
    STUCK_MARGIN_MM,
    STUCK_MARGIN_PX,
    STUCK_RANGE,
    STUCK_SHARE,
)
from .metal import metal_shadows
from .types import Mask, Pixels, PreparedView


def clean(view: View) -> PreparedView:
    """Bring an X-ray's pixels to the common form; the display curve itself stays unknown.

    Line integrals stay as they are, but for negative ones of bone alone, which were not looked at
    and are not valid; transmissions become line integrals up to an offset (the
    brightest pixel is 0); display values stay, of unknown curve and sign. Not valid: large areas
    stuck at the lowest or highest value (the collimator, burnt-out air), and 3 mm around them at
    the detector; shadows of metal that the view names. Raises InputError for a transmission without
    any counts.
    """
    prepared, metal = _shown(view), metal_shadows(view)
    if metal is None:
        return prepared
    return replace(prepared, valid=prepared.valid & ~metal, metal=metal)


def _shown(view: View) -> PreparedView:
    pixels = np.asarray(view.pixels, dtype=np.float32)
    if view.intensity == "attenuation":
        shown = pixels >= 0.0 if view.bone_alone else np.ones(pixels.shape, dtype=bool)
        return PreparedView(
            view.name,
            view.camera,
            np.maximum(pixels, 0.0) if view.bone_alone else pixels,
            shown,
            1,
            True,
            True,
            device=view.device,
            bone_alone=view.bone_alone,
        )
    grow = max(round(STUCK_MARGIN_MM / view.pixel_spacing_mm[0]), STUCK_MARGIN_PX)
    valid = _not_stuck(pixels, grow)
    if view.intensity == "display":
        return PreparedView(view.name, view.camera, pixels, valid, 0, device=view.device)
    counts = pixels[pixels > 0]
    if not counts.size:
        raise InputError(
            f'view "{view.name}"', "no pixel has a positive value", 'check its "intensity"'
        )
    floor = max(float(np.percentile(counts, COUNT_FLOOR_PERCENTILE)), 1e-12)
    values = np.asarray(np.log(counts.max()) - np.log(np.maximum(pixels, floor)), np.float32)
    return PreparedView(view.name, view.camera, values, valid, 1, True, device=view.device)


def stuck_areas(pixels: Pixels) -> tuple[Mask, Mask]:
    """Return where a picture (rows, columns) is stuck at its lowest and at its highest value, over
    large areas: the collimator, burnt-out air."""
    low, high = float(pixels.min()), float(pixels.max())
    margin = STUCK_RANGE * (high - low)
    return _large(pixels <= low + margin), _large(pixels >= high - margin)


def _large(stuck: Mask) -> Mask:
    """The pieces that cover more than `STUCK_SHARE` of the picture."""
    pieces, count = ndimage.label(stuck)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    return np.isin(pieces, np.flatnonzero(sizes > STUCK_SHARE * stuck.size) + 1)


def _not_stuck(pixels: Pixels, grow: int) -> Mask:
    valid = np.ones(pixels.shape, dtype=bool)
    for area in stuck_areas(pixels):
        if area.any():
            valid &= ~ndimage.binary_dilation(area, iterations=grow)
    return valid
