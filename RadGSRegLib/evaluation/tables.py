"""Rows and summaries as Markdown and CSV."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..measures import CAPTURE_BIN_MM
from .frames import TrackFigures
from .measure import Row
from .one_view import OneView
from .summary import Expected, Summary


def _columns(names: str) -> tuple[str, ...]:
    return tuple(names.split())


# The columns of evaluation.csv, and the keys of its JSON.
CASE_COLUMNS = _columns(
    "case level method start status mtre_mm rotation_error_deg centre_error_mm "
    "start_mtre_mm expected_error_mm in_plane_error_mm depth_error_mm expected_in_plane_mm "
    "expected_depth_mm score time_s is_warm ssim psnr_db silent_failure "
    "false_alarm reason"
)
# The same of several vertebrae.
SEVERAL_COLUMNS = (CASE_COLUMNS[0], "vertebra", *CASE_COLUMNS[1:-1], "left_out", CASE_COLUMNS[-1])
# The columns of runs.csv.
RUN_COLUMNS = _columns(
    "case level method run start_mtre_mm mtre_mm rotation_error_deg ssim psnr_db "
    "registration_s reconstruction_s is_warm status problem"
)
_SUMMARY_COLUMNS = _columns(
    "method label cases runs failed ssim_mean ssim_std psnr_db_mean psnr_db_std "
    "mtre_mm_mean mtre_mm_median mtre_mm_std cr_mm sr smsr rt_s_median rt_s_mean rt_s_std "
    "reconstruction_s_median silent_failures ssim_p psnr_db_p mtre_mm_p"
)
_PAPER_HEAD = (
    "method",
    "SSIM (%) ↑",
    "PSNR (dB) ↑",
    "mTRE (mm) ↓",
    "CR (mm) ↑",
    "SR (%) ↑",
    "RT (s) ↓",
    "reconstruction (s)",
    "cases",
    "not answered",
)
_NAMES = {"ssim": "SSIM", "psnr_db": "PSNR (dB)", "mtre_mm": "mTRE (mm)"}


def row_values(row: Row, columns: Sequence[str]) -> dict[str, Any]:
    """Return some columns of a row, in their order."""
    cells = row.cells()
    return {column: cells[column] for column in columns}


def rows_csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Write one line per run under a header; empty where a value is not known."""
    return records_csv(columns, [row_values(row, columns) for row in rows])


def summaries_csv(summaries: Sequence[Summary]) -> str:
    """Write one line per method for programs: shares as fractions, empty for nothing."""
    rows = []
    for summary in summaries:
        row = {key: value for key, value in vars(summary).items() if key in _SUMMARY_COLUMNS}
        for name, kinds in (
            ("ssim", ("mean", "std")),
            ("psnr_db", ("mean", "std")),
            ("mtre_mm", ("mean", "median", "std")),
            ("registration_s", ("median", "mean", "std")),
            ("reconstruction_s", ("median",)),
        ):
            column = name.replace("registration_s", "rt_s")
            for kind in kinds:
                row[f"{column}_{kind}"] = _of(getattr(summary, name), kind)
        for name, test in summary.tests.items():
            row[f"{name}_p"] = test.wilcoxon_p
        rows.append(row)
    return records_csv(_SUMMARY_COLUMNS, rows)


