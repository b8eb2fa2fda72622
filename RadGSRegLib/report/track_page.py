"""``report.html`` of a run: one self-contained page with the film, the plots and a table."""

from __future__ import annotations

import base64
from typing import Any

from ..cases import Case, TrackedFrame, TrackRecord, motion_of, ranges
from .page import VERDICTS, data_url, input_rows, template, timing_rows

_ADVICE = {
    "ok": "The program would bet on less than 2 mm in each frame with a picture.",
    "uncertain": "Look at the film before using a frame that is uncertain for anything.",
    "failed": "Do not use frames that have failed, nor uncertain ones without a look.",
}


def track_report_html(case: Case, record: TrackRecord, plots: bytes, film: bytes) -> str:
    """Write the page of a record; ``plots``: a PNG, ``film``: a WebP. Nothing in the page tells who
    the patient is."""
    places, turns = motion_of(record)
    total = record.timing_s.get("total")
    shown = [frame for frame in record.frames if frame.has_picture]
    figures = [("frames ok", f"{sum(f.status == 'ok' for f in shown)} of {len(shown)}")]
    errors = [f.expected_error_mm for f in shown if f.status == "ok" and f.expected_error_mm]
    if errors:
        figures.append(("largest expected error of these", f"{max(errors):.2f} mm"))
    if total:
        figures.append(("frames a second", f"{len(record.frames) / total:.1f}"))
    blank = [frame.index for frame in record.frames if not frame.has_picture]
    return template("track.html").render(
        case=case,
        name=record.name,
        status=record.status,
        verdict=VERDICTS[record.status][0].replace("Registered", "Followed"),
        summary=record.reason + ".",
        advice=_ADVICE[record.status],
        figures=figures,
        anchor=record.anchor,
        blank=ranges(blank),
        plots=data_url(plots),
        film="data:image/webp;base64," + base64.b64encode(film).decode("ascii"),
        rows=[
            _row(frame, place, turn)
            for frame, place, turn in zip(record.frames, places, turns, strict=True)
        ],
        timing=timing_rows(record.timing_s),
        inputs=input_rows(case),
        software=list(record.software.items()),
        version=record.software.get("radgsreg", ""),
    )


def _row(frame: TrackedFrame, place: Any, turn: Any) -> dict[str, str]:
    error = frame.expected_error_mm
    return {
        "index": str(frame.index),
        "status": frame.status,
        "found": frame.found,
        "shift": ", ".join(f"{v:+.1f}" for v in place),
        "turn": ", ".join(f"{v:+.1f}" for v in turn),
        "score": f"{min(frame.scores.values()):.2f}" if frame.scores else "none",
        "expected": "none" if error is None else f"{error:.2f} mm",
        "smoothed": f"{frame.smoothed_error_mm:.2f} mm",
        "reason": "" if frame.status == "ok" else frame.reason,
    }
