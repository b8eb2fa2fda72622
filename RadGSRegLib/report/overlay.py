"""Pictures of a registration: outlines on the X-rays, renderings beside them, slices.

Every function returns the bytes of a PNG, the same bytes for the same input.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike
from scipy import ndimage

from ..cases import View, file_stem
from ..geometry import Array, Volume, centroid, invert_rigid, transform_points
from ..measures import resample
from .canvas import bare, blank_figure, png_bytes
from .shadow import Shadow

OUTLINE = "#22d3ee"
FOLDS = "#fbbf24"
HALO = (withStroke(linewidth=3.0, foreground="#000000aa"),)
_THIN_HALO = (withStroke(linewidth=1.8, foreground="#000000aa"),)


def picture_names(views: Sequence[View]) -> list[str]:
    """Name files ``overlay_<view>.png``, safe on every file system and unlike one another."""
    return [f"overlay_{stem}.png" for stem in unlike_stems([view.name for view in views])]


def unlike_stems(names: Sequence[str]) -> list[str]:
    """Make stems for files, one per name: safe on every file system and unlike one another."""
    stems: list[str] = []
    for name in names:
        plain = file_stem(name)
        candidate, number = plain, 2
        while candidate.lower() in [stem.lower() for stem in stems]:
            candidate, number = f"{plain}_{number}", number + 1
        stems.append(candidate)
    return stems


def brightness(view: View) -> Array:
    """Return the view's pixels (rows, columns), counts as logarithms, before any windowing."""
    pixels = np.asarray(view.pixels, dtype=float)
    if view.intensity == "transmission":
        floor = max(float(np.percentile(pixels, 99)) * 1e-4, 1e-12)
        return np.asarray(-np.log(np.maximum(pixels, floor)))
    return pixels


def polarity(view: View, shadow: Shadow) -> float:
    """Return +1 where bone is bright in `brightness`, -1 where it is dark.

    Known for attenuation and transmission; for display images the sign of the correlation between
    the fine structure of the X-ray and of the rendering.
    """
    if view.intensity != "display":
        return 1.0
    places = np.meshgrid(shadow.rows, shadow.columns, indexing="ij")
    shown = ndimage.map_coordinates(brightness(view), places, order=1, mode="nearest")
    sigma = 8.0 * shadow.pixels_per_mm / float(shadow.columns[1] - shadow.columns[0])
    sigma = min(sigma, 0.25 * min(shown.shape))
    fine = [image - ndimage.gaussian_filter(image, sigma) for image in (shown, shadow.attenuation)]
    return -1.0 if float((fine[0] * fine[1]).sum()) < 0 else 1.0


def windowed(view: View, shadow: Shadow, sign: float) -> Array:
    """Make the X-ray fit to look at, in [0, 1]: bone bright, wide shading softened.

    The window is set on the vertebra's neighbourhood. ``sign`` as from `polarity`.
    """
    image = sign * brightness(view)
    left, right, top, bottom = shadow.bounds
    image = image - 0.75 * ndimage.gaussian_filter(image, 20.0 * shadow.pixels_per_mm)
    margin = 0.2 * max(right - left, bottom - top)
    rows, columns = image.shape
    part = image[
        int(np.clip(top - margin, 0, rows - 2)) : int(np.clip(bottom + margin, 2, rows)),
        int(np.clip(left - margin, 0, columns - 2)) : int(np.clip(right + margin, 2, columns)),
    ]
    least, lower, middle, upper, most = np.percentile(part, [1.0, 25.0, 50.0, 75.0, 99.7])
    reach = 3.0 * (upper - lower)  # a wire or a collimator's edge must not set the window
    low, high = max(least, middle - reach), min(most, middle + reach)
    return np.asarray(np.clip((image - low) / max(high - low, 1e-12), 0.0, 1.0) ** 1.1)