def cases_markdown(
    rows: Sequence[Row],
    parts: Mapping[str, Summary],
    expected: Mapping[str, Expected] | None = None,
) -> str:
    """Write one method's summaries by name, then every case; of several vertebrae every one, with
    what was ``expected`` of each part."""
    several = expected is not None
    shows_volumes = any(part.ssim is not None for part in parts.values())
    head = ["of", "vertebrae"] if several else ["level", "cases"]
    head += ["mTRE mean", "median", "std", "max (mm)", "SR", "SMSR", "CR (mm)"]
    head += ["expected median (mm)", "within twice"] if several else []
    head += ["silent failures", "false alarms", *(["SSIM", "PSNR (dB)"] if shows_volumes else [])]
    lines = []
    for name, part in parts.items():
        cells = [name, str(part.cases)]
        cells += [_fixed(_of(part.mtre_mm, key)) for key in ("mean", "median", "std", "max")]
        cells += [_percent(part.sr), _percent(part.smsr), _fixed(part.cr_mm, 0)]
        if expected is not None:
            said = expected[name]
            cells += [_fixed(said.median_mm), _percent(said.within_twice)]
        cells += [str(part.silent_failures), str(part.false_alarms)]
        if shows_volumes:
            cells += [_fixed(_of(part.ssim, "mean"), 3), _fixed(_of(part.psnr_db, "mean"), 1)]
        lines.append([*cells, _fixed(_of(part.registration_s, "median"), 1)])
    table = _markdown([*head, "RT (s)"], lines, left=1)
    head = ["case", *(["vertebra"] if several else []), "level", "method", "start", "status"]
    words = len(head)
    head += ["mTRE (mm)", "rotation (°)"]
    head += ["start mTRE (mm)", "expected (mm)", "time (s)", ""]
    lines = []
    for row in rows:
        remark = "silent failure" if row.is_silent_failure else ""
        remark = "false alarm" if row.is_false_alarm else remark
        remark = row.reason if row.left_out else remark
        cells = [
            row.case,
            *([row.vertebra] if several else []),
            row.realism,
            row.method,
            row.start,
            row.status,
        ]
        cells += [_fixed(row.mtre_mm), _fixed(row.rotation_error_deg)]
        cells += [_fixed(row.start_mtre_mm, 1), _fixed(row.expected_error_mm)]
        lines.append([*cells, _fixed(row.registration_s, 1), remark])
    return f"{table}\n{_markdown(head, lines, left=words, last_left=True)}"


def one_view_markdown(parts: Mapping[str, OneView], of: str = "cases") -> str:
    """Write what came of one view by name: errors across the line of sight and along it, and what
    was expected of both."""
    columns = ("median (mm)", "expected", "within it", "within twice")
    head = ["one view alone", of]
    head += [f"{name} {column}" for name in ("in-plane", "depth") for column in columns]
    lines = []
    for name, shown in parts.items():
        cells = [name, str(shown.cases)]
        for part in (shown.in_plane, shown.depth):
            cells += [_fixed(part.median_mm), _fixed(part.expected_median_mm)]
            cells += [_percent(part.within_expected), _percent(part.within_twice)]
        lines.append(cells)
    return _markdown(head, lines, left=1)


def one_view_cases_markdown(rows: Sequence[Row]) -> str:
    """Write the same of every case of one view."""
    head = ["case", "status", "in-plane (mm)", "expected", "depth (mm)", "expected"]
    lines = []
    for row in rows:
        if row.in_plane_error_mm is not None:
            values = [row.in_plane_error_mm, row.expected_in_plane_mm]
            values += [row.depth_error_mm, row.expected_depth_mm]
            lines.append([row.case, row.status, *map(_fixed, values)])
    return _markdown(head, lines, left=2)


def methods_markdown(summaries: Sequence[Summary]) -> str:
    """Write one row per method: mean ± deviation, best means in bold, an asterisk at p < 0.05."""

    def best(value: Callable[[Summary], float | None], choose: Callable[..., float]) -> Any:
        # What was known before anything was done does not compete for the bold print.
        values = [value(s) for s in summaries if s.method != "start"]
        finite = [v for v in values if v is not None and math.isfinite(v)]
        return choose(finite) if finite else None

    ssim = best(lambda s: _of(s.ssim, "mean"), max)
    psnr = best(lambda s: _of(s.psnr_db, "mean"), max)
    mtre = best(lambda s: _of(s.mtre_mm, "mean"), min)
    capture = best(lambda s: s.cr_mm, max)
    success = best(lambda s: s.sr, max)
    seconds = best(lambda s: _of(s.registration_s, "median"), min)
    lines = []
    for summary in summaries:
        time_s = _of(summary.registration_s, "median")
        lines.append(
            [
                summary.label,
                _spread(summary, "ssim", 100.0, ssim),
                _spread(summary, "psnr_db", 1.0, psnr),
                _spread(summary, "mtre_mm", 1.0, mtre),
                _bold(_range(summary.cr_mm), bool(summary.cr_mm) and summary.cr_mm == capture),
                _bold(
                    _fixed(summary.sr and 100.0 * summary.sr, empty="-"),
                    summary.sr is not None and summary.sr == success,
                ),
                _bold(_fixed(time_s, empty="-"), time_s is not None and time_s == seconds),
                _fixed(_of(summary.reconstruction_s, "median"), empty="-"),
                str(summary.cases),
                str(summary.failed),
            ]
        )
    return _markdown(_PAPER_HEAD, lines, left=1)


