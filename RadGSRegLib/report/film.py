"""A film of a run: its X-rays side by side, with the outline of the bone as it was followed."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..cases import Case, Run, TrackRecord, View
from ..geometry import Array
from ..system import Progress
from .shadow import cast_shadow

# Height of the film, and how coarsely outlines are made: they are drawn a pixel or two wide.
_ROWS = 360
_SAMPLES, _STEP_MM = 90, 2.0
_COLOURS = {"ok": "#22d3ee", "uncertain": "#fbbf24", "failed": "#f87171"}


def film_webp(run: Run, record: TrackRecord, progress: Progress | None = None) -> bytes:
    """Draw each frame of a record: what the X-rays show, and the outline in the colour of the
    verdict, as measured, or dashed as smoothed where the frame is not `ok`.

    One window shows all frames of a view. Returns an animated WebP. Raises Cancelled.
    """
    report = progress or Progress()
    windows = [_window(view) for view in run.case.views]
    pictures = []
    for number, frame in enumerate(record.frames):
        report(number / len(record.frames), "drawing the film")
        measured = frame.ct_to_world if frame.status == "ok" else None
        pose = frame.smoothed_ct_to_world if measured is None else measured
        panels = [
            _panel(run.case, view, window, pose, _COLOURS[frame.status], measured is None)
            for view, window in zip(run.views(frame.index), windows, strict=True)
        ]
        said = f"frame {frame.index}" + ("" if frame.time_s is None else f", {frame.time_s:.2f} s")
        pictures.append(_beside(panels, f"{said}: {frame.status} ({frame.found})"))
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        format="WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=_duration_ms(record),
        loop=0,
        quality=70,
        method=2,
    )
    return buffer.getvalue()


def _duration_ms(record: TrackRecord) -> int:
    """As fast as it was taken, but for eyes: 5 to 20 frames a second; ten where nothing says so."""
    times = [frame.time_s for frame in record.frames if frame.time_s is not None]
    if len(times) < 2:
        return 100
    return int(np.clip(1000.0 * np.median(np.diff(times)), 50.0, 200.0))


def _window(view: View) -> tuple[float, float]:
    low, high = np.percentile(view.pixels, [0.5, 99.5])
    return float(low), float(max(high, low + 1e-12))


def _panel(
    case: Case,
    view: View,
    window: tuple[float, float],
    pose: Array,
    colour: str,
    dashed: bool,
) -> Image.Image:
    low, high = window
    grey = np.clip((np.nan_to_num(view.pixels) - low) / (high - low), 0.0, 1.0)
    scale = _ROWS / view.pixels.shape[0]
    size = (max(round(view.pixels.shape[1] * scale), 1), _ROWS)
    picture = Image.fromarray((255.0 * grey).astype(np.uint8)).resize(size).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for line in _outline(case, view, pose):
        points = (line + 0.5) * scale - 0.5
        if dashed:
            for start in range(0, len(points) - 4, 8):
                draw.line([tuple(p) for p in points[start : start + 5]], fill=colour, width=2)
        else:
            draw.line([tuple(p) for p in points], fill=colour, width=2)
    return picture


def _outline(case: Case, view: View, pose: Array) -> Sequence[NDArray[np.float64]]:
    try:
        return cast_shadow(
            case.ct,
            case.labels,
            case.label,
            pose,
            view.camera,
            samples=_SAMPLES,
            step_mm=_STEP_MM,
        ).outline
    except ValueError:  # it is not in front of the source
        return ()


def _beside(panels: Sequence[Image.Image], title: str) -> Image.Image:
    gap = 4
    width = sum(panel.width for panel in panels) + gap * (len(panels) - 1)
    out = Image.new("RGB", (width, _ROWS + 18), "#0f172a")
    left = 0
    for panel in panels:
        out.paste(panel, (left, 18))
        left += panel.width + gap
    ImageDraw.Draw(out).text((6, 3), title, fill="#e2e8f0")
    return out
