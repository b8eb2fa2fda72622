"""Plots of an evaluation: PNG bytes, the same for the same runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ..measures import SUBMILLIMETRE_MM, SUCCESS_MM
from ..methods import About
from ..report import blank_figure, png_bytes
from .measure import Row
from .run import Curve, Runs

STATUS_COLOURS = {
    "ok": "#15803d",
    "uncertain": "#d97706",
    "failed": "#b91c1c",
    "": "#64748b",
}
_LEAST_MM = 0.02
_LEAST_S = 0.01
_MARKERS = "osD^vPX*"
_PANELS_ACROSS = 4
_MOST_RUNS = 12
_GREY = "#94a3b8"


@dataclass(frozen=True)
class Dots:
    """Rows that are drawn alike, and their name in the key."""

    label: str
    colour: Any
    rows: tuple[Row, ...]
    marker: str = "o"


@dataclass(frozen=True)
class Course:
    """The frames of a run, their errors as measured and as smoothed, mm, and their statuses."""

    frames: tuple[int, ...]
    errors_mm: tuple[float | None, ...]
    smoothed_mm: tuple[float | None, ...]
    statuses: tuple[str, ...]


def case_plots(rows: Sequence[Row]) -> dict[str, bytes]:
    """Draw one method (file name to PNG): errors by case and against the start, reliability of the
    status, times; only what there is to show."""
    plots = {"errors_by_case.png": errors_by_case(rows), "times.png": times(rows)}
    by_status = [
        Dots(status or "not said", colour, tuple(row for row in rows if row.status == status))
        for status, colour in STATUS_COLOURS.items()
    ]
    title = "the program's status"
    if any(row.start_mtre_mm is not None for row in rows):
        plots["error_against_start.png"] = error_against_start(by_status, title)
    if any(row.expected_error_mm is not None for row in rows):
        plots["reliability.png"] = reliability(by_status, title)
    if any(row.expected_depth_mm is not None for row in rows):
        plots["one_view.png"] = one_view(rows)
    return plots


def method_plots(runs: Runs, methods: Sequence[About]) -> dict[str, bytes]:
    """Draw many methods side by side (file name to PNG); only what there is to show."""
    plots: dict[str, bytes] = {}
    colours = {m.key: colormaps["tab10"](number % 10) for number, m in enumerate(methods)}
    registering = [m for m in methods if m.registers]
    moving = [m for m in registering if m.key != "start"]
    reconstructing = [m for m in methods if m.reconstructs]
    if registering:
        plots["errors.png"] = by_method(runs.rows, registering, "mtre_mm", colours)
        if any(row.start_mtre_mm is not None for row in runs.rows):
            dots = [
                Dots(
                    m.label,
                    colours[m.key],
                    tuple(row for row in runs.rows if row.method == m.key),
                    _MARKERS[number % len(_MARKERS)],
                )
                for number, m in enumerate(moving)
            ]
            plots["error_against_start.png"] = error_against_start(dots)
    curved = {curve.method for curve in runs.curves if len(curve.seconds) > 1}
    moving = [m for m in moving if m.key in curved]
    if moving:
        plots["convergence.png"] = convergence(runs.curves, moving, colours)
    if reconstructing:
        plots["reconstructions.png"] = by_method(runs.rows, reconstructing, "ssim", colours)
    return plots


def errors_by_case(rows: Sequence[Row]) -> bytes:
    """Draw every case's mTRE as bars, grouped by realism, coloured by the program's own status."""
    ordered = sorted(rows, key=lambda row: (row.realism, row.case))
    figure, axes = _figure(max(6.0, 1.6 + 0.42 * len(ordered)), 4.4)
    for place, row in enumerate(ordered):
        axes.bar(place, _millimetres(row.mtre_mm), color=STATUS_COLOURS[row.status], zorder=2)
    _error_axis(axes)
    axes.set_ylim(top=max([3.0, *(1.3 * _millimetres(row.mtre_mm) for row in ordered)]))
    _names_below(axes, [row.case for row in ordered], 55)
    kinds = [row.realism for row in ordered]
    for kind in dict.fromkeys(kinds):
        first, count = kinds.index(kind), kinds.count(kind)
        if first:
            axes.axvline(first - 0.5, color="#e2e8f0", zorder=0)
        axes.text(
            first + (count - 1) / 2,
            1.02,
            kind,
            transform=axes.get_xaxis_transform(),
            ha="center",
            fontsize=9,
            color="#334155",
        )
    for status, colour in STATUS_COLOURS.items():
        if any(row.status == status for row in ordered):
            axes.scatter([], [], color=colour, label=status or "not said")
    axes.legend(title="the program's status", fontsize=8, title_fontsize=8, frameon=False)
    axes.set_ylabel("mTRE (mm)")
    return png_bytes(figure)


def error_against_start(dots: Sequence[Dots], title: str | None = None) -> bytes:
    """Draw the result's mTRE against the start's, all runs; above both dashed lines: failures."""
    figure, axes = _figure(7.0, 5.4)
    _scatter(axes, dots, "start_mtre_mm", title)
    _error_axis(axes)
    limit, floor = axes.get_xlim()[1], axes.get_ylim()[0]
    line = np.linspace(_LEAST_MM, max(limit, 1.0), 200)
    axes.plot(line, line, color="#cbd5e1", linewidth=1.0, zorder=1)
    axes.text(line[-1], line[-1], "no better", fontsize=8, color=_GREY, ha="right", va="bottom")
    axes.set_xlim(0.0, limit)
    axes.set_ylim(bottom=floor)
    axes.set(xlabel="mTRE of the start (mm)", ylabel="mTRE of the result (mm)")
    return png_bytes(figure)


def reliability(dots: Sequence[Dots], title: str) -> bytes:
    """Draw the true error against the error the program expected; on the line it knew exactly."""
    figure, axes = _figure(7.0, 5.4)
    _scatter(axes, dots, "expected_error_mm", title)
    axes.set_xscale("log")
    _plain_ticks(axes.xaxis)
    _error_axis(axes)
    shown = [row for part in dots for row in part.rows if row.expected_error_mm is not None]
    _as_expected(axes, [v for row in shown for v in (row.expected_error_mm, row.mtre_mm)])
    axes.set(xlabel="expected error (mm)", ylabel="true mTRE (mm)")
    return png_bytes(figure)


def one_view(rows: Sequence[Row]) -> bytes:
    """Draw the errors of one view across and along the line of sight against those expected; above
    the dashed line they are more than twice that."""
    figure, axes = _figure(7.0, 5.4)
    said = [row for row in rows if row.expected_depth_mm is not None]
    pairs = {
        "in-plane": ("#0891b2", [(r.expected_in_plane_mm, r.in_plane_error_mm) for r in said]),
        "depth": ("#7c3aed", [(r.expected_depth_mm, r.depth_error_mm) for r in said]),
    }
    for name, (colour, values) in pairs.items():
        across, up = (np.array([_millimetres(pair[n]) for pair in values]) for n in (0, 1))
        style: dict[str, Any] = {"s": 34, "edgecolor": "white", "linewidth": 0.5, "zorder": 3}
        axes.scatter(across, up, color=colour, label=name, **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        _plain_ticks(axis)
    low, high = _as_expected(axes, [v for _, values in pairs.values() for p in values for v in p])
    axes.plot([low, high], [2.0 * low, 2.0 * high], color=_GREY, linewidth=1.0, linestyle="--")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8, frameon=False)
    axes.set(xlabel="expected (mm)", ylabel="error (mm)")
    return png_bytes(figure)


def _as_expected(axes: Axes, values: Sequence[float | None]) -> tuple[float, float]:
    """Draw the line on which an error is what was expected, over all values; return its ends."""
    shown = [_millimetres(value) for value in values]
    low, high = min(shown) / 1.5, max([*shown, 2.0]) * 1.5
    axes.plot([low, high], [low, high], color=_GREY, linewidth=1.0, zorder=1)
    axes.set(xlim=(low, high), ylim=(low, high))
    return low, high


def errors_by_frame(courses: Mapping[str, Course]) -> bytes:
    """Draw the errors over the frames of each run, a panel each: as measured, coloured by the
    program's own status, and as smoothed."""
    names = list(courses)[:_MOST_RUNS]
    figure = blank_figure(9.0, 2.4 * len(names) + 0.4, constrained=True)
    panels = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    for axes, name in zip(panels, names, strict=True):
        course = courses[name]
        smoothed = [np.nan if mm is None else _millimetres(mm) for mm in course.smoothed_mm]
        axes.plot(course.frames, smoothed, "-", color=_GREY, linewidth=1.2, label="smoothed")
        for status, colour in STATUS_COLOURS.items():
            shown = [
                (frame, _millimetres(mm))
                for frame, mm, said in zip(
                    course.frames, course.errors_mm, course.statuses, strict=True
                )
                if said == status and mm is not None
            ]
            if shown:
                axes.scatter(*zip(*shown, strict=True), s=14, color=colour, label=status, zorder=3)
        _plain(axes)
        _error_axis(axes)
        axes.set_ylabel("mTRE (mm)")
        axes.set_title(name, fontsize=9, color="#334155", loc="left")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, fontsize=8, frameon=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[-1].set_xlabel("frame")
    return png_bytes(figure)


