"""The report and its pictures: what they show, and that they tell nothing else."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from ball import CENTRE_CT, FOCAL, POSE, ball_case, camera_at
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from RadGSRegLib.cases import Case, View
from RadGSRegLib.geometry import Camera, Volume, exp_se3, transform_points
from RadGSRegLib.registration.types import Registration
from RadGSRegLib.report import overlay, shadow
from RadGSRegLib.report import page as report


def registration(status: str = "ok") -> Registration:
    return Registration(
        status=status,  # type: ignore[arg-type]
        reason="Both views <agree>.",
        ct_to_world=POSE,
        covariance=np.diag([1e-4, 4e-4, 9e-4, 0.01, 0.04, 0.09]),
        centre_ct=CENTRE_CT,
        quality={
            "score": 0.8,
            "expected_error_mm": 0.4,
            "views": {"AP": {"score": 0.81}, "LA": {"score": 0.77}},
        },
        timing_s={"search": 2.0, "total": 3.0},
        parameters={"levels": [4, 2, 1], "refine": {"steps": 20}},
        seed=5,
    )


@pytest.fixture(scope="module")
def case() -> Case:
    return ball_case()


@pytest.fixture(scope="module")
def shadows(case: Case) -> list[shadow.Shadow]:
    return [shadow.cast_shadow(case.ct, case.labels, 22, POSE, view.camera) for view in case.views]


def test_a_balls_outline_is_its_circle(shadows: list[shadow.Shadow]) -> None:
    # The outline of a ball seen from 750 mm lies at tan(asin(r / d)).
    radius_px = FOCAL * np.tan(np.arcsin(18.0 / 750.0))
    for cast in shadows:
        assert np.allclose(cast.centre_px, [160.0, 150.0], atol=0.05)
        assert cast.pixels_per_mm == pytest.approx(FOCAL / 750.0)
        (line,) = cast.outline
        distances = np.hypot(*(line - [160.0, 150.0]).T)
        assert distances.mean() == pytest.approx(radius_px, abs=0.4 * cast.pixels_per_mm)
        assert distances.std() < 0.3 * cast.pixels_per_mm
        assert cast.folds == ()


def test_the_rendering_holds_the_line_integral(shadows: list[shadow.Shadow]) -> None:
    excess = shadow.WATER_PER_MM * (600.0 - shadow.SOFT_TISSUE_HU) / 1000.0
    for cast in shadows:
        assert cast.attenuation.max() == pytest.approx(36.0 * excess, rel=0.05)


def test_a_ring_across_the_rays_has_no_fold_and_one_along_them_has() -> None:
    k, j, i = np.mgrid[:40, :40, :16] * 1.0
    ring = np.abs(np.hypot(k - 19.5, j - 19.5) - 12.0) < 4.0
    ring &= np.abs(i - 7.5) < 4.0
    grid = np.eye(4)
    grid[:3, 3] = [-7.5, -19.5, -19.5]
    labels = Volume(ring.astype(np.uint8), grid)
    ct = Volume(np.full(ring.shape, 500.0, np.float32), grid)
    seen = [
        shadow.cast_shadow(ct, labels, 1, np.eye(4), camera_at(np.zeros(3), angle))
        for angle in (0.0, 90.0)
    ]
    assert len(seen[0].outline) == 1
    assert len(seen[0].folds) == 1  # edge-on: the front of the ring hides its back
    assert len(seen[1].outline) == 2  # face-on: the hole shows
    assert seen[1].folds == ()


def test_shadow_refusals(case: Case) -> None:
    camera = case.views[0].camera
    with pytest.raises(ValueError, match="label 3"):
        shadow.cast_shadow(case.ct, case.labels, 3, POSE, camera)
    behind = exp_se3([0, 0, 0, *(-2000.0 * camera.view_direction_world)]) @ POSE
    with pytest.raises(ValueError, match="in front"):
        shadow.cast_shadow(case.ct, case.labels, 22, behind, camera)


def test_bone_is_shown_bright_whichever_way_the_display_was(
    case: Case, shadows: list[shadow.Shadow]
) -> None:
    dark = ball_case(dark=True)
    for bright_view, dark_view, cast in zip(case.views, dark.views, shadows, strict=True):
        assert overlay.polarity(bright_view, cast) == 1.0
        assert overlay.polarity(dark_view, cast) == -1.0
        shown = overlay.windowed(dark_view, cast, -1.0)
        assert shown[150, 160] > shown[150, 160 + 90]
        assert np.array_equal(shown, overlay.windowed(bright_view, cast, 1.0))


def test_transmission_is_shown_as_attenuation(shadows: list[shadow.Shadow]) -> None:
    view = ball_case().views[0]
    counts = replace(view, pixels=(5000.0 * np.exp(-view.pixels)), intensity="transmission")
    difference = overlay.brightness(counts) - view.pixels
    assert np.ptp(difference) < 1e-5


def test_pictures_are_pngs_and_the_same_every_time(
    case: Case, shadows: list[shadow.Shadow]
) -> None:
    view, cast = case.views[0], shadows[0]
    first = overlay.overlay_png(view, cast)
    assert first == overlay.overlay_png(view, cast)
    image = np.asarray(Image.open(io.BytesIO(first)).convert("RGB")).astype(int)
    assert image.shape[0] / image.shape[1] == pytest.approx(300 / 320, rel=0.01)
    coloured = (image[..., 2] - image[..., 0]) > 100
    assert 100 < coloured.sum() < 0.05 * coloured.size
    comparison = Image.open(io.BytesIO(overlay.comparison_png(view, cast)))
    assert comparison.width > 3 * comparison.height


@given(st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=5))
def test_picture_names_are_safe_and_unlike(names: list[str]) -> None:
    view = ball_case_view()
    files = overlay.picture_names([replace(view, name=name) for name in names])
    assert len({name.lower() for name in files}) == len(names)
    for name in files:
        assert re.fullmatch(r"overlay_[A-Za-z0-9_-]+\.png", name)


def ball_case_view() -> View:
    camera = Camera(np.eye(3), np.eye(4), 2, 2)
    return View("AP", np.zeros((2, 2), np.float32), camera, (1.0, 1.0))


def test_usual_view_names_are_kept() -> None:
    view = ball_case_view()
    assert overlay.picture_names([replace(view, name=n) for n in ("AP", "LA", "ap")]) == [
        "overlay_AP.png",
        "overlay_LA.png",
        "overlay_ap_2.png",
    ]


def page(case: Case, status: str = "ok") -> str:
    png = base64.b64decode("iVBORw0KGgo=")
    pictures = report.ReportPictures([png, png], [png, png], png)
    return report.report_html(
        case,
        registration(status),
        pictures,
        software={"radgsreg": "1.2.3"},
        reconstruction={"SSIM against the moved CT": 0.912},
        truth={"true_error_mm": 0.37},
    )


@pytest.mark.parametrize("status", ["ok", "uncertain", "failed"])
def test_the_page_says_the_verdict_and_the_numbers(case: Case, status: str) -> None:
    text = page(case, status)
    assert f'class="verdict {status}"' in text
    assert report.VERDICTS[status][0] in text
    assert "Both views &lt;agree&gt;." in text
    assert "Research use only" in text
    for fact in (
        "0.4 mm",
        "0.37 mm",
        "agreement 0.81",
        "agreement 0.77",
        "0.912",
        "0123456789ab",
        "1.2.3",
    ):
        assert fact in text
    assert "0123456789abc" not in text.replace("0123456789ab<", "")


def test_the_page_is_self_contained(case: Case) -> None:
    text = page(case)
    assert not re.search(r"https?://", text)
    for source in re.findall(r'(?:src|href)="([^"]*)"', text):
        assert source.startswith("data:image/png;base64,")


def test_pose_words_follow_the_axes() -> None:
    def words(twist: list[float]) -> dict[str, str]:
        rows = report.describe_pose(exp_se3(twist), [0, 0, 0])
        return {what: plain for what, _, plain in rows}

    said = words([0, 0, 0, 3.0, -4.0, 5.0])
    assert said["Shift along L"] == "3.0 mm to the left"
    assert said["Shift along P"] == "4.0 mm to the front"
    assert said["Shift along S"] == "5.0 mm upwards"
    assert said["Turn about L"] == "none to speak of"
    # Turned about L by a right hand, the head end (0, 0, 1) goes to the front (0, -1, 0).
    assert transform_points(exp_se3([0.1, 0, 0, 0, 0, 0]), [[0, 0, 1.0]])[0, 1] < 0
    assert words([0.1, 0, 0, 0, 0, 0])["Turn about L"] == "5.7° leaning forwards"
    assert transform_points(exp_se3([0, 0.1, 0, 0, 0, 0]), [[0, 0, 1.0]])[0, 0] > 0
    assert words([0, 0.1, 0, 0, 0, 0])["Turn about P"] == "5.7° tilting to the left"
    assert transform_points(exp_se3([0, 0, 0.1, 0, 0, 0]), [[0, -1.0, 0]])[0, 0] > 0
    assert words([0, 0, 0.1, 0, 0, 0])["Turn about S"] == "5.7° turning to its left"


def test_the_shift_is_that_of_the_centre() -> None:
    centre = np.array([100.0, 50.0, -20.0])
    rows = report.describe_pose(exp_se3([0, 0, 0.3, 0, 0, 0]), centre)
    moved = transform_points(exp_se3([0, 0, 0.3, 0, 0, 0]), centre[None])[0] - centre
    assert rows[0][1] == f"{moved[0]:+.2f} mm"


def test_covariance_in_degrees_and_millimetres() -> None:
    rows = dict(report.describe_covariance(registration().covariance))
    assert rows["Turn about CT L"] == f"± {np.degrees(0.01):.2f}°"
    assert rows["Shift along CT S"] == "± 0.30 mm"
