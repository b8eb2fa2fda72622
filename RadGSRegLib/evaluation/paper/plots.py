"""Plots over all methods: PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ...measures.pose import SUCCESS_MM
from .answers import Method
from .measure import Row
from .run import Curve, Runs

_LEAST_MM = 0.02
_LEAST_S = 0.01
_MARKERS = "osD^vPX*"
_PANELS_ACROSS = 4


def all_plots(runs: Runs, methods: Sequence[Method]) -> dict[str, bytes]:
    """File name to PNG, for what there is to show."""
    plots: dict[str, bytes] = {}
    colours = {method.key: _colour(number) for number, method in enumerate(methods)}
    registering = [method for method in methods if method.registers]
    reconstructing = [method for method in methods if method.reconstructs]
    if registering:
        plots["errors.png"] = by_method(runs.rows, registering, "mtre_mm", colours)
        if any(row.start_mtre_mm is not None for row in runs.rows):
            plots["error_against_start.png"] = error_against_start(runs.rows, registering, colours)
    moving = [
        m for m in registering if any(c.method == m.key and len(c.seconds) > 1 for c in runs.curves)
    ]
    moving = [method for method in moving if method.key != "start"]
    if moving:
        plots["convergence.png"] = convergence(runs.curves, moving, colours)
    if reconstructing:
        plots["reconstructions.png"] = by_method(runs.rows, reconstructing, "ssim", colours)
    return plots


def error_against_start(
    rows: Sequence[Row], methods: Sequence[Method], colours: Mapping[str, Any]
) -> bytes:
    """mTRE of the result against mTRE of the start, all runs; above the dashed line: failures."""
    figure, axes = _figure(7.0, 5.4)
    for number, method in enumerate(m for m in methods if m.key != "start"):
        shown = [
            row
            for row in rows
            if row.method == method.key
            and row.start_mtre_mm is not None
            and row.mtre_mm is not None
        ]
        axes.scatter(
            [float(row.start_mtre_mm or 0.0) for row in shown],
            [max(float(row.mtre_mm or 0.0), _LEAST_MM) for row in shown],
            s=34,
            color=colours[method.key],
            marker=_MARKERS[number % len(_MARKERS)],
            edgecolor="white",
            linewidth=0.5,
            alpha=0.9,
            label=method.label,
            zorder=3,
        )
    _millimetres(axes)
    limit, floor = axes.get_xlim()[1], axes.get_ylim()[0]
    line = np.linspace(_LEAST_MM, max(limit, 1.0), 200)
    axes.plot(line, line, color="#cbd5e1", linewidth=1.0, zorder=1)
    axes.text(line[-1], line[-1], "no better", fontsize=8, color="#94a3b8", ha="right", va="bottom")
    axes.set_xlim(0.0, limit)
    axes.set_ylim(bottom=floor)
    axes.set(xlabel="mTRE of the start (mm)", ylabel="mTRE of the result (mm)")
    _key(axes)
    return _png(figure)


def convergence(
    curves: Sequence[Curve], methods: Sequence[Method], colours: Mapping[str, Any]
) -> bytes:
    """mTRE of the best pose so far against seconds; one panel per method, one line per case."""
    across = min(len(methods), _PANELS_ACROSS)
    down = -(-len(methods) // across)
    figure = Figure(
        figsize=(3.4 * across + 0.6, 3.2 * down + 0.3), facecolor="white", layout="constrained"
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for axes in panels[len(methods) :]:
        axes.set_axis_off()
    for axes, method in zip(panels, methods, strict=False):
        for curve in (c for c in curves if c.method == method.key):
            axes.plot(
                np.maximum(curve.seconds, _LEAST_S),
                np.maximum(curve.errors_mm, _LEAST_MM),
                color=colours[method.key],
                linewidth=1.2,
                alpha=0.75,
                drawstyle="steps-post",
            )
            axes.plot(
                max(curve.seconds[-1], _LEAST_S),
                max(curve.errors_mm[-1], _LEAST_MM),
                "o",
                color=colours[method.key],
                markersize=4,
            )
        _plain(axes)
        axes.set_xscale("log")
        _ticks(axes.xaxis)
        _millimetres(axes)
        axes.set_title(method.label, fontsize=9, color="#334155")
        axes.set_xlabel("seconds")
        axes.tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel("mTRE (mm)")
    return _png(figure)


def by_method(
    rows: Sequence[Row], methods: Sequence[Method], name: str, colours: Mapping[str, Any]
) -> bytes:
    """Every case's ``name`` ("mtre_mm" or "ssim") as a dot, per method, with the median."""
    figure, axes = _figure(max(5.0, 1.3 * len(methods) + 1.5), 4.6)
    for place, method in enumerate(methods):
        found = [getattr(r, name) for r in rows if r.method == method.key and r.run == 0]
        values = np.array([v for v in found if v is not None and np.isfinite(v)])
        if not values.size:
            continue
        values = np.maximum(values, _LEAST_MM) if name == "mtre_mm" else values
        # Spread sideways by rank, so that equal values stay apart and every run draws the same.
        aside = 0.22 * np.linspace(-1.0, 1.0, len(values)) if len(values) > 1 else np.zeros(1)
        axes.scatter(
            place + aside[np.argsort(np.argsort(values, kind="stable"), kind="stable")],
            values,
            s=26,
            color=colours[method.key],
            edgecolor="white",
            linewidth=0.5,
            zorder=3,
        )
        middle = float(np.median(values))
        axes.plot([place - 0.3, place + 0.3], [middle, middle], color="#0f172a", linewidth=1.6)
    axes.set_xticks(range(len(methods)))
    axes.set_xticklabels([m.label for m in methods], rotation=25, ha="right", fontsize=8)
    axes.set_xlim(-0.6, len(methods) - 0.4)
    if name == "mtre_mm":
        _millimetres(axes)
        axes.set_ylabel("mTRE (mm)")
    else:
        axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.02)
        axes.set_ylabel("SSIM on the vertebra's box")
    return _png(figure)


def _colour(number: int) -> Any:
    return colormaps["tab10"](number % 10)


def _millimetres(axes: Axes) -> None:
    axes.set_yscale("log")
    _ticks(axes.yaxis)
    axes.axhline(SUCCESS_MM, color="#94a3b8", linewidth=1.0, linestyle="--", zorder=1)


def _ticks(axis: Axis) -> None:
    axis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _key(axes: Axes) -> None:
    axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _plain(axes: Axes) -> None:
    axes.grid(axis="y", color="#f1f5f9", zorder=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _plain(axes)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
