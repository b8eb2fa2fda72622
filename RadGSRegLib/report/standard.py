"""An X-ray beside what the standardisation makes of it."""

import numpy as np

from ..views import PreparedView
from .canvas import blank_figure, png_bytes

# What is not shown; bones are bright on black.
_HIDDEN = "#1e293b"
_INK = "#334155"


def standard_png(before: PreparedView, after: PreparedView) -> bytes:
    """Draw an X-ray as it was and the line integrals of its bones beside it."""
    figure = blank_figure(8.0, 4.4, constrained=True)
    left, right = figure.subplots(1, 2)
    pictures = (
        (left, before, before.values, f"{before.name}: as displayed", (1.0, 99.0)),
        (right, after, after.values, "bones alone, line integrals", (0.0, 99.8)),
    )
    for axes, view, values, title, ends in pictures:
        shown = np.ma.masked_array(values, ~view.valid)
        inside = values[view.valid] if view.valid.any() else values.ravel()
        low, high = np.percentile(inside, ends)
        image = axes.imshow(shown, cmap="gray", vmin=low, vmax=max(high, low + 1e-12))
        axes.set_facecolor(_HIDDEN)
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=9, color=_INK)
    figure.colorbar(image, ax=right, shrink=0.8).ax.tick_params(labelsize=7)
    return png_bytes(figure, 120)
