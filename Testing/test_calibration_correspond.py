"""Which spot is which bead."""

from __future__ import annotations

import numpy as np
import pytest
from bead_scenes import FOCAL, SIZE, SPACING, Scene, pixels_of, random_camera, scene, two_plates
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from RadGSRegLib.calibration import Beads, Match, RoughCamera, Spots, dlt, match_beads
from RadGSRegLib.calibration.dlt import projected, robust_dlt
from RadGSRegLib.calibration.p3p import three_point_poses
from RadGSRegLib.errors import InputError

ROUGH = RoughCamera(SIZE, FOCAL, SPACING)


def recall(made: Scene, match: Match) -> float:
    """The share of the shown beads that are told rightly; no pair may be wrong."""
    right = made.bead[match.pairs[:, 1]] == match.pairs[:, 0]
    assert right.mean() > 0.9
    return float(right.sum() / (made.bead >= 0).sum())


@pytest.mark.parametrize("seed", range(12))
def test_beads_are_told_with_a_quarter_missing_and_a_third_false(seed: int) -> None:
    made = scene(two_plates(seed), random_camera(seed), seed)
    assert recall(made, match_beads("AP", made.beads, made.spots, ROUGH)) > 0.9


@pytest.mark.parametrize("seed", range(4))
def test_a_mirrored_picture_is_known_as_such(seed: int) -> None:
    made = scene(two_plates(seed), random_camera(seed, mirrored=True), seed)
    match = match_beads("AP", made.beads, made.spots, ROUGH)
    assert recall(made, match) > 0.9
    assert match.camera.intrinsic[0, 0] < 0


@pytest.mark.parametrize("seed", range(3))
def test_forty_beads(seed: int) -> None:
    made = scene(two_plates(seed, 20), random_camera(seed), seed, false=0.33)
    assert recall(made, match_beads("AP", made.beads, made.spots, ROUGH)) > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_without_a_focal_length_or_believable_sizes(seed: int) -> None:
    made = scene(two_plates(seed), random_camera(seed), seed, radii=0.8)
    assert recall(made, match_beads("AP", made.beads, made.spots, RoughCamera(SIZE))) > 0.9


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(100, 10_000))
def test_no_wrong_answer_on_any_seed(seed: int) -> None:
    made = scene(two_plates(seed % 50), random_camera(seed), seed, false=0.3, missing=0.2)
    try:
        match = match_beads("AP", made.beads, made.spots, ROUGH)
    except InputError:
        return
    recall(made, match)


@pytest.mark.parametrize("seed", range(3))
def test_random_spots_are_no_beads(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("RadGSRegLib.calibration.bounds.TRIPLES", 8)
    rng = np.random.default_rng(seed + 999)  # the plates' own draws would be a picture of them
    spots = Spots(rng.uniform(200, 800, (25, 2)), rng.uniform(6, 10, 25), np.ones(25))
    with pytest.raises(InputError, match=r"lateral.*chance"):
        match_beads("lateral", two_plates(seed), spots, ROUGH)


def test_a_phantom_with_symmetry_is_ambiguous() -> None:
    half = two_plates(3).centres_mm[:7]
    turned = half @ np.diag([-1.0, -1.0, 1.0])
    upper = two_plates(4).centres_mm[7:]
    places = np.concatenate([half, turned, upper, upper @ np.diag([-1.0, -1.0, 1.0])])
    beads = Beads("twice", places, np.full(28, 3.0))
    camera = random_camera(1)
    spots = Spots(pixels_of(camera, places), np.full(28, 6.0), np.ones(28))
    with pytest.raises(InputError, match=r"AP.*ambiguous"):
        match_beads("AP", beads, spots, ROUGH)


def test_too_few_spots_are_refused() -> None:
    few = Spots(np.zeros((4, 2)), np.ones(4), np.ones(4))
    with pytest.raises(InputError, match="4 spots"):
        match_beads("AP", two_plates(), few, ROUGH)


@given(seed=st.integers(0, 2000))
def test_a_pose_of_three_points_is_among_those_offered(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn = Rotation.random(random_state=seed).as_matrix()
    points = rng.uniform(-70, 70, (1, 3, 3))
    place = points[0] @ turn.T + np.array([10.0, -20.0, 600.0])
    rays = place / np.linalg.norm(place, axis=1, keepdims=True)
    rotation, move, triple = three_point_poses(points, rays)
    assert len(rotation) == len(move) == len(triple)
    put = np.einsum("kij,nj->kni", rotation, points[0]) + move[:, None]
    assert np.abs(put - place).max(axis=(1, 2)).min() < 0.5


def test_a_projection_matrix_of_exact_pairs() -> None:
    beads, camera = two_plates(2), random_camera(2)
    matrix = dlt(beads.centres_mm, pixels_of(camera, beads.centres_mm))
    elsewhere = np.random.default_rng(0).uniform(-50, 50, (20, 3))
    assert np.abs(projected(matrix, elsewhere) - pixels_of(camera, elsewhere)).max() < 1e-6


def test_a_projection_matrix_leaves_wrong_pairs_out() -> None:
    beads, camera = two_plates(2, 10), random_camera(2)
    pixels = pixels_of(camera, beads.centres_mm)
    pixels[:5] += 40.0
    matrix, inside = robust_dlt(beads.centres_mm, pixels, 2.0)
    assert not inside[:5].any()
    assert inside[5:].all()
    assert np.abs(projected(matrix, beads.centres_mm[5:]) - pixels[5:]).max() < 1e-6


def test_points_in_a_plane_fix_no_matrix() -> None:
    beads, camera = two_plates(2, 10), random_camera(2)
    with pytest.raises(ValueError, match="one plane"):
        dlt(beads.centres_mm[:10], pixels_of(camera, beads.centres_mm[:10]))
    with pytest.raises(ValueError, match="6 pairs"):
        dlt(beads.centres_mm[:5], pixels_of(camera, beads.centres_mm[:5]))