def times(rows: Sequence[Row]) -> bytes:
    """Draw seconds per case, sorted; a first, cold run is hollow."""
    ordered = sorted(rows, key=lambda row: row.registration_s or 0.0)
    figure, axes = _figure(6.0, 4.4)
    for place, row in enumerate(ordered):
        axes.bar(
            place,
            row.registration_s or 0.0,
            color="#0891b2" if row.is_warm else "white",
            edgecolor="#0891b2",
            zorder=2,
        )
    _names_below(axes, [row.case for row in ordered], 55)
    axes.set_ylabel("inputs in memory to pose (s)")
    return png_bytes(figure)


def convergence(
    curves: Sequence[Curve], methods: Sequence[About], colours: Mapping[str, Any]
) -> bytes:
    """Draw the best pose's mTRE so far against seconds; a panel per method, a line per case."""
    across = min(len(methods), _PANELS_ACROSS)
    down = -(-len(methods) // across)
    figure = blank_figure(3.4 * across + 0.6, 3.2 * down + 0.3, constrained=True)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for axes in panels[len(methods) :]:
        axes.set_axis_off()
    for axes, method in zip(panels, methods, strict=False):
        for curve in (c for c in curves if c.method == method.key):
            seconds = np.maximum(curve.seconds, _LEAST_S)
            errors = np.maximum(curve.errors_mm, _LEAST_MM)
            colour = colours[method.key]
            axes.step(seconds, errors, where="post", color=colour, linewidth=1.2, alpha=0.75)
            axes.plot(seconds[-1], errors[-1], "o", color=colour, markersize=4)
        _plain(axes)
        axes.set_xscale("log")
        _plain_ticks(axes.xaxis)
        _error_axis(axes)
        axes.set_title(method.label, fontsize=9, color="#334155")
        axes.set_xlabel("seconds")
        axes.tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel("mTRE (mm)")
    return png_bytes(figure)


def by_method(
    rows: Sequence[Row], methods: Sequence[About], name: str, colours: Mapping[str, Any]
) -> bytes:
    """Draw every case's ``name`` ("mtre_mm" or "ssim") as a dot, per method, with the median."""
    figure, axes = _figure(max(5.0, 1.3 * len(methods) + 1.5), 4.6)
    for place, method in enumerate(methods):
        answers = [getattr(r, name) for r in rows if r.method == method.key and r.run == 0]
        values = np.array([v for v in answers if v is not None and np.isfinite(v)])
        if not values.size:
            continue
        values = np.maximum(values, _LEAST_MM) if name == "mtre_mm" else values
        # Spread sideways by rank, so that equal values stay apart and every run draws the same.
        aside = 0.22 * np.linspace(-1.0, 1.0, len(values)) if len(values) > 1 else np.zeros(1)
        places = place + aside[np.argsort(np.argsort(values, kind="stable"), kind="stable")]
        style: dict[str, Any] = {"s": 26, "edgecolor": "white", "linewidth": 0.5, "zorder": 3}
        axes.scatter(places, values, color=colours[method.key], **style)
        middle = float(np.median(values))
        axes.plot([place - 0.3, place + 0.3], [middle, middle], color="#0f172a", linewidth=1.6)
    _names_below(axes, [m.label for m in methods], 25)
    if name == "mtre_mm":
        _error_axis(axes)
        axes.set_ylabel("mTRE (mm)")
    else:
        axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.02)
        axes.set_ylabel("SSIM on the vertebra's box")
    return png_bytes(figure)


