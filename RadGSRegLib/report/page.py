"""``report.html``: one self-contained page that says what came out and whether to trust it."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from ..cases import Case
from ..geometry import transform_points
from . import words

if TYPE_CHECKING:
    from ..registration import Registration

VERDICTS = {
    "ok": ("Registered", "The program would bet on less than 2 mm."),
    "uncertain": ("Uncertain", "Look at the pictures before using this pose for anything."),
    "failed": ("Failed", "Do not use this pose."),
}


# What a positive and what a negative number mean, along or about each of the axes L, P, S.
SHIFTS = (
    ("to the left", "to the right"),
    ("to the back", "to the front"),
    ("upwards", "downwards"),
)
TURNS = (
    ("leaning forwards", "leaning backwards"),
    ("tilting to the left", "tilting to the right"),
    ("turning to its left", "turning to its right"),
)


@dataclass(frozen=True)
class ReportPictures:
    """PNG bytes: one overlay and one comparison per view in the case's order, the slices, and where
    each view alone puts the bone."""

    overlays: Sequence[bytes]
    comparisons: Sequence[bytes] = ()
    slices: bytes | None = None
    epipolar: bytes | None = None


def report_html(
    case: Case,
    registration: Registration,
    pictures: ReportPictures,
    *,
    software: Mapping[str, str],
    timing_s: Mapping[str, float] | None = None,
    reconstruction: Mapping[str, Any] | None = None,
    truth: Mapping[str, float] | None = None,
) -> str:
    """Write the page.

    ``timing_s`` stands in for the registration's own times where more than it ran;
    ``reconstruction`` are figures of the reconstruction and ``truth`` of the pose, name to value,
    shown where given. Nothing in the page tells who the patient is.
    """
    title, advice = VERDICTS[registration.status]
    return template("page.html").render(
        case=case,
        registration=registration,
        version=software.get("radgsreg", ""),
        verdict=title,
        advice=advice,
        pose=describe_pose(registration.ct_to_world, registration.centre_ct),
        uncertainty=describe_covariance(registration.covariance),
        matrix=[[f"{value:.6f}" for value in row] for row in registration.ct_to_world],
        views=_views(case, registration, pictures),
        slices=data_url(pictures.slices) if pictures.slices else None,
        epipolar=data_url(pictures.epipolar) if pictures.epipolar else None,
        figures=_figures(registration, truth),
        quality=words.quality_words(registration.quality),
        reconstruction=words.reconstruction_words(reconstruction or {}),
        timing=timing_rows(timing_s or registration.timing_s),
        inputs=input_rows(case),
        software=[*software.items(), *_computed_on(registration)],
        parameters=words.parameter_words(
            flatten({**registration.parameters, "seed": registration.seed})
        ),
    )


def template(name: str) -> Template:
    """Load a page's template, beside this file; what it shows is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(name)


def describe_pose(ct_to_world: ArrayLike, centre_ct: ArrayLike) -> list[tuple[str, str, str]]:
    """List (what, value, in plain words) of the vertebra's shift and turn, along LPS axes.

    The shift is that of the vertebra's centre; the rotation is given as one turn about one axis and
    as angles about the fixed world axes L, P, S applied in this order.
    """
    matrix = np.asarray(ct_to_world, dtype=float)
    centre = np.asarray(centre_ct, dtype=float)
    shift = transform_points(matrix, centre[None])[0] - centre
    rotation = Rotation.from_matrix(matrix[:3, :3])
    angles = rotation.as_euler("xyz", degrees=True)
    rows = [
        (f"{what} {axis}", f"{value:+.2f}{unit}", amount_words(value, unit, words))
        for what, unit, values, directions in (
            ("Shift along", " mm", shift, SHIFTS),
            ("Turn about", "°", angles, TURNS),
        )
        for axis, value, words in zip("LPS", values, directions, strict=True)
    ]
    total = float(np.degrees(rotation.magnitude()))
    rows.append(("Whole turn", f"{total:.2f}°", "about a single axis"))
    return rows


def describe_covariance(covariance: ArrayLike) -> list[tuple[str, str]]:
    """List one standard deviation about the CT's axes: degrees for turns, mm for shifts."""
    matrix = np.asarray(covariance, dtype=float)
    deviation = np.sqrt(np.maximum(np.diag(matrix), 0.0))
    rows = [
        (f"Turn about CT {axis}", f"± {math.degrees(value):.2f}°")
        for axis, value in zip("LPS", deviation[:3], strict=True)
    ]
    rows += [
        (f"Shift along CT {axis}", f"± {value:.2f} mm")
        for axis, value in zip("LPS", deviation[3:], strict=True)
    ]
    return rows


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings into one, keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def amount_words(value: float, unit: str, words: tuple[str, str]) -> str:
    """Write an amount in plain words; ``words``: what a positive and a negative one mean."""
    if abs(value) < 0.05:
        return "none to speak of"
    return f"{abs(value):.1f}{unit} {words[0 if value > 0 else 1]}"


def _views(
    case: Case, registration: Registration, pictures: ReportPictures
) -> list[dict[str, Any]]:
    scores = registration.quality.get("views", {})
    comparisons = list(pictures.comparisons) or [b""] * len(case.views)
    return [
        {
            "name": view.name,
            "nominal": view.nominal,
            "quality": words.view_words(scores.get(view.name, {})),
            "overlay": data_url(overlay),
            "comparison": data_url(comparison) if comparison else None,
        }
        for view, overlay, comparison in zip(
            case.views, pictures.overlays, comparisons, strict=True
        )
    ]


def _figures(
    registration: Registration, truth: Mapping[str, float] | None
) -> list[tuple[str, str]]:
    """The few numbers at the top."""
    figures = []
    expected = registration.quality.get("expected_error_mm")
    if expected is not None:
        figures.append(("expected error", words.amount("expected_error_mm", expected)))
    if truth:
        figures += words.plain_words(truth)
    score = registration.quality.get("score")
    if score is not None:
        figures.append(("agreement, of 1", words.number(score)))
    if "total" in registration.timing_s:
        figures.append(("registered in", f"{registration.timing_s['total']:.1f} s"))
    return figures


def timing_rows(timing_s: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """(stage, seconds, share of the total in percent), the total last."""
    total = timing_s.get("total", sum(timing_s.values()))
    last = sorted(timing_s.items(), key=lambda stage: stage[0] == "total")
    return [(words.stage_words(n), value, 100.0 * value / max(total, 1e-9)) for n, value in last]


def _computed_on(registration: Registration) -> list[tuple[str, str]]:
    """The devices, in the order of the stages."""
    devices = dict.fromkeys(registration.ran_on.values())
    return [("computed on", ", ".join(devices))] if devices else []


def input_rows(case: Case) -> list[tuple[str, str]]:
    """(file, the first digits of its SHA-256)."""
    return [(name, digest[:12]) for name, digest in sorted(case.inputs.items())]


def data_url(png: bytes) -> str:
    """A picture inside of a page."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
