"""Calibrated X-rays: the beads over each picture, and a page of all."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.collections import EllipseCollection
from numpy.typing import NDArray

from ..geometry import Array
from .canvas import blank_figure, png_bytes

# A title, the columns' names and the rows.
Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]
# Found, predicted but not found, and round but no bead.
_BEAD, _MISSING, _OTHER, _INK = "#22c55e", "#f59e0b", "#64748b", "#334155"
# Residuals are drawn so many times as long as they are.
_LONGER = 50.0


@dataclass(frozen=True)
class BeadPicture:
    """An X-ray (rows, columns) and its beads.

    ``shadows_px`` (K, 3) column, row and radius, ``missing`` (K,) which of them no spot was taken
    for; ``others_px`` (M, 2) spots that are no bead; ``matched_px`` (N, 2) and ``residuals_px``
    (N, 2) of those that are. ``facts``: what the page says of it, name and value.
    """

    name: str
    pixels: NDArray[np.float32]
    shadows_px: Array
    missing: NDArray[np.bool_]
    others_px: Array
    matched_px: Array
    residuals_px: Array
    facts: Sequence[tuple[str, str]] = ()


def beads_png(picture: BeadPicture) -> bytes:
    """Draw the circles of the beads over an X-ray, and how far spots lie from where they should."""
    rows, columns = picture.pixels.shape
    figure = blank_figure(6.0, 6.0 * rows / columns + 0.5, constrained=True)
    axes = figure.subplots()
    low, high = np.percentile(picture.pixels, (0.5, 99.5))
    axes.imshow(picture.pixels, cmap="gray", vmin=low, vmax=max(high, low + 1e-12))
    for which, colour in ((~picture.missing, _BEAD), (picture.missing, _MISSING)):
        shadows = picture.shadows_px[which]
        if len(shadows):
            wide = 2.0 * shadows[:, 2] + 4.0
            circles = EllipseCollection(
                wide, wide, np.zeros(len(wide)), units="xy", offsets=shadows[:, :2],
                transOffset=axes.transData, facecolors="none", edgecolors=colour,
            )  # fmt: skip
            axes.add_collection(circles)
    if len(picture.others_px):
        axes.plot(*picture.others_px.T, "x", color=_OTHER, markersize=4, linewidth=0.8)
    ends = picture.matched_px + _LONGER * picture.residuals_px
    for start, end in zip(picture.matched_px, ends, strict=True):
        axes.plot(*np.stack([start, end]).T, color=_BEAD, linewidth=1.0)
    axes.set(xticks=[], yticks=[], xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    axes.set_title(
        f"{picture.name}: {int((~picture.missing).sum())} beads (green), lines: what is left, "
        f"{_LONGER:.0f} times",
        fontsize=9,
        color=_INK,
    )
    return png_bytes(figure)


def calibration_html(
    pictures: Sequence[tuple[BeadPicture, bytes]],
    status: str,
    reason: str,
    notes: Sequence[str],
    tables: Sequence[Table] = (),
) -> str:
    """Return one self-contained page: the verdict, each picture (its PNG), what was measured, and
    further tables."""
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined
    )
    views = [
        {"name": p.name, "facts": list(p.facts), "png": base64.b64encode(png).decode()}
        for p, png in pictures
    ]
    return environment.get_template("calibration.html").render(
        status=status, reason=reason, views=views, notes=list(notes), tables=list(tables)
    )
