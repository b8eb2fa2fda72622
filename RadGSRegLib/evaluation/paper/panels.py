"""Pictures of one case, all methods side by side, after the paper's figures 2 and 3."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ...drr import excess_attenuation
from ...geometry import Volume, transform_points
from ...measures import volume as volumes
from ...report import overlay
from ...report.shadow import Shadow, cast_shadow
from .answers import Answer, Method
from .run import CaseAnswers
from .starts import centre_of

Array = NDArray[np.float64]

TRUE_COLOUR, FOUND_COLOUR = "#4ade80", "#f43f5e"
_PLANES = ("axial", "coronal", "sagittal")
_SAMPLES = 140
_AROUND_MM = 22.0


def case_panels(found: CaseAnswers) -> dict[str, bytes]:
    """Kind ("reconstruction", "registration", "attention") to PNG, for what was answered."""
    panels: dict[str, bytes] = {}
    if any(answer.volume is not None for _, answer in found.answers):
        panels["reconstruction"] = reconstruction_panel(found)
    if any(answer.ct_to_world is not None for _, answer in found.answers):
        panels["registration"] = registration_panel(found)
    if any(answer.attention is not None for _, answer in found.answers):
        panels["attention"] = attention_panel(found)
    return panels


def reconstruction_panel(found: CaseAnswers) -> bytes:
    """Three slices through the true centre and a projection: the truth, then every method.

    Each volume is scaled on the vertebra's box as for SSIM; the true outline is drawn on all.
    """
    case, yardstick = found.task.case, found.yardstick
    excess = excess_attenuation(case.ct, case.labels, case.label)
    true = yardstick.on_grid(Volume(excess.array, yardstick.pose @ excess.index_to_physical))
    mask = (np.asarray(case.labels.array) == case.label).astype(np.float32)
    labels = Volume(mask, yardstick.pose @ case.labels.index_to_physical)
    inside = yardstick.on_grid(labels).array
    box = volumes.box_of(inside > 0.5, volumes.SSIM_WINDOW)
    centre = transform_points(yardstick.pose, centre_of(case)[None])
    index = transform_points(yardstick.grid.physical_to_index, centre)[0][::-1]
    at = np.round(index).astype(int)
    shown = [("truth", true)]
    scores = {row.method: row for row in found.rows}
    for method, answer in found.answers:
        if answer.volume is None:
            continue
        row = scores[method.key]
        title = f"{method.label}\nSSIM {100 * (row.ssim or 0):.1f} %, {row.psnr_db or 0:.1f} dB"
        shown.append((title, yardstick.on_grid(answer.volume)))
    figure = _figure(1.75 * len(shown), 7.4)
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
            _bare(axes, _PLANES[axis] if column == 0 else "")
            if axis == 0:
                axes.set_title(_wrapped(title), fontsize=7.5, color="#334155")
        axes = figure.add_subplot(4, len(shown), 3 * len(shown) + column + 1)
        axes.imshow(unit.mean(1), cmap="inferno", origin="lower")
        _bare(axes, "mean, from the front" if column == 0 else "")
    figure.subplots_adjust(left=0.04, right=0.995, top=0.88, bottom=0.01, wspace=0.03, hspace=0.03)
    return _png(figure)


def registration_panel(found: CaseAnswers) -> bytes:
    """Every view, with the true outline and the one each method puts there."""
    case, pose = found.task.case, found.yardstick.pose
    shown = [(method, answer) for method, answer in found.answers if answer.ct_to_world is not None]
    errors = {row.method: row.mtre_mm for row in found.rows}
    figure = _figure(2.1 * len(shown), 2.15 * len(case.views) + 0.5)
    for row, view in enumerate(case.views):
        true = cast_shadow(case.ct, case.labels, case.label, pose, view.camera, samples=_SAMPLES)
        sign = overlay.polarity(view, true)
        image = overlay.windowed(view, true, sign)
        left, right, top, bottom = true.bounds
        margin = _AROUND_MM * true.pixels_per_mm
        for column, (method, answer) in enumerate(shown):
            axes = figure.add_subplot(len(case.views), len(shown), row * len(shown) + column + 1)
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            _outline(axes, true, TRUE_COLOUR, 1.1)
            shadow = _shadow(found, answer, row)
            if shadow is not None:
                _outline(axes, shadow, FOUND_COLOUR, 0.9)
            axes.set(xlim=(left - margin, right + margin), ylim=(bottom + margin, top - margin))
            _bare(axes, view.name if column == 0 else "")
            if row == 0:
                title = f"{method.label}\nmTRE {errors[method.key]:.2f} mm"
                axes.set_title(_wrapped(title), fontsize=8, color="#334155")
    left_part = 0.25 / figure.get_figwidth()
    figure.subplots_adjust(
        left=left_part, right=0.995, top=0.86, bottom=0.01, wspace=0.03, hspace=0.03
    )
    return _png(figure)


def attention_panel(found: CaseAnswers) -> bytes:
    """The crop of every view, and over it where each network looked (1: as much as on average)."""
    shown: list[tuple[Method, Answer]] = [
        (method, answer) for method, answer in found.answers if answer.attention is not None
    ]
    first = shown[0][1].attention
    assert first is not None
    views = len(first.names)
    figure = _figure(2.7 * (len(shown) + 1), 2.3 * views + 0.4)
    for row in range(views):
        plain = figure.add_subplot(views, len(shown) + 1, row * (len(shown) + 1) + 1)
        _crop(plain, first.crops[row])
        _bare(plain, first.names[row])
        if row == 0:
            plain.set_title("X-ray", fontsize=8, color="#334155")
        for column, (method, answer) in enumerate(shown):
            axes = figure.add_subplot(views, len(shown) + 1, row * (len(shown) + 1) + column + 2)
            attention = answer.attention
            assert attention is not None
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
            _bare(axes, "")
            if row == 0:
                axes.set_title(_wrapped(method.label), fontsize=8, color="#334155")
    figure.subplots_adjust(left=0.04, right=0.95, top=0.9, bottom=0.02, wspace=0.3, hspace=0.06)
    return _png(figure)


def _shadow(found: CaseAnswers, answer: Answer, number: int) -> Shadow | None:
    """None where a failed registration has put the vertebra behind the source."""
    case = found.task.case
    assert answer.ct_to_world is not None
    camera = case.views[number].camera
    try:
        return cast_shadow(
            case.ct, case.labels, case.label, answer.ct_to_world, camera, samples=_SAMPLES
        )
    except ValueError:
        return None


def _outline(axes: Axes, shadow: Shadow, colour: str, width: float) -> None:
    for line in shadow.outline:
        axes.plot(*line.T, color=colour, linewidth=width)


def _crop(axes: Axes, crop: NDArray[np.float32]) -> None:
    low, high = np.nanpercentile(crop, [1.0, 99.0]) if np.isfinite(crop).any() else (0.0, 1.0)
    axes.imshow(np.nan_to_num(crop, nan=low), cmap="gray", vmin=low, vmax=max(high, low + 1e-9))


def _contour(axes: Axes, inside: NDArray[np.float32]) -> None:
    if inside.min() < 0.5 < inside.max():
        axes.contour(inside, [0.5], colors=TRUE_COLOUR, linewidths=0.6)


def _bare(axes: Axes, label: str) -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if label:
        axes.set_ylabel(label, fontsize=8, color="#334155")


def _wrapped(title: str, width: int = 26) -> str:
    """The title in lines that fit over a narrow picture."""
    lines: list[str] = []
    for part in title.split("\n"):
        words, line = part.split(), ""
        for word in words:
            if line and len(line) + 1 + len(word) > width:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}".strip()
        lines.append(line)
    return "\n".join(lines)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(max(width, 4.0), height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def panel_names(cases: Sequence[str]) -> dict[str, str]:
    """A plain file stem for every case, unlike the others."""
    from ...cases.views import file_stem

    names: dict[str, str] = {}
    for case in cases:
        stem, number = file_stem(case), 2
        while stem.lower() in {name.lower() for name in names.values()}:
            stem, number = f"{file_stem(case)}_{number}", number + 1
        names[case] = stem
    return names