def tests_markdown(summaries: Sequence[Summary]) -> str:
    """Write the paired tests behind the asterisks."""
    head = ["method", "measure", "pairs", "mean difference", "Wilcoxon p", "paired t p"]
    lines = []
    for summary in summaries:
        for name, test in summary.tests.items():
            mean = f"{test.difference:+.3g}" if math.isfinite(test.difference) else "-"
            cells = [summary.label, _NAMES[name], str(test.pairs), mean]
            lines.append([*cells, _probability(test.wilcoxon_p), _probability(test.t_p)])
    return _markdown(head, lines, left=2)


def tracks_markdown(runs: Sequence[TrackFigures], whole: TrackFigures) -> str:
    """Write a row for every run that was followed, and one for all together."""
    head = ["run", "realism", "ok", "SMSR", "measured: median", "95 %", "most (mm)"]
    head += ["smoothed: median", "95 %", "most (mm)", "drift (mm)", "within twice"]
    head += ["silent failures", "frames/s", ""]
    lines = []
    for run in [*runs, whole]:
        errors = [run.median_mm, run.p95_mm, run.largest_mm]
        errors += [run.smoothed_median_mm, run.smoothed_p95_mm, run.smoothed_largest_mm]
        cells = [run.name, run.realism, f"{run.ok} of {run.shown}", _percent(run.smsr)]
        cells += [*map(_fixed, errors), _fixed(run.drift_mm), _percent(run.within_twice_expected)]
        lines.append([*cells, str(run.silent_failures), _fixed(run.frames_per_s, 2), run.problem])
    return _markdown(head, lines, left=2, last_left=True)


def _markdown(
    head: Sequence[str], lines: Sequence[Sequence[str]], *, left: int, last_left: bool = False
) -> str:
    """A table whose first ``left`` columns are words, as is the last if ``last_left``."""
    rules = ["---"] * left + ["---:"] * (len(head) - left)
    if last_left:
        rules[-1] = "---"
    rows = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, rules, *rows])


def records_csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Write one line per record under a header; empty where a value is not known."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return int(value)
    return f"{value:.6g}" if isinstance(value, float) else value


def _of(described: Mapping[str, float] | None, kind: str) -> float | None:
    return None if described is None else described[kind]


def _spread(summary: Summary, name: str, factor: float, best: float | None) -> str:
    described = getattr(summary, name)
    if described is None or not math.isfinite(described["mean"]):
        return "-"
    mean, deviation = factor * described["mean"], factor * described["std"]
    star = "\\*" if name in summary.tests and summary.tests[name].is_significant else ""
    return _bold(f"{mean:.2f} ± {deviation:.2f}", described["mean"] == best) + star


def _range(reached: float | None) -> str:
    """The bin that a capture range ends with, as the paper writes it."""
    if reached is None:
        return "-"
    return f"{reached - CAPTURE_BIN_MM:.0f}-{reached:.0f}" if reached > 0.0 else "none"


def _fixed(value: float | None, digits: int = 2, empty: str = "") -> str:
    return empty if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{100.0 * value:.0f} %"


def _bold(text: str, yes: bool) -> str:
    return f"**{text}**" if yes and text != "-" else text


def _probability(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
