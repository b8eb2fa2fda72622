"""Burnt-out air beside the patient says whether bone is bright or dark."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull

from ..cases import View
from .bounds import (
    AIR_AHEAD,
    AIR_LEAST_APART,
    AIR_LEAST_PX,
    AIR_OUTSIDE,
    AIR_PIXELS,
    AIR_RIM,
    AIR_SHARE,
    AIR_SHARE_OF_OPENING,
    AIR_SPECKS_PX,
    AIR_STEP,
    AIR_WIDTH,
    MOST_CLOSED,
    SKIN_GROWTH,
)
from .cleaning import stuck_areas
from .types import Mask

_CORNERS = ([0, 0, -1, -1], [0, -1, 0, -1])


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
    cut off looks like air but for its place: the patient lies about bone, and air about the
    patient. Where the other end might be air too, nothing is known.
    """
    # Skin is not thinner than a few pixels of a smaller picture.
    step = max(max(pixels.shape) // AIR_PIXELS, 1)
    few = pixels[::step, ::step]
    low, high = float(few.min()), float(few.max())
    areas = stuck_areas(few)
    at_low, at_high = (
        _skin_slope(area, other, np.abs(few - end) / max(high - low, 1e-12))
        for area, other, end in zip(areas, areas[::-1], (low, high), strict=True)
    )
    if 0.0 < at_low < np.inf and at_low > AIR_AHEAD * at_high:
        return 1
    return -1 if 0.0 < at_high < np.inf and at_high > AIR_AHEAD * at_low else 0


def _skin_slope(area: Mask, other: Mask, from_end: NDArray[np.float32]) -> float:
    """How far values are from an end of the range, a little beside the area that is stuck there.

    ``other`` is stuck at the other end. 0 where no area is large enough to be air, or it is a
    collimator or dense bone; infinite where it is none of these.
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
        return float(away[-1]) if _lies_outside(area, other, from_end) else 0.0
    return 0.0 if away[0] >= AIR_STEP or area[_CORNERS].sum() >= 3 else np.inf


def _lies_outside(area: Mask, other: Mask, from_end: NDArray[np.float32]) -> bool:
    """Whether most of an area lies outside the convex hull of what else the X-rays reached.

    Where ``other`` is a collimator, the rim of its opening does not count, and air has to be a good
    part of the opening: bone may cross all of that.
    """
    opening = np.ones(area.shape, dtype=bool)
    if other[_CORNERS].sum() >= 3:
        pieces, _ = ndimage.label(other)
        closed = np.isin(pieces, np.setdiff1d(pieces[_CORNERS], [0]))
        rim = AIR_RIM * max(area.shape)
        opening = ndimage.distance_transform_edt(~closed) > rim
        if closed.mean() > MOST_CLOSED or (
            (area & opening).sum() < AIR_SHARE_OF_OPENING * opening.sum()
        ):
            return False
    patient = opening & ~area & (from_end > AIR_LEAST_APART)
    patient = ndimage.binary_opening(patient, iterations=AIR_SPECKS_PX)
    outside = area & opening & ~_convex_hull(patient)
    return bool(outside.sum() > AIR_OUTSIDE * max((area & opening).sum(), 1))


def _convex_hull(mask: Mask) -> Mask:
    """The pixels within the convex hull of a mask's."""
    # The first and the last pixel of each row: all others lie between.
    rows = np.flatnonzero(mask.any(1))
    first, last = mask[rows].argmax(1), mask.shape[1] - 1 - mask[rows, ::-1].argmax(1)
    at = np.concatenate([np.column_stack([rows, first]), np.column_stack([rows, last])])
    if np.linalg.matrix_rank(at - at[:1]) < 2:
        return mask
    corners = at[ConvexHull(at).vertices]
    drawn = Image.new("1", mask.shape[::-1])
    ImageDraw.Draw(drawn).polygon([(int(x), int(y)) for y, x in corners], fill=1, outline=1)
    return np.array(drawn)
