"""Plots of an evaluation: PNG bytes, the same for the same trials."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..measures.pose import SUBMILLIMETRE_MM, SUCCESS_MM
from .protocol import Trial

STATUS_COLOURS = {"ok": "#15803d", "uncertain": "#d97706", "failed": "#b91c1c"}
_LEAST_MM = 0.02


def all_plots(trials: Sequence[Trial]) -> dict[str, bytes]:
    """File name to PNG: errors by case and against the start, reliability of the status, times."""
    plots = {
        "errors_by_case.png": errors_by_case(trials),
        "times.png": times(trials),
    }
    if any(trial.start_mtre_mm is not None for trial in trials):
        plots["error_against_start.png"] = error_against_start(trials)
    if any(trial.expected_error_mm is not None for trial in trials):
        plots["reliability.png"] = reliability(trials)
    return plots


def errors_by_case(trials: Sequence[Trial]) -> bytes:
    """mTRE of every case as bars, grouped by level, coloured by the program's own status."""
    ordered = sorted(trials, key=lambda t: (t.level, t.case))
    figure, axes = _figure(max(6.0, 1.6 + 0.42 * len(ordered)), 4.4)
    for place, trial in enumerate(ordered):
        axes.bar(place, max(trial.mtre_mm, _LEAST_MM), color=STATUS_COLOURS[trial.status], zorder=2)
    axes.set_yscale("log")
    _plain_ticks(axes.yaxis)
    axes.set_ylim(top=max([3.0, *(1.3 * t.mtre_mm for t in ordered)]))
    axes.set_xticks(range(len(ordered)))
    axes.set_xticklabels([t.case for t in ordered], rotation=55, ha="right", fontsize=8)
    levels = [t.level for t in ordered]
    for level in dict.fromkeys(levels):
        first, count = levels.index(level), levels.count(level)
        if first:
            axes.axvline(first - 0.5, color="#e2e8f0", zorder=0)
        axes.text(
            first + (count - 1) / 2,
            1.02,
            level,
            transform=axes.get_xaxis_transform(),
            ha="center",
            fontsize=9,
            color="#334155",
        )
    _thresholds(axes)
    _status_key(axes, ordered)
    axes.set_xlim(-0.6, len(ordered) - 0.4)
    axes.set_ylabel("mTRE (mm)")
    return _png(figure)


def error_against_start(trials: Sequence[Trial]) -> bytes:
    """mTRE of the result against mTRE of the start."""
    shown = [trial for trial in trials if trial.start_mtre_mm is not None]
    figure, axes = _figure(6.0, 4.4)
    _scatter(axes, shown, [float(t.start_mtre_mm or 0.0) for t in shown])
    axes.set_yscale("log")
    _plain_ticks(axes.yaxis)
    axes.set_xlim(left=0.0)
    _thresholds(axes)
    axes.set(xlabel="mTRE of the start (mm)", ylabel="mTRE of the result (mm)")
    return _png(figure)


def reliability(trials: Sequence[Trial]) -> bytes:
    """True error against the error the program expected; on the line it knew exactly."""
    shown = [trial for trial in trials if trial.expected_error_mm is not None]
    expected = [max(float(t.expected_error_mm or 0.0), _LEAST_MM) for t in shown]
    figure, axes = _figure(6.0, 4.4)
    _scatter(axes, shown, expected)
    axes.set(xscale="log", yscale="log")
    _plain_ticks(axes.xaxis)
    _plain_ticks(axes.yaxis)
    values = expected + [max(t.mtre_mm, _LEAST_MM) for t in shown]
    low, high = min(values) / 1.5, max([*values, 2.0]) * 1.5
    axes.plot([low, high], [low, high], color="#94a3b8", linewidth=1.0, zorder=1)
    axes.set(xlim=(low, high), ylim=(low, high))
    _thresholds(axes)
    axes.set(xlabel="expected error (mm)", ylabel="true mTRE (mm)")
    return _png(figure)


def times(trials: Sequence[Trial]) -> bytes:
    """Seconds per case, sorted; a first, cold run is hollow."""
    ordered = sorted(trials, key=lambda t: t.time_s)
    figure, axes = _figure(6.0, 4.4)
    for place, trial in enumerate(ordered):
        axes.bar(
            place,
            trial.time_s,
            color="#0891b2" if trial.is_warm else "white",
            edgecolor="#0891b2",
            zorder=2,
        )
    axes.set_xticks(range(len(ordered)))
    axes.set_xticklabels([t.case for t in ordered], rotation=55, ha="right", fontsize=8)
    axes.set_ylabel("inputs in memory to pose (s)")
    return _png(figure)


def _scatter(axes: Axes, trials: Sequence[Trial], x: Sequence[float]) -> None:
    for trial, value in zip(trials, x, strict=True):
        axes.scatter(
            value,
            max(trial.mtre_mm, _LEAST_MM),
            s=42,
            color=STATUS_COLOURS[trial.status],
            edgecolor="white",
            linewidth=0.6,
            zorder=3,
        )
    _status_key(axes, trials)


def _status_key(axes: Axes, trials: Sequence[Trial]) -> None:
    for status, colour in STATUS_COLOURS.items():
        if any(trial.status == status for trial in trials):
            axes.scatter([], [], color=colour, label=status)
    axes.legend(title="the program's status", fontsize=8, title_fontsize=8, frameon=False)


def _plain_ticks(axis: Axis) -> None:
    """A logarithmic axis labelled 0.1, 0.2, 0.5, 1, 2, ... instead of in powers."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _thresholds(axes: Axes) -> None:
    for value in (SUBMILLIMETRE_MM, SUCCESS_MM):
        axes.axhline(value, color="#94a3b8", linewidth=1.0, linestyle="--", zorder=1)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(axis="y", color="#f1f5f9", zorder=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
