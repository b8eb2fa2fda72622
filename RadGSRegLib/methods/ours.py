"""Registration by search and refinement, then the CT's Gaussians bent to the X-rays."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from .. import pipeline
from ..reconstruction import ReconstructionOptions
from ..registration import registration_options
from .contract import About, Answer, FunctionMethod, Method, Task
from .settings import Settings

if TYPE_CHECKING:
    from ..registration import Proposer


def search_and_refine(settings: Settings) -> Method:
    """Make the method that needs no training."""
    about = About("optimize", "ours, without training", "ours", facts={"effort": settings.effort})
    return FunctionMethod(about, partial(optimize, settings))


def optimize(
    settings: Settings,
    task: Task,
    proposers: Sequence[Proposer] = (),
    spent_s: float = 0.0,
) -> Answer:
    """Answer a task; ``proposers`` (a model's poses, which took ``spent_s``) come first."""
    case, progress = task.needed_case(), task.progress
    began = time.perf_counter()
    options = registration_options(settings.effort, seed=task.seed)
    part = progress.part(0.0, 0.7) if task.wants_volume else progress
    registration = pipeline.register_case(
        case, task.given, options, part, proposers, device=settings.device
    )
    registered = time.perf_counter()
    answer = Answer(
        registration.ct_to_world,
        spent_s + registered - began,
        status=registration.status,
        reason=registration.reason,
        quality=registration.quality,
    )
    if not task.wants_volume:
        return answer
    made = pipeline.reconstruct_registered(
        case,
        registration,
        ReconstructionOptions(device=settings.device, seed=task.seed),
        progress.part(0.7, 1.0),
    )
    seconds = time.perf_counter() - registered
    return replace(answer, volume=made.volume, cloud=made.cloud, reconstruction_s=seconds)
