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
from RadGSRegLib.errors import InputError
from RadGSRegLib.gaussians import GaussianCloud, rasterize, voxelize
from RadGSRegLib.geometry import Volume
from RadGSRegLib.networks import Standardization, Standardizer
from RadGSRegLib.reconstruction import Deadline, ReconstructionOptions, cube, image_losses
from RadGSRegLib.system import Progress
from RadGSRegLib.tomography import BeamOptions, reconstruct_beam
from RadGSRegLib.tomography.bone import bone_of, drawn_bones
from RadGSRegLib.tomography.bounds import (
    BONE_ABOVE_TISSUE,
    REGION_MM,
    TISSUE_MU,
    TISSUE_SHARE,
)
from RadGSRegLib.tomography.verdict import psnr_db, with_bone
from RadGSRegLib.views import prepare_views

# As `tomography` renders its Gaussians.
_CUTOFF = 3.5
# Voxels of bone where X-rays held out are compared.
_BONE_MM = 3.0
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


@dataclass(frozen=True)
class Made:
    """What a method made: a volume or Gaussians of all that it was shown, and where bone was told
    from soft tissue that ``bone``, 1/mm, in voxels of the box and of all that the beams cross."""

    whole: Volume | GaussianCloud
    said: dict[str, Any]
    bone: tuple[Volume, Volume] | None = None


def run(work: Work, scene: Scene) -> dict[str, Any]:
    """Reconstruct from the views and judge the result on those held out: a row's figures."""
    reconstruct = {"ours": _ours, "sart": _rtk, "fdk": _rtk}.get(work.method, _voxels)
    if reconstruct is _rtk:
        import beam_rtk  # noqa: F401 - its libraries are not loaded on the clock
    began, used = time.perf_counter(), time.process_time()
    made = reconstruct(work, scene)
    clocks = {
        "seconds": time.perf_counter() - began,
        "processor_s": time.process_time() - used,
    }
    for name, seconds in clocks.items():
        # What was made for the row before is on its clock.
        clocks[name] = seconds + made.said.pop(name, 0.0)
    volume = _in_box(made.whole, scene)
    attenuation, bone = scene.truth.scores(volume)
    if work.method == "ours":
        made.said["excess"] = scene.truth.scores(_excess(volume))[1]
    drawn = work.network is not None
    pictures = held_out_figures(rendered_of(made.whole, scene.held), scene, drawn and not made.bone)
    if made.bone is not None:
        of_box, of_all = made.bone
        bone = scene.truth.scores(of_box.array)[1]
        alone = held_out_figures(rendered_of(of_all, scene.held), scene, True)
        pictures |= {name: value for name, value in alone.items() if name.startswith("bone_")}
    return {**made.said, **clocks, "attenuation": attenuation, "bone": bone, **pictures}


def _in_box(done: Volume | GaussianCloud, scene: Scene) -> Array:
    box = scene.truth.box
    if isinstance(done, Volume):
        return on_box(done, box)
    return np.asarray(voxelize(done, box.index_to_world, box.size).cpu().numpy())


def _excess(volume: Array) -> Array:
    """What is denser than soft tissue in a volume (1/mm), with nobody's word where bone may be."""
    inside = volume[volume > TISSUE_SHARE * TISSUE_MU]
    level = float(np.median(inside)) if inside.size else TISSUE_MU
    return np.maximum(volume - BONE_ABOVE_TISSUE * level, 0.0)


def _ours(work: Work, scene: Scene) -> Made:
    """As `radgsreg reconstruct --spacing 2` does it: of two X-rays what is in a box, of more the
    whole beam; with a network bone is told from soft tissue in that same volume.

    X-rays held out choose nothing here: every method is judged on what it was never shown.
    """
    if work.network is not None and len(work.views) < 3:
        raise InputError("--standardize", "needs three X-rays or more")
    centre = scene.truth.centre
    made = _of_all_tissue(work, scene)
    if work.network is None:
        return made
    assert isinstance(made.whole, GaussianCloud)
    views = [view for view in prepare_views(work.views) if view.name not in made.said["odd_views"]]
    network, options = Standardization(work.network, centre), BeamOptions(seed=work.seed)
    drawn = drawn_bones(views, network, centre, options, Progress(), Deadline(None))
    boxes = (scene.truth.box, cube(centre, REGION_MM, _BONE_MM))
    of_box, of_all = (bone_of(box.voxelize(made.whole), drawn) for box in boxes)
    status = with_bone(made.said["status"], "", drawn, of_box)[0]
    said = made.said | {"status": status, "bone_agreement": of_box.agreement}
    return replace(made, said=said, bone=(of_box.volume, of_all.volume))


_last: list[tuple[Any, Scene, Made]] = []


def _of_all_tissue(work: Work, scene: Scene) -> Made:
    """Ours without a network; what was made last is kept, since bone is told in it."""
    which = (tuple(view.name for view in work.views), work.seed, work.steps)
    for known, of, made in _last:
        if known == which and of is scene:
            return replace(made, said=dict(made.said))
    began, used = time.perf_counter(), time.process_time()
    centre = scene.truth.centre
    if len(work.views) > 2:
        beam = BeamOptions(seed=work.seed, spacing_mm=2.0)
        if work.steps is not None:
            beam = replace(beam, steps=work.steps)
        done = reconstruct_beam(work.views, centre_world=centre, options=beam)
    else:
        two = ReconstructionOptions(seed=work.seed)
        if work.steps is not None:
            two = replace(two, fresh_steps=work.steps)
        done = pipeline.reconstruct(work.views, centre_world=centre, options=two)
    # The command trusts two X-rays never.
    status = done.quality.get("status", "uncertain")
    said = {"status": status, "odd_views": done.quality.get("odd_views", [])}
    clocks = {
        "seconds": time.perf_counter() - began,
        "processor_s": time.process_time() - used,
    }
    _last.clear()
    _last.append((which, scene, Made(done.cloud, said | clocks)))
    return Made(done.cloud, said)


def _rtk(work: Work, scene: Scene) -> Made:
    import beam_rtk

    reconstruct = beam_rtk.sart if work.method == "sart" else beam_rtk.fdk
    return Made(reconstruct(work.views, _lines(work, scene), scene.truth.centre), {})


def _voxels(work: Work, scene: Scene) -> Made:
    cameras, lines = [view.camera for view in work.views], _lines(work, scene)
    centre = scene.truth.centre
    return Made(fit_voxels(cameras, lines, centre, steps=work.voxel_steps, seed=work.seed), {})


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
