"""The baselines as methods."""

import time
from dataclasses import asdict, replace

from ... import pipeline
from ...drr import excess_attenuation
from ...geometry import Volume
from ...reconstruction import ReconstructionOptions
from ..contract import About, Answer, FunctionMethod, Method, Task
from ..settings import Settings
from .gradient_descent import DescentOptions, descend
from .voxel_fit import VoxelOptions, reconstruct_voxels


def start(settings: Settings) -> Method:
    """Make the start, with the CT's vertebra moved there: what is known before any work."""

    def solve(task: Task) -> Answer:
        case = task.needed_case()
        began = time.perf_counter()
        pose = task.needed_start()
        done = time.perf_counter()
        if not task.wants_volume:
            return Answer(pose, done - began)
        excess = excess_attenuation(case.ct, case.labels, case.label)
        volume = Volume(excess.array, pose @ excess.index_to_physical)
        seconds = time.perf_counter() - done
        return Answer(pose, done - began, volume, reconstruction_s=seconds)

    return FunctionMethod(About("start", "the start itself", "baseline"), solve)


def voxels(settings: Settings) -> Method:
    """Make the fit of voxels to the X-rays."""
    options = VoxelOptions(device=settings.device)
    options = replace(options, steps=settings.steps(options.steps))

    def solve(task: Task) -> Answer:
        began = time.perf_counter()
        fit = reconstruct_voxels(task.views, task.needed_centre(), options, task.progress)
        return Answer(volume=fit.volume, reconstruction_s=time.perf_counter() - began)

    label = "voxels (DiffVox-like)"
    about = About("voxels", label, "baseline", registers=False, facts=asdict(options))
    return FunctionMethod(about, solve)


def gaussians(settings: Settings) -> Method:
    """Make the fit of Gaussians to the X-rays without a prior."""
    options = ReconstructionOptions(device=settings.device, seed=settings.seed)
    options = replace(options, fresh_steps=settings.steps(options.fresh_steps))

    def solve(task: Task) -> Answer:
        centre, progress = task.needed_centre(), task.progress
        began = time.perf_counter()
        made = pipeline.reconstruct(
            task.views, centre_world=centre, options=options, progress=progress
        )
        seconds = time.perf_counter() - began
        return Answer(volume=made.volume, cloud=made.cloud, reconstruction_s=seconds)

    label = "Gaussians from two views (R2-Gaussian-like)"
    about = About("gaussians", label, "baseline", registers=False, facts=asdict(options))
    return FunctionMethod(about, solve)


def descent(settings: Settings) -> Method:
    """Make gradient descent on the pose."""
    options = DescentOptions()
    scales = tuple(replace(scale, steps=settings.steps(scale.steps)) for scale in options.scales)
    options = replace(options, scales=scales)

    def solve(task: Task) -> Answer:
        began = time.perf_counter()
        way = descend(task.needed_case(), task.needed_start(), options, task.progress)
        return Answer(way.ct_to_world, time.perf_counter() - began)

    label = "gradient descent on DRRs (DiffPose-like)"
    about = About("descent", label, "baseline", reconstructs=False, facts=asdict(options))
    return FunctionMethod(about, solve)
