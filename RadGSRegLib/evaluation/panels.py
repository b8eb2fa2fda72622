"""Pictures of one case, all methods side by side, after the paper's figures 2 and 3."""

import contextlib
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ..cases import View
from ..drr import excess_attenuation
from ..geometry import Array, Volume, transform_points
from ..measures import SSIM_WINDOW, box_of
from ..methods import About, Attention
from ..report import Shadow, bare, blank_figure, cast_shadow, png_bytes, polarity, windowed
from .run import CaseAnswers

TRUE_COLOUR, ANSWER_COLOUR = "#4ade80", "#f43f5e"
_PLANES = ("axial", "coronal", "sagittal")
_SAMPLES = 140
_AROUND_MM = 22.0


def case_panels(case: CaseAnswers) -> dict[str, bytes]:
    """Draw what was answered: "reconstruction", "registration", "attention" to PNG."""
    volumes = [(m.about, a.volume) for m, a in case.answers if a.volume is not None]
    poses = [(m.about, a.ct_to_world) for m, a in case.answers if a.ct_to_world is not None]
    maps = [(m.about, a.attention) for m, a in case.answers if a.attention is not None]
    panels: dict[str, bytes] = {}
    if volumes:
        panels["reconstruction"] = reconstruction_panel(case, volumes)
    if poses:
        panels["registration"] = registration_panel(case, poses)
    if maps:
        panels["attention"] = attention_panel(maps)
    return panels


def reconstruction_panel(answers: CaseAnswers, volumes: Sequence[tuple[About, Volume]]) -> bytes:
    """Draw three slices through the true centre and a projection: the truth, then every method.

    Each volume is scaled on the vertebra's box as for SSIM; the true outline is drawn on all.
    """
    yardstick = answers.yardstick
    case = yardstick.case
    excess = excess_attenuation(case.ct, case.labels, case.label)
    true = yardstick.on_grid(Volume(excess.array, yardstick.pose @ excess.index_to_physical))
    mask = case.mask.astype(np.float32)
    labels = Volume(mask, yardstick.pose @ case.labels.index_to_physical)
    inside = yardstick.on_grid(labels).array
    box = box_of(inside > 0.5, SSIM_WINDOW)
    centre = transform_points(yardstick.pose, case.centre_ct[None])
    index = transform_points(yardstick.grid.physical_to_index, centre)[0][::-1]
    at = np.round(index).astype(int)
    shown = [("truth", true)]
    scores = {row.method: row for row in answers.rows}
    for about, volume in volumes:
        row = scores[about.key]
        title = f"{about.label}\nSSIM {100 * (row.ssim or 0):.1f} %, {row.psnr_db or 0:.1f} dB"
        shown.append((title, yardstick.on_grid(volume)))
    figure = blank_figure(max(1.75 * len(shown), 4.0), 7.4)
    for column, (title, volume) in enumerate(shown):
        low, high = float(volume.array[box].min()), float(volume.array[box].max())
        unit = np.clip((volume.array - low) / max(high - low, 1e-12), 0.0, 1.0)
        for axis in range(3):
            axes = figure.add_subplot(4, len(shown), axis * len(shown) + column + 1)
            axes.imshow(
                unit.take(at[axis], axis),
                cmap="gray",
                vmin=0,
                vmax=1,
                # LPS: rows of the coronal and sagittal planes grow upwards in the patient.
                origin="upper" if axis == 0 else "lower",
            )
            _contour(axes, inside.take(at[axis], axis))
            bare(axes, _PLANES[axis] if column == 0 else "")
            if axis == 0:
                axes.set_title(_wrapped(title), fontsize=7.5, color="#334155")
        axes = figure.add_subplot(4, len(shown), 3 * len(shown) + column + 1)
        axes.imshow(unit.mean(1), cmap="inferno", origin="lower")
        bare(axes, "mean, from the front" if column == 0 else "")
    figure.subplots_adjust(left=0.04, right=0.995, top=0.88, bottom=0.01, wspace=0.03, hspace=0.03)
    return png_bytes(figure)


