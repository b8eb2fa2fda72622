"""X-rays with the outlines of several vertebrae, each in a colour of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cases import Case, View, level_names
from ..geometry import Array
from .canvas import png_bytes
from .overlay import HALO, brightness, evened, label_axes, polarity, view_figure
from .results import shadow_in_view
from .shadow import Shadow

if TYPE_CHECKING:
    from ..registration import Registration, Status

# Okabe and Ito (Color Universal Design, 2008), which people with any kind of colour blindness tell
# apart; black and blue are left out, as X-rays are dark. Neighbours lie far apart in it.
COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00")
_DASHED = (0, (3.5, 2.8))


@dataclass(frozen=True)
class LevelOutline:
    """A vertebra to draw: its ``name``, ``colour`` and ``status``, and what it casts onto the view;
    None where it projects nowhere."""

    name: str
    colour: str
    status: Status
    shadow: Shadow | None


def level_colours(labels: Sequence[int]) -> dict[int, str]:
    """The colour of each label, in their order; neighbours never have the same."""
    return {label: COLOURS[n % len(COLOURS)] for n, label in enumerate(labels)}


def level_outlines(
    case: Case, levels: Mapping[int, Registration], view: View
) -> list[LevelOutline]:
    """Cast the registered vertebrae, by label in the order along the spine, onto a view.

    Raises ValueError for a label that is not in the label map.
    """
    names, colours = level_names(case.label_names, list(levels)), level_colours(list(levels))
    outlines = []
    for label, level in levels.items():
        alone = replace(case, label=label)
        if not alone.mask.any():
            raise ValueError(f"label {label} is not in the label map")
        shadow = shadow_in_view(alone, level.ct_to_world, view)
        outlines.append(LevelOutline(names[label], colours[label], level.status, shadow))
    return outlines


def spine_overlay_png(view: View, outlines: Sequence[LevelOutline]) -> bytes:
    """Draw a whole X-ray with the outlines of all vertebrae.

    Each has its colour, and its name beside it; an outline is dashed where the vertebra is not
    ``ok``, and its name then says so. Those that the X-ray does not show are named below the view's
    name.
    """
    rows, columns = view.pixels.shape
    figure, axes = view_figure(view)
    cast = [(o, o.shadow) for o in outlines if o.shadow is not None and _shows(view, o.shadow)]
    shown = _windowed(view, cast)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=1)
    for outline, shadow in cast:
        sure = outline.status == "ok"
        style: dict[str, Any] = {"color": outline.colour, "path_effects": HALO}
        for line in shadow.outline:
            axes.plot(*line.T, linewidth=1.6, linestyle="-" if sure else _DASHED, **style)
        axes.plot(*shadow.centre_px, "+", color=outline.colour, markersize=8, markeredgewidth=1.4)
        text = outline.name if sure else f"{outline.name} {outline.status}"
        column, row, side = _beside(view, shadow)
        axes.text(column, row, text, fontsize=12, fontweight="bold", va="center", ha=side, **style)
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    scales = [shadow.pixels_per_mm for _, shadow in cast]
    if scales:
        label_axes(axes, view.name, float(np.median(scales)), "the vertebrae")
    else:
        _write(axes, 0.97, 15, view.name)
    absent = [o.name for o in outlines if all(o is not there for there, _ in cast)]
    if absent:
        _write(axes, 0.915, 11, f"not in this view: {', '.join(absent)}")
    return png_bytes(figure, 130)


def _shows(view: View, shadow: Shadow) -> bool:
    left, right, top, bottom = shadow.bounds
    rows, columns = view.pixels.shape
    return left < columns - 1 and right > 0 and top < rows - 1 and bottom > 0


def _windowed(view: View, cast: Sequence[tuple[LevelOutline, Shadow]]) -> Array:
    """The X-ray evened out at the scale of the vertebrae that it shows; which way bone is bright is
    what most of them say, those that are ok alone where there are such."""
    if not cast:
        image = brightness(view)
        low, high = np.percentile(image, [1.0, 99.0])
        return np.asarray(np.clip((image - low) / max(high - low, 1e-12), 0.0, 1.0))
    asked = [shadow for outline, shadow in cast if outline.status == "ok"]
    signs = [polarity(view, shadow) for shadow in asked or [shadow for _, shadow in cast]]
    sign = 1.0 if sum(signs) >= 0 else -1.0
    scale = float(np.median([shadow.pixels_per_mm for _, shadow in cast]))
    return evened(view, sign, scale)


def _beside(view: View, shadow: Shadow) -> tuple[float, float, str]:
    """Where a vertebra's name stands: at its right, or at its left where there is no room."""
    left, right, _, _ = shadow.bounds
    rows, columns = view.pixels.shape
    gap = 0.012 * columns
    row = float(np.clip(shadow.centre_px[1], 0.03 * rows, 0.97 * rows))
    if right + gap < 0.86 * columns:
        return right + gap, row, "left"
    if left - gap > 0.14 * columns:
        return left - gap, row, "right"
    return 0.985 * columns, row, "right"


def _write(axes: Any, height: float, size: float, text: str) -> None:
    style: dict[str, Any] = {"color": "white", "va": "top", "path_effects": HALO}
    axes.text(0.025, height, text, fontsize=size, transform=axes.transAxes, **style)
