"""The round shadows of metal beads in an X-ray."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..geometry import Array
from .bounds import CANDIDATES, FIRST_STEPS, OUTLINE, IN_PICTURE, LEAST_SCORE, RADIUS_MARGIN, SAME_SHARE, SOFTEST
from .spot_candidates import candidates, distinct
from .spot_fit import Fitted, fitted
from .types import Spots


def find_spots(
    picture: NDArray[np.float32],
    radius_px: tuple[float, float],
    *,
    polarity: int | None = None,
    most: int = 150,
) -> tuple[Spots, int]:
    """Find the round shadows of beads in an X-ray."""
    signs = (polarity,) if polarity in (1, -1) else (1, -1)
    image = np.ascontiguousarray(picture, dtype=np.float32)
    chosen: dict[int, tuple[Fitted, Array]] = {}
    for sign, where in candidates(image, radius_px, signs, CANDIDATES * most).items():
        first = fitted(image, where.centres_px, where.radii_px, FIRST_STEPS)
        index = _plausible(first, sign, radius_px)
        again = fitted(image, first.centres_px[index], OUTLINE * first.radii_px[index])
        index = _plausible(again, sign, radius_px)
        chosen[sign] = again.some(index), _score(again.some(index), sign)
    sign = max(chosen, key=lambda s: float(np.sum(chosen[s][1][:20])))
    spots, score = chosen[sign]
    return (
        Spots(spots.centres_px[:most], spots.radii_px[:most], score[:most], spots.sigma_px[:most]),
        sign,
    )


def _score(spots: Fitted, sign: int) -> Array:
    """How far each exceeds what its fit leaves; what is fitted to a thousandth is as clear as any."""
    least = 1e-9 + 1e-3 * np.abs(spots.heights)
    return np.asarray(sign * spots.heights / np.maximum(spots.left, least))


def _plausible(spots: Fitted, sign: int, radius_px: tuple[float, float]) -> NDArray[np.int64]:
    """Those that are round, sharp and of the polarity, each once, the clearest first."""
    score = _score(spots, sign)
    margin = 1.0 + RADIUS_MARGIN
    good = (score > LEAST_SCORE) & (spots.soft_px < SOFTEST * spots.radii_px)
    good &= (spots.radii_px > radius_px[0] / margin) & (spots.radii_px < radius_px[1] * margin)
    good &= spots.within > IN_PICTURE
    index = np.nonzero(good)[0]
    index = index[np.argsort(-score[index], kind="stable")]
    return index[distinct(spots.centres_px[index], spots.radii_px[index], SAME_SHARE)]
