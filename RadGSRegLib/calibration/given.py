"""Cameras from pairs that are given: which bead is where, as a person or an earlier run says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import Array, Camera, affine
from ..system import Progress
from . import bounds
from .assignment import refit
from .exposures import Calibrating, Calibration, Exposure, as_shown, resection_of, straightened
from .p3p import three_point_poses
from .resection import Sighting, resect
from .spheres import shadows_px
from .spot_fit import Fitted, fitted
from .types import Beads, Spots

# Triples of pairs from which a pose is taken.
_TRIPLES = 30


@dataclass(frozen=True)
class GivenPairs:
    """Of one view: ``beads`` (M,), numbers of beads, and ``spots_px`` (M, 2), their shadows'
    middles (column, row) as the picture shows them."""

    beads: NDArray[np.int64]
    spots_px: Array


def calibrate_given(
    exposures: Sequence[Exposure],
    beads: Beads,
    pairs: Mapping[str, GivenPairs],
    options: Calibrating | None = None,
    progress: Progress | None = None,
) -> list[Calibration]:
    """Calibrate the cameras of X-rays in which each bead's shadow is given; nothing is looked for.

    Args:
        exposures: the X-rays.
        beads: their places; the frame of these becomes the world.
        pairs: of each exposure, by its name.
        options: what is shared or bent.
        progress: hears of each picture, and may cancel.

    Returns:
        One for each exposure, in their order. Pairs that do not fit the others are left out.

    Raises:
        InputError: naming the picture, where it has no pairs, too few, or such as fit no camera.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.calibration import Exposure, GivenPairs, calibrate_given, layout
        >>> from RadGSRegLib.geometry import carm_camera
        >>> beads = layout("two-plates")
        >>> camera = carm_camera(1000.0, 700.0, 20.0, 10.0, (400, 400), (0.6, 0.6))
        >>> picture = np.zeros((400, 400), dtype=np.float32)
        >>> pairs = {"AP": GivenPairs(np.arange(16), camera.project(beads.centres_mm))}
        >>> exposure = Exposure("AP", picture, (0.6, 0.6), 1050.0)
        >>> (done,) = calibrate_given([exposure], beads, pairs)
        >>> bool(np.linalg.norm(done.view.camera.source_world - camera.source_world) < 1.0)
        True
    """
    options = options or Calibrating()
    report = progress or Progress()
    sightings = []
    for number, exposure in enumerate(exposures):
        report(0.8 * number / len(exposures), f"taking the given beads of {exposure.name}")
        if exposure.name not in pairs:
            raise InputError(exposure.name, "has no pairs", "give its beads and spots_px too")
        sightings.append(given_sighting(exposure, beads, pairs[exposure.name], options))
    report(0.8, "refining the cameras")
    views = resect(sightings, resection_of(options))
    return [as_shown(v, s.spots, beads) for v, s in zip(views, sightings, strict=True)]


def given_sighting(
    exposure: Exposure, beads: Beads, pairs: GivenPairs, options: Calibrating
) -> Sighting:
    """The pairs of a view with a first camera, and how well each spot's middle is known.

    Raises InputError for too few pairs.
    """
    if len(pairs.beads) < bounds.LEAST_PAIRS:
        raise too_few(exposure.name, len(pairs.beads))
    straight, bent = straightened(exposure, options, pairs.spots_px)
    camera = _first_camera(exposure, beads, pairs.beads, straight)
    outline = shadows_px(camera, beads, bent)[pairs.beads, 2]
    fit = fitted(exposure.pixels, pairs.spots_px, outline)
    sigma = _sigma_px(fit, pairs.spots_px, outline)
    spots = Spots(pairs.spots_px, fit.radii_px, np.ones(len(sigma)), sigma)
    number = np.column_stack([pairs.beads, np.arange(len(pairs.beads))])
    return Sighting(exposure.name, beads, spots, number, camera, sigma, exposure.distortion)


def too_few(name: str, count: int) -> InputError:
    """What is to be said of a view with fewer pairs than a camera needs."""
    needed = f"{count} beads have a spot, and {bounds.LEAST_PAIRS} are needed"
    return InputError(name, needed, "add some first")


def _sigma_px(fit: Fitted, spots_px: Array, outline_px: Array) -> Array:
    """How well spots are known, as their fits have it; where these went elsewhere, vaguely."""
    near = np.hypot(*(fit.centres_px - spots_px).T) < bounds.GUIDED_SHARE * outline_px
    own = np.where(near & np.isfinite(fit.sigma_px), fit.sigma_px, bounds.VAGUE_PX)
    return np.asarray(np.minimum(own, bounds.VAGUE_PX))


def _first_camera(
    exposure: Exposure, beads: Beads, numbers: NDArray[np.int64], straight_px: Array
) -> Camera:
    """The camera, of what is known of the C-arm, that leaves the smallest median to the pairs."""
    points = beads.centres_mm[numbers]
    spots = Spots(straight_px, np.ones(len(numbers)), np.ones(len(numbers)))
    pairs = np.column_stack([numbers, np.arange(len(numbers))])
    rng = np.random.default_rng(0)
    triples = rng.random((_TRIPLES, len(numbers))).argsort(axis=1)[:, :3]
    best: tuple[float, Camera] | None = None
    for intrinsic in exposure.rough.guesses():
        camera = _posed(intrinsic, exposure.size, points, straight_px, triples)
        if camera is None:
            continue
        camera = refit(camera, beads, spots, pairs, camera)
        left = _median_px(camera, points, straight_px)
        if best is None or left < best[0]:
            best = left, camera
    if best is None:
        raise InputError(
            exposure.name, "its pairs fit no camera", "look which shadow is of which bead"
        )
    return best[1]


def _posed(
    intrinsic: Array,
    size: tuple[int, int],
    points: Array,
    pixels: Array,
    triples: NDArray[np.int64],
) -> Camera | None:
    """The pose from three pairs that fits the others best."""
    flat = np.column_stack([pixels, np.ones(len(pixels))])
    rays = flat @ np.linalg.inv(intrinsic).T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    best: tuple[float, Camera] | None = None
    for triple in triples:
        turns, moves, _ = three_point_poses(points[triple][None], rays[triple])
        for turn, move in zip(turns, moves, strict=True):
            camera = Camera(intrinsic, affine(turn, move), *size)
            left = _median_px(camera, points, pixels)
            if best is None or left < best[0]:
                best = left, camera
    return None if best is None else best[1]


def _median_px(camera: Camera, points: Array, pixels: Array) -> float:
    """The median distance of points (M, 3) from their pixels; infinite where that makes none."""
    depth = points @ camera.world_to_camera[2, :3] + camera.world_to_camera[2, 3]
    if not np.isfinite(depth).all() or depth.min() <= 1.0:
        return float("inf")
    return float(np.median(np.hypot(*(camera.project(points) - pixels).T)))