def registration_panel(answers: CaseAnswers, poses: Sequence[tuple[About, Array]]) -> bytes:
    """Draw every view, with the true outline and the one each method puts there."""
    case, true_pose = answers.yardstick.case, answers.yardstick.pose
    errors = {row.method: row.mtre_mm for row in answers.rows}

    def shadow(pose: Array, view: View) -> Shadow:
        return cast_shadow(case.ct, case.labels, case.label, pose, view.camera, samples=_SAMPLES)

    figure = blank_figure(max(2.1 * len(poses), 4.0), 2.15 * len(case.views) + 0.5)
    for row, view in enumerate(case.views):
        true = shadow(true_pose, view)
        image = windowed(view, true, polarity(view, true))
        left, right, top, bottom = true.bounds
        margin = _AROUND_MM * true.pixels_per_mm
        for column, (about, pose) in enumerate(poses):
            axes = figure.add_subplot(len(case.views), len(poses), row * len(poses) + column + 1)
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            _outline(axes, true, TRUE_COLOUR, 1.1)
            # A failed registration may have put the vertebra behind the source.
            with contextlib.suppress(ValueError):
                _outline(axes, shadow(pose, view), ANSWER_COLOUR, 0.9)
            axes.set(xlim=(left - margin, right + margin), ylim=(bottom + margin, top - margin))
            bare(axes, view.name if column == 0 else "")
            if row == 0:
                title = f"{about.label}\nmTRE {errors[about.key]:.2f} mm"
                axes.set_title(_wrapped(title), fontsize=8, color="#334155")
    left_part = 0.25 / figure.get_figwidth()
    figure.subplots_adjust(
        left=left_part, right=0.995, top=0.86, bottom=0.01, wspace=0.03, hspace=0.03
    )
    return png_bytes(figure)


def attention_panel(maps: Sequence[tuple[About, Attention]]) -> bytes:
    """Draw every view's crop, and over it where each network looked (1: as much as on average)."""
    first = maps[0][1]
    views, across = len(first.names), len(maps) + 1
    figure = blank_figure(max(2.7 * across, 4.0), 2.3 * views + 0.4)
    for row in range(views):
        plain = figure.add_subplot(views, across, row * across + 1)
        _crop(plain, first.crops[row])
        bare(plain, first.names[row])
        if row == 0:
            plain.set_title("X-ray", fontsize=8, color="#334155")
        for column, (about, attention) in enumerate(maps):
            axes = figure.add_subplot(views, across, row * across + column + 2)
            crop, looked = attention.crops[row], attention.maps[row]
            _crop(axes, crop)
            rows, columns = crop.shape
            drawn = axes.imshow(
                looked,
                cmap="jet",
                alpha=0.45,
                vmin=0.0,
                vmax=max(2.0, float(looked.max())),
                extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
                interpolation="bilinear",
            )
            figure.colorbar(drawn, ax=axes, fraction=0.045, pad=0.02).ax.tick_params(labelsize=6)
            bare(axes)
            if row == 0:
                axes.set_title(_wrapped(about.label), fontsize=8, color="#334155")
    figure.subplots_adjust(left=0.04, right=0.95, top=0.9, bottom=0.02, wspace=0.3, hspace=0.06)
    return png_bytes(figure)


def _outline(axes: Axes, shadow: Shadow, colour: str, width: float) -> None:
    for line in shadow.outline:
        axes.plot(*line.T, color=colour, linewidth=width)


def _crop(axes: Axes, crop: NDArray[np.float32]) -> None:
    low, high = np.nanpercentile(crop, [1.0, 99.0]) if np.isfinite(crop).any() else (0.0, 1.0)
    axes.imshow(np.nan_to_num(crop, nan=low), cmap="gray", vmin=low, vmax=max(high, low + 1e-9))


def _contour(axes: Axes, inside: NDArray[np.float32]) -> None:
    if inside.min() < 0.5 < inside.max():
        axes.contour(inside, [0.5], colors=TRUE_COLOUR, linewidths=0.6)


def _wrapped(title: str) -> str:
    """The title in lines that fit over a narrow picture."""
    lines = [textwrap.wrap(part, 26, break_long_words=False) for part in title.split("\n")]
    return "\n".join(line for part in lines for line in part)
