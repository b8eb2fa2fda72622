"""Beads' shadows are where they were drawn, whatever lies behind, and meet in the world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bead_pictures import Drawing, chords, picture, scored, together
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from RadGSRegLib.calibration import Spots, find_spots, layout, sphere_shift_px, triangulated
from RadGSRegLib.cases import read_views
from RadGSRegLib.geometry import Camera, pinhole
from RadGSRegLib.simulation import BeadPhantom, Prepared, simulate_phantom_case

CLEAN = Drawing()
CLUTTERED = Drawing(side=640, beads=40, clutter=1.0, photons=20000)


def outcome(drawing: Drawing, seeds: int = 2) -> Any:
    """What comes of a search whose radii and polarity are left open."""
    scores = []
    for seed in range(seeds):
        image, centres, radii = picture(drawing, 100 + seed)
        spots, polarity = find_spots(image, (0.9 * drawing.radii[0], 1.1 * drawing.radii[1]))
        assert polarity == (-1 if drawing.dark_metal else 1)
        assert (np.diff(spots.score) <= 0).all()
        scores.append(scored(spots.centres_px, spots.radii_px, centres, radii))
    return together(scores)


@pytest.mark.parametrize("dark_metal", [True, False])
@pytest.mark.parametrize("curve", ["log", "bent"])
def test_clean_beads_lie_where_they_were_drawn(curve: str, dark_metal: bool) -> None:
    result = outcome(replace(CLEAN, curve=curve, dark_metal=dark_metal), seeds=1)
    assert result.recall == 1.0
    assert result.wrong == 0
    assert result.rms_px < 0.1


def test_counts_of_few_photons_cost_little() -> None:
    result = outcome(replace(CLEAN, photons=1000))
    assert result.recall >= 0.95
    assert result.rms_px < 0.3


@pytest.mark.parametrize(
    "drawing",
    [
        CLUTTERED,
        replace(CLUTTERED, dark_metal=False, curve="bent"),
        replace(CLUTTERED, collimator=True),
        replace(CLUTTERED, photons=3000),
    ],
    ids=["log", "bent", "collimator", "few photons"],
)
def test_beads_over_bones(drawing: Drawing) -> None:
    result = outcome(drawing)
    assert result.recall >= 0.95
    assert result.rms_px < 0.3
    assert result.wrong <= result.beads


def test_beads_beside_one_another_over_bones() -> None:
    result = outcome(replace(CLUTTERED, apart=1.1, beads=80), seeds=1)
    assert result.recall >= 0.95
    assert result.rms_px < 0.3


def test_a_clipped_display_leaves_the_edges_of_beads() -> None:
    """Metal and air both at the display's ends, in 8 bits: a black disc on white or grey."""
    rng = np.random.default_rng(3)
    centres = np.array([[40.3 + 50 * i, 40.7 + 50 * j] for i in range(4) for j in range(4)])
    radii = rng.uniform(3.0, 7.0, 16)
    signal = np.exp(-0.15 * chords(256, centres, radii))
    image = np.rint(255 * np.clip((signal - 0.6) / 0.3, 0.0, 1.0)).astype(np.float32)
    spots, polarity = find_spots(image, (2.0, 8.0))
    result = scored(spots.centres_px, spots.radii_px, centres, radii)
    assert polarity == -1
    assert (result.met, result.wrong) == (16, 0)
    assert result.rms_px < 0.1


def test_beads_cut_by_the_edge_of_the_picture() -> None:
    centres = np.array([[2.0, 60.0], [60.0, 1.5], [125.0, 100.3], [-4.0, 100.0], [64.0, 64.0]])
    radii = np.full(5, 5.0)
    image = (255 * np.exp(-0.1 * chords(128, centres, radii))).astype(np.float32)
    spots, _ = find_spots(image, (3.0, 6.0))
    result = scored(spots.centres_px, spots.radii_px, centres[[0, 1, 2, 4]], radii[:4])
    # Three are more than half in the picture; of the fourth only a rim is, which is no spot.
    assert (result.met, result.wrong) == (4, 0)
    assert result.rms_px < 0.3
    assert (spots.centres_px > -0.5).all()


