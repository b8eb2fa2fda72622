"""A report's figures in words: no key of the program, no dictionary, each number with its unit."""

from __future__ import annotations

import re
from dataclasses import fields, replace

from ball import ball_case
from hypothesis import example, given
from hypothesis import strategies as st
from test_report_results import result

from RadGSRegLib.registration.evidence import Evidence
from RadGSRegLib.report.page import ReportPictures, report_html
from RadGSRegLib.report.words import number, quality_words, reconstruction_words

QUALITY = {
    "score": 0.81,
    "expected_error_mm": 0.37,
    "lead": 0.125,
    "level_lead": 1.0,
    "odd_thing_lead": 0.5,
    "from_start_mm": 12.5,
    "confidence": 0.6,
    "shifts_ct": [[[1.0, 0.0], [0.0, 1.0]]],
    "views": {"AP": {"score": 0.8, "bone": "dark"}, "LA": {"score": 0.7, "bone": "dark"}},
}
RECONSTRUCTION = {
    "SSIM against the moved CT": 0.9951,
    "PSNR against the moved CT_db": 45.6,
    "prior": "ct",
    "absolute_scale": True,
    "change_allowed": 0.25,
    "change_mm": 0.4,
    "prediction_gain": 0.125,
    "steps": 24,
    "reason": "the views agree",
    "gaussians": 6000,
    "stopped_early": False,
    "views": {"AP": {"l1": 0.123, "ssim": 0.456, "correlation": 0.789, "bone": "dark"}},
}


def _page() -> str:
    registration = replace(
        result().registration,
        quality=QUALITY,
        timing_s={"prepare": 0.3, "check": 1.0, "total": 1.3},
        parameters={"registration": {"coarse": {"blur_mm": 1.8}, "rotation_range_deg": 25.0}},
    )
    pictures = ReportPictures([b"png", b"png"])
    return report_html(
        ball_case(),
        registration,
        replace(pictures, slices=b"png"),
        software={"radgsreg": "1.2.3"},
        reconstruction=RECONSTRUCTION,
    )


def test_a_report_is_in_words_and_units() -> None:
    page = _page()
    body = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert not re.search(r"[{}\[\]]|&#39;|True|False|_mm|_deg|_lead", body)
    text = " ".join(body.split())
    for fact in (
        "expected error of the surface 0.37 mm",
        "ahead of the next best pose by 0.125",
        "ahead of the level above or below not needed, or nothing like it",
        "ahead of another odd thing by 0.5",
        "distance from the given start 12.5 mm",
        "agreement 0.8 · bone is dark",
        "SSIM against the moved CT 0.995",
        "PSNR against the moved CT 45.6 dB",
        "begun from the bone in the CT",
        "shape changed by 0.4 mm",
        "why the views agree",
        "X-ray AP correlation with the X-ray 0.789, SSIM with the X-ray 0.456, "
        "mean difference from the X-ray 0.123, bone is dark",
        "making ready 0.30 s",
        "checks of the pose 1.00 s",
        "search of rotations, each way 25.0°",
        "seed of random numbers 3",
    ):
        assert fact in text, fact


def test_every_evidence_has_a_name() -> None:
    told = {"leads", "covariance", "objection", "consistency"}
    numbers = {field.name: 0.5 for field in fields(Evidence) if field.name not in told}
    numbers |= {"epipolar_mm": 0.5, "apart_deg": 0.5}
    assert len(quality_words(numbers)) == len(numbers)


def test_a_reconstruction_without_a_ct_is_in_words() -> None:
    rows = dict(reconstruction_words({"prior": "none", "absolute_scale": False}))
    assert rows == {"begun from": "the X-rays alone", "attenuation in 1/mm": "no, up to a factor"}


@given(st.floats(-1e4, 1e4))
@example(-1.1125369292536007e-308)
def test_numbers_are_short_and_near(value: float) -> None:
    written = number(value)
    assert len(written) <= 10  # an exponent of three digits
    assert abs(float(written) - value) <= max(0.051, 0.006 * abs(value))
