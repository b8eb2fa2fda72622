"""X-rays with the names of their vertebrae."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.patheffects import withStroke

from ..cases import View
from ..geometry import Array
from .canvas import png_bytes
from .overlay import FOLDS, OUTLINE, brightness, view_figure

_HALO = (withStroke(linewidth=2.4, foreground="#000000cc"),)
_BESIDE_PX = 8.0


@dataclass(frozen=True)
class Mark:
    """A vertebra in space, ``place_world`` (3,) mm, its name and whether that is known."""

    place_world: Array
    text: str
    known: bool


def levels_png(view: View, marks: Sequence[Mark], note: str = "") -> bytes:
    """Draw an X-ray with a cross and a name at each vertebra that it shows; known names blue,
    others yellow. ``note`` stands below the view's name."""
    image = brightness(view)
    rows, columns = image.shape
    figure, axes = view_figure(view)
    low, high = np.percentile(image, [1.0, 99.0])
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-12))
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    style: dict[str, Any] = {"color": "white", "va": "top", "transform": axes.transAxes}
    style["path_effects"] = _HALO
    axes.text(0.025, 0.975, view.name, fontsize=13, fontweight="bold", **style)
    axes.text(0.025, 0.925, note, fontsize=9, **style)
    scale = columns / 488.0
    for mark in marks:
        column, row = view.camera.project(np.asarray(mark.place_world)[None])[0]
        if not (0 <= column < columns and 0 <= row < rows):
            continue
        color = OUTLINE if mark.known else FOLDS
        axes.plot(column, row, "+", color=color, markersize=9, markeredgewidth=1.6)
        axes.text(
            column + _BESIDE_PX * scale,
            row,
            mark.text,
            color=color,
            fontsize=11,
            va="center",
            path_effects=_HALO,
        )
    return png_bytes(figure, 130)
