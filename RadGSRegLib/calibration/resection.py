"""Cameras from spots whose beads are known: refined by reprojection, with their covariance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from ..errors import InputError
from ..geometry import Array, Camera, Distortion, undistort
from . import bounds
from .bundle import Block, Problem, Solved, SphereShift, State
from .prior import Prior, is_mirrored
from .types import Beads, Calibrated, Spots


@dataclass(frozen=True)
class Sighting:
    """A fixture's beads in one view, and which spot is which bead.

    ``pairs`` (M, 2): numbers of bead and of spot; ``camera``: a start, of the fixture's frame.
    ``sigma_px`` (number of spots,): how well each spot's centre is known, where that is known.
    ``distortion`` of this picture, where it is known and is not the same as that of all others.
    """

    view: str
    beads: Beads
    spots: Spots
    pairs: NDArray[np.int64]
    camera: Camera
    sigma_px: Array | None = None
    distortion: Distortion | None = None

    def bent_by(self, options: Resection) -> Distortion | None:
        """The distortion that is known of the picture."""
        every = options.distortion if isinstance(options.distortion, Distortion) else None
        return self.distortion or every


@dataclass(frozen=True)
class Resection:
    """How cameras are refined.

    Args:
        shared_intrinsics: one focal length and principal point for all views.
        prior: what is known of them before.
        distortion: one that is known (from a picture of a grid); "fit": estimated from the beads,
            where there are enough; None: there is none.
        sphere_shift: how far the middle of a sphere's shadow lies from its centre's projection,
            of camera, centres (N, 3) in the world and diameters (N,): pixels (N, 2).
    """

    shared_intrinsics: bool = False
    prior: Prior = field(default_factory=Prior)
    distortion: Distortion | Literal["fit"] | None = None
    sphere_shift: SphereShift | None = None


def block_of(sighting: Sighting, view: int, fixture: int, known: Distortion | None) -> Block:
    """The pairs of a sighting as a block, its spots freed of a known distortion.

    Raises InputError where these are too few.
    """
    pairs = sighting.pairs
    if len(pairs) < bounds.LEAST_PAIRS:
        raise InputError(
            sighting.view,
            f"shows {len(pairs)} of the beads, and {bounds.LEAST_PAIRS} are needed",
            "take a picture that shows more of them",
        )
    pixels = sighting.spots.centres_px[pairs[:, 1]]
    if known is not None:
        try:
            pixels = undistort(pixels, known)
        except ValueError as error:
            raise InputError(sighting.view, str(error), "take the distortion's own grid") from error
    own = np.ones(len(pairs)) if sighting.sigma_px is None else sighting.sigma_px[pairs[:, 1]]
    beads = sighting.beads
    return Block(
        view, fixture, beads.centres_mm[pairs[:, 0]], pixels, own, beads.diameters_mm[pairs[:, 0]]
    )


def no_distortion(size: tuple[int, int]) -> Distortion:
    """A distortion that is none, about the middle of a picture of (columns, rows)."""
    columns, rows = size
    return Distortion(((columns - 1) / 2.0, (rows - 1) / 2.0), max(size) / 2.0)


def covariance_of(solved: Solved, view: int, other: int | None = None) -> Array:
    """The covariance (9, 9) of a view's camera (rows), in the order of `Calibrated`; with another
    view's (columns) where one is given.

    Widened, where few pairs had to say how noisy they are, by the quantile of Student's t over the
    normal's: two standard deviations hold 95 % then too.
    """

    def parameters(number: int) -> NDArray[np.int64]:
        at = solved.state.sizes[0] + 3 * solved.state.groups[number]
        return np.concatenate([np.arange(6 * number, 6 * number + 6), np.arange(at, at + 3)])

    index = np.ix_(parameters(view), parameters(view if other is None else other))
    two = float(norm.cdf(2.0))
    wider = float(t.ppf(two, max(solved.freedom, 1.0))) / 2.0
    return np.asarray(solved.covariance[index] * wider**2)


def together(solved: Solved, views: Sequence[Calibrated]) -> list[Calibrated]:
    """The views with what their cameras have in common, each pair at its first view."""
    return [
        replace(
            view,
            covariance_with={
                views[other].name: covariance_of(solved, number, other)
                for other in range(number + 1, len(views))
            },
        )
        for number, view in enumerate(views)
    ]


def start_state(
    names: Sequence[str], cameras: Sequence[Camera], fixtures: Array, options: Resection
) -> State:
    """The state to begin with, of views (their names and cameras) and fixtures (F, 4, 4).

    Raises InputError where views are to share intrinsics that differ in kind.
    """
    groups = tuple(0 if options.shared_intrinsics else v for v in range(len(cameras)))
    if options.shared_intrinsics:
        mirrored = {is_mirrored(c) for c in cameras}
        shapes = {round(abs(float(c.intrinsic[0, 0] / c.intrinsic[1, 1])), 3) for c in cameras}
        if len(mirrored) > 1 or len(shapes) > 1 or len({c.size for c in cameras}) > 1:
            raise InputError(
                ", ".join(names),
                "differ in size, in the shape of their pixels, or in whether they are mirrored",
                "one device's pictures are alike: calibrate these without shared intrinsics",
            )
        middle = np.median([c.intrinsic for c in cameras], axis=0)
        cameras = [replace(c, intrinsic=middle) for c in cameras]
    bent = None
    if options.distortion == "fit":
        bent = tuple(no_distortion(cameras[groups.index(g)].size) for g in sorted(set(groups)))
    return State(tuple(cameras), groups, fixtures, bent)


def refuse_few(sightings: Sequence[Sighting], options: Resection) -> None:
    """InputError where distortion is to be estimated from too few pairs."""
    if options.distortion != "fit":
        return
    counts = [len(s.pairs) for s in sightings]
    few = sum(counts) if options.shared_intrinsics else min(counts)
    if few < bounds.DISTORTION_PAIRS:
        view = sightings[int(np.argmin(counts))].view
        raise InputError(
            view,
            f"shows {few} beads, and distortion needs {bounds.DISTORTION_PAIRS} of one device",
            "take a picture of a grid, or share the intrinsics of several views",
        )


def resect(sightings: Sequence[Sighting], options: Resection | None = None) -> list[Calibrated]:
    """Calibrate the cameras of views of one fixture, whose frame is the world.

    Each view has one focal length, the pixels' own ratio of sides (that of its start), a principal
    point and a pose; all of them, of least squares of the distances in the picture: Huber's first,
    then without outliers. The covariance is from the Jacobian and from the noise that the
    residuals show.

    Args:
        sightings: one per view, with a start (`match_beads`).
        options: what is shared, known before, or bent.

    Returns:
        One for each view, in their order. Pairs that were outliers are left out of it.

    Raises:
        InputError: naming the view, for too few pairs, or pairs that fix no camera.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.calibration import Beads, Sighting, Spots, resect
        >>> from RadGSRegLib.geometry import carm_camera
        >>> camera = carm_camera(1000.0, 600.0, 30.0, 10.0, (1000, 1000), (0.4, 0.4))
        >>> rng = np.random.default_rng(0)
        >>> beads = Beads("cube", rng.uniform(-60, 60, (14, 3)), np.full(14, 3.0))
        >>> shown = camera.project(beads.centres_mm) + rng.normal(0, 0.1, (14, 2))
        >>> spots = Spots(shown, np.full(14, 6.0), np.ones(14))
        >>> pairs = np.column_stack([np.arange(14)] * 2)
        >>> start = carm_camera(1050.0, 620.0, 33.0, 8.0, (1000, 1000), (0.4, 0.4))
        >>> (view,) = resect([Sighting("AP", beads, spots, pairs, start)])
        >>> len(view.pairs), bool(view.rms_px < 0.2)
        (14, True)
    """
    options = options or Resection()
    if not sightings:
        return []
    refuse_few(sightings, options)
    if not options.shared_intrinsics:
        return [_resected([sighting], options)[0] for sighting in sightings]
    return _resected(sightings, options)


def _resected(sightings: Sequence[Sighting], options: Resection) -> list[Calibrated]:
    blocks = [block_of(s, v, 0, s.bent_by(options)) for v, s in enumerate(sightings)]
    names = [sighting.view for sighting in sightings]
    start = start_state(names, [s.camera for s in sightings], np.eye(4)[None], options)
    try:
        solved = Problem(blocks, options.prior, options.sphere_shift).refined(start)
    except (ValueError, np.linalg.LinAlgError) as error:
        raise InputError(", ".join(names), f"cannot be calibrated: {error}") from error
    views = [
        calibrated_view(solved, v, [s], [v], s.bent_by(options)) for v, s in enumerate(sightings)
    ]
    return together(solved, views)


def calibrated_view(
    solved: Solved,
    view: int,
    sightings: Sequence[Sighting],
    blocks: Sequence[int],
    known: Distortion | None,
) -> Calibrated:
    """What was found of one view, its pairs in the order of its sightings (their blocks)."""
    state = solved.state
    bent = state.distortions[state.groups[view]] if state.distortions else known
    pairs = [s.pairs[solved.kept[b]] for s, b in zip(sightings, blocks, strict=True)]
    return Calibrated(
        sightings[0].view,
        state.cameras[view],
        covariance_of(solved, view),
        np.concatenate(pairs),
        np.concatenate([solved.residuals[b] for b in blocks]),
        bent,
    )
