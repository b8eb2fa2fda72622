"""A calibration that a person corrects: spots added, removed, exchanged; the cameras follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..geometry import Array, distort
from . import bounds
from .exposures import Calibrating, Calibration, Exposure, as_shown, resection_of, sighted
from .given import GivenPairs, given_sighting, too_few
from .guided import spots_near
from .resection import Sighting, resect
from .spheres import in_picture, shadows_px, sphere_shift_px
from .spot_fit import fitted
from .types import Beads, Calibrated, Spots

_AROUND = [[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [1, -1], [-1, 1], [-1, -1]]
# A click is beside the middle of its shadow: it is looked for from here too, in radii.
_BESIDE = np.concatenate([[[0, 0]], *(share * np.array(_AROUND) for share in bounds.CLICK_RADII)])


@dataclass(frozen=True)
class Editing:
    """A calibration under correction; never changed itself: each correction gives another.

    The cameras depend on the pairs alone, not on the way to them: each refinement begins where the
    first calibration ended. Views are given by their number.

    ``views``: as `resect` leaves them, without pairs that do not fit the others; `residuals_px` is
    of all pairs.
    """

    exposures: tuple[Exposure, ...]
    beads: Beads
    options: Calibrating
    polarities: tuple[int, ...]
    sightings: tuple[Sighting, ...]
    views: tuple[Calibrated, ...]

    @classmethod
    def of(
        cls,
        exposures: Sequence[Exposure],
        beads: Beads,
        done: Sequence[Calibration],
        options: Calibrating | None = None,
    ) -> Editing:
        """Begin with what `calibrate` has made of exposures and beads.

        Args:
            exposures: the X-rays.
            beads: their places.
            done: of each exposure.
            options: those that it was made with.

        Returns:
            The calibration, to be corrected.

        Raises:
            InputError: naming the picture, where its pairs fix no camera.

        Example:
            >>> import numpy as np
            >>> from RadGSRegLib.calibration import Editing, Exposure, calibrate, layout
            >>> from RadGSRegLib.geometry import carm_camera
            >>> beads = layout("two-plates")
            >>> camera = carm_camera(1000.0, 700.0, 20.0, 10.0, (400, 400), (0.6, 0.6))
            >>> row, column = np.mgrid[:400, :400]
            >>> picture = np.full((400, 400), 200.0, dtype=np.float32)
            >>> for (u, v), wide in zip(camera.project(beads.centres_mm), beads.diameters_mm):
            ...     away = np.hypot(column - u, row - v)
            ...     picture *= 1 - 0.8 / (1 + np.exp(np.minimum(3.0 * away - 3.6 * wide, 50.0)))
            >>> exposures = [Exposure("AP", picture, (0.6, 0.6), 1000.0)]
            >>> editing = Editing.of(exposures, beads, calibrate(exposures, beads))
            >>> less = editing.removed(0, 3)
            >>> less.spot_of(0, 3) is None
            True
            >>> again = less.added(0, camera.project(beads.centres_mm)[3])
            >>> bool(np.hypot(*(again.spot_of(0, 3) - editing.spot_of(0, 3))) < 0.01)
            True
        """
        sightings = [
            sighted(c, beads, exposure.distortion)
            for exposure, c in zip(exposures, done, strict=True)
        ]
        return cls._begun(exposures, beads, options or Calibrating(), sightings)

    @classmethod
    def from_pairs(
        cls,
        exposures: Sequence[Exposure],
        beads: Beads,
        pairs: Mapping[str, GivenPairs],
        options: Calibrating | None = None,
    ) -> Editing:
        """Begin with pairs, such as `read_pairs` takes from a ``calibration.json``.

        Args:
            exposures: the X-rays.
            beads: their places.
            pairs: of each exposure, by its name.
            options: what is shared or bent.

        Returns:
            The calibration, to be corrected.

        Raises:
            InputError: naming the picture, where it has too few pairs or they fix no camera.

        Example:
            >>> import numpy as np
            >>> from RadGSRegLib.calibration import Editing, Exposure, GivenPairs, layout
            >>> from RadGSRegLib.geometry import carm_camera
            >>> beads = layout("two-plates")
            >>> camera = carm_camera(1000.0, 700.0, 20.0, 10.0, (400, 400), (0.6, 0.6))
            >>> exposure = Exposure("AP", np.zeros((400, 400), np.float32), (0.6, 0.6), 1000.0)
            >>> pairs = {"AP": GivenPairs(np.arange(16), camera.project(beads.centres_mm))}
            >>> editing = Editing.from_pairs([exposure], beads, pairs)
            >>> wrong = editing.swapped(0, 2, 9)
            >>> bool(np.hypot(*wrong.residuals_px(0)[2]) > 20.0)
            True
        """
        options = options or Calibrating()
        for exposure in exposures:
            if exposure.name not in pairs:
                raise InputError(exposure.name, "has no pairs", "give its beads and spots_px too")
        sightings = [given_sighting(e, beads, pairs[e.name], options) for e in exposures]
        return cls._begun(exposures, beads, options, sightings)

    @classmethod
    def _begun(
        cls,
        exposures: Sequence[Exposure],
        beads: Beads,
        options: Calibrating,
        sightings: Sequence[Sighting],
    ) -> Editing:
        how = resection_of(options)
        first = resect(sightings, how)
        begun = [replace(s, camera=v.camera) for s, v in zip(sightings, first, strict=True)]
        # Again, as after each correction: what is taken back then leaves no trace.
        views = resect(begun, how)
        polarities = [
            options.polarity or _polarity(exposure, sighting)
            for exposure, sighting in zip(exposures, sightings, strict=True)
        ]
        return cls(tuple(exposures), beads, options, tuple(polarities), tuple(begun), tuple(views))

    # What there is

    def spot_of(self, view: int, bead: int) -> Array | None:
        """The pixel (column, row) of a bead's spot; None where it has none."""
        sighting = self.sightings[view]
        (at,) = np.nonzero(sighting.pairs[:, 0] == bead)
        return sighting.spots.centres_px[sighting.pairs[at[0], 1]] if len(at) else None

    def residuals_px(self, view: int) -> dict[int, Array]:
        """Of each bead with a spot: shown minus predicted, (column, row)."""
        sighting, pairs = self.sightings[view], self.sightings[view].pairs
        shown = sighting.spots.centres_px[pairs[:, 1]]
        away = shown - self._places_px(view)[pairs[:, 0]]
        return {int(bead): left for bead, left in zip(pairs[:, 0], away, strict=True)}

    def rms_px(self, view: int) -> float:
        """The root mean square of the lengths of `residuals_px`."""
        left = np.array(list(self.residuals_px(view).values()))
        return float(np.sqrt(np.mean(np.sum(left**2, axis=1))))

    def shadows_px(self, view: int) -> Array:
        """Column, row and radius (N, 3) of all beads' outlines as the camera predicts them."""
        calibrated = self.views[view]
        return shadows_px(calibrated.camera, self.beads, calibrated.distortion)

    def shown(self, view: int) -> NDArray[np.int64]:
        """The beads whose predicted shadows reach into the picture."""
        inside = in_picture(self.shadows_px(view), self.exposures[view].size)
        return np.flatnonzero(inside)

    def nearest(
        self,
        view: int,
        at_px: ArrayLike,
        among: ArrayLike | None = None,
        within_radii: float = np.inf,
    ) -> int:
        """The bead that is predicted nearest to a pixel, of some (all: those in the picture).

        Raises InputError where there are none, or its middle is further than so many of its radii.
        """
        beads = np.asarray(self.shown(view) if among is None else among, dtype=np.int64)
        if not len(beads):
            raise InputError(self.exposures[view].name, "no bead is left for it")
        away = np.hypot(*(self.shadows_px(view)[beads, :2] - np.asarray(at_px, dtype=float)).T)
        return self._near(view, int(beads[np.argmin(away)]), float(away.min()), within_radii)

    def nearest_spot(self, view: int, at_px: ArrayLike, within_radii: float = np.inf) -> int:
        """The bead whose spot is nearest to a pixel.

        Raises InputError where that is further than so many of its radii.
        """
        sighting = self.sightings[view]
        spots = sighting.spots.centres_px[sighting.pairs[:, 1]]
        away = np.hypot(*(spots - np.asarray(at_px, dtype=float)).T)
        bead = int(sighting.pairs[np.argmin(away), 0])
        return self._near(view, bead, float(away.min()), within_radii)

    def pairs(self) -> dict[str, GivenPairs]:
        """The pairs of each view by its name, as `calibrate_given` takes them."""
        return {
            s.view: GivenPairs(s.pairs[:, 0].copy(), s.spots.centres_px[s.pairs[:, 1]])
            for s in self.sightings
        }

    def calibrations(self) -> list[Calibration]:
        """The same as `calibrate` says it."""
        pairs = zip(self.views, self.sightings, strict=True)
        return [as_shown(view, sighting.spots, self.beads) for view, sighting in pairs]

    # Corrections; each raises InputError where it cannot be made

    def added(self, view: int, at_px: ArrayLike, bead: int | None = None) -> Editing:
        """Give a bead the shadow that is near a pixel.

        ``bead``: None takes the one that is predicted nearest and has no spot yet. Raises
        InputError where no shadow is near, or it is another bead's already.
        """
        taken = self.sightings[view].pairs[:, 0]
        if bead is not None and bead in taken:
            raise InputError(f"bead {bead}", "has a spot already", "remove that first, or move it")
        at = np.asarray(at_px, dtype=float)
        free = np.setdiff1d(self.shown(view), taken)
        number = self.nearest(view, at, free) if bead is None else self._known(bead)
        sighting, spot = self._with_spot(view, at, number)
        if bead is None:
            number = self.nearest(view, sighting.spots.centres_px[spot], free)
        return self._paired(view, sighting, {**_spots_by_bead(sighting), number: spot})

    def removed(self, view: int, bead: int) -> Editing:
        """Take a bead's spot away."""
        self._must_have(view, bead)
        sighting = self.sightings[view]
        left = {b: spot for b, spot in _spots_by_bead(sighting).items() if b != bead}
        return self._paired(view, sighting, left)

    def swapped(self, view: int, first: int, second: int) -> Editing:
        """Exchange the spots of two beads; where one has none, it gets the other's."""
        sighting = self.sightings[view]
        spots = _spots_by_bead(sighting)
        pair = (self._known(first), self._known(second))
        if first == second:
            raise InputError(f"bead {first}", "is the same", "name two beads")
        if not set(pair) & set(spots):
            raise InputError(f"beads {first} and {second}", "have no spots", "add one")
        other = {first: second, second: first}
        moved = {other.get(bead, bead): spot for bead, spot in spots.items()}
        return self._paired(view, sighting, moved)

    def moved(self, view: int, bead: int, at_px: ArrayLike) -> Editing:
        """Give a bead another shadow, which is near a pixel."""
        self._must_have(view, bead)
        sighting, spot = self._with_spot(view, np.asarray(at_px, dtype=float), bead)
        return self._paired(view, sighting, {**_spots_by_bead(sighting), bead: spot})

    # Within

    def _known(self, bead: int) -> int:
        if not 0 <= bead < len(self.beads):
            last = len(self.beads) - 1
            raise InputError(f"bead {bead}", "is not there", f"the beads are 0 to {last}")
        return int(bead)

    def _near(self, view: int, bead: int, away_px: float, within_radii: float) -> int:
        if away_px <= within_radii * self.shadows_px(view)[bead, 2]:
            return bead
        raise InputError(
            self.exposures[view].name,
            f"no bead is near the click: bead {bead}, the nearest, is {away_px:.0f} px away",
            "click on one",
        )

    def _must_have(self, view: int, bead: int) -> None:
        if self.spot_of(view, self._known(bead)) is None:
            raise InputError(f"bead {bead}", f"has no spot in {self.exposures[view].name}")

    def _places_px(self, view: int) -> Array:
        """Where the middles of all beads' shadows would be, as the picture shows them."""
        camera, beads = self.views[view].camera, self.beads
        shift = sphere_shift_px(camera, beads.centres_mm, beads.diameters_mm)
        straight = camera.project(beads.centres_mm) + shift
        bent = self.views[view].distortion
        return straight if bent is None else distort(straight, bent)

    def _with_spot(self, view: int, at_px: Array, bead: int) -> tuple[Sighting, int]:
        """A sighting that has the spot near a pixel, and the number of that."""
        sighting, exposure = self.sightings[view], self.exposures[view]
        spots, taken = sighting.spots, sighting.pairs[:, 1]
        outline = float(self.shadows_px(view)[bead, 2])
        away = np.hypot(*(spots.centres_px - at_px).T)
        if len(spots) and away.min() < outline:
            nearest = int(np.argmin(away))
            if nearest in taken:
                other = int(sighting.pairs[taken == nearest, 0][0])
                raise InputError(
                    exposure.name, f"the shadow there is bead {other}'s", "swap the two, or remove"
                )
            return sighting, nearest
        beads = sighting.pairs[:, 0]
        smaller = float(np.median(spots.radii_px[taken] / self.shadows_px(view)[beads, 2]))
        radius = smaller * outline
        seeds = at_px + radius * _BESIDE
        near, _ = spots_near(
            exposure.pixels, seeds, np.full(len(seeds), radius), self.polarities[view]
        )
        if not len(near):
            raise InputError(
                exposure.name, "no bead's shadow is near the click", "click in the middle of one"
            )
        best = near.some(np.array([np.argmax(near.score)]))
        away = np.hypot(*(spots.centres_px[taken] - best.centres_px[0]).T)
        if away.min() < bounds.GUIDED_SHARE * outline:
            other = int(beads[np.argmin(away)])
            raise InputError(
                exposure.name, f"the shadow there is bead {other}'s", "swap the two, or remove"
            )
        return _with(sighting, best), len(spots)

    def _paired(self, view: int, sighting: Sighting, spots: Mapping[int, int]) -> Editing:
        """The same with the pairs of a view, bead to spot, and cameras by all pairs."""
        if len(spots) < bounds.LEAST_PAIRS:
            raise too_few(self.exposures[view].name, len(spots))
        pairs = np.array(sorted(spots.items()), dtype=np.int64)
        sightings = list(self.sightings)
        sightings[view] = replace(sighting, pairs=pairs)
        how = resection_of(self.options)
        if self.options.shared_intrinsics:
            views = resect(sightings, how)
        else:
            views = list(self.views)
            (views[view],) = resect([sightings[view]], how)
        return replace(self, sightings=tuple(sightings), views=tuple(views))


def _spots_by_bead(sighting: Sighting) -> dict[int, int]:
    return {int(bead): int(spot) for bead, spot in sighting.pairs}


def _with(sighting: Sighting, spot: Spots) -> Sighting:
    """A sighting with one more spot, the last."""
    old = sighting.spots
    sigma = None
    if old.sigma_px is not None and spot.sigma_px is not None:
        sigma = np.concatenate([old.sigma_px, spot.sigma_px])
    spots = Spots(
        np.concatenate([old.centres_px, spot.centres_px]),
        np.concatenate([old.radii_px, spot.radii_px]),
        np.concatenate([old.score, spot.score]),
        sigma,
    )
    return replace(sighting, spots=spots, sigma_px=sigma)


def _polarity(exposure: Exposure, sighting: Sighting) -> int:
    """Whether the shadows of a view's pairs are dark (-1) or bright (+1)."""
    at = sighting.pairs[:, 1]
    spots = sighting.spots
    fit = fitted(exposure.pixels, spots.centres_px[at], spots.radii_px[at])
    return -1 if float(np.median(fit.heights)) < 0 else 1
