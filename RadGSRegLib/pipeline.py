"""The main job, one function per arrow: case to pose, case to vertebra, both to posed Gaussians,
those and the X-rays to a reconstruction. `run` is all of them; a notebook can call each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .cases import Case, View, clicked_centre, middle_of_views
from .geometry import Array, Volume, transform_points
from .system import Progress, ProgressCallable, device_name

if TYPE_CHECKING:
    import torch

    from .gaussians import GaussianCloud
    from .reconstruction import Reconstruction, ReconstructionOptions
    from .registration import Proposer, Registration, RegistrationOptions
    from .tomography import BeamOptions
    from .views import ViewFilter


@dataclass(frozen=True)
class PipelineOptions:
    """Options of the parts; None stands for their defaults. ``filters`` make the views better for
    both. All is computed on the device of the reconstruction's options."""

    registration: RegistrationOptions | None = None
    reconstruction: ReconstructionOptions | None = None
    filters: tuple[ViewFilter, ...] = ()

    @property
    def device(self) -> str:
        """Where both parts compute."""
        return _device_of(self.reconstruction)


@dataclass(frozen=True)
class PipelineResult:
    """What the main job yields.

    ``cloud_world`` (means in world mm) and ``volume_world`` (1/mm) are the reconstruction,
    ``surface_points_ct`` (N, 3) mm the vertebra's surface in the CT, ``timing_s`` the
    registration's stages, "reconstruct" and "total"; ``ran_on`` which device computed each stage;
    ``published`` what the networks answered, where they were followed in the published order.
    """

    registration: Registration
    cloud_world: GaussianCloud
    volume_world: Volume
    surface_points_ct: Array
    timing_s: dict[str, float]
    reconstruction_quality: dict[str, Any] = field(default_factory=dict)
    ran_on: dict[str, str] = field(default_factory=dict)
    published: dict[str, Any] = field(default_factory=dict)


def run(
    case: Case,
    start_ct_to_world: ArrayLike | None = None,
    options: PipelineOptions | None = None,
    progress: Progress | ProgressCallable | None = None,
    proposers: Sequence[Proposer] = (),
    prior_ct: GaussianCloud | None = None,
    on_registered: Callable[[Registration], object] | None = None,
) -> PipelineResult:
    """Register the case's vertebra, then reconstruct it from the X-rays with the CT as prior.

    Args:
        case: CT, labels and two X-rays or more.
        start_ct_to_world: (4, 4), an approximate pose, as from start.json.
        options: of both parts; None: the defaults.
        progress: told of the share done; may cancel.
        proposers: what to ask before the search (`networks.LearnedStart.proposer`).
        prior_ct: the vertebra's Gaussians in the CT frame where there are some already
            (`networks.patient_cloud`).
        on_registered: called with the registration before the reconstruction begins.

    Returns:
        Registration, Gaussians (world mm), volume (1/mm, world), surface points and seconds.

    Raises:
        InputError: for a case that cannot be registered.
        Cancelled: when ``progress`` asks to stop.

    Example:
        >>> from dataclasses import replace
        >>> from RadGSRegLib import pipeline
        >>> from RadGSRegLib.reconstruction import ReconstructionOptions
        >>> from RadGSRegLib.registration import registration_options
        >>> near = replace(registration_options("fast"), rotation_range_deg=12.5)
        >>> quick = pipeline.PipelineOptions(near, ReconstructionOptions(prior_steps=2))
        >>> result = pipeline.run(case, options=quick)
        >>> result.registration.status
        'ok'
        >>> result.volume_world.array.ndim
        3
    """
    options = options or PipelineOptions()
    report = progress if isinstance(progress, Progress) else Progress(progress)
    began = time.perf_counter()
    part, filters = report.part(0.0, 0.7), options.filters
    registration = register_case(
        case, start_ct_to_world, options.registration, part, proposers, filters, options.device
    )
    if on_registered is not None:
        on_registered(registration)
    done = with_reconstruction(case, registration, options, report.part(0.7, 1.0), prior_ct)
    total = time.perf_counter() - began
    return replace(done, timing_s={**done.timing_s, "total": total})