def evened(view: View, sign: float, pixels_per_mm: float) -> Array:
    """Make the X-ray fit to look at, in [0, 1], where a spine runs through bright and dark parts:
    bone bright, details as strong everywhere as they are nearby. ``sign`` as from `polarity`."""
    image = sign * brightness(view)
    fine = image - ndimage.gaussian_filter(image, 8.0 * pixels_per_mm)
    power = ndimage.gaussian_filter(fine * fine, 12.0 * pixels_per_mm)
    strength = np.sqrt(power)
    # Where there is nothing, noise stays faint.
    strength = np.maximum(strength, 0.25 * float(np.median(strength)) + 1e-12)
    return np.asarray(np.clip(0.45 + 0.3 * fine / strength, 0.0, 1.0))


def overlay_png(view: View, shadow: Shadow, shown: Array | None = None) -> bytes:
    """Draw the whole X-ray with the vertebra's outline, a scale bar and the view's name.

    ``shown``: the X-ray as `windowed` shows it, where it is known already.
    """
    shown = windowed(view, shadow, polarity(view, shadow)) if shown is None else shown
    rows, columns = view.pixels.shape
    figure, axes = view_figure(view)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=1)
    _draw_lines(axes, shadow)
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    label_axes(axes, view.name, shadow.pixels_per_mm)
    return png_bytes(figure, 130)


def plain_png(view: View) -> bytes:
    """Draw the X-ray alone, for a pose so wrong that the vertebra projects nowhere."""
    figure, axes = view_figure(view)
    image = brightness(view)
    low, high = np.percentile(image, [1.0, 99.0])
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-12))
    axes.text(
        0.025,
        0.97,
        f"{view.name}: the vertebra is not in this view",
        va="top",
        fontsize=13,
        color="white",
        path_effects=HALO,
        transform=axes.transAxes,
    )
    return png_bytes(figure, 130)


def comparison_png(view: View, shadow: Shadow, shown: Array | None = None) -> bytes:
    """Draw four looks at the vertebra: X-ray, rendering, checkerboard of both, both as colours.

    ``shown``: the X-ray as `windowed` shows it, where it is known already.
    """
    shown = windowed(view, shadow, polarity(view, shadow)) if shown is None else shown
    rows, columns = np.meshgrid(shadow.rows, shadow.columns, indexing="ij")
    xray = ndimage.map_coordinates(shown, [rows, columns], order=1, cval=0.0)
    rendered = shadow.attenuation / max(float(np.percentile(shadow.attenuation, 99.7)), 1e-12)
    rendered = np.clip(rendered, 0.0, 1.0) ** 0.8
    tile = 10.0 * shadow.pixels_per_mm
    across, down = (columns - shadow.columns[0]) / tile, (rows - shadow.rows[0]) / tile
    cells = np.floor(across) + np.floor(down)
    background = float(np.median(xray[shadow.attenuation <= 0.0])) if shadow.outline else 0.0
    background = min(background, 0.8)
    checker = np.where(cells % 2 == 0, xray, background + (1.0 - background) * rendered)
    blue = np.clip((xray - background) / (1.0 - background), 0.0, 1.0)
    colours = np.stack([rendered, 0.45 * rendered + 0.55 * blue, blue], axis=-1)
    figure = blank_figure(14.0, 14.0 / 4 * len(shadow.rows) / len(shadow.columns) + 0.42)
    images = [
        (f"{view.name}: X-ray", xray),
        ("rendered from the CT", rendered),
        ("checkerboard, 10 mm", checker),
        ("X-ray blue, CT orange", colours),
    ]
    half = 0.5 * float(shadow.columns[1] - shadow.columns[0])
    extent = (
        shadow.columns[0] - half,
        shadow.columns[-1] + half,
        shadow.rows[-1] + half,
        shadow.rows[0] - half,
    )
    for number, (title, image) in enumerate(images):
        axes = figure.add_subplot(1, 4, number + 1)
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, extent=extent)
        axes.set_title(title, fontsize=11, color="#334155")
        axes.set_axis_off()
        if number == 0:
            for line in shadow.outline:
                axes.plot(*line.T, color=OUTLINE, linewidth=1.0)
    figure.subplots_adjust(left=0.005, right=0.995, top=0.90, bottom=0.01, wspace=0.02)
    return png_bytes(figure, 100)


