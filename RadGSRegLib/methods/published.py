"""The published order: X-rays to Gaussians (RecM), to a volume, to a pose (RegM), then refined."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import pipeline
from ..cases import Case
from ..geometry import Array
from ..pipeline import PipelineOptions, PipelineResult
from ..reconstruction import Reconstruction, box_of_cloud
from ..registration import Registration, judge_case
from ..system import Progress, device_name

if TYPE_CHECKING:
    from ..networks import LearnedStart, RadGSReg, Seen

_SPACING_MM = 1.0


def register_published(
    case: Case,
    model: RadGSReg,
    start_ct_to_world: Array | None = None,
    options: PipelineOptions | None = None,
    progress: Progress | None = None,
    *,
    refine: bool = True,
    on_reconstructed: Callable[[Reconstruction], object] | None = None,
    on_registered: Callable[[Registration], object] | None = None,
) -> PipelineResult:
    """Register the case's vertebra in the order of RadGS-Reg (Shen et al., 2025).

    RecM turns the X-rays into Gaussians, and these into a volume, before the CT is looked at. RegM
    compares that volume with the CT and gives a pose. Then our registration refines it, with a
    search where it does not convince; without ``refine`` the networks' pose is judged by the X-rays
    as it is.

    Args:
        case: CT, labels and two X-rays or more.
        model: as `networks.load_model` gives it; a patient's has to be of this very vertebra.
        start_ct_to_world: (4, 4), an approximate pose: it says where to look, by the middle of the
            label, where no clicks do.
        options: of the registration, filters and device; None: the defaults.
        progress: told of the share done and of the best pose so far; may cancel.
        refine: refine the networks' pose.
        on_reconstructed: called with Gaussians and volume (world mm) before any voxel of the CT is
            used.
        on_registered: called with the registration, before all is returned.

    Returns:
        The registration with the networks' agreement in its quality, RecM's Gaussians and volume,
        and in ``published`` the networks' pose and how far it lies from the result.

    Raises:
        InputError: for a patient's model of another vertebra, and where nothing is to be seen.
        Cancelled: when ``progress`` says so.

    Example:
        >>> from RadGSRegLib.methods import register_published
        >>> from RadGSRegLib.networks import load_model, shipped_weights
        >>> result = register_published(case, load_model(shipped_weights()), refine=False)
        >>> result.published["refined"]
        False
    """
    from ..networks import compare, guess_of, refuse_other_patient, see_places

    options, report = options or PipelineOptions(), progress or Progress()
    began = time.perf_counter()
    report(0.0, "reconstructing from the X-rays")
    guess = None if start_ct_to_world is None else guess_of(case, start_ct_to_world)
    part = report.part(0.0, 0.12)
    places = see_places(case.views, model, guess, part, fit=False, filters=options.filters)
    made = reconstruction_of(places[0])
    reconstructed = time.perf_counter()
    if on_reconstructed is not None:
        on_reconstructed(made)
    shown = time.perf_counter()
    refuse_other_patient(case, model)
    learned = _aligned(case, model, places, report.part(0.12, 0.2))
    aligned = time.perf_counter()
    part, pose = report.part(0.2, 1.0), learned.aligned[0]
    if refine:
        registration = pipeline.register_case(
            case,
            start_ct_to_world,
            options.registration,
            part,
            [learned.proposer(options.registration)],
            options.filters,
            options.device,
        )
        agreement = compare(case, registration.ct_to_world, learned.aligned, model.card)
        registration = agreement.weighed(registration)
    else:
        registration = judge_case(
            case, pose, options.registration, part, options.filters, options.device
        )
        agreement = compare(case, pose, learned.aligned, model.card)
        registration = replace(
            registration, reason=f"{registration.reason}; the pose is the networks', not refined"
        )
    spent_s = {"reconstruct": reconstructed - began, "align": aligned - shown}
    registration = _with_stages(registration, spent_s, model, refine)
    if on_registered is not None:
        on_registered(registration)
    return PipelineResult(
        registration=registration,
        cloud_world=made.cloud,
        volume_world=made.volume,
        surface_points_ct=case.surface_ct,
        timing_s=registration.timing_s,
        reconstruction_quality=made.quality,
        ran_on=registration.ran_on,
        published={
            "ct_to_world": pose,
            "refined": refine,
            "places": len(places),
            **vars(agreement),
            "seconds": sum(spent_s.values()),
        },
    )


def reconstruction_of(seen: Seen) -> Reconstruction:
    """Return what a model sees as Gaussians and volume in the world."""
    cloud = seen.cloud_world
    volume = box_of_cloud(cloud, _SPACING_MM).voxelize(cloud)
    quality = {"prior": "model", "agreement": seen.score, "gaussians": len(cloud)}
    return Reconstruction(cloud, volume, quality)


def _aligned(
    case: Case, model: RadGSReg, places: Sequence[Seen], progress: Progress
) -> LearnedStart:
    from ..networks import align_places

    progress(0.0, "comparing the reconstruction with the CT")
    learned = align_places(case, model, places)
    progress.pose(learned.aligned[0])
    return learned


def _with_stages(
    registration: Registration, spent_s: dict[str, float], model: RadGSReg, refine: bool
) -> Registration:
    """The registration with what the networks took, and the method in its parameters."""
    own = {name: value for name, value in registration.timing_s.items() if name != "total"}
    device = device_name(next(model.parameters()).device)
    total = sum(spent_s.values()) + registration.timing_s["total"]
    return replace(
        registration,
        parameters={**registration.parameters, "method": "published", "refine": refine},
        timing_s={**spent_s, **own, "total": total},
        ran_on={**dict.fromkeys(spent_s, device), **registration.ran_on},
    )
