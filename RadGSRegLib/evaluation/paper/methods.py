"""The rivals and our own methods that need no training, by name."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace

from ... import pipeline
from ...drr import excess_attenuation
from ...errors import InputError
from ...geometry import Volume
from ...reconstruction import ReconstructionOptions
from ...registration.effort import registration_options
from ...system.progress import Progress
from ..baselines.descent import DescentOptions, descend
from ..baselines.voxels import VoxelOptions, reconstruct_voxels
from .answers import Answer, Array, Method, Task

BUILT_IN = ("start", "voxels", "gaussians", "descent", "optimize")

# How many of their usual steps the iterative methods take.
_SHARES = {"fast": 0.4, "normal": 1.0, "careful": 2.0}


def built_in_methods(effort: str = "normal", *, seed: int = 0, device: str = "cpu") -> list[Method]:
    """All methods of `BUILT_IN`, in that order. Raises InputError for an unknown effort."""
    if effort not in _SHARES:
        raise InputError("--effort", f"'{effort}' is unknown", f"use {', '.join(_SHARES)}")
    share = _SHARES[effort]

    def some(steps: int) -> int:
        return max(2, round(share * steps))

    voxels = VoxelOptions(device=device)
    voxels = replace(voxels, steps=some(voxels.steps))
    fresh = ReconstructionOptions(device=device, seed=seed)
    fresh = replace(fresh, fresh_steps=some(fresh.fresh_steps))
    descent = DescentOptions()
    scales = tuple(replace(scale, steps=some(scale.steps)) for scale in descent.scales)
    descent = replace(descent, scales=scales)
    return [
        Method("start", "the start itself", "rival", True, True, stay),
        Method(
            "voxels",
            "voxels (DiffVox-like)",
            "rival",
            False,
            True,
            lambda task, progress: _voxels(task, voxels, progress),
            facts=asdict(voxels),
        ),
        Method(
            "gaussians",
            "Gaussians from two views (R2-Gaussian-like)",
            "rival",
            False,
            True,
            lambda task, progress: _gaussians(task, fresh, progress),
            facts=fresh.to_json(),
        ),
        Method(
            "descent",
            "gradient descent on DRRs (DiffPose-like)",
            "rival",
            True,
            False,
            lambda task, progress: _descent(task, descent, progress),
            facts=asdict(descent),
        ),
        Method(
            "optimize",
            "ours, without training",
            "ours",
            True,
            True,
            lambda task, progress: optimize(task, effort, device, progress),
            facts={"effort": effort},
        ),
    ]


def stay(task: Task, progress: Progress) -> Answer:
    """The start and, moved there, the CT's vertebra: what is known before anything is done."""
    began = time.perf_counter()
    pose = _start(task)
    done = time.perf_counter()
    excess = excess_attenuation(task.case.ct, task.case.labels, task.case.label)
    volume = Volume(excess.array, pose @ excess.index_to_physical)
    return Answer(pose, done - began, volume, time.perf_counter() - done)


def optimize(
    task: Task,
    effort: str,
    device: str,
    progress: Progress,
    learned: Sequence[object] = (),
    spent_s: float = 0.0,
) -> Answer:
    """Registration by search and refinement, then the CT's Gaussians bent to the X-rays.

    ``learned``: candidates of a model, which took ``spent_s``.
    """
    began = time.perf_counter()
    options = registration_options(effort, seed=task.seed)
    part = progress.part(0.0, 0.7) if task.wants_volume else progress
    found = pipeline.register_case(task.case, task.given, options, part, tuple(learned))  # type: ignore[arg-type]
    registered = time.perf_counter()
    answer = Answer(found.ct_to_world, spent_s + registered - began, status=found.status)
    if not task.wants_volume:
        return answer
    made = pipeline.reconstruct_registered(
        task.case,
        found,
        ReconstructionOptions(device=device, seed=task.seed),
        progress.part(0.7, 1.0),
    )
    return replace(answer, volume=made.volume, reconstruction_s=time.perf_counter() - registered)


def _voxels(task: Task, options: VoxelOptions, progress: Progress) -> Answer:
    began = time.perf_counter()
    fit = reconstruct_voxels(task.case.views, _centre(task), options, progress)
    return Answer(volume=fit.volume, reconstruction_s=time.perf_counter() - began)


def _gaussians(task: Task, options: ReconstructionOptions, progress: Progress) -> Answer:
    began = time.perf_counter()
    made = pipeline.reconstruct(
        task.case.views, centre_world=_centre(task), options=options, progress=progress
    )
    return Answer(volume=made.volume, reconstruction_s=time.perf_counter() - began)


def _descent(task: Task, options: DescentOptions, progress: Progress) -> Answer:
    began = time.perf_counter()
    pose = descend(task.case, _start(task), options, progress).ct_to_world
    return Answer(pose, time.perf_counter() - began)


def _start(task: Task) -> Array:
    if task.start is None:
        raise InputError(task.name, "has no start", "leave out methods that need one")
    return task.start


def _centre(task: Task) -> Array:
    if task.centre_world is None:
        raise InputError(task.name, "has no start", "leave out methods that need one")
    return task.centre_world
