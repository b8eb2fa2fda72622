"""Beads that a camera predicts are met where they are, and nothing is met where none is."""

from __future__ import annotations

import numpy as np
import pytest
from bead_pictures import Drawing, picture

from RadGSRegLib.calibration import (
    Resection,
    RoughCamera,
    Sighting,
    find_spots,
    layout,
    match_beads,
    missing_beads,
    resect,
    sphere_shift_px,
    spots_near,
)
from RadGSRegLib.simulation import BeadPhantom, Prepared, simulate_phantom_case

DRAWING = Drawing(beads=20, clutter=1.0, photons=20000)


def test_beads_near_where_they_are_predicted() -> None:
    image, centres, radii = picture(DRAWING, 3)
    off = np.random.default_rng(1).uniform(-0.25, 0.25, centres.shape) * radii[:, None]
    spots, numbers = spots_near(image, centres + off, 0.8 * radii, -1)
    assert len(numbers) >= 18
    assert (np.diff(numbers) > 0).all()
    assert np.hypot(*(spots.centres_px - centres[numbers]).T).max() < 0.7


def test_nothing_is_met_where_no_bead_is() -> None:
    image, centres, _ = picture(DRAWING, 3)
    u, v = np.meshgrid(np.arange(30.0, 480.0, 37.0), np.arange(30.0, 480.0, 37.0))
    places = np.column_stack([u.ravel(), v.ravel()])
    apart = np.hypot(*(places[:, None] - centres[None]).transpose(2, 0, 1)).min(axis=1)
    places = places[apart > 15.0]
    assert len(places) > 80
    spots, numbers = spots_near(image, places, np.full(len(places), 4.0), -1)
    assert len(numbers) == len(spots) <= 0.05 * len(places)
    # Bright metal where it is dark.
    assert len(spots_near(image, centres, np.full(len(centres), 4.0), 1)[1]) <= 1
    outside = np.array([[-30.0, 5.0], [600.0, 5.0], [np.nan, 5.0]])
    assert len(spots_near(image, outside, np.full(3, 4.0), -1)[1]) == 0


def test_what_cannot_be_searched_is_refused() -> None:
    image = np.zeros((32, 32), np.float32)
    with pytest.raises(ValueError, match="polarity"):
        spots_near(image, np.ones((1, 2)), np.ones(1), 0)
    with pytest.raises(ValueError, match="one radius"):
        spots_near(image, np.ones((2, 2)), np.ones(1), 1)


def test_beads_taken_away_come_back() -> None:
    beads = layout("two-plates")
    phantom = BeadPhantom(beads.name, beads.centres_mm, beads.diameters_mm)
    simulated = simulate_phantom_case(2, "realistic", prepared=Prepared(beads=phantom))
    view = simulated.case.views[0]
    truth = np.array(simulated.truth["beads_px"][view.name])
    spots, polarity = find_spots(view.pixels, (2.5, 7.5))
    rough = RoughCamera(view.camera.size, 1124.0 / 0.61, (0.61, 0.61))
    match = match_beads(view.name, beads, spots, rough)
    assert len(match.pairs) >= 15
    some = match.pairs[np.arange(len(match.pairs)) % 3 > 0]
    few = spots.some(some[:, 1])
    numbers = np.column_stack([some[:, 0], np.arange(len(some))])
    sighting = Sighting(view.name, beads, few, numbers, match.camera, few.sigma_px)
    (first,) = resect([sighting], Resection(sphere_shift=sphere_shift_px))
    more = missing_beads(view.pixels, sighting, first.camera, polarity)
    assert len(more.pairs) >= len(match.pairs) - 1
    assert len(set(more.pairs[:, 0])) == len(more.pairs)
    assert more.sigma_px is not None
    assert len(more.spots) == len(more.sigma_px) == len(more.pairs) > len(some)
    away = more.spots.centres_px[more.pairs[:, 1]] - truth[more.pairs[:, 0]]
    assert np.hypot(*away.T).max() < 0.7
