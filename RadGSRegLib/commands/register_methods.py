"""The methods of ``radgsreg register``: how each comes from a case to what is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..system import Progress, device_name

if TYPE_CHECKING:
    from ..cases import Case
    from ..gaussians import GaussianCloud
    from ..geometry import Array
    from ..pipeline import PipelineOptions, PipelineResult
    from ..reconstruction import Reconstruction
    from ..registration import Proposer, Registration


@dataclass(frozen=True)
class Job:
    """What a method is asked: a case, an approximate pose (4, 4) or None, the file of a model or
    None, and whether networks' poses are refined. ``standard``: weights that standardise the X-rays
    for a start, or None.

    ``stage``: the folder that becomes the results; ``on_registered`` gets the registration as soon
    as there is one.
    """

    case: Case
    start: Array | None
    model: Path | None
    refine: bool
    options: PipelineOptions
    stage: Path
    on_registered: Callable[[Registration], object]
    standard: Path | None = None


def model_of(method: str, given: Path | None) -> Path | None:
    """Return the file of the model that a method takes: the given one, or for the published order
    that which comes with the program.

    Raises InputError where it has to be there and is not.
    """
    if method != "published" or given is not None:
        return given
    from ..networks import shipped_weights

    weights = shipped_weights()
    if weights is None:
        problem = "no weights came with this installation"
        raise InputError("--method published", problem, "name a model (--model)")
    return weights


def run_ours(job: Job, progress: Progress) -> PipelineResult:
    """Search and refine, from a model's poses where there is one, then reconstruct with the CT."""
    from .. import pipeline

    learned, prior_ct, see_s = _learned(job, progress.part(0.0, 0.12))
    standard, rest, standardised = _standardised(job, progress.part(0.12, 1.0))
    proposers = [*learned, *standard]
    result = pipeline.run(
        job.case,
        job.start,
        job.options,
        rest,
        proposers,
        prior_ct,
        on_registered=job.on_registered,
    )
    if standardised:
        registration = result.registration
        quality = {**registration.quality, "standardised": standardised}
        result = replace(result, registration=replace(registration, quality=quality))
    before = {"see": see_s} if learned else {}
    if standardised:
        before["standardise"] = standardised["seconds"]
    total = sum(before.values()) + result.timing_s["total"]
    return replace(
        result,
        timing_s={**before, **result.timing_s, "total": total},
        ran_on={**dict.fromkeys(before, device_name(job.options.device)), **result.ran_on},
    )


def _learned(
    job: Job, progress: Progress
) -> tuple[Sequence[Proposer], GaussianCloud | None, float]:
    """Return what proposes the poses that the model sees, the vertebra's Gaussians if it holds
    them, and how many seconds seeing took; nothing without a model.

    Raises InputError for a model of another patient or another of his vertebrae.
    """
    if job.model is None:
        return (), None, 0.0
    from ..networks import learned_start, load_model, patient_cloud, refuse_other_patient

    model = load_model(job.model, job.options.device)
    refuse_other_patient(job.case, model)
    began = time.perf_counter()
    learned = learned_start(job.case, model, job.start, progress)
    spent_s = time.perf_counter() - began
    proposer = learned.proposer(job.options.registration)
    return [proposer], patient_cloud(job.case, model), spent_s


def _standardised(
    job: Job, progress: Progress
) -> tuple[Sequence[Proposer], Progress, dict[str, Any]]:
    """Return what proposes the pose in standardised X-rays, the progress that is left, and what is
    said of them; nothing where they are not asked for."""
    if job.standard is None:
        return (), progress, {}
    from .. import pipeline
    from ..networks import (
        Standardization,
        load_standardizer,
        standard_record,
        standardised_start,
    )

    network = load_standardizer(job.standard, job.options.device)
    began = time.perf_counter()
    bones = Standardization(network, pipeline.centre_of_views(job.case.views))
    proposer, registration = standardised_start(
        job.case,
        bones,
        job.start,
        job.options.registration,
        progress.part(0.0, 0.45),
        job.options.device,
    )
    said = {
        "status": registration.status,
        "ct_to_world": registration.ct_to_world.tolist(),
        "seconds": time.perf_counter() - began,
        "views": standard_record(bones),
    }
    return [proposer], progress.part(0.45, 1.0), said


def run_published(job: Job, progress: Progress) -> PipelineResult:
    """Follow the published order; the volume is written, and told of, before the CT is compared."""
    from ..methods import register_published
    from ..networks import load_model

    assert job.model is not None
    model = load_model(job.model, job.options.device)

    def write(made: Reconstruction) -> None:
        from ..report import write_reconstruction

        write_reconstruction(job.stage, made.cloud, made.volume)
        progress.reconstruction(job.stage)

    return register_published(
        job.case,
        model,
        job.start,
        job.options,
        progress,
        refine=job.refine,
        on_reconstructed=write,
        on_registered=job.on_registered,
    )


METHODS: dict[str, Callable[[Job, Progress], Any]] = {
    "ours": run_ours,
    "published": run_published,
}