def _scatter(axes: Axes, dots: Sequence[Dots], across: str, title: str | None) -> None:
    """mTRE of the results against the rows' values of ``across``, with a key above."""
    for part in dots:
        shown = [
            row for row in part.rows if getattr(row, across) is not None and row.mtre_mm is not None
        ]
        if not shown:
            continue
        axes.scatter(
            [_millimetres(getattr(row, across)) for row in shown],
            [_millimetres(row.mtre_mm) for row in shown],
            s=34,
            color=part.colour,
            marker=part.marker,
            edgecolor="white",
            linewidth=0.5,
            alpha=0.9,
            label=part.label,
            zorder=3,
        )
    if axes.get_legend_handles_labels()[0]:
        above: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 2}
        axes.legend(title=title, title_fontsize=8, fontsize=8, frameon=False, **above)


def _millimetres(value: float | None) -> float:
    """An error that a logarithmic axis can show."""
    return max(float(value or 0.0), _LEAST_MM)


def _error_axis(axes: Axes) -> None:
    """Millimetres upwards, with lines at what counts as a success."""
    axes.set_yscale("log")
    _plain_ticks(axes.yaxis)
    for value in (SUBMILLIMETRE_MM, SUCCESS_MM):
        axes.axhline(value, color=_GREY, linewidth=1.0, linestyle="--", zorder=1)


def _plain_ticks(axis: Axis) -> None:
    """A logarithmic axis labelled 0.1, 0.2, 0.5, 1, 2, ... instead of in powers."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _names_below(axes: Axes, names: Sequence[str], turn: float) -> None:
    axes.set_xticks(range(len(names)))
    axes.set_xticklabels(list(names), rotation=turn, ha="right", fontsize=8)
    axes.set_xlim(-0.6, len(names) - 0.4)


def _plain(axes: Axes) -> None:
    axes.grid(axis="y", color="#f1f5f9", zorder=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = blank_figure(width, height, constrained=True)
    axes = figure.add_subplot()
    _plain(axes)
    return figure, axes
