"""X-rays taken anywhere to Gaussians and their volume, without a CT (math.md section 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..cases import View
from ..errors import InputError
from ..gaussians import GaussianCloud
from ..geometry import Array
from ..reconstruction import Deadline, DensityControl, Reconstruction, cube, image_losses
from ..system import Progress, ProgressCallable, one_torch_thread
from ..views import ViewFilter, prepare_views
from .beams import Beams, whole_beams
from .bone import bone_of, drawn_bones
from .cloud_fit import CoarseVoxels, fit_cloud, render_view
from .coarse import Coarse, as_lines, coarse_volume
from .display import Display, ranked
from .drawing import draw_clouds
from .guided import shape_guided
from .previews import Previews
from .shape_guide import ShapeGuide
from .types import BeamOptions
from .verdict import psnr_db, verdict, widest_gap_deg, with_bone
from .work import BeamWork


def reconstruct_beam(
    views: Sequence[View],
    *,
    centre_world: ArrayLike,
    options: BeamOptions | None = None,
    filters: Sequence[ViewFilter] = (),
    bones: ViewFilter | None = None,
    shape: ShapeGuide | None = None,
    progress: Progress | ProgressCallable | None = None,
    work: Path | None = None,
) -> Reconstruction:
    """Reconstruct what the beams cross: finely in a cube about ``centre_world``, coarsely around.

    A coarse algebraic reconstruction, with it the display curves of X-rays that are not line
    integrals, then Gaussians drawn from its voxels and fitted to all views (R. Zha et al.,
    R2-Gaussian, 2024; S. Jecklin et al., IXGS, 2025).

    Args:
        views: three X-rays or more with their cameras, of any size, device and direction.
        centre_world: (3,), world mm, the middle of the inner cube.
        options: None: the defaults.
        filters: what makes the views better first.
        bones: what draws the bones of a view (`networks.Standardization`): bone is told from soft
            tissue with it, and a volume of bone is returned too.
        shape: another CT that resembles what the X-rays show: it starts and holds voxels and
            cloud where X-rays are predicted better with it, and is left out otherwise.
        progress: told of the share done and of the volume so far (`Progress.volume`), after the
            coarse voxels and every 20 s of the fit; may cancel.
        work: a folder that keeps the coarse volume, and every 20 s and at the end the state of the
            fit. The same X-rays and options (but minutes, steps and device) go on from there; where
            steps alone end a fit, it ends as if it had not been interrupted.

    Returns:
        The cloud (world mm), the volume of the inner cube (1/mm, world axes) and JSON values:
        "status" ("ok" or "uncertain") and "reason", "views" ({name: {"psnr_db", "ssim",
        "held_out"}}), "psnr_db", "ssim", "held_out_psnr_db" and "held_out_ssim" over views,
        "agreement" ({name: of details with what the other X-rays predict, None where that was not
        judged}), "coarse_finished" (False where the minutes were over before),
        with ``bones`` "bone" ({"agreement": of what is dense with what was drawn, "tissue_per_mm",
        "left_out": views unlike all that it knows}), "odd_views" (which
        contradict the rest and were left out), "widest_gap_deg", "gaussians", "inner_gaussians",
        "steps", "best_step", "pixel_mm" (of the thinned X-rays at the centre), "absolute_scale"
        (whether all were line integrals), "prior", "beam" and "display" (windows and curves of the
        X-rays that were fitted, {} for line integrals). With ``shape`` also "shape": "used",
        "predicts_db" and "predicts_without_db" (X-rays from the others, coarsely), "bent_mm"
        ({"median", "p95"}), "turned_deg", "scales" (times as long), "gain", "alone_db" and
        "share_explained" (of the fitted X-rays by the bent shape alone).

    Raises:
        InputError: for fewer than three views left to fit, a source at the patient, a picture that
            is all shutter, a shape with X-rays that show bone alone or with a work folder, and a
            work folder of another reconstruction or with damaged files.
        Cancelled: when ``progress`` says so.

    Example:
        >>> from dataclasses import replace
        >>> from RadGSRegLib.tomography import BeamOptions, reconstruct_beam
        >>> quick = BeamOptions(gaussians=2000, steps=4, pixels=32, spacing_mm=4.0)
        >>> frontal, lateral = case.views
        >>> views = [frontal, lateral, replace(lateral, name="again")]
        >>> result = reconstruct_beam(views, centre_world=(0.0, 0.0, 0.0), options=quick)
        >>> result.volume.array.shape
        (28, 28, 28)
        >>> result.quality["status"]
        'uncertain'
    """
    chosen = options or BeamOptions()
    report = progress if isinstance(progress, Progress) else Progress(progress)
    centre = np.asarray(centre_world, dtype=float)
    if centre.shape != (3,) or not np.isfinite(centre).all():
        raise InputError("centre_world", "is not a point of three finite numbers")
    held = _held_out(len(views), chosen.hold_out)
    if shape is not None and work is not None:
        raise InputError(work, "keeps nothing of a shape", "leave one out")
    if len(views) - len(held) < 3:
        raise InputError(
            "views",
            f"{max(len(views) - len(held), 0)} are left to fit",
            "three or more are needed; hold fewer out",
        )
    with one_torch_thread():
        report(0.0, "preparing the X-rays")
        deadline = Deadline(None if chosen.minutes is None else 60.0 * chosen.minutes)
        prepared = prepare_views(views, filters)
        every = whole_beams(prepared, centre, chosen.pixels, chosen.device)
        if every.bone_alone and not bool(every.values.any()):
            raise InputError("the X-rays", "show no bone once they are standardised", "check them")
        if bones is not None and any(view.bone_alone for view in prepared):
            raise InputError("the X-rays", "are standardised already", "take them as they were")
        if every.bone_alone and shape is not None:
            raise InputError("the shape", "does not go with standardised X-rays", "leave one out")
        rest = [n for n in range(len(every)) if n not in held]
        fitted = every.some(rest)
        keeps = None if work is None else BeamWork(work, prepared, held, centre, chosen)
        coarse = None if keeps is None else keeps.coarse(fitted)
        until = 0.35 if shape is None else 0.2
        if coarse is None:
            coarse = coarse_volume(fitted, centre, report.part(0.02, until), deadline)
            if keeps is not None and coarse.finished:
                keeps.keep_coarse(coarse, fitted)
        guided = None
        if shape is not None:
            part = report.part(until, 0.35)
            guided = shape_guided(coarse, shape, centre, chosen.box_mm, part, deadline)
            coarse = guided.coarse
        drawn = None
        if bones is not None:
            asked_of = [prepared[n] for n in rest if prepared[n].name not in coarse.odd]
            part = report.part(0.35, 0.4)
            drawn = drawn_bones(asked_of, bones, centre, chosen, part, deadline)
        previews = Previews(report, centre, chosen.box_mm, chosen.spacing_mm)
        previews.voxels(coarse.voxels, coarse.grid)
        inner = cube(centre, chosen.box_mm, chosen.spacing_mm)
        cloud, inner_count = draw_clouds(
            coarse.voxels, coarse.grid, inner, chosen.gaussians, every.pixel_mm
        )
        judged = None
        asked = _judges(every.some(held), fitted, coarse)
        if asked is not None:
            judged = _lines_of_held(asked, coarse.display, cloud)
        control = DensityControl(chosen.gaussians - (len(cloud) - inner_count))
        left = _with_minutes_left(chosen, deadline)
        part = report.part(0.4, 0.97)

        fitting = f"fitting Gaussians to {len(fitted)} X-rays"

        def told(share: float, so_far: Callable[[], GaussianCloud]) -> None:
            part(share, fitting)
            previews.cloud(so_far)

        def judge(now: GaussianCloud) -> float:
            assert judged is not None
            return _mean_l1(now, judged)

        fit = fit_cloud(
            cloud,
            coarse.lines,
            CoarseVoxels(coarse.voxels, coarse.grid, inner),
            left,
            control,
            judge=None if judged is None else judge,
            report=told,
            work=keeps if coarse.finished else None,
        )
        report(0.97, "voxelizing")
        volume = inner.voxelize(fit.cloud)
        if asked is not None:
            judged = _lines_of_held(asked, coarse.display, fit.cloud)
        quality = _quality(fit.cloud, coarse, judged, (every, fitted), centre, fit.steps)
        quality["prior"] = "none"
        bone = None if drawn is None else bone_of(volume, drawn)
        if drawn is not None and bone is not None:
            judged_so = with_bone(quality["status"], quality["reason"], drawn, bone)
            quality |= dict(zip(("status", "reason"), judged_so, strict=True))
            quality["bone"] = bone.said() | {"left_out": list(drawn.left_out)}
        if guided is not None:
            quality |= guided.said(quality)
    low, high = (torch.as_tensor(edge).to(fit.cloud.means) for edge in (inner.lower, inner.upper))
    within = ((fit.cloud.means > low) & (fit.cloud.means < high)).all(1)
    quality |= {
        "beam": "whole",
        "absolute_scale": bool(every.known.all()) and not every.bone_alone,
        "gaussians": len(fit.cloud),
        "inner_gaussians": int(within.sum()),
        "steps": fit.steps,
        "best_step": fit.best_step,
        "pixel_mm": every.pixel_mm,
        "display": _said_of(coarse.display),
    }
    report(1.0, "reconstructed")
    return Reconstruction(fit.cloud, volume, quality, None if bone is None else bone.volume)


def _held_out(count: int, wanted: int) -> list[int]:
    """Which views are held out: spread evenly over the list."""
    return [int((n + 0.5) * count / wanted) for n in range(wanted)] if wanted else []


def _with_minutes_left(options: BeamOptions, deadline: Deadline) -> BeamOptions:
    return options if deadline.left_s is None else replace(options, minutes=deadline.left_s / 60.0)


def _judges(held: Beams, fitted: Beams, coarse: Coarse) -> Beams | None:
    """Views held out that can judge: line integrals, and those whose device was fitted, in ranks
    among its fitted views and with its polarity."""
    there = torch.isin(held.device, coarse.lines.device)
    some = (held.known | there).nonzero()[:, 0].tolist()
    if not some:
        return None
    kept = held.some(some)
    sign = kept.sign.clone()
    for n, device in enumerate(kept.device.tolist()):
        same = coarse.lines.device == device
        if int(sign[n]) == 0 and bool(same.any()):
            sign[n] = coarse.sign[same][0]
    return ranked(kept, sign, fitted)


def _lines_of_held(held: Beams, display: Display | None, cloud: GaussianCloud) -> Beams:
    """Views held out as line integrals: of a display, with the gain and offset that fit best."""
    if display is None or bool(held.known.all()):
        return held
    with torch.no_grad():
        rendered = torch.stack([render_view(cloud, held, n) for n in range(len(held))])
    settled = display.settled(held.values, held.weight, rendered, held.device, held.pixel_mm)
    return as_lines(held, settled, rendered)


def _mean_l1(cloud: GaussianCloud, beams: Beams) -> float:
    with torch.no_grad():
        errors = [
            float(
                (beams.weight[n] * (render_view(cloud, beams, n) - beams.values[n]).abs()).sum()
                / beams.weight[n].sum().clamp_min(1.0)
            )
            for n in range(len(beams))
        ]
    return float(np.mean(errors))


@torch.no_grad()
def _quality(
    cloud: GaussianCloud,
    coarse: Coarse,
    held: Beams | None,
    beams_of: tuple[Beams, Beams],
    centre_world: Array,
    steps: int,
) -> dict[str, Any]:
    """The figures of the views, and the verdict."""
    views: dict[str, Any] = {}
    out: dict[str, Any] = {}
    every, fitted = beams_of
    lines = coarse.lines
    for beams, is_held in ((lines, False), (held, True)):
        if beams is None:
            continue
        rendered = torch.stack([render_view(cloud, beams, n) for n in range(len(beams))])
        decibels, likeness = [], []
        for n, name in enumerate(beams.names):
            mask, wanted = beams.weight[n], beams.values[n]
            decibels_here = psnr_db(rendered[n], wanted, mask)
            peak = (mask * wanted).max().clamp_min(1e-6)
            ssim = 1.0 - float(image_losses(rendered[n] / peak, wanted / peak, mask)[1])
            views[name] = {"psnr_db": decibels_here, "ssim": ssim, "held_out": is_held}
            decibels.append(decibels_here)
            likeness.append(ssim)
        key = "held_out_" if is_held else ""
        out[f"{key}psnr_db"] = float(np.mean(decibels))
        out[f"{key}ssim"] = float(np.mean(likeness))
    gap = widest_gap_deg(lines.cameras, centre_world)
    status, reason = verdict(
        len(lines), gap, _median(coarse.agreement), coarse.odd, steps < 1, not coarse.finished
    )
    if lines.bone_alone and status == "ok":
        status, reason = "uncertain", "a network drew these X-rays, and nothing confirms them"
    return out | {
        "status": status,
        "reason": reason,
        "odd_views": list(coarse.odd),
        "coarse_finished": coarse.finished,
        "widest_gap_deg": gap,
        "views": {name: views[name] for name in every.names if name in views},
        "agreement": {
            name: None if np.isnan(value) else value
            for name, value in zip(fitted.names, coarse.agreement, strict=True)
        },
    }


def _median(values: Sequence[float]) -> float:
    judged = [value for value in values if not np.isnan(value)]
    return float(np.median(judged)) if judged else float("nan")


def _said_of(display: Display | None) -> dict[str, Any]:
    """What is known of the display, as JSON values; nothing where there was none."""
    if display is None:
        return {}
    return {
        "near": display.near.tolist(),
        "span": display.log_span.exp().tolist(),
        "curves": display.curves().tolist(),
    }
