"""From X-rays of beads to cameras: shadows, which is which, resection, and what is shown of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import Array, Distortion, undistort
from ..system import Progress
from . import bounds
from .correspond import RoughCamera, match_beads
from .guided import missing_beads
from .prior import Prior
from .resection import Resection, Sighting, resect
from .spheres import in_picture, shadows_px, sphere_shift_px
from .spots import find_spots
from .types import Beads, Calibrated, Spots


@dataclass(frozen=True)
class Exposure:
    """An X-ray of beads.

    ``pixels`` (rows, columns) float32; ``spacing_mm`` (column step, row step) at the detector and
    ``source_detector_mm``, None where nothing says them; ``distortion`` of this picture alone,
    where it is known.
    """

    name: str
    pixels: NDArray[np.float32]
    spacing_mm: tuple[float, float] | None = None
    source_detector_mm: float | None = None
    distortion: Distortion | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(columns, rows)."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[0])

    @property
    def rough(self) -> RoughCamera:
        """What is known of the camera before."""
        focal = None
        if self.spacing_mm is not None and self.source_detector_mm is not None:
            focal = self.source_detector_mm / float(np.sqrt(np.prod(self.spacing_mm)))
        return RoughCamera(self.size, focal, self.spacing_mm)


@dataclass(frozen=True)
class Calibrating:
    """How a set of exposures is calibrated.

    ``shared_intrinsics``: one focal length and principal point for all. ``distortion``: one that is
    known, "fit" to estimate it from the beads, None where there is none. ``polarity``: -1 where
    metal is dark, +1 where it is bright, None to find out. ``prior``: what is known of focal length
    and principal point before.
    """

    shared_intrinsics: bool = False
    distortion: Distortion | Literal["fit"] | None = None
    polarity: int | None = None
    prior: Prior = field(default_factory=Prior)


@dataclass(frozen=True)
class Calibration:
    """A view's camera with what was found in its picture.

    ``shadows_px`` (K, 3): column, row and radius of every bead within the picture as it is shown,
    predicted by the camera; ``missing`` (K,) whether no spot was taken for it.
    """

    view: Calibrated
    spots: Spots
    shadows_px: Array
    missing: NDArray[np.bool_]


def calibrate(
    exposures: Sequence[Exposure],
    beads: Beads,
    options: Calibrating | None = None,
    progress: Progress | None = None,
) -> list[Calibration]:
    """Calibrate the cameras of X-rays that show the same beads in the same place.

    Args:
        exposures: the X-rays; the more beads each shows, the better.
        beads: their places; the frame of these becomes the world.
        options: what is shared or bent.
        progress: hears of each picture, and may cancel.

    Returns:
        One for each exposure, in their order.

    Raises:
        InputError: naming the picture, where beads cannot be told apart or fix no camera.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.calibration import Exposure, calibrate, layout
        >>> from RadGSRegLib.geometry import carm_camera
        >>> beads = layout("two-plates")
        >>> camera = carm_camera(1000.0, 700.0, 20.0, 10.0, (400, 400), (0.6, 0.6))
        >>> row, column = np.mgrid[:400, :400]
        >>> picture = np.full((400, 400), 200.0, dtype=np.float32)
        >>> for (u, v), wide in zip(camera.project(beads.centres_mm), beads.diameters_mm):
        ...     away = np.hypot(column - u, row - v)
        ...     picture *= 1 - 0.8 / (1 + np.exp(np.minimum(3.0 * away - 3.6 * wide, 50.0)))
        >>> (done,) = calibrate([Exposure("AP", picture, (0.6, 0.6), 1000.0)], beads)
        >>> bool(np.linalg.norm(done.view.camera.source_world - camera.source_world) < 5.0)
        True
    """
    options = options or Calibrating()
    report = progress or Progress()
    how = resection_of(options)
    sightings, polarities = list[Sighting](), list[int]()
    for number, exposure in enumerate(exposures):
        report(0.8 * number / len(exposures), f"looking for beads in {exposure.name}")
        sighting, polarity = _sighting(exposure, beads, options)
        sightings.append(sighting)
        polarities.append(polarity)
    report(0.8, "refining the cameras")
    try:
        views = resect(sightings, how)
    except InputError:
        # Few beads, or those of one plate alone, may fix no camera: a rough one says where the
        # others must be.
        sightings = [
            missing_beads(
                e.pixels, s, s.camera, polarity, straightened(e, options, np.zeros((0, 2)))[1]
            )
            for e, s, polarity in zip(exposures, sightings, polarities, strict=True)
        ]
        views = resect(sightings, how)
    for share in (0.85, 0.9):
        sightings = [
            _again(exposure, sighting, view, polarity)
            for exposure, sighting, view, polarity in zip(
                exposures, sightings, views, polarities, strict=True
            )
        ]
        report(share, "refining the cameras")
        views = resect(sightings, how)
    return [
        as_shown(view, sighting.spots, beads)
        for view, sighting in zip(views, sightings, strict=True)
    ]


def radius_range_px(exposure: Exposure, beads: Beads) -> tuple[float, float]:
    """Between which radii the shadows of beads lie, pixels, by what is known of the C-arm."""
    rough = exposure.rough
    near, far = bounds.DEPTH_SHARE
    small, large = float(beads.diameters_mm.min()) / 2.0, float(beads.diameters_mm.max()) / 2.0
    if exposure.spacing_mm is not None:
        pixel_mm = float(np.sqrt(np.prod(exposure.spacing_mm)))
        return small / far / pixel_mm, large / near / pixel_mm
    focals = [guess[1, 1] for guess in rough.guesses()]
    nearest, farthest = bounds.DISTANCE_MM
    return min(focals) * small / farthest, max(focals) * large / nearest


def _sighting(exposure: Exposure, beads: Beads, options: Calibrating) -> tuple[Sighting, int]:
    """The beads that a picture shows, and whether metal is dark (-1) or bright (+1)."""
    try:
        return _told(exposure, beads, options, bounds.LEAST_SCORE)
    except InputError as refused:
        # With fainter spots too; what is complained of is the clear ones.
        try:
            return _told(exposure, beads, options, bounds.FAINT_SCORE)
        except InputError:
            raise refused from None


def _told(
    exposure: Exposure, beads: Beads, options: Calibrating, least_score: float
) -> tuple[Sighting, int]:
    """The beads that the spots above a score show."""
    spots, polarity = find_spots(
        exposure.pixels,
        radius_range_px(exposure, beads),
        polarity=options.polarity,
        least_score=least_score,
    )
    straight = replace(spots, centres_px=straightened(exposure, options, spots.centres_px)[0])
    clear = straight.some(np.arange(min(len(straight), bounds.CLEAREST * len(beads))))
    match = match_beads(exposure.name, beads, clear, exposure.rough)
    sighting = Sighting(
        exposure.name, beads, spots, match.pairs, match.camera, spots.sigma_px, exposure.distortion
    )
    return sighting, polarity


def straightened(
    exposure: Exposure, options: Calibrating, shown_px: Array
) -> tuple[Array, Distortion | None]:
    """Places (N, 2) of a picture without the distortion that is known of it, and that distortion.

    Raises InputError for places that lie beyond what it says.
    """
    bent = exposure.distortion
    if bent is None and isinstance(options.distortion, Distortion):
        bent = options.distortion
    if bent is None:
        return shown_px, None
    try:
        return undistort(shown_px, bent), bent
    except ValueError as error:
        raise InputError(exposure.name, str(error), "take the distortion's own grid") from error


def sighted(done: Calibration, beads: Beads, distortion: Distortion | None) -> Sighting:
    """What a view was calibrated by, its camera as a start, with the distortion that is known of
    its picture."""
    view, spots = done.view, done.spots
    return Sighting(view.name, beads, spots, view.pairs, view.camera, spots.sigma_px, distortion)


def _again(exposure: Exposure, sighting: Sighting, view: Calibrated, polarity: int) -> Sighting:
    """A sighting with the pairs that a first camera adds: spots that were there already, and beads
    that are looked for where it predicts them; anew where the camera left a pair out that lies
    farther off than such a look allows."""
    pairs, away = paired(view, sighting.spots, sighting.beads)
    if len(pairs) < len(view.pairs):
        pairs, away = view.pairs, np.zeros(len(view.pairs))
    kept = np.isin(pairs[:, 0], view.pairs[:, 0]) | ~np.isin(pairs[:, 0], sighting.pairs[:, 0])
    pairs = pairs[kept | (away < bounds.PREDICTED_SHARE)]
    known = replace(sighting, pairs=pairs, camera=view.camera)
    return missing_beads(exposure.pixels, known, view.camera, polarity, view.distortion)


def paired(view: Calibrated, spots: Spots, beads: Beads) -> tuple[NDArray[np.int64], Array]:
    """Beads and spots that are each other's nearest, within the gate (M, 2), and how far apart they
    are (M,), as shares of the outline's radius."""
    shadows = shadows_px(view.camera, beads, view.distortion)
    apart = np.linalg.norm(shadows[:, None, :2] - spots.centres_px[None], axis=2)
    nearest, back = apart.argmin(axis=1), apart.argmin(axis=0)
    number = np.arange(len(beads))
    gate = max(bounds.FINE_PX, 3.0 * view.rms_px)
    kept = (back[nearest] == number) & (apart[number, nearest] < gate)
    near = apart[number, nearest] / shadows[:, 2]
    return np.column_stack([number[kept], nearest[kept]]), near[kept]


def resection_of(options: Calibrating) -> Resection:
    """How cameras are refined, by the options."""
    return Resection(options.shared_intrinsics, options.prior, options.distortion, sphere_shift_px)


def as_shown(view: Calibrated, spots: Spots, beads: Beads) -> Calibration:
    """A view with the shadows that its camera predicts."""
    shadows = shadows_px(view.camera, beads, view.distortion)
    inside = in_picture(shadows, view.camera.size)
    missing = ~np.isin(np.arange(len(beads)), view.pairs[:, 0])
    return Calibration(view, spots, shadows[inside], missing[inside])
