"""``report.html`` of several vertebrae: one self-contained page that leads to each one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cases import Case, RelativeMotion, SpineRecord
from . import words
from .page import SHIFTS, TURNS, VERDICTS, amount_words, data_url, input_rows, template, timing_rows
from .spine import level_colours

if TYPE_CHECKING:
    from ..cases import LevelRecord

_TURN_NAMES = ("flexion, about L", "lateral bending, about P", "axial rotation, about S")
_SHIFT_NAMES = ("along L", "along P", "along S")
_ADVICE = {
    "ok": "The program would bet on less than 2 mm of each.",
    "uncertain": "Look at the pictures before using a pose that is uncertain for anything.",
    "failed": "Do not use a pose that has failed, nor one that is uncertain without a look.",
}


def spine_report_html(case: Case, record: SpineRecord, overlays: Sequence[bytes]) -> str:
    """Write the page.

    ``record``: what ``spine.json`` holds; ``overlays``: a PNG of each view in the case's order, as
    `spine_overlay_png` draws them. It links to ``report.html`` in the folder of each level. Nothing
    in the page tells who the patient is.
    """
    labels = [level.label for level in record.levels.values()]
    colours = level_colours(labels)
    return template("spine.html").render(
        case=case,
        title=_listed(list(record.levels)),
        status=record.status,
        verdict=_verdict(record),
        advice=_ADVICE[record.status],
        summary=_summary(record),
        figures=_figures(record),
        begun_with=record.begun_with,
        levels=[
            _level_row(name, level, colours[level.label]) for name, level in record.levels.items()
        ],
        views=[
            {"name": view.name, "nominal": view.nominal, "overlay": data_url(png)}
            for view, png in zip(case.views, overlays, strict=True)
        ],
        motions=[_motion(motion, record) for motion in record.relative_motions],
        timing=timing_rows(record.timing_s),
        inputs=input_rows(case),
        software=list(record.software.items()),
        version=record.software.get("radgsreg", ""),
    )


def _listed(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"vertebra {names[0]}"
    return f"vertebrae {', '.join(names[:-1])} and {names[-1]}"


def _verdict(record: SpineRecord) -> str:
    """The worst of the verdicts, and whether it is that of all."""
    title = VERDICTS[record.status][0]
    alike = all(level.status == record.status for level in record.levels.values())
    return title if alike else f"{title} in part"


def _summary(record: SpineRecord) -> str:
    """How many are registered, and which are not."""
    by_status: dict[str, list[str]] = {"ok": [], "uncertain": [], "failed": []}
    for name, level in record.levels.items():
        by_status[level.status].append(name)
    parts = [f"{len(by_status['ok'])} of {len(record.levels)} vertebrae are ok"]
    parts += [
        f"{', '.join(by_status[status])} {'is' if len(by_status[status]) == 1 else 'are'} {status}"
        for status in ("uncertain", "failed")
        if by_status[status]
    ]
    return "; ".join(parts) + "."


def _figures(record: SpineRecord) -> list[tuple[str, str]]:
    figures = []
    errors = [level.expected_error_mm for level in record.levels.values()]
    known = [error for error in errors if error is not None]
    if known and len(known) == len(errors):
        figures.append(("largest expected error", words.amount("expected_error_mm", max(known))))
    if "total" in record.timing_s:
        figures.append(("registered in", f"{record.timing_s['total']:.1f} s"))
    return figures


def _level_row(name: str, level: LevelRecord, colour: str) -> dict[str, str]:
    error = level.expected_error_mm
    return {
        "name": name,
        "colour": colour,
        "status": level.status,
        "reason": level.reason,
        "expected": "none" if error is None else words.amount("expected_error_mm", error),
        "folder": level.folder,
    }


def _motion(motion: RelativeMotion, record: SpineRecord) -> dict[str, Any]:
    """Names of the two, turn and shift in rows, and which of the two is in doubt."""
    both = {
        level.label: (name, level.status)
        for name, level in record.levels.items()
        if level.label in (motion.upper, motion.lower)
    }
    doubt = [f"{name} is {status}" for name, status in both.values() if status != "ok"]
    turns = _rows(_TURN_NAMES, motion.turn_deg, motion.turn_sigma_deg, "°", TURNS)
    shifts = _rows(_SHIFT_NAMES, motion.shift_mm, motion.shift_sigma_mm, " mm", SHIFTS)
    return {
        "upper": both[motion.upper][0],
        "lower": both[motion.lower][0],
        "doubt": ", ".join(doubt),
        "rows": list(zip(turns, shifts, strict=True)),
    }


def _rows(
    names: Sequence[str],
    values: Sequence[float] | np.ndarray,
    deviations: Sequence[float] | np.ndarray,
    unit: str,
    directions: Sequence[tuple[str, str]],
) -> list[tuple[str, str, str]]:
    rows = []
    for name, value, deviation, two in zip(names, values, deviations, directions, strict=True):
        known = f" ± {deviation:.2f}" if np.isfinite(deviation) else ", ± unknown"
        rows.append((name, f"{value:+.2f}{known}{unit}", amount_words(float(value), unit, two)))
    return rows
