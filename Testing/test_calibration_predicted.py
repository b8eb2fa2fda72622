"""Beads that hardly stand out are told where a camera predicts them, and nothing else is."""

from __future__ import annotations

import numpy as np
from bead_pictures import anatomy
from numpy.typing import NDArray

from RadGSRegLib.calibration import Exposure, calibrate, layout, posts_under
from RadGSRegLib.calibration.predicted import predicted_spots
from RadGSRegLib.geometry import Array
from RadGSRegLib.simulation import (
    BeadPhantom,
    Prepared,
    SimulationParameters,
    simulate_phantom_case,
)

SIDE, RADIUS = 400, 4.0


def clipped(centres: Array, seed: int) -> NDArray[np.float32]:
    """A picture whose beads are flat and white, 2 to 3 standard deviations of the noise above what
    lies about them, which bends."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[:SIDE, :SIDE]
    body = 20.0 * anatomy(SIDE, rng)
    white = float(np.quantile(body, 0.98))
    image = np.minimum(body, white - 6.0) + 2.5 * rng.standard_normal((SIDE, SIDE))
    for centre in centres:
        image[np.hypot(u - centre[0], v - centre[1]) < RADIUS + 1.0] = white
    return np.minimum(image, white).astype(np.float32)


def grid(apart: float = 45.0) -> Array:
    side = np.arange(30.3, SIDE - 30.0, apart)
    return np.array([[x, y + 0.1 * x / SIDE] for x in side for y in side])


def circles(centres: Array) -> Array:
    return np.column_stack([centres, np.full(len(centres), RADIUS)])


def test_clipped_beads_are_told_where_they_are_predicted() -> None:
    centres = grid()
    places = centres + np.random.default_rng(0).uniform(-0.2, 0.2, centres.shape)
    image = clipped(centres, 1)
    spots, numbers = predicted_spots(image, circles(places), np.arange(len(places)), 0.9, 1)
    assert len(numbers) >= 0.9 * len(places)
    assert np.hypot(*(spots.centres_px - centres[numbers]).T).max() < 0.7


def test_nothing_is_told_where_no_bead_is() -> None:
    centres = grid()
    image = clipped(centres, 2)
    places = grid(15.0)
    apart = np.hypot(*(places[:, None] - centres[None]).transpose(2, 0, 1)).min(axis=1)
    places = places[apart > 3.0 * RADIUS]
    assert len(places) > 250
    for polarity in (1, -1):
        spots, numbers = predicted_spots(
            image, circles(places)[:, :], np.arange(len(places)), 0.9, polarity
        )
        assert len(numbers) == len(spots) <= 0.02 * len(places)


def test_a_bead_elsewhere_is_not_taken() -> None:
    centres = grid()
    image = clipped(centres, 3)
    off = circles(centres + [0.4 * RADIUS, 0.0])
    assert len(predicted_spots(image, off, np.arange(len(off)), 0.9, 1)[1]) <= 0.02 * len(off)


def test_two_beads_upon_one_another() -> None:
    """Seven tenths of each is its own; as one shadow they fit no disc."""
    first = grid()
    second = first + [1.2 * (RADIUS + 1.0), 0.0]
    centres = np.concatenate([first, second])
    image = clipped(centres, 4)
    spots, numbers = predicted_spots(image, circles(centres), np.arange(len(centres)), 0.9, 1)
    assert len(numbers) >= 0.9 * len(centres)
    assert np.hypot(*(spots.centres_px - centres[numbers]).T).max() < 0.7


def test_a_view_whose_display_clips_one_plate() -> None:
    """Eight beads of one plate stand out: with faint spots the view is calibrated, before it was
    refused."""
    beads = layout("two-plates")
    axes, radii = posts_under(beads) or (None, None)
    phantom = BeadPhantom(beads.name, beads.centres_mm, beads.diameters_mm, axes, radii)
    parameters = SimulationParameters.preset("realistic")
    simulated = simulate_phantom_case(30, parameters, prepared=Prepared(beads=phantom))
    (view,) = (v for v in simulated.case.views if v.name == "LA")
    pixel, far = parameters.pixel_mm, parameters.source_detector_mm
    (done,) = calibrate([Exposure("LA", view.pixels, (pixel, pixel), far)], beads)
    truth = np.array(simulated.truth["beads_px"]["LA"])
    assert len(done.view.pairs) >= 13
    away = done.spots.centres_px[done.view.pairs[:, 1]] - truth[done.view.pairs[:, 0]]
    assert np.hypot(*away.T).max() < 1.0
