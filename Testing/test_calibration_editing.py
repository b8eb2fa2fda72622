"""A calibration that a person corrects: what comes back, what shows, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from test_calibrate_command import BEADS, DISTANCE, PIXEL, camera, picture

from RadGSRegLib.calibration import (
    Calibrating,
    Calibration,
    Editing,
    Exposure,
    GivenPairs,
    calibrate,
    calibrate_given,
    pairs_to_json,
    read_pairs,
)
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Camera, Distortion

TRUE = {"ap": camera(8.0, 5.0), "oblique": camera(50.0, -10.0)}


@pytest.fixture(scope="module")
def exposures() -> list[Exposure]:
    spacing = (PIXEL, PIXEL)
    return [Exposure(name, picture(true), spacing, DISTANCE + 12) for name, true in TRUE.items()]


@pytest.fixture(scope="module")
def done(exposures: list[Exposure]) -> list[Calibration]:
    return calibrate(exposures, BEADS)


@pytest.fixture(scope="module")
def editing(exposures: list[Exposure], done: list[Calibration]) -> Editing:
    return Editing.of(exposures, BEADS, done)


def _apart(first: Camera, second: Camera) -> float:
    """The largest distance between what two cameras show of the beads, px."""
    away = first.project(BEADS.centres_mm) - second.project(BEADS.centres_mm)
    return float(np.hypot(*away.T).max())


def test_it_begins_where_the_calibration_ended(editing: Editing, done: list[Calibration]) -> None:
    for view, c in enumerate(done):
        assert _apart(editing.views[view].camera, c.view.camera) < 1e-3
        assert editing.rms_px(view) == pytest.approx(c.view.rms_px, rel=0.01)
        assert set(editing.residuals_px(view)) == set(c.view.pairs[:, 0].tolist())
        residual = dict(zip(c.view.pairs[:, 0], c.view.residuals_px, strict=True))
        for bead, left in editing.residuals_px(view).items():
            assert left == pytest.approx(residual[bead], abs=1e-3)
    assert editing.polarities == (-1, -1)


@settings(max_examples=12, phases=[Phase.generate])
@given(st.integers(0, 1), st.integers(0, 15), st.tuples(*[st.floats(-0.6, 0.6)] * 2))
def test_removed_and_added_is_the_same_camera(
    editing: Editing, view: int, bead: int, beside: tuple[float, float]
) -> None:
    spot = editing.spot_of(view, bead)
    assert spot is not None
    less = editing.removed(view, bead)
    assert less.spot_of(view, bead) is None
    assert bead not in less.residuals_px(view)
    radius = editing.shadows_px(view)[bead, 2]
    again = less.added(view, spot + np.array(beside) * radius)
    assert again.spot_of(view, bead) == pytest.approx(spot)
    assert _apart(again.views[view].camera, editing.views[view].camera) < 1e-9
    assert editing.spot_of(view, bead) is not None  # what it came from is as it was


@settings(max_examples=12, phases=[Phase.generate])
@given(st.integers(0, 1), st.lists(st.integers(0, 15), min_size=2, max_size=2, unique=True))
def test_swapped_twice_is_as_before_and_once_it_shows(
    editing: Editing, view: int, beads: list[int]
) -> None:
    first, second = beads
    wrong = editing.swapped(view, first, second)
    left = {bead: float(np.hypot(*px)) for bead, px in wrong.residuals_px(view).items()}
    apart = np.hypot(*(editing.spot_of(view, first) - editing.spot_of(view, second)))
    for bead in beads:
        assert left[bead] > 0.8 * apart
        assert left[bead] > 3.0
    assert wrong.rms_px(view) > 3.0 * editing.rms_px(view)
    # The others tell that these two are wrong: the camera stays.
    assert _apart(wrong.views[view].camera, editing.views[view].camera) < 0.5
    twice = wrong.swapped(view, second, first)
    assert _apart(twice.views[view].camera, editing.views[view].camera) < 1e-9
    other = 1 - view
    assert wrong.views[other] is editing.views[other]


def test_a_click_beside_a_shadow_that_was_never_looked_at(exposures: list[Exposure]) -> None:
    """From pairs there are no other spots: the shadow is fitted at the click."""
    pairs = {
        name: GivenPairs(np.arange(1, 16), true.project(BEADS.centres_mm)[1:])
        for name, true in TRUE.items()
    }
    editing = Editing.from_pairs(exposures, BEADS, pairs)
    true = TRUE["ap"].project(BEADS.centres_mm)[0]
    radius = editing.shadows_px(0)[0, 2]
    for beside in ((0.0, 0.0), (0.9, 0.0), (-0.6, 0.6)):
        more = editing.added(0, true + radius * np.array(beside))
        assert np.hypot(*(more.spot_of(0, 0) - true)) < 0.3
    assert len(more.views[0].pairs) == 16
    named = editing.added(0, true, bead=0)
    assert named.spot_of(0, 0) is not None
    again = Editing.from_pairs(exposures, BEADS, named.pairs())
    assert _apart(again.views[0].camera, named.views[0].camera) < 0.05
    (first, _) = named.calibrations()
    assert not first.missing[0]
    began = time.perf_counter()
    named.swapped(0, 1, 2)
    assert time.perf_counter() - began < 2.0  # tens of milliseconds on an idle core


def test_a_bead_is_moved_and_one_without_a_spot_gets_the_others(editing: Editing) -> None:
    spot = editing.spot_of(0, 4)
    less = editing.removed(0, 4)
    wrong = less.moved(0, 7, spot)
    assert wrong.spot_of(0, 7) == pytest.approx(spot)
    back = wrong.swapped(0, 4, 7)
    assert back.spot_of(0, 7) is None
    assert back.spot_of(0, 4) == pytest.approx(spot)


def test_a_click_far_from_all_beads_is_of_none(editing: Editing) -> None:
    column, row, radius = editing.shadows_px(0)[3]
    spot = editing.spot_of(0, 3)
    assert spot is not None
    for share, near in ((2.5, True), (3.5, False)):
        beside = np.array([0.0, share * radius])
        if near:
            assert editing.nearest(0, [column, row] + beside, within_radii=3.0) == 3
            assert editing.nearest_spot(0, spot + beside, 3.0) == 3
            continue
        # No other bead is nearer than this one there.
        assert editing.nearest(0, [column, row] + beside) == 3
        with pytest.raises(InputError, match="ap: no bead is near the click: bead 3"):
            editing.nearest(0, [column, row] + beside, within_radii=3.0)
        with pytest.raises(InputError, match="no bead is near the click: bead 3"):
            editing.nearest_spot(0, spot + beside, 3.0)


def test_shared_intrinsics_move_all_views(exposures: list[Exposure]) -> None:
    options = Calibrating(shared_intrinsics=True)
    editing = Editing.of(exposures, BEADS, calibrate(exposures, BEADS, options), options)
    less = editing.removed(0, 3).removed(0, 9)
    assert less.views[0].camera.focal_px == pytest.approx(less.views[1].camera.focal_px)
    assert less.views[1].camera.focal_px != editing.views[1].camera.focal_px


def test_a_known_distortion_is_kept() -> None:
    bent = Distortion((209.5, 209.5), 210.0, (0.02, 0.0), (0.005, 0.0))
    true = TRUE["ap"]
    exposures = [Exposure("ap", picture(true, bent), (PIXEL, PIXEL), DISTANCE)]
    options = Calibrating(distortion=bent)
    editing = Editing.of(exposures, BEADS, calibrate(exposures, BEADS, options), options)
    assert editing.rms_px(0) < 0.3
    spot = editing.spot_of(0, 5)
    again = Editing.from_pairs(exposures, BEADS, editing.pairs(), options)
    assert again.rms_px(0) < 0.3
    assert again.removed(0, 5).added(0, spot).spot_of(0, 5) == pytest.approx(spot)


def test_what_cannot_be_corrected_is_said(editing: Editing) -> None:
    spot = editing.spot_of(0, 2)
    with pytest.raises(InputError, match="bead 2: has a spot already"):
        editing.added(0, spot, bead=2)
    with pytest.raises(InputError, match="no bead is left"):
        editing.added(0, (5.0, 5.0))
    less = editing.removed(0, 3)
    with pytest.raises(InputError, match="the shadow there is bead 2's"):
        less.added(0, spot)
    with pytest.raises(InputError, match="no bead's shadow is near the click"):
        less.added(0, (5.0, 5.0))
    with pytest.raises(InputError, match="bead 3: has no spot"):
        less.removed(0, 3)
    with pytest.raises(InputError, match="bead 99: is not there"):
        less.swapped(0, 1, 99)
    with pytest.raises(InputError, match="bead 1: is the same"):
        less.swapped(0, 1, 1)
    for bead in (4, 5, 6, 7, 8, 9, 10, 11, 12):
        less = less.removed(0, bead)
    with pytest.raises(InputError, match="ap: 5 beads have a spot, and 6 are needed") as refusal:
        less.removed(0, 13)
    assert str(refusal.value).count("\n") == 0
    assert len(less.residuals_px(0)) == 6


def test_given_pairs_need_no_more_than_six(exposures: list[Exposure]) -> None:
    true = TRUE["oblique"].project(BEADS.centres_mm)
    few = np.array([0, 3, 6, 9, 12, 15])
    pairs = {"oblique": GivenPairs(few, true[few])}
    (done,) = calibrate_given([exposures[1]], BEADS, pairs)
    assert _apart(done.view.camera, TRUE["oblique"]) < 1.0
    with pytest.raises(InputError, match="oblique: 5 beads have a spot"):
        calibrate_given([exposures[1]], BEADS, {"oblique": GivenPairs(few[:5], true[few[:5]])})
    with pytest.raises(InputError, match="ap: has no pairs"):
        calibrate_given(exposures, BEADS, pairs)


def test_one_wrong_pair_of_many_is_left_out(exposures: list[Exposure]) -> None:
    true = TRUE["ap"].project(BEADS.centres_mm)
    true[[2, 9]] = true[[9, 2]]
    (done,) = calibrate_given(exposures[:1], BEADS, {"ap": GivenPairs(np.arange(16), true)})
    assert {2, 9}.isdisjoint(done.view.pairs[:, 0].tolist())
    assert _apart(done.view.camera, TRUE["ap"]) < 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": "other"}, '"schema" must be'),
        ({"version": 9}, "version 9"),
        ({"views": 3}, '"views" must be a list'),
        ({"beads": {"count": 20}}, "is of 20 beads, and two-plates has 16"),
        ({"of": {"beads": [0, 1, 2]}}, "has 3 pairs"),
        ({"of": {"beads": [0, 1, 2, 3, 4, 99]}}, "there is no bead 99"),
        ({"of": {"beads": [0, 1, 2, 3, 4, 4]}}, "a bead has two spots"),
        ({"of": {"beads": [0, 1, 2, 3, 4, "x"]}}, '"beads" must hold 6 numbers'),
        ({"of": {"spots_px": [[1, 2]]}}, "one spot for each of the 6 beads"),
        ({"of": {"spots_px": [[1, 2]] * 6}}, "two beads have the same spot"),
        ({"of": {"spots_px": None}}, 'has no "spots_px"'),
        ({"twice": True}, 'holds the view "AP" twice'),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    pairs = {"AP": GivenPairs(np.arange(6), np.arange(12.0).reshape(6, 2))}
    content = pairs_to_json(pairs)
    change = dict(change)
    of = change.pop("of", {})
    content["views"][0].update(of)
    if change.pop("twice", False):
        content["views"] *= 2
    file = tmp_path / "pairs.json"
    file.write_text(json.dumps({**content, **change}))
    with pytest.raises(InputError) as refusal:
        read_pairs(file, BEADS)
    assert words in str(refusal.value)
    assert str(refusal.value).count("\n") == 0


def test_what_is_written_is_read_again(editing: Editing, tmp_path: Path) -> None:
    file = tmp_path / "pairs.json"
    file.write_text(json.dumps(pairs_to_json(editing.pairs())))
    again = read_pairs(file, BEADS)
    assert list(again) == ["ap", "oblique"]
    for name, pairs in editing.pairs().items():
        assert again[name].beads.tolist() == pairs.beads.tolist()
        assert again[name].spots_px == pytest.approx(pairs.spots_px)


def test_it_needs_no_torch() -> None:
    code = "import sys, RadGSRegLib.calibration; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
