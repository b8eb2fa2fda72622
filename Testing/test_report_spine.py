"""Pages, pictures and folders of several vertebrae: what they show, and that they tell no more."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.color import rgb2lab
from tower import POSES, block_diagonal, results, spine, tower_case

from RadGSRegLib.cases import (
    SpineRecord,
    View,
    files_of_levels,
    read_registration_json,
    read_spine_json,
    refuse_strangers,
)
from RadGSRegLib.errors import Cancelled
from RadGSRegLib.geometry import exp_se3, transform_points
from RadGSRegLib.multilevel import SpineRegistration, relative_motions
from RadGSRegLib.registration import judge_case
from RadGSRegLib.report import level_outlines, spine_overlay_png, spine_report_html, write_results
from RadGSRegLib.report import spine as drawn
from RadGSRegLib.report.spine_results import write_spine_results
from RadGSRegLib.simulation import SimulationParameters, simulate_phantom_case
from RadGSRegLib.system import Progress

Array = NDArray[np.float64]
LEVEL_FILES = [
    "ct_to_world.tfm",
    "gaussians.ply",
    "overlay_AP.png",
    "overlay_LA.png",
    "reconstruction.nii.gz",
    "registration.json",
    "report.html",
]
CASE = tower_case()


def write(folder: Path, made: SpineRegistration, progress: Progress | None = None) -> SpineRecord:
    folder.mkdir()
    return write_spine_results(
        folder,
        made.case,
        results(made),
        relative_motions(made),
        begun_with=made.begun_with,
        joint_covariance=made.joint_covariance,
        timing_s=made.timing_s,
        progress=progress,
    )


def pixels(png: bytes) -> Array:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(float)


def rgb(colour: str) -> Array:
    return np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)], dtype=float)


def coloured(image: Array, colour: str) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = np.abs(image - rgb(colour)).max(axis=-1) < 30
    return near


def overlay(made: SpineRegistration, view: View) -> Array:
    return pixels(spine_overlay_png(view, level_outlines(made.case, made.levels, view)))


def around(image: Array, view: View, made: SpineRegistration, label: int) -> Array:
    """How much of its outline is drawn, by direction from the centre, over where it should be."""
    outline = next(
        o
        for o, name in zip(level_outlines(CASE, made.levels, view), made.levels, strict=True)
        if name == label
    )
    assert outline.shadow is not None
    drawn_there = coloured(image, outline.colour)
    scale = image.shape[1] / view.pixels.shape[1]
    (line,) = outline.shadow.outline
    hits = []
    for column, row in line:
        j, i = (np.array([column, row]) + 0.5) * scale
        part = drawn_there[int(i) - 1 : int(i) + 2, int(j) - 1 : int(j) + 2]
        hits.append(part.any())
    return np.array(hits)


@pytest.mark.parametrize("number", [0, 1])
def test_each_vertebra_has_its_outline_in_its_colour(number: int) -> None:
    made, view = spine(CASE), CASE.views[number]
    image = overlay(made, view)
    for label in made.levels:
        assert around(image, view, made, label).mean() > 0.9


def test_an_outline_that_is_not_ok_is_dashed() -> None:
    view = CASE.views[0]
    made = spine(CASE, {23: "uncertain", 21: "failed"})
    image = overlay(made, view)
    assert around(image, view, made, 22).mean() > 0.9
    for label in (21, 23):
        assert 0.4 < around(image, view, made, label).mean() < 0.85


def test_a_picture_is_the_same_every_time_and_windowed_with_bone_bright() -> None:
    made, view = spine(CASE), CASE.views[0]
    first = spine_overlay_png(view, level_outlines(CASE, made.levels, view))
    assert first == spine_overlay_png(view, level_outlines(CASE, made.levels, view))
    dark = replace(view, pixels=-view.pixels, intensity="display")
    bright = replace(view, intensity="display")
    inverted = spine_overlay_png(dark, level_outlines(CASE, made.levels, dark))
    assert inverted == spine_overlay_png(bright, level_outlines(CASE, made.levels, bright))


def test_a_vertebra_out_of_view_is_named_and_not_drawn() -> None:
    made, view = spine(CASE), CASE.views[0]
    aside = exp_se3([0, 0, 0, *(400.0 * view.camera.world_to_camera[0, :3])])
    behind = exp_se3([0, 0, 0, *(-2000.0 * view.camera.view_direction_world)])
    whole = overlay(made, view)
    for away in (aside, behind):
        moved = replace(made.levels[21], ct_to_world=away @ POSES[21], status="failed")
        without = overlay(replace(made, levels={**made.levels, 21: moved}), view)
        gone = drawn.level_colours(list(made.levels))[21]
        assert coloured(whole, gone).sum() > 200
        assert coloured(without, gone).sum() == 0
    everything = {n: replace(r, ct_to_world=behind @ r.ct_to_world) for n, r in made.levels.items()}
    assert overlay(replace(made, levels=everything), view).shape == whole.shape


def test_a_label_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="label 5"):
        level_outlines(CASE, {5: spine(CASE).levels[22]}, CASE.views[0])


# Machado, Oliveira, Fernandes (IEEE TVCG 15, 2009), severity 1, on linear RGB.
_BLINDNESS = {
    "none": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


@pytest.mark.parametrize("blindness", _BLINDNESS)
def test_neighbours_colours_differ_for_every_eye(blindness: str) -> None:
    colours = [rgb(c) / 255.0 for c in drawn.COLOURS]
    linear = np.array(
        [np.where(c > 0.04045, ((c + 0.055) / 1.055) ** 2.4, c / 12.92) for c in colours]
    )
    light = np.clip(linear @ _BLINDNESS[blindness].T, 0.0, 1.0)
    shown = np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)
    lab = rgb2lab(shown[None])[0]
    apart = np.linalg.norm(lab - np.roll(lab, 1, axis=0), axis=1)
    assert apart.min() > 20.0


def page(made: SpineRegistration, tmp_path: Path) -> str:
    record = write(tmp_path / "page", made)
    return spine_report_html(made.case, record, [b"png", b"png"])


def test_the_page_says_each_verdict_and_motion(tmp_path: Path) -> None:
    made = spine(CASE, {23: "uncertain"})
    text = page(made, tmp_path)
    assert 'class="verdict uncertain"' in text
    assert "<strong>Uncertain in part</strong>" in text
    assert "2 of 3 vertebrae are ok; L4 is uncertain." in text
    assert "Both views &lt;agree&gt; on 23." in text
    for fact in ("0.42 mm", "0.44 mm", "0.46 mm", "L2, L3 and L4", "0123456789ab", "5.0 s"):
        assert fact in text
    assert "0123456789abc" not in text
    assert "Research use only" in text
    assert text.count("L4 is uncertain") == 2  # the summary, and the pair it is in
    first = relative_motions(made)[0]
    assert f"{first.turn_deg[0]:+.2f} ± {first.turn_sigma_deg[0]:.2f}°" in text
    assert f"{first.shift_mm[1]:+.2f} ± {first.shift_sigma_mm[1]:.2f} mm" in text
    assert "1.1° leaning forwards" in text


def test_the_page_needs_no_other_file_but_leads_to_the_levels(tmp_path: Path) -> None:
    text = page(spine(CASE), tmp_path)
    assert not re.search(r"https?://", text)
    assert re.findall(r'href="([^"]*)"', text) == [f"L{n}/report.html" for n in (2, 3, 4)]
    for source in re.findall(r'src="([^"]*)"', text):
        assert source.startswith("data:image/png;base64,")


def test_unknown_figures_are_said_to_be_so(tmp_path: Path) -> None:
    made = spine(CASE, {22: "failed"})
    made = replace(made, joint_covariance=np.full((18, 18), np.nan))
    less = {k: v for k, v in made.levels[22].quality.items() if k != "expected_error_mm"}
    levels = {**made.levels, 22: replace(made.levels[22], quality=less)}
    text = page(replace(made, levels=levels), tmp_path)
    assert "± unknown" in text
    assert "largest expected error" not in text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text).lower()


def test_a_folder_per_level_and_all_of_them_beside(tmp_path: Path) -> None:
    made = spine(CASE, {23: "uncertain"})
    record = write(tmp_path / "out", made)
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == [
        "L2",
        "L3",
        "L4",
        "overlay_AP.png",
        "overlay_LA.png",
        "report.html",
        "spine.json",
    ]
    read = read_spine_json(tmp_path / "out" / "spine.json")
    assert read.status == record.status == "uncertain"
    assert read.begun_with == "L3"
    assert read.inputs == CASE.inputs
    assert read.parameters["case"]["labels"] == [21, 22, 23]
    assert "label" not in read.parameters["case"]
    for name, level in read.levels.items():
        own = tmp_path / "out" / level.folder
        assert sorted(p.name for p in own.iterdir()) == LEVEL_FILES
        alone = read_registration_json(own / "registration.json")
        assert (alone.status, alone.parameters["case"]["label"]) == (level.status, level.label)
        assert alone.parameters["case"]["label_name"] == name
        assert np.allclose(alone.ct_to_world, level.ct_to_world)
    refuse_strangers(tmp_path / "out")
    assert len(files_of_levels(tmp_path / "out")) == 1 + 3 * len(LEVEL_FILES)


def test_a_levels_folder_is_what_it_would_be_alone(tmp_path: Path) -> None:
    made = spine(CASE)
    write(tmp_path / "out", made)
    (tmp_path / "alone").mkdir()
    write_results(tmp_path / "alone", replace(CASE, label=21), results(made)[21])
    for name in LEVEL_FILES:
        ours, alone = (tmp_path / part / name for part in ("out/L2", "alone"))
        assert ours.read_bytes() == alone.read_bytes(), name


def test_names_that_are_no_folders_are_made_safe(tmp_path: Path) -> None:
    case = tower_case({21: "../L2", 22: "L3/<b>", 23: "L3:<b>"})
    record = write(tmp_path / "out", spine(case))
    assert [level.folder for level in record.levels.values()] == ["L2", "L3_b", "L3_b_2"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert "<b>L3" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    refuse_strangers(tmp_path / "out")


def test_a_hopeless_pose_still_gives_a_report(tmp_path: Path) -> None:
    made = spine(CASE)
    behind = exp_se3([0, 0, 0, *(-2000.0 * CASE.views[0].camera.view_direction_world)])
    lost = replace(made.levels[23], status="failed", ct_to_world=behind @ POSES[23])
    record = write(tmp_path / "out", replace(made, levels={**made.levels, 23: lost}))
    assert record.status == "failed"
    assert "L4 is failed" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_it_can_be_cancelled_at_every_step(tmp_path: Path) -> None:
    told: list[float] = []
    write(tmp_path / "whole", spine(CASE), Progress(lambda share, *_: told.append(share) or True))
    assert told == sorted(told)
    assert 0.0 <= told[0] <= told[-1] <= 1.0
    with pytest.raises(Cancelled):
        write(tmp_path / "part", spine(CASE), Progress(lambda share, *_: share < 0.85))


@pytest.mark.slow
def test_vertebrae_of_a_phantoms_trunk_judged_at_their_true_poses(tmp_path: Path) -> None:
    parameters = SimulationParameters.preset("realistic").with_field(250, 488)
    simulated = simulate_phantom_case(2, parameters, field="trunk")
    truth = {int(label): np.array(pose) for label, pose in simulated.truth["neighbours"].items()}
    truth[simulated.case.label] = np.array(simulated.truth["ct_to_world"])
    levels = {
        label: judge_case(replace(simulated.case, label=label), truth[label]) for label in (22, 23)
    }
    made = SpineRegistration(
        simulated.case, levels, 22, block_diagonal(levels), {"check": 2.0, "total": 2.0}
    )
    write(tmp_path / "out", made)
    record = read_spine_json(tmp_path / "out" / "spine.json")
    assert [level.status for level in record.levels.values()] == ["ok", "ok"]
    (motion,) = record.relative_motions
    upper_now = transform_points(truth[22], levels[22].centre_ct)
    upper_as_in_ct = transform_points(truth[23], levels[22].centre_ct)
    moved = truth[23][:3, :3].T @ (upper_now - upper_as_in_ct)
    assert np.allclose(motion.shift_mm, moved, atol=1e-6)
    assert (motion.shift_sigma_mm > 0.0).all()
    assert (motion.shift_sigma_mm < 2.0).all()
    assert (motion.turn_sigma_deg < 2.0).all()