def with_reconstruction(
    case: Case,
    registration: Registration,
    options: PipelineOptions,
    progress: Progress,
    prior_ct: GaussianCloud | None = None,
) -> PipelineResult:
    """Reconstruct a vertebra that is registered, with the CT as prior, or with its Gaussians in
    the CT frame (``prior_ct``): what the main job yields."""
    began = time.perf_counter()
    reconstruction = reconstruct_registered(
        case, registration, options.reconstruction, progress, prior_ct, options.filters
    )
    spent_s = time.perf_counter() - began
    stages = {name: value for name, value in registration.timing_s.items() if name != "total"}
    total = registration.timing_s.get("total", 0.0) + spent_s
    return PipelineResult(
        registration=registration,
        cloud_world=reconstruction.cloud,
        volume_world=reconstruction.volume,
        surface_points_ct=case.surface_ct,
        timing_s={**stages, "reconstruct": spent_s, "total": total},
        reconstruction_quality=reconstruction.quality,
        ran_on={**registration.ran_on, "reconstruct": device_name(options.device)},
    )


def register_case(
    case: Case,
    start_ct_to_world: ArrayLike | None = None,
    options: RegistrationOptions | None = None,
    progress: Progress | None = None,
    proposers: Sequence[Proposer] = (),
    filters: Sequence[ViewFilter] = (),
    device: torch.device | str = "cpu",
) -> Registration:
    """Register the case's vertebra to its X-rays; `registration.register_case` says how it starts.

    Args:
        case: CT, labels and two X-rays or more.
        start_ct_to_world: (4, 4), an approximate pose, off by up to 20 degrees and 50 mm.
        options: None: the defaults.
        progress: told of the share done and of the best pose so far; may cancel.
        proposers: what to ask before the search (`networks.LearnedStart.proposer`).
        filters: what makes the views better first.
        device: where to compute all but what is taken out of the CT.

    Returns:
        The pose (4, 4) LPS mm, its covariance (6, 6) in rad and mm, the status and the evidence.

    Raises:
        InputError: where there is nothing to start from or nothing to be seen there.
        Cancelled: when ``progress`` says so.

    Example:
        >>> from dataclasses import replace
        >>> from RadGSRegLib import pipeline
        >>> from RadGSRegLib.measures import mtre
        >>> from RadGSRegLib.registration import registration_options
        >>> near = replace(registration_options("fast"), rotation_range_deg=12.5)
        >>> registration = pipeline.register_case(case, options=near)
        >>> registration.status
        'ok'
        >>> mtre(truth["points_ct"], registration.ct_to_world, truth["ct_to_world"]) < 2.0
        True
    """
    from . import registration

    return registration.register_case(
        case, start_ct_to_world, options, progress, proposers, filters, device
    )


def posed_prior(
    case: Case,
    registration: Registration,
    progress: Progress | None = None,
    device: torch.device | str = "cpu",
) -> GaussianCloud:
    """Turn a case's vertebra and its pose into Gaussians in the world.

    Cut at the mask, without the shell around it that a registration takes along: what the
    segmentation calls the vertebra is what is reconstructed. They are kept on disk for the next
    registration of the same CT (`gaussians.kept`).

    Args:
        case: CT and labels.
        registration: its pose and seed.
        progress: told of the share done; may cancel.
        device: where to fit them.

    Returns:
        At most 6,000 Gaussians (float32, on ``device``), world mm.

    Raises:
        InputError: for a label without bone.
        Cancelled: when ``progress`` says so.

    Example:
        >>> from RadGSRegLib import pipeline
        >>> cloud_world = pipeline.posed_prior(case, registration)
        >>> 1000 < len(cloud_world) <= 6000
        True
    """
    from .drr import excess_attenuation
    from .gaussians import fit_vertebra_once

    excess = excess_attenuation(case.ct, case.labels, case.label)
    cloud = fit_vertebra_once(excess, seed=registration.seed, progress=progress, device=device)
    return cloud.transformed(registration.ct_to_world)


