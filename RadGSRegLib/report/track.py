"""Plots of a bone that was followed through a run: PNG bytes, the same for the same record."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ..cases import TrackRecord, motion_of
from ..geometry import Array
from .canvas import blank_figure, png_bytes

_STATUS = {"uncertain": "#fde68a", "failed": "#fecaca"}
_AXES = (("L", "#0891b2"), ("P", "#7c3aed"), ("S", "#ea580c"))
_VIEWS = ("#0f766e", "#be185d", "#4338ca", "#a16207")


def track_png(record: TrackRecord) -> bytes:
    """Draw shift, turn, correlation and expected error over the frames; frames that are not `ok`
    are marked, yellow where uncertain and red where failed. Bands are two standard deviations."""
    figure = blank_figure(11.0, 9.6, constrained=True)
    rows = figure.subplots(4, 1, sharex=True)
    frames = np.array([frame.index for frame in record.frames])
    places, turns = motion_of(record)
    spread = np.array([np.diag(frame.smoothed_covariance) for frame in record.frames])
    _course(rows[0], frames, places, np.sqrt(spread[:, 3:]), "shift of the centre, mm")
    _course(rows[1], frames, turns, np.degrees(np.sqrt(spread[:, :3])), "turn, degrees")
    names = list(dict.fromkeys(name for frame in record.frames for name in frame.scores))
    for number, name in enumerate(names):
        scores = [frame.scores.get(name, np.nan) for frame in record.frames]
        colour = _VIEWS[number % len(_VIEWS)]
        rows[2].plot(frames, scores, ".-", color=colour, label=name, linewidth=1.0, markersize=4)
    rows[2].set(ylabel="correlation of 1", ylim=(min(0.0, *rows[2].get_ylim()), 1.0))
    known = [(f.index, f.expected_error_mm) for f in record.frames if f.expected_error_mm]
    if known:
        rows[3].plot(
            *zip(*known, strict=True), "o", color="#334155", markersize=3, label="measured"
        )
    smoothed = [frame.smoothed_error_mm for frame in record.frames]
    rows[3].plot(frames, smoothed, "-", color="#94a3b8", linewidth=1.2, label="smoothed")
    rows[3].set(ylabel="expected error, mm", xlabel="frame", ylim=(0.0, None))
    for axes in rows:
        _mark(axes, record)
        axes.grid(color="#e2e8f0", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper right", fontsize=8, frameon=False, ncols=4)
    return png_bytes(figure, 100)


def _course(axes: Axes, frames: Array, values: Array, deviations: Array, label: str) -> None:
    for column, (name, colour) in enumerate(_AXES):
        value, half = values[:, column], 2.0 * deviations[:, column]
        axes.fill_between(frames, value - half, value + half, color=colour, alpha=0.15, linewidth=0)
        axes.plot(frames, value, "-", color=colour, label=name, linewidth=1.3)
    reach = max(float(np.abs(values).max()), 1.0)
    low, high = float(values.min()), float(values.max())
    axes.set(ylabel=label, ylim=(low - 0.3 * reach, high + 0.3 * reach))


def _mark(axes: Axes, record: TrackRecord) -> None:
    for frame in record.frames:
        if frame.status in _STATUS:
            low, high = frame.index - 0.5, frame.index + 0.5
            axes.axvspan(low, high, color=_STATUS[frame.status], alpha=0.6, linewidth=0, zorder=0)