def slices_png(
    reconstruction: Volume, ct: Volume, labels: Volume, label: int, ct_to_world: ArrayLike
) -> bytes:
    """Draw the reconstruction (1/mm, world) above the moved CT: three planes, three MIPs.

    The planes pass through the vertebra's centre; its registered outline is drawn on them.
    """
    world_to_ct = invert_rigid(ct_to_world)
    mask = (np.asarray(labels.array) == label).astype(np.float32)
    moved_mask = resample(labels.with_array(mask), reconstruction, world_to_ct)
    hounsfield = np.asarray(ct.array, dtype=np.float32)
    moved_ct = resample(ct.with_array(hounsfield), reconstruction, world_to_ct, outside=-1000.0)
    centre_ct = centroid(labels, mask)
    centre_world = transform_points(ct_to_world, centre_ct[None])
    index = transform_points(reconstruction.physical_to_index, centre_world)[0][::-1]
    centre = np.clip(np.round(index).astype(int), 0, np.array(reconstruction.array.shape) - 1)
    bone = np.where(moved_mask > 0.05, moved_ct, -1000.0)
    volumes = [
        ("reconstruction", reconstruction.array, reconstruction.array),
        ("moved CT", moved_ct, bone),
    ]
    figure = blank_figure(14.0, 5.3)
    planes = ("axial", "coronal", "sagittal")
    spacing = reconstruction.spacing[::-1]
    for row, (name, whole, alone) in enumerate(volumes):
        for column in range(6):
            axis = column % 3
            axes = figure.add_subplot(2, 6, 6 * row + column + 1)
            is_slice = column < 3
            image = whole.take(centre[axis], axis) if is_slice else alone.max(axis)
            outline = moved_mask.take(centre[axis], axis) if is_slice else moved_mask.max(axis)
            down, across = (spacing[a] for a in range(3) if a != axis)
            low, high = np.percentile(whole, [2.0, 99.8]) if row == 0 else (-200.0, 900.0)
            # LPS: rows of the coronal and sagittal planes grow upwards in the patient.
            axes.imshow(
                image,
                cmap="gray",
                vmin=low,
                vmax=max(high, low + 1e-9),
                aspect=down / across,
                origin="upper" if axis == 0 else "lower",
            )
            if outline.max() > 0.5:
                axes.contour(outline, [0.5], colors=OUTLINE, linewidths=0.8)
            bare(axes, name if column == 0 else "", 11)
            if row == 0:
                kind = "slice" if is_slice else "maximum"
                axes.set_title(f"{planes[axis]} {kind}", fontsize=10, color="#334155")
    figure.subplots_adjust(left=0.03, right=0.995, top=0.93, bottom=0.01, wspace=0.03, hspace=0.03)
    return png_bytes(figure, 100)


def _draw_lines(axes: Axes, shadow: Shadow) -> None:
    for line in shadow.folds:
        axes.plot(*line.T, color=FOLDS, linewidth=0.9, alpha=0.9)
    for line in shadow.outline:
        axes.plot(*line.T, color=OUTLINE, linewidth=1.6, path_effects=HALO)
    axes.plot(*shadow.centre_px, "+", color=OUTLINE, markersize=9, markeredgewidth=1.4)


def label_axes(axes: Axes, name: str, pixels_per_mm: float, where: str = "the vertebra") -> None:
    """Write the view's name at the top left, and 20 mm at the depth of ``where`` at the bottom
    left."""
    style: dict[str, Any] = {"color": "white", "transform": axes.transAxes}
    style["path_effects"] = _THIN_HALO
    axes.text(0.025, 0.97, name, va="top", fontsize=15, fontweight="bold", **style)
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    x, y = left + 0.03 * (right - left), bottom + 0.035 * (top - bottom)
    end = x + 20.0 * pixels_per_mm
    axes.plot([x, end], [y, y], color="white", linewidth=3.0, path_effects=HALO)
    axes.text(0.03, 0.05, f"20 mm at {where}", va="bottom", fontsize=12, **style)


def view_figure(view: View) -> tuple[Figure, Axes]:
    """Return a figure that a view's X-ray fills, and its axes."""
    rows, columns = view.pixels.shape
    longer = max(rows, columns)
    figure = blank_figure(7.2 * columns / longer, 7.2 * rows / longer)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    return figure, axes