def test_the_uncertainty_is_that_of_the_noise() -> None:
    """Errors over their standard deviations, of white noise on clean beads."""
    ratios = []
    rng = np.random.default_rng(5)
    centres = np.array([[30 + 40 * i + 0.1 * j, 30.4 + 40 * j] for i in range(6) for j in range(6)])
    radii = np.full(36, 4.0)
    clean = 20.0 * chords(260, centres, radii)
    for level in (4.0, 16.0):
        noisy = clean + level * rng.standard_normal(clean.shape)
        spots, _ = find_spots(noisy.astype(np.float32), (3.0, 5.0), polarity=1)
        apart = spots.centres_px[:, None] - centres[None]
        nearest = np.hypot(*apart.transpose(2, 0, 1)).argmin(axis=1)
        error = spots.centres_px - centres[nearest]
        assert len(set(nearest)) == 36
        assert spots.sigma_px is not None
        ratios.append(error / spots.sigma_px[:, None])
    assert 0.7 < np.sqrt(np.mean(np.square(ratios[1]))) < 1.6


def test_nothing_is_said_of_pictures_without_beads() -> None:
    assert len(find_spots(np.zeros((64, 64), np.float32), (2.0, 5.0))[0]) == 0
    rows, columns = np.mgrid[:128, :128].astype(np.float32)
    assert len(find_spots(rows * 2 + columns, (2.0, 5.0), polarity=-1)[0]) == 0
    bone = (np.abs(rows - 0.7 * columns) < 4).astype(np.float32)
    assert len(find_spots(bone, (2.0, 6.0))[0]) == 0


def test_fewer_spots_are_the_clearest() -> None:
    image, _, _ = picture(CLEAN, 1)
    spots, _ = find_spots(image, (2.0, 7.0))
    few, _ = find_spots(image, (2.0, 7.0), most=12)
    assert len(few) == 12 < len(spots)
    assert few.score.min() > 0.5 * np.median(spots.score)


def test_what_cannot_be_searched_is_refused() -> None:
    image = np.zeros((32, 32), np.float32)
    with pytest.raises(ValueError, match="two dimensions"):
        find_spots(image[0], (2.0, 5.0))
    with pytest.raises(ValueError, match="finite"):
        find_spots(np.full((32, 32), np.nan, np.float32), (2.0, 5.0))
    with pytest.raises(ValueError, match="radii"):
        find_spots(image, (5.0, 2.0))
    with pytest.raises(ValueError, match="polarity"):
        find_spots(image, (2.0, 5.0), polarity=0)


def test_beads_in_realistic_x_rays() -> None:
    """Beads in front of and behind a trunk, with scatter, noise and a display."""
    beads = layout("two-plates")
    phantom = BeadPhantom(beads.name, beads.centres_mm, beads.diameters_mm)
    simulated = simulate_phantom_case(1, "realistic", prepared=Prepared(beads=phantom))
    results, ratios = [], []
    for view in simulated.case.views:
        centres = np.array(simulated.truth["beads_px"][view.name])
        radii = 0.5 * beads.diameters_mm * view.camera.focal_px / 750.0
        spots, _ = find_spots(view.pixels, (2.5, 7.5))
        results.append(scored(spots.centres_px, spots.radii_px, centres, radii))
        apart = spots.centres_px[:, None] - centres[None]
        distance = np.hypot(*apart.transpose(2, 0, 1))
        met = np.flatnonzero(distance.min(axis=1) < 1.0)
        assert spots.sigma_px is not None
        error = apart[met, distance[met].argmin(axis=1)]
        ratios.append(error / spots.sigma_px[met, None])
    result = together(results)
    assert result.beads > 30
    assert result.recall >= 0.9
    assert result.wrong <= 20
    assert result.rms_px < 0.3
    assert np.median(np.abs(np.concatenate(ratios))) < 1.5


