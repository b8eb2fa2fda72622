"""The round shadows of metal beads in an X-ray."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..geometry import Array
from .bounds import (
    CANDIDATES,
    FIRST_STEPS,
    IN_PICTURE,
    LEAST_SCORE,
    OUTLINE,
    RADIUS_MARGIN,
    SAME_SHARE,
    SOFTEST,
    VAGUE_PX,
    VOTERS,
)
from .spot_candidates import candidates, distinct
from .spot_fit import Fitted, fitted
from .types import Spots


def find_spots(
    picture: NDArray[np.float32],
    radius_px: tuple[float, float],
    *,
    polarity: int | None = None,
    most: int = 150,
    least_score: float = LEAST_SCORE,
) -> tuple[Spots, int]:
    """Find the round shadows of beads in an X-ray.

    Peaks that bend in every direction are candidates (the weaker principal curvature, at several
    scales; T. Lindeberg, Int J Comput Vis 30, 1998); a disc with a soft edge on a plane of grey
    values is fitted to each. Any display will do, also one that clips. Beads over bones, over one
    another or cut by the picture's edge are fitted to what is left of them, with a larger
    `Spots.sigma_px`. Some spots are none: what is round and dense in a body.

    Args:
        picture: (rows, columns), finite grey values.
        radius_px: the least and the largest radius of a bead's shadow, pixels.
        polarity: -1 where metal is darker than what is about it, +1 where it is brighter; None
            takes what has the clearer spots.
        most: no more spots than this, the clearest.
        least_score: how many times a spot's height exceeds what its fit leaves, at the least.

    Returns:
        The spots, the clearest first, and the polarity. ``radii_px`` are those at half the
        height: 0.75 to 0.9 of the outline's, the more the fewer grey values the display leaves to
        metal. ``score`` is the height over what the fit leaves (noise, and what is not round),
        over ``sigma_px``.

    Raises:
        ValueError: for a picture that is not two-dimensional or not finite, for radii that are no
            range above 0, or another polarity.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.calibration import find_spots
        >>> row, column = np.mgrid[:64, :64]
        >>> chord = np.sqrt(np.maximum(25.0 - (column - 30.3) ** 2 - (row - 20.8) ** 2, 0.0))
        >>> spots, polarity = find_spots((200.0 - 8.0 * chord).astype(np.float32), (3.0, 8.0))
        >>> spots.centres_px.round(1), polarity
        (array([[30.3, 20.8]]), -1)
    """
    image = np.ascontiguousarray(picture, dtype=np.float32)
    if image.ndim != 2 or not np.isfinite(image).all():
        raise ValueError("a picture has two dimensions and finite grey values")
    if not 0.0 < radius_px[0] <= radius_px[1] < np.inf:
        raise ValueError("the radii are a range above 0, the least first")
    if polarity not in (1, -1, None):
        raise ValueError("a polarity is +1 (metal is bright) or -1 (metal is dark)")
    signs = (1, -1) if polarity is None else (polarity,)
    chosen: dict[int, tuple[Fitted, Array]] = {}
    for sign, where in candidates(image, radius_px, signs, CANDIDATES * most).items():
        first = fitted(image, where.centres_px, where.radii_px, FIRST_STEPS)
        first = first.some(
            _distinct(first, _score(first, sign), first.within > IN_PICTURE, least_score)
        )
        size = np.clip(OUTLINE * first.radii_px, *radius_px)
        again = fitted(image, first.centres_px, size)
        again = again.some(_plausible(again, sign, radius_px, least_score))
        chosen[sign] = again, _score(again, sign)
    sign = max(chosen, key=lambda s: float(np.sum(chosen[s][1][:VOTERS])))
    return spots_of(*chosen[sign], most), sign


def spots_of(fit: Fitted, score: Array, most: int) -> Spots:
    """The clearest of what was fitted, by how high and how well placed they are."""
    # A smooth bump of a body may fit as well as a bead, but its place is vague.
    clear = score / fit.sigma_px
    order = np.argsort(-clear, kind="stable")[:most]
    return Spots(fit.centres_px, fit.radii_px, clear, fit.sigma_px).some(order)


def _score(spots: Fitted, sign: int) -> Array:
    """How far each exceeds what its fit leaves: up to a thousand, so that no rounding decides."""
    least = 1e-9 + 1e-3 * np.abs(spots.heights)
    return np.asarray(sign * spots.heights / np.maximum(spots.left, least))


def _plausible(
    spots: Fitted, sign: int, radius_px: tuple[float, float], least_score: float
) -> NDArray[np.int64]:
    """Those that are sharp too and of the size that is searched, each once, the clearest first."""
    margin = 1.0 + RADIUS_MARGIN
    good = (spots.soft_px < SOFTEST * spots.radii_px) & (spots.within > IN_PICTURE)
    good &= spots.sigma_px < VAGUE_PX
    good &= (spots.radii_px > radius_px[0] / margin) & (spots.radii_px < radius_px[1] * margin)
    return _distinct(spots, _score(spots, sign), good, least_score)


def _distinct(
    spots: Fitted, score: Array, good: NDArray[np.bool_], least_score: float
) -> NDArray[np.int64]:
    """The good and clear ones, each once, the clearest first."""
    index = np.nonzero(good & (score > least_score))[0]
    index = index[np.argsort(-score[index], kind="stable")]
    return np.asarray(
        index[distinct(spots.centres_px[index], spots.radii_px[index], SAME_SHARE)],
        dtype=np.int64,
    )
