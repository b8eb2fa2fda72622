"""Beads whose camera is about known are looked for where they must be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..geometry import Array, Camera, Distortion
from . import bounds
from .predicted import predicted_spots
from .resection import Sighting
from .spheres import shadows_px
from .spot_fit import fitted
from .types import Spots


def spots_near(
    picture: NDArray[np.float32], centres_px: Array, radii_px: Array, polarity: int
) -> tuple[Spots, NDArray[np.int64]]:
    """Look for a bead's shadow at each place where it is predicted.

    The same fit as `find_spots`, begun at the place. What is not clear, farther than
    `GUIDED_SHARE` of the radius from the place, or of another size is left out.

    Args:
        picture: (rows, columns), finite grey values.
        centres_px: (N, 2) predicted places, (column, row).
        radii_px: (N,) predicted radii at half the height, as `find_spots` has them.
        polarity: -1 where metal is darker than what is about it, +1 where it is brighter.

    Returns:
        The spots (M of them), and (M,) the number of the place each is at.

    Raises:
        ValueError: for another polarity, or places and radii that differ in number.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.calibration import spots_near
        >>> row, column = np.mgrid[:64, :64]
        >>> chord = np.sqrt(np.maximum(25.0 - (column - 30.3) ** 2 - (row - 20.8) ** 2, 0.0))
        >>> picture = (200.0 - 8.0 * chord).astype(np.float32)
        >>> places = np.array([[29.0, 21.0], [50.0, 50.0]])
        >>> spots, numbers = spots_near(picture, places, np.full(2, 4.5), -1)
        >>> spots.centres_px.round(1), numbers
        (array([[30.3, 20.8]]), array([0]))
    """
    if polarity not in (1, -1):
        raise ValueError("a polarity is +1 (metal is bright) or -1 (metal is dark)")
    if len(centres_px) != len(radii_px):
        raise ValueError("each place has one radius")
    image = np.ascontiguousarray(picture, dtype=np.float32)
    inside = ((centres_px > -0.5) & (centres_px < np.array(image.shape[::-1]) - 0.5)).all(axis=1)
    numbers = np.flatnonzero(inside)
    size = bounds.OUTLINE * radii_px[numbers]
    first = fitted(image, centres_px[numbers], size)
    # Begun farther off, a fit stops sooner: again from where it ended.
    fit = fitted(image, first.centres_px, size)
    least = 1e-9 + 1e-3 * np.abs(fit.heights)
    score = polarity * fit.heights / np.maximum(fit.left, least)
    away = np.hypot(*(fit.centres_px - centres_px[numbers]).T)
    ratio = fit.radii_px / radii_px[numbers]
    good = (score > bounds.LEAST_SCORE) & (fit.soft_px < bounds.SOFTEST * fit.radii_px)
    good &= (fit.within > bounds.IN_PICTURE) & (fit.sigma_px < bounds.VAGUE_PX)
    good &= away < bounds.GUIDED_SHARE * radii_px[numbers]
    good &= (ratio > 1.0 / bounds.GUIDED_SIZE) & (ratio < bounds.GUIDED_SIZE)
    fit, score = fit.some(good), score[good]
    spots = Spots(fit.centres_px, fit.radii_px, score / fit.sigma_px, fit.sigma_px)
    return spots, numbers[good]


def missing_beads(
    picture: NDArray[np.float32],
    sighting: Sighting,
    camera: Camera,
    polarity: int,
    distortion: Distortion | None = None,
) -> Sighting:
    """Add the beads of a sighting that have no spot yet, where the picture shows them.

    Args:
        picture: (rows, columns), finite grey values, of the sighting's spots.
        sighting: what is known so far.
        camera: refined from it (`resect`).
        polarity: as `find_spots` says.
        distortion: of the picture, whose spots are as it shows them.

    Returns:
        The sighting with more spots and pairs, begun at the camera; the spots it had come first.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.calibration import Beads, Sighting, Spots, missing_beads
        >>> from RadGSRegLib.geometry import Camera, pinhole
        >>> camera = Camera(pinhole((1000.0, 1000.0), (32.0, 32.0)), np.eye(4), 64, 64)
        >>> places = np.array([[-12.0, 0.0, 1000.0], [12.0, 0.0, 1000.0]])
        >>> beads = Beads("two", places, np.full(2, 10.0))
        >>> row, column = np.mgrid[:64, :64]
        >>> across = np.minimum((column - 20.0) ** 2, (column - 44.0) ** 2)
        >>> picture = np.sqrt(np.maximum(25.0 - across - (row - 32.0) ** 2, 0.0)).astype(np.float32)
        >>> known = Spots(np.array([[20.0, 32.0]]), np.array([4.5]), np.ones(1), np.full(1, 0.05))
        >>> sighting = Sighting("AP", beads, known, np.array([[0, 0]]), camera)
        >>> missing_beads(picture, sighting, camera, 1).pairs.tolist()
        [[0, 0], [1, 1]]
    """
    beads, spots, pairs = sighting.beads, sighting.spots, sighting.pairs
    shadows = shadows_px(camera, beads, distortion)
    outline = shadows[:, 2]
    # The display decides how much smaller shadows are at half their height.
    smaller = float(np.median(spots.radii_px[pairs[:, 1]] / outline[pairs[:, 0]]))
    lost = np.setdiff1d(np.arange(len(beads)), pairs[:, 0])
    clear, at = spots_near(picture, shadows[lost, :2], smaller * outline[lost], polarity)
    more, numbers = _free(clear, lost[at], spots.centres_px[pairs[:, 1]])
    lost = np.setdiff1d(lost, numbers)
    taken = np.concatenate([spots.centres_px[pairs[:, 1]], more.centres_px])
    faint, at = _free(*predicted_spots(picture, shadows, lost, smaller, polarity), taken)
    more, numbers = _one(more, faint), np.concatenate([numbers, at])
    new = np.column_stack([numbers, len(spots) + np.arange(len(more))])
    own = None if sighting.sigma_px is None else _joined(sighting.sigma_px, more.sigma_px)
    return replace(
        sighting,
        spots=_one(spots, more),
        pairs=np.concatenate([pairs, new]),
        camera=camera,
        sigma_px=own,
    )


def _free(
    spots: Spots, numbers: NDArray[np.int64], taken: Array
) -> tuple[Spots, NDArray[np.int64]]:
    """Those that are not upon a shadow (K, 2) that a bead has already: it is not another's too."""
    free = []
    for number, (place, radius) in enumerate(zip(spots.centres_px, spots.radii_px, strict=True)):
        if not (np.hypot(*(taken - place).T) < bounds.GUIDED_SHARE * radius).any():
            free.append(number)
            taken = np.vstack([taken, place])
    return spots.some(np.array(free, dtype=np.int64)), numbers[free]


def _one(first: Spots, more: Spots) -> Spots:
    return Spots(
        np.concatenate([first.centres_px, more.centres_px]),
        np.concatenate([first.radii_px, more.radii_px]),
        np.concatenate([first.score, more.score]),
        _joined(first.sigma_px, more.sigma_px),
    )


def _joined(first: Array | None, more: Array | None) -> Array | None:
    return None if first is None or more is None else np.concatenate([first, more])