# ---------------------------------------------------------------- the outline of a sphere


def tilted_camera() -> Camera:
    """A camera whose rays meet the detector at a slant, with a skew and unlike pixels."""
    intrinsic = pinhole((3000.0, 2800.0), (300.0, 900.0))
    intrinsic[0, 1] = 40.0
    to_camera = np.eye(4)
    to_camera[:3, :3] = Rotation.from_euler("xyz", (20, -30, 10), degrees=True).as_matrix()
    to_camera[:3, 3] = (20.0, -30.0, 400.0)
    return Camera(intrinsic, to_camera, 1024, 1024)


@given(centre=st.tuples(*(st.floats(-80, 80) for _ in range(3))), diameter=st.floats(5.0, 120.0))
def test_a_sphere_is_shown_beside_its_centre(
    centre: tuple[float, float, float], diameter: float
) -> None:
    """Against an ellipse through the places where rays touch the sphere."""
    camera = tilted_camera()
    source = camera.source_world
    offset = np.array(centre) - source
    distance, radius = np.linalg.norm(offset), 0.5 * diameter
    # The circle where lines from the source touch the sphere.
    axis = offset / distance
    side = np.linalg.svd(axis[None])[2][1:]
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    rim = radius * np.sqrt(1 - (radius / distance) ** 2)
    circle = source + offset * (1 - (radius / distance) ** 2)
    touched = circle + rim * (np.cos(angle)[:, None] * side[0] + np.sin(angle)[:, None] * side[1])
    outline = camera.project(touched)
    middle, size = outline.mean(axis=0), outline.std()
    u, v = ((outline - middle) / size).T
    a, b, c, d, e, _ = np.linalg.svd(np.stack([u * u, u * v, v * v, u, v, u * 0 + 1], 1))[2][-1]
    expected = middle + size * np.linalg.solve([[2 * a, b], [b, 2 * c]], [-d, -e])
    shift = sphere_shift_px(camera, [centre], [diameter])[0]
    np.testing.assert_allclose(camera.project([centre])[0] + shift, expected, atol=1e-4 * size)
    assert np.hypot(*shift) > 0


def test_a_sphere_that_reaches_the_source_has_no_outline() -> None:
    camera = Camera(pinhole((2000.0, 2000.0), (0.0, 0.0)), np.eye(4), 64, 64)
    with pytest.raises(ValueError, match="source"):
        sphere_shift_px(camera, [[0.0, 0.0, 5.0]], 10.0)


# ---------------------------------------------------------------- spots of several views


def cameras_about(count: int) -> list[Camera]:
    """Cameras on an arc about the world's origin."""
    cameras = []
    for turn in np.linspace(0, 100, count):
        to_camera = np.eye(4)
        to_camera[:3, :3] = Rotation.from_euler("y", turn, degrees=True).as_matrix()
        to_camera[2, 3] = 700.0
        cameras.append(Camera(pinhole((4000.0, 4000.0), (511.5, 511.5)), to_camera, 1024, 1024))
    return cameras


