"""One page of several vertebrae: their verdicts, their outlines on the X-rays, their motions."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..cases import Case
from ..geometry import Array
from .overlay import outlines_png, plain_png
from .shadow import Shadow, cast_shadow

if TYPE_CHECKING:
    from ..registration import Registration

# Okabe and Ito's colours without black, which people tell apart who confuse red and green.
COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2")

_ADVICE = {
    "ok": "the program would bet on less than 2 mm for each vertebra.",
    "uncertain": "look at the pictures before using a vertebra that is not ok.",
    "failed": "do not use a vertebra that is not ok.",
}


@dataclass(frozen=True)
class MotionRow:
    """How the ``upper`` vertebra has moved to the ``lower`` one: turns (3,) degrees, shifts (3,) mm
    and one standard deviation of both (6,)."""

    upper: str
    lower: str
    turn_deg: Array
    shift_mm: Array
    sigma: Array


def colour_of(number: int) -> str:
    """The colour of the vertebra with a number in its row."""
    return COLOURS[number % len(COLOURS)]


def spine_overlays(case: Case, levels: Mapping[int, Registration]) -> list[bytes]:
    """Draw each X-ray (PNG) with the outlines of all vertebrae; ``levels`` by label."""
    pictures = []
    for view in case.views:
        shadows: list[tuple[str, str, bool, Shadow]] = []
        for number, (label, done) in enumerate(levels.items()):
            try:
                shadow = cast_shadow(case.ct, case.labels, label, done.ct_to_world, view.camera)
            except ValueError:  # behind the source
                continue
            name = case.label_names.get(label, str(label))
            shadows.append((name, colour_of(number), done.status == "ok", shadow))
        pictures.append(outlines_png(view, shadows) if shadows else plain_png(view))
    return pictures


def spine_html(
    case: Case,
    levels: Mapping[int, Registration],
    status: str,
    overlays: Sequence[bytes],
    motions: Sequence[MotionRow],
    folders: Mapping[int, str],
    timing_s: Mapping[str, float],
    version: str = "",
) -> str:
    """Return one self-contained page; ``folders``: where each vertebra's own report is, by label.

    Nothing in the page tells who the patient is.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    rows = [
        {
            "name": case.label_names.get(label, str(label)),
            "colour": colour_of(number),
            "link": f"{folders[label]}/report.html",
            "status": done.status,
            "expected": f"{done.quality['expected_error_mm']:.2f} mm",
            "reason": done.reason,
        }
        for number, (label, done) in enumerate(levels.items())
    ]
    moved = [
        {
            "upper": motion.upper,
            "lower": motion.lower,
            "numbers": [
                f"{value:+.2f} ± {sigma:.2f}"
                for value, sigma in zip(
                    (*motion.turn_deg, *motion.shift_mm), motion.sigma, strict=True
                )
            ],
        }
        for motion in motions
    ]
    views = [
        {"name": view.name, "png": base64.b64encode(png).decode()}
        for view, png in zip(case.views, overlays, strict=True)
    ]
    return environment.get_template("spine.html").render(
        status=status,
        advice=_ADVICE[status],
        levels=rows,
        views=views,
        motions=moved,
        notes=list(case.notes),
        timing=[(name, f"{value:.1f} s") for name, value in timing_s.items()],
        version=version,
    )
