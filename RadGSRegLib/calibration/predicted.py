"""Beads that hardly stand out, told where a camera predicts them to a fraction of their radius.

A display that clips leaves of a bead a flat disc a few grey values above what lies about it, and
beads side by side leave each other's grounds uneven. A search of the whole picture cannot tell such
shadows from others; but what is clear of its own ground, of the right size, and lies within a small
part of its radius from where it must, is no chance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..geometry import Array
from . import bounds
from .spot_fit import Fitted, Ground, fitted, joined
from .types import Spots

Index = NDArray[np.int64]


def predicted_spots(
    picture: NDArray[np.float32], circles_px: Array, lost: Index, smaller: float, polarity: int
) -> tuple[Spots, Index]:
    """Look for the shadows of some beads where all are predicted.

    A disc is fitted at each place without the pixels of other beads: on a plane and on a curved
    ground (the one keeps what others leave of a bead, the other bears the edges of bones and
    posts), begun at half the height of a shadow with grey values and as wide as one that is
    clipped. The clearest that is plausible is taken.

    Args:
        picture: (rows, columns), finite grey values.
        circles_px: (N, 3) column, row and radius of the outlines of all beads.
        lost: (M,) which of them are looked for.
        smaller: radius at half the height over the outline's, of the picture's other spots.
        polarity: -1 where metal is darker than what is about it, +1 where it is brighter.

    Returns:
        The spots, and the number of the bead that each is of.
    """
    size = np.array(picture.shape[::-1])
    places = circles_px[lost, :2]
    lost = lost[((places > -0.5) & (places < size - 0.5)).all(axis=1)]
    outline = circles_px[lost, 2]
    others = _others(circles_px, lost)
    tries = [
        _tried(picture, circles_px[lost, :2], radius, Ground(curved, others))
        for radius in (bounds.OUTLINE * smaller * outline, outline + bounds.CLIPPED_PX)
        for curved in (False, True)
    ]
    good = np.stack([_plausible(fit, circles_px[lost], smaller, polarity) for fit in tries])
    clear = np.where(good, np.stack([polarity * fit.clear for fit in tries]), -np.inf)
    best = clear.argmax(axis=0) * len(lost) + np.arange(len(lost))
    fit = joined(tries).some(best[good.any(axis=0)])
    spots = Spots(fit.centres_px, fit.radii_px, np.abs(fit.clear) / fit.sigma_px, fit.sigma_px)
    return spots, lost[good.any(axis=0)]


def _tried(picture: NDArray[np.float32], places: Array, radii: Array, on: Ground) -> Fitted:
    """A fit, and again from where it ended."""
    first = fitted(picture, places, radii, on=on)
    return fitted(picture, first.centres_px, radii, on=on)


def _others(circles_px: Array, lost: Index) -> Array:
    """The circles of all beads beside each (M, N, 3), as wide as where the display clips them."""
    others = np.repeat(circles_px[None], len(lost), axis=0)
    others[..., 2] += bounds.CLIPPED_PX
    others[np.arange(len(lost)), lost] = np.nan
    return np.asarray(others)


def _plausible(fit: Fitted, circles: Array, smaller: float, polarity: int) -> NDArray[np.bool_]:
    """Whether each fit is a bead of the size and at the place that are predicted."""
    outline = circles[:, 2]
    away = np.hypot(*(fit.centres_px - circles[:, :2]).T)
    least = smaller / bounds.GUIDED_SIZE
    good = polarity * fit.clear > bounds.PREDICTED_CLEAR
    good &= (away < bounds.PREDICTED_SHARE * outline) & (fit.sigma_px < bounds.PREDICTED_VAGUE_PX)
    good &= fit.soft_px < bounds.PREDICTED_SOFT * fit.radii_px
    good &= (fit.radii_px > least * outline) & (fit.radii_px < outline + 2.0 * bounds.CLIPPED_PX)
    return np.asarray(good & (fit.within > bounds.PREDICTED_SHOWN))