@pytest.mark.parametrize("views", [2, 3, 5])
def test_spots_meet_in_beads(views: int) -> None:
    """Shuffled, with noise, with a bead lost in each view and others that are none."""
    rng = np.random.default_rng(views)
    beads = rng.uniform(-50, 50, (12, 3))
    cameras = cameras_about(views)
    spots, belongs = [], []
    for view, camera in enumerate(cameras):
        kept = np.array([n for n in rng.permutation(12) if n != view])
        wrong = rng.uniform(200, 800, (4, 2))
        centres = np.concatenate([camera.project(beads[kept]), wrong])
        centres += 0.05 * rng.standard_normal(centres.shape)
        size = np.full(len(centres), 5.0)
        spots.append(Spots(centres, size, size))
        belongs.append([*kept, -1, -1, -1, -1])
    points, pairs, residuals = triangulated(spots, cameras, most_mm=0.05)
    right = 0
    for point, row, residual in zip(points, pairs, residuals, strict=True):
        assert residual <= 0.05
        numbers = {belongs[view][spot] for view, spot in enumerate(row) if spot >= 0}
        if len(numbers) == 1 and -1 not in numbers:
            right += 1
            assert np.linalg.norm(point - beads[numbers.pop()]) < 0.1
    assert right >= (10 if views == 2 else 12)
    assert len(points) - right <= 2
    for view in range(views):
        used = pairs[:, view][pairs[:, view] >= 0]
        assert len(set(used)) == len(used)


def test_spots_of_unlike_size_are_not_of_one_bead() -> None:
    cameras = cameras_about(2)
    places = [camera.project([[5.0, 5.0, 5.0]]) for camera in cameras]
    spots = [
        Spots(place, np.array([size]), np.ones(1))
        for place, size in zip(places, (3.0, 6.0), strict=True)
    ]
    assert len(triangulated(spots, cameras, 0.1)[0]) == 0


def test_triangulation_wants_two_views() -> None:
    none = Spots(np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match="two views"):
        triangulated([none], cameras_about(1), 0.1)
    points, pairs, residuals = triangulated([none, none], cameras_about(2), 0.1)
    assert points.shape == (0, 3)
    assert pairs.shape == (0, 2)
    assert residuals.shape == (0,)


# ---------------------------------------------------------------- a real pair


# About where the beads in the forearm are in the two pictures, counted by eye, their places
# (column, row) as first found and then looked at; pairs of one bead each. At the hand, in no order.
FOREARM = [
    [(769, 1316), (900, 1378)],
    [(796, 1336), (881, 1397)],
    [(755, 1347), (897, 1410)],
    [(789, 1368), (882, 1430)],
    [(757, 1371), (892, 1435)],
    [(781, 1393), (883, 1457)],
    [(929, 1401), (606, 1412)],
    [(938, 1405), (626, 1420)],
    [(935, 1443), (604, 1453)],
    [(942, 1443), (621, 1459)],
    [(936, 1468), (598, 1478)],
    [(945, 1469), (623, 1486)],
]
HAND = (
    [(872, 801), (863, 820), (878, 838), (860, 863), (871, 891)],
    [(908, 842), (923, 864), (883, 876), (910, 906), (884, 932)],
)


def test_beads_of_a_real_wrist(shared_data: Path) -> None:
    """Seventeen beads of 1 mm in each X-ray; twelve lie still and meet to hundredths of a mm."""
    folder = shared_data / "real" / "wrist"
    if not folder.is_dir():
        pytest.skip(f"no X-rays at {folder}")
    views = read_views(folder / "both-clicks" / "views.json")
    spots = []
    for number, view in enumerate(views):
        where, polarity = find_spots(view.pixels, (2.0, 4.0))
        assert polarity == -1
        known = np.array([pair[number] for pair in FOREARM] + HAND[number], dtype=float)
        away = np.hypot(*(where.centres_px[:, None] - known[None]).transpose(2, 0, 1))
        assert (away.min(axis=0) < 2.5).all()
        spots.append(where)
    _, pairs, residuals = triangulated(spots, [view.camera for view in views], most_mm=0.05)
    assert (residuals <= 0.05).all()
    met = 0
    for row in pairs:
        places = [spots[view].centres_px[spot] for view, spot in enumerate(row)]
        met += any(
            all(
                np.hypot(*(place - np.array(at))) < 2.5
                for place, at in zip(places, pair, strict=True)
            )
            for pair in FOREARM
        )
    assert met == 12
    assert len(pairs) <= 18
