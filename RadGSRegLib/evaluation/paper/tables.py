"""The paper's tables 1 and 2 as Markdown and CSV, and all rows as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

from ...measures.pose import CAPTURE_BIN_MM
from .compare import Summary
from .measure import ROW_KEYS, Row

_HEAD = (
    "| method | SSIM (%) ↑ | PSNR (dB) ↑ | mTRE (mm) ↓ | CR (mm) ↑ | SR (%) ↑ | RT (s) ↓ "
    "| reconstruction (s) | cases | not answered |"
)
_COLUMNS = (
    "method",
    "label",
    "cases",
    "runs",
    "failed",
    "ssim_mean",
    "ssim_std",
    "psnr_db_mean",
    "psnr_db_std",
    "mtre_mm_mean",
    "mtre_mm_median",
    "mtre_mm_std",
    "cr_mm",
    "sr",
    "smsr",
    "rt_s_median",
    "rt_s_mean",
    "rt_s_std",
    "reconstruction_s_median",
    "silent_failures",
    "ssim_p",
    "psnr_db_p",
    "mtre_mm_p",
)


def table_markdown(summaries: Sequence[Summary]) -> str:
    """One row per method: mean ± deviation, best means in bold, an asterisk at p < 0.05."""
    best = {
        "ssim": _best(summaries, lambda s: _mean(s.ssim), max),
        "psnr_db": _best(summaries, lambda s: _mean(s.psnr_db), max),
        "mtre_mm": _best(summaries, lambda s: _mean(s.mtre_mm), min),
        "cr_mm": _best(summaries, lambda s: s.cr_mm, max),
        "sr": _best(summaries, lambda s: s.sr, max),
        "rt": _best(summaries, lambda s: _median(s.registration_s), min),
    }
    lines = [_HEAD, "| --- |" + " ---: |" * 9]
    for one in summaries:
        cells = [
            one.label.replace("|", "\\|"),
            _spread(one, "ssim", 100.0, best["ssim"]),
            _spread(one, "psnr_db", 1.0, best["psnr_db"]),
            _spread(one, "mtre_mm", 1.0, best["mtre_mm"]),
            _bold(_range(one.cr_mm), bool(one.cr_mm) and one.cr_mm == best["cr_mm"]),
            _bold(_fixed(one.sr, 2, 100.0), one.sr is not None and one.sr == best["sr"]),
            _bold(
                _fixed(_median(one.registration_s), 2),
                one.registration_s is not None and _median(one.registration_s) == best["rt"],
            ),
            _fixed(_median(one.reconstruction_s), 2),
            str(one.cases),
            str(one.failed),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def tests_markdown(summaries: Sequence[Summary]) -> str:
    """The paired tests behind the asterisks."""
    lines = [
        "| method | measure | pairs | mean difference | Wilcoxon p | paired t p |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    names = {"ssim": "SSIM", "psnr_db": "PSNR (dB)", "mtre_mm": "mTRE (mm)"}
    for one in summaries:
        for name, test in one.tests.items():
            numbers = (_signed(test.difference), _p(test.wilcoxon_p), _p(test.t_p))
            cells = [one.label.replace("|", "\\|"), names[name], str(test.pairs), *numbers]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def table_csv(summaries: Sequence[Summary]) -> str:
    """The same rows for programs: shares as fractions, empty where there is nothing."""
    rows = []
    for one in summaries:
        row: dict[str, Any] = {
            key: getattr(one, key)
            for key in ("method", "label", "cases", "runs", "failed", "cr_mm", "sr", "smsr")
        }
        for name in ("ssim", "psnr_db", "mtre_mm"):
            described = getattr(one, name)
            for kind in ("mean", "std"):
                row[f"{name}_{kind}"] = described and described[kind]
            row[f"{name}_p"] = one.tests[name].wilcoxon_p if name in one.tests else None
        row["mtre_mm_median"] = one.mtre_mm and one.mtre_mm["median"]
        for kind in ("median", "mean", "std"):
            row[f"rt_s_{kind}"] = one.registration_s and one.registration_s[kind]
        row["reconstruction_s_median"] = one.reconstruction_s and one.reconstruction_s["median"]
        row["silent_failures"] = one.silent_failures
        rows.append(row)
    return _csv(_COLUMNS, rows)


def rows_csv(rows: Sequence[Row]) -> str:
    """One line per run."""
    return _csv(ROW_KEYS, [row.to_json() for row in rows])


def _csv(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
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


def _spread(one: Summary, name: str, factor: float, best: float | None) -> str:
    described = getattr(one, name)
    if described is None or not math.isfinite(described["mean"]):
        return "-"
    mean, deviation = factor * described["mean"], factor * described["std"]
    star = "\\*" if name in one.tests and one.tests[name].is_significant else ""
    return _bold(f"{mean:.2f} ± {deviation:.2f}", described["mean"] == best) + star


def _range(reached: float | None) -> str:
    """The bin that a capture range ends with, as the paper writes it."""
    if reached is None:
        return "-"
    return f"{reached - CAPTURE_BIN_MM:.0f}-{reached:.0f}" if reached > 0.0 else "none"


def _best(
    summaries: Sequence[Summary],
    value: Callable[[Summary], float | None],
    choose: Callable[[list[float]], float],
) -> float | None:
    # What was known before anything was done is no rival for the bold print.
    values = [value(one) for one in summaries if one.method != "start"]
    finite = [v for v in values if v is not None and math.isfinite(v)]
    return choose(finite) if finite else None


def _mean(described: dict[str, float] | None) -> float | None:
    return None if described is None else described["mean"]


def _median(described: dict[str, float] | None) -> float | None:
    return None if described is None else described["median"]


def _fixed(value: float | None, digits: int, factor: float = 1.0) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{factor * value:.{digits}f}"


def _bold(text: str, yes: bool) -> str:
    return f"**{text}**" if yes and text != "-" else text


def _signed(value: float) -> str:
    return f"{value:+.3g}" if math.isfinite(value) else "-"


def _p(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
