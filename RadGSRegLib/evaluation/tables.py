"""Trials and their summary as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from .protocol import ROW_KEYS, Trial


def csv_text(trials: Sequence[Trial]) -> str:
    """One line per trial under a header; empty where a value is not known."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ROW_KEYS, lineterminator="\n")
    writer.writeheader()
    for trial in trials:
        row = {key: _cell(value) for key, value in trial.to_row().items()}
        writer.writerow(row)
    return buffer.getvalue()


def json_content(trials: Sequence[Trial], summary: dict[str, Any]) -> dict[str, Any]:
    """What ``evaluation.json`` holds; written by `cases.write_json`, so NaN becomes null."""
    return {
        "schema": "radgsreg/evaluation",
        "version": 1,
        "summary": summary,
        "trials": [trial.to_row() for trial in trials],
    }


def markdown(trials: Sequence[Trial], summary: dict[str, Any]) -> str:
    """The summary by level, then every trial, as two Markdown tables."""
    shows_volumes = "ssim" in summary["all"]
    more = "SSIM | PSNR (dB) | " if shows_volumes else ""
    lines = [
        "| level | cases | mTRE mean | median | std | max (mm) | SR | SMSR | CR (mm) "
        f"| silent failures | false alarms | {more}RT (s) |",
        "| --- |" + " ---: |" * (13 if shows_volumes else 11),
    ]
    for level, part in [*summary["levels"].items(), ("all", summary["all"])]:
        error = part["mtre_mm"]
        cells = [level, str(part["cases"])]
        cells += [_fixed(error[key]) for key in ("mean", "median", "std", "max")]
        cells += [_percent(part["sr"]), _percent(part["smsr"]), _fixed(part["cr_mm"], 0)]
        cells += [str(part["silent_failures"]), str(part["false_alarms"])]
        if shows_volumes:
            cells += [_fixed(part["ssim"]["mean"], 3), _fixed(part["psnr_db"]["mean"], 1)]
        cells.append(_fixed(part["rt_s"], 1))
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "| case | level | method | start | status | mTRE (mm) | rotation (°) | start mTRE (mm) "
        "| expected (mm) | time (s) | |",
        "| --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for trial in trials:
        remark = "silent failure" if trial.is_silent_failure else ""
        remark = "false alarm" if trial.is_false_alarm else remark
        cells = [_plain(trial.case), trial.level, trial.method, trial.start, trial.status]
        cells += [_fixed(trial.mtre_mm), _fixed(trial.rotation_error_deg)]
        cells += [_fixed(trial.start_mtre_mm, 1), _fixed(trial.expected_error_mm)]
        cells += [_fixed(trial.time_s, 1), remark]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return int(value)
    return f"{value:.6g}" if isinstance(value, float) else value


def _fixed(value: float | None, digits: int = 2) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _percent(value: float) -> str:
    return "" if not math.isfinite(value) else f"{100.0 * value:.0f} %"


def _plain(text: str) -> str:
    return text.replace("|", "\\|")