def reconstruct(
    views: tuple[View, ...],
    *,
    prior_cloud: GaussianCloud | None = None,
    centre_world: ArrayLike | None = None,
    options: ReconstructionOptions | None = None,
    progress: Progress | None = None,
    filters: Sequence[ViewFilter] = (),
) -> Reconstruction:
    """Reconstruct Gaussians and a volume from X-rays (math.md section 5).

    A prior is adjusted as far as the views agree. Without one, three X-rays or more are explained
    by all that their beams cross (`tomography.reconstruct_beam`), and two by what is in a box.

    Args:
        views: X-rays with their cameras.
        prior_cloud: Gaussians to begin with, world mm, as `posed_prior` gives them.
        centre_world: (3,) mm, where to look; the clicks or the images' middles unless given.
        options: None: the defaults.
        progress: told of the share done; may cancel.
        filters: what makes the views better first.

    Returns:
        The cloud (world mm), the volume (1/mm, world axes) and the quality of the fit.

    Raises:
        InputError: for views that cannot show the place, and an empty prior.
        Cancelled: when ``progress`` says so.

    Example:
        >>> from RadGSRegLib import pipeline
        >>> from RadGSRegLib.reconstruction import ReconstructionOptions
        >>> quick = ReconstructionOptions(
        ...     fresh_steps=8, fresh_count=300, box_mm=64.0, spacing_mm=2.0
        ... )
        >>> reconstruction = pipeline.reconstruct(case.views, options=quick)
        >>> reconstruction.volume.array.shape
        (32, 32, 32)
    """
    from .reconstruction import reconstruct_from_views

    centre = centre_of_views(views) if centre_world is None else np.asarray(centre_world)
    if prior_cloud is None and len(views) > 2:
        from .tomography import reconstruct_beam

        return reconstruct_beam(
            views,
            centre_world=centre,
            options=_beam_of(options),
            filters=filters,
            progress=progress,
        )
    return reconstruct_from_views(
        views,
        prior_cloud=prior_cloud,
        centre_world=centre,
        options=options,
        progress=progress,
        filters=filters,
    )


def reconstruct_registered(
    case: Case,
    registration: Registration,
    options: ReconstructionOptions | None = None,
    progress: Progress | None = None,
    prior_ct: GaussianCloud | None = None,
    filters: Sequence[ViewFilter] = (),
) -> Reconstruction:
    """From a registered case to Gaussians and volume: the last two arrows in one.

    ``prior_ct``: the vertebra's Gaussians in the CT frame, if they are known; else they are fitted.
    """
    report = progress or Progress()
    if prior_ct is None:
        part = report.part(0.0, 0.2)
        prior = posed_prior(case, registration, part, _device_of(options))
    else:
        prior = prior_ct.transformed(registration.ct_to_world)
    return reconstruct(
        case.views,
        prior_cloud=prior,
        centre_world=transform_points(registration.ct_to_world, registration.centre_ct[None])[0],
        options=options,
        progress=report.part(0.2, 1.0),
        filters=filters,
    )


def _beam_of(options: ReconstructionOptions | None) -> BeamOptions:
    from .tomography import BeamOptions

    if options is None:
        return BeamOptions()
    minutes = None if options.time_limit_s is None else options.time_limit_s / 60.0
    beam = BeamOptions(
        seed=options.seed,
        device=options.device,
        minutes=minutes,
        # As many times the usual steps as of a fit to two X-rays.
        steps=max(round(2.0 * options.fresh_steps), 1),
        spacing_mm=options.spacing_mm,
    )
    return beam if options.box_mm is None else replace(beam, box_mm=options.box_mm)


def _device_of(options: ReconstructionOptions | None) -> str:
    return "cpu" if options is None else options.device


def centre_of_views(views: tuple[View, ...]) -> Array:
    """Return where to look (3,), world mm: the clicks triangulated, or else the images' middles.

    Raises InputError where the views are parallel, so that their rays meet nowhere.
    """
    clicked = clicked_centre(views)
    return middle_of_views(views) if clicked is None else clicked
