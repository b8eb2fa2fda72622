"""Views that are to share focal length and principal point: true ones are believed, others not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bead_scenes import SIZE, two_plates
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from test_calibrate_command import BEADS, DISTANCE, PIXEL, camera, picture
from test_calibration_presets import calibration, device
from test_calibration_resection import pixels_of, sighting

from RadGSRegLib import cli
from RadGSRegLib.calibration import (
    Beads,
    Calibrating,
    Calibration,
    Intrinsics,
    PresetCheck,
    Prior,
    Resection,
    SharedCheck,
    bounds,
    check_shared,
    resect,
    shared_check,
    verdict,
)
from RadGSRegLib.cases import write_tiff
from RadGSRegLib.geometry import Distortion, distort

SHARED = Calibrating(shared_intrinsics=True)
# Many: of 14 beads a view knows its principal point hardly better than 6 px.
MANY = two_plates(each=20)


def drawn(
    seed: int,
    move_px: tuple[float, float] = (0.0, 0.0),
    *,
    count: int = 4,
    noise_px: float = 0.02,
    bent: Distortion | None = None,
    stretch: float = 1.0,
    beads: Beads = MANY,
) -> list[Calibration]:
    """Views calibrated as if they shared what the first one, moved or stretched, does not."""
    shown = []
    for number in range(count):
        view = device(100 * seed + number)
        if number == 0:
            k = view.intrinsic.copy()
            k[:2, 2] += move_px
            k[:2, :2] *= stretch
            view = replace(view, intrinsic=k)
        pixels = pixels_of(view, beads.centres_mm)
        pixels = pixels if bent is None else distort(pixels, bent)
        made = sighting(view, beads, 100 * seed + number, noise_px, pixels)
        shown.append(replace(made, view=f"v{number}"))
    views = resect(shown, Resection(True, distortion=None if bent is None else "fit"))
    met = np.zeros(len(beads), bool)
    return [replace(calibration(v, s), missing=met) for v, s in zip(views, shown, strict=True)]


def judged(done: list[Calibration]) -> SharedCheck:
    check = check_shared(done, MANY, SHARED)
    assert check is not None
    return check


# Seeds in a fixed order: of a hundred true ones some pass any bound by chance.
@settings(max_examples=12, deadline=None, derandomize=True, phases=[Phase.generate])
@given(seed=st.integers(1, 5000))
def test_true_ones_are_believed_and_six_pixels_apart_are_not(seed: int) -> None:
    assert not judged(drawn(seed)).doubted
    angle = np.random.default_rng(seed).uniform(0.0, 2.0 * np.pi)
    check = judged(drawn(seed, (6.0 * np.cos(angle), 6.0 * np.sin(angle))))
    assert check.doubted
    assert check.furthest == "v0"
    assert "v0 alone has a focal length" in check.words


def test_chance_is_as_often_as_it_says() -> None:
    """Of 40 pairs of views that share: within what chance leaves, of a number between 0 and 1."""
    chances = [judged(drawn(seed, count=2, noise_px=0.2)).chance for seed in range(1, 41)]
    assert np.mean(np.array(chances) < 0.5) == pytest.approx(0.5, abs=0.2)
    assert np.mean(np.array(chances) < 0.05) < 0.15
    assert min(chances) > bounds.SHARED_CHANCE


def test_a_distortion_that_is_fitted_for_all_makes_no_alarm() -> None:
    middle = ((SIZE[0] - 1) / 2.0, (SIZE[1] - 1) / 2.0)
    bent = Distortion(middle, SIZE[0] / 2.0, (0.02, 0.0), (0.01, 0.0))
    for seed in range(1, 7):
        done = drawn(seed, noise_px=0.1, bent=bent)
        assert done[0].view.distortion is not None
        assert not judged(done).doubted


def test_a_view_that_is_far_off_is_judged_by_the_beads_that_the_fit_of_all_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few, left_out, surer = two_plates(each=7), 0, 0
    for seed in range(1, 9):
        done = drawn(seed, stretch=1.03, beads=few, noise_px=0.1)
        left_out += len(few) - len(done[0].view.pairs)
        check = check_shared(done, few, SHARED)
        assert check is not None
        assert check.doubted
        assert check.furthest == "v0"
        with monkeypatch.context() as patch:
            patch.setattr(shared_check, "paired", lambda view, *_: (view.pairs, None))
            less = check_shared(done, few, SHARED)
        assert less is not None
        surer += check.chance < 1e-3 * less.chance
        # All views of one device: nothing is doubted.
        true = check_shared(drawn(seed, beads=few, noise_px=0.1), few, SHARED)
        assert true is not None
        assert not true.doubted
    assert left_out > 0
    assert surer > 0


def test_views_that_alone_fix_no_camera_are_left_out() -> None:
    done = drawn(3)
    # Five pairs fix no camera.
    few = [replace(c, view=replace(c.view, pairs=c.view.pairs[:5])) for c in done]
    check = judged([*done[:3], few[3]])
    assert check.views == ("v0", "v1", "v2")
    assert check_shared([done[0], *few[1:]], MANY, SHARED) is None
    assert check_shared(done[:1], MANY, SHARED) is None


def test_the_verdict_names_the_view_and_says_what_to_do() -> None:
    done = drawn(5, (12.0, 0.0))
    check = judged(done)
    known = {c.view.name: 0.1 for c in done}
    status, reason = verdict(done, known, shared=check)
    assert status == "uncertain"
    assert reason.startswith("the views do not share focal length and principal point: v0 alone")
    assert reason.endswith("from the others; calibrate without --shared-intrinsics")
    assert check.apart_px[1] == pytest.approx(12.0, abs=4.0 * check.sigma_px[1])
    assert verdict(done, known, shared=judged(drawn(5)))[0] == "ok"
    # The preset is of views that share: those that do not are named first.
    intrinsics = Intrinsics.of(done[0].view.camera, np.eye(3))
    with_preset = Calibrating(True, prior=Prior(intrinsics=intrinsics))
    told = check_shared(done, MANY, with_preset)
    assert told is not None
    wrong = PresetCheck(np.full(3, 9.0), np.ones(3), 0.0)
    reason = verdict(done, known, wrong, told)[1]
    assert reason.endswith("calibrate without --preset and --shared-intrinsics")
    two = judged(drawn(5, (12.0, 0.0), count=2))
    assert two.words.endswith("from v1" if two.furthest == "v0" else "from v0")


def pictures(folder: Path, distances: list[float]) -> list[str]:
    """X-rays of detectors so far from the source; pixels and principal point as ever."""
    folder.mkdir()
    angles = [(8.0, 5.0), (50.0, -10.0), (-30.0, 12.0)]
    for number, (pair, distance) in enumerate(zip(angles, distances, strict=True)):
        view = camera(*pair)
        k = view.intrinsic.copy()
        k[:2, :2] *= distance / DISTANCE
        write_tiff(
            picture(replace(view, intrinsic=k), beads=BEADS),
            (PIXEL, PIXEL),
            folder / f"{number}.tif",
        )
    return [str(folder), "--beads", "two-plates", "--source-detector-mm", str(DISTANCE)]


def test_the_command_doubts_pictures_of_another_distance(tmp_path: Path) -> None:
    out, record = tmp_path / "views.json", tmp_path / "views_calibration/calibration.json"
    other = pictures(tmp_path / "other", [DISTANCE, DISTANCE, 1.04 * DISTANCE])
    preset = ["--save-preset", str(tmp_path / "carm.json")]
    given = ["calibrate", *other, "--out", str(out)]
    assert cli.main([*given, "--shared-intrinsics", *preset]) == 3
    said = json.loads(record.read_text())
    assert said["status"] == "uncertain"
    assert said["reason"].startswith("the views do not share focal length and principal point: 2 ")
    assert said["sharing"]["furthest"] == "2"
    assert said["sharing"]["chance"] < bounds.SHARED_CHANCE
    true_px = 0.04 * DISTANCE / PIXEL
    assert said["sharing"]["apart_px"][0] == pytest.approx(
        true_px, abs=4.0 * said["sharing"]["sigma_px"][0]
    )
    assert not (tmp_path / "carm.json").exists()
    # What it says to do.
    assert cli.main(given) == 0
    assert "sharing" not in json.loads(record.read_text())

    same = pictures(tmp_path / "same", [DISTANCE] * 3)
    assert cli.main(["calibrate", *same, "--out", str(out), "--shared-intrinsics", *preset]) == 0
    said = json.loads(record.read_text())
    assert said["sharing"]["views"] == ["0", "1", "2"]
    assert any(note.startswith("shared by 3 views: ") for note in said["parameters"]["notes"])

    # A preset has views share too.
    used = [*given, "--preset", str(tmp_path / "carm.json")]
    assert cli.main(used) == 3
    reason = json.loads(record.read_text())["reason"]
    assert reason.endswith("calibrate without --preset and --shared-intrinsics")
