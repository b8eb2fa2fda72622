"""Every method of `bench_beam`: ours and the others, and the figures that all get alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from beam_scene import Array, Scene, on_box
from beam_voxels import fit_voxels, grey_lines
from torch import Tensor

from RadGSRegLib import pipeline
from RadGSRegLib.cases import View
from RadGSRegLib.drr import SystemMatrix
from RadGSRegLib.gaussians import GaussianCloud, rasterize, voxelize
from RadGSRegLib.geometry import Volume
from RadGSRegLib.networks import Standardization, Standardizer
from RadGSRegLib.reconstruction import ReconstructionOptions, image_losses
from RadGSRegLib.tomography import BeamOptions
from RadGSRegLib.tomography.verdict import psnr_db
from RadGSRegLib.views import prepare_views

# As `tomography` renders its Gaussians.
_CUTOFF = 3.5
METHODS = ("ours", "voxels", "voxels-log", "sart", "fdk")


@dataclass(frozen=True)
class Work:
    """What a method needs to know: which it is, the pictures and how long to try.

    ``network`` None: X-rays as they are. ``steps`` None: as the command takes them.
    """

    method: str
    views: tuple[View, ...]
    seed: int
    steps: int | None
    voxel_steps: int
    network: Standardizer | None = None


def run(work: Work, scene: Scene) -> dict[str, Any]:
    """Reconstruct from the views and judge the result on those held out: a row's figures."""
    reconstruct = {"ours": _ours, "sart": _rtk, "fdk": _rtk}.get(work.method, _voxels)
    if reconstruct is _rtk:
        import beam_rtk  # noqa: F401 - its libraries are not loaded on the clock
    began, used = time.perf_counter(), time.process_time()
    done, said = reconstruct(work, scene)
    seconds, processor_s = time.perf_counter() - began, time.process_time() - used
    box = scene.truth.box
    if isinstance(done, Volume):
        volume = on_box(done, box)
    else:
        volume = voxelize(done, box.index_to_world, box.size).cpu().numpy()
    attenuation, bone = scene.truth.scores(volume)
    pictures = held_out_figures(rendered_of(done, scene.held), scene, work.network is not None)
    return {
        **said,
        "seconds": seconds,
        "processor_s": processor_s,
        "attenuation": attenuation,
        "bone": bone,
        **pictures,
    }


def _ours(work: Work, scene: Scene) -> tuple[GaussianCloud, dict[str, Any]]:
    """As `radgsreg reconstruct` does it: of two X-rays what is in a box, of more the whole beam.

    X-rays held out choose nothing here: every method is judged on what it was never shown.
    """
    centre = scene.truth.centre
    filters = [] if work.network is None else [Standardization(work.network, centre)]
    beam, two = BeamOptions(seed=work.seed, spacing_mm=2.0), ReconstructionOptions(seed=work.seed)
    if work.steps is not None:
        beam, two = replace(beam, steps=work.steps), replace(two, fresh_steps=work.steps)
    done = pipeline.reconstruct(
        work.views, centre_world=centre, options=two, beam=beam, filters=filters
    )
    # The command trusts two X-rays never.
    status = done.quality.get("status", "uncertain")
    return done.cloud, {"status": status, "odd_views": done.quality.get("odd_views", [])}


def _rtk(work: Work, scene: Scene) -> tuple[Volume, dict[str, Any]]:
    import beam_rtk

    reconstruct = beam_rtk.sart if work.method == "sart" else beam_rtk.fdk
    return reconstruct(work.views, _lines(work, scene), scene.truth.centre), {}


def _voxels(work: Work, scene: Scene) -> tuple[Volume, dict[str, Any]]:
    cameras, lines = [view.camera for view in work.views], _lines(work, scene)
    centre = scene.truth.centre
    return fit_voxels(cameras, lines, centre, steps=work.voxel_steps, seed=work.seed), {}


def _lines(work: Work, scene: Scene) -> Array:
    """What the others take for line integrals (V, rows, columns). They are told whether bone is
    bright, which ours is not."""
    views, logarithm = work.views, work.method == "voxels-log"
    if work.network is not None:
        views = standardised(views, Standardization(work.network, scene.truth.centre))
    return np.stack([grey_lines(view, scene.bone_bright, logarithm) for view in views])


def standardised(views: Sequence[View], bones: Standardization) -> tuple[View, ...]:
    """The views as `radgsreg standardize` writes them: line integrals of bone, 0 where nothing is
    shown."""
    drawn = prepare_views(views, [bones])
    return tuple(
        replace(view, pixels=other.values, intensity="attenuation", bone_alone=True)
        for view, other in zip(views, drawn, strict=True)
    )


@torch.no_grad()
def rendered_of(done: Volume | GaussianCloud, views: Sequence[View]) -> Tensor:
    """Line integrals (V, rows, columns) of a reconstruction in some views."""
    cameras = [view.camera for view in views]
    if isinstance(done, Volume):
        shape = done.array.shape
        step = float(done.spacing.min()) / 2.0
        matrix = SystemMatrix(cameras, done.index_to_physical, shape, step_mm=step)
        return matrix.forward(torch.from_numpy(np.ascontiguousarray(done.array, np.float32)))
    pictures = (
        rasterize(done, c.intrinsic, c.world_to_camera, c.size, cutoff=_CUTOFF) for c in cameras
    )
    return torch.stack(list(pictures)).cpu()


def held_out_figures(rendered: Tensor, scene: Scene, bone_alone: bool) -> dict[str, float | None]:
    """Means over the views held out of PSNR (dB) and SSIM against the true line integrals.

    Of all tissue as they are, and with the gain and offset that fit each view best ("fitted");
    neither for a reconstruction of bone alone. Of bone alone with gain and offset. "flat" is what a
    picture of one grey has.
    """
    out: dict[str, float | None] = {}
    ways: tuple[tuple[str, Tensor, Callable[[Tensor, Tensor], Tensor]], ...] = (
        ("tissue", scene.tissue, lambda picture, wanted: picture),
        ("tissue_fitted", scene.tissue, with_gain_and_offset),
        ("bone_fitted", scene.bone, with_gain_and_offset),
        ("tissue_flat", scene.tissue, lambda picture, wanted: wanted.mean().expand_as(wanted)),
        ("bone_flat", scene.bone, lambda picture, wanted: wanted.mean().expand_as(wanted)),
    )
    for name, truth, way in ways:
        if bone_alone and name in ("tissue", "tissue_fitted"):
            out |= {f"{name}_psnr_db": None, f"{name}_ssim": None}
            continue
        both = [_compared(way(a, b), b) for a, b in zip(rendered, truth, strict=True)]
        decibels, likeness = np.mean(both, axis=0)
        out |= {f"{name}_psnr_db": float(decibels), f"{name}_ssim": float(likeness)}
    return out


def with_gain_and_offset(picture: Tensor, wanted: Tensor) -> Tensor:
    """The picture with the gain, not negative, and the offset by which it fits best."""
    off, to = picture - picture.mean(), wanted - wanted.mean()
    gain = ((off * to).sum() / off.square().sum().clamp_min(1e-12)).clamp_min(0.0)
    return gain * off + wanted.mean()


def _compared(picture: Tensor, wanted: Tensor) -> tuple[float, float]:
    """PSNR (dB) and SSIM, as `tomography` measures them."""
    everywhere = torch.ones_like(wanted)
    peak = wanted.max().clamp_min(1e-6)
    dissimilarity = image_losses(picture / peak, wanted / peak, everywhere)[1]
    return psnr_db(picture, wanted, everywhere), 1.0 - float(dissimilarity)
