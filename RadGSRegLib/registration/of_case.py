"""A case's registration: what its clicks, its start and its axes call for, to the pose."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..cases import Case, clicked_centre
from ..errors import InputError
from ..geometry import Array, Rigid
from ..system import Progress, one_torch_thread
from ..views import ViewFilter
from .bounds import CLICKS_APART_MM, SIGHT_SHARES, SIGHT_STEP_MM
from .one_view import register_one_view
from .options import RegistrationOptions
from .proposers import (
    Alternative,
    AroundTried,
    MixedPolarity,
    Proposer,
    SightSearch,
    StartItself,
    StartSearch,
    click_search,
    depths_about_start,
    neighbouring_levels,
    on_click,
    other_pictures,
)
from .register import register
from .scale import fitted, scaled
from .scene import Scene, scene_of
from .types import Registration


def register_case(
    case: Case,
    start_ct_to_world: ArrayLike | None = None,
    options: RegistrationOptions | None = None,
    progress: Progress | None = None,
    proposers: Sequence[Proposer] = (),
    filters: Sequence[ViewFilter] = (),
    device: torch.device | str = "cpu",
) -> Registration:
    """Register the case's vertebra to its X-rays, or to a single one (`one_view`).

    Starts from ``start_ct_to_world`` (4, 4) (off by up to 20 degrees about and 50 mm along each
    axis), from clicks (`View.center_px`) in at least two views, or from both: then the rotation of
    the one and the position of the other. Without a start the CT's axes are taken to lie as
    ``Case.patient_axes`` say (parallel to the world's), within 25 degrees about each. ``proposers``
    (a trained model's poses, as `GivenPoses`) are asked before, and say where to search where
    nothing else does. ``filters`` make the X-rays better first. Bone is taken out of
    the CT on the CPU, all else is computed on ``device``.

    Raises InputError where there is nothing to start from or nothing to be seen there, and
    Cancelled when ``progress`` says so.
    """
    began = time.perf_counter()
    given, report = options or RegistrationOptions(), progress or Progress()
    with one_torch_thread():
        report(0.0, "taking the bone out of the CT")
        given = fitted(given, case)
        options = scaled(given)
        scene = scene_of(case, options, filters, device)
        if start_ct_to_world is not None:
            scene = replace(scene, start_ct_to_world=np.array(start_ct_to_world, dtype=float))
        asked = case_proposers(case, start_ct_to_world, options, proposers)
        prepared = time.perf_counter() - began
        alternatives = case_alternatives(case, start_ct_to_world, scene, options, asked)
        part = report.part(0.05, 1.0)
        if len(case.views) == 1:
            done = register_one_view(scene, asked, alternatives, options, part)
        else:
            done = register(scene, asked, alternatives=alternatives, options=options, progress=part)
    total = time.perf_counter() - began
    if scene.start_ct_to_world is not None:
        moved_mm = scene.distance_mm(scene.start_ct_to_world, done.ct_to_world)
        quality = {**done.quality, "from_start_mm": moved_mm}
        reason = f"{done.reason}; {moved_mm:.0f} mm from the start"
        done = replace(done, quality=quality, reason=reason)
    return replace(
        done,
        parameters={**done.parameters, "registration": asdict(given)},
        timing_s={"prepare": prepared, **done.timing_s, "total": total},
        ran_on={"prepare": "cpu", **done.ran_on},
    )


def _orientation(
    case: Case, start: ArrayLike | None, options: RegistrationOptions
) -> tuple[Array | None, float]:
    """How the CT's axes lie in the world (3, 3) before anything is seen (None: in any way), and
    within how far about each."""
    if start is None:
        return case.patient_axes, options.rotation_range_deg
    return np.array(start, dtype=float)[:3, :3], options.start_rotation_range_deg


def case_alternatives(
    case: Case,
    start_ct_to_world: ArrayLike | None,
    scene: Scene,
    options: RegistrationOptions,
    asked: Sequence[Proposer],
) -> list[Alternative]:
    """Return what else may be the case, to be tried beside the best pose; ``asked``: what proposed
    it."""
    axes, range_deg = _orientation(case, start_ct_to_world, options)
    return [
        *neighbouring_levels(options),
        *other_pictures(scene.views, axes, range_deg, options),
        MixedPolarity(asked[-1], tuple(view.intensity == "display" for view in case.views)),
    ]


def case_proposers(
    case: Case,
    start_ct_to_world: ArrayLike | None,
    options: RegistrationOptions,
    before: Sequence[Proposer] = (),
) -> list[Proposer]:
    """Return ``before``, then the search that a case's clicks, a start, or neither call for.

    Raises InputError where nothing says where the vertebra is, and for clicks that do not meet.
    """
    if len(case.views) == 1:
        return [*before, *_one_view_proposers(case, start_ct_to_world, options, bool(before))]
    centre_world = clicked_centre(case.views, CLICKS_APART_MM)
    if centre_world is not None:
        axes, turn_deg = _orientation(case, start_ct_to_world, options)
        return [*before, click_search(centre_world, axes, turn_deg, options)]
    if start_ct_to_world is not None:
        start = np.array(start_ct_to_world, dtype=float)
        return [*before, StartItself(start, options), StartSearch(start, options)]
    if before:
        return [*before, AroundTried(options)]
    raise InputError(
        "views",
        "nothing says where the bone is",
        "give center_px in at least two views, or a start",
    )


def _one_view_proposers(
    case: Case, start: ArrayLike | None, options: RegistrationOptions, known: bool
) -> list[Proposer]:
    """The search that a start, a click or both call for in a single X-ray."""
    (view,) = case.views
    if start is not None:
        pose = np.array(start, dtype=float)
        range_deg, range_mm = options.start_rotation_range_deg, options.start_range_mm
        depths_mm = depths_about_start(options.start_range_mm, SIGHT_STEP_MM)
        if view.center_px is None:
            itself: list[Proposer] = [StartItself(pose, options)]
            return [*itself, SightSearch(pose, depths_mm, range_deg, range_mm, options)]
        pose = on_click(pose, case.centre_ct, view.camera, view.center_px)
        return [SightSearch(pose, depths_mm, range_deg, options.click_range_mm, options)]
    if view.center_px is not None and case.patient_axes is not None:
        detector_mm = view.camera.focal_px * float(view.pixel_spacing_mm[0])
        nearest, farthest = (share * detector_mm for share in SIGHT_SHARES)
        middle, half = (nearest + farthest) / 2.0, (farthest - nearest) / 2.0
        ray = view.camera.ray_directions(np.array([view.center_px]))[0]
        centre = view.camera.source_world + middle * ray
        pose = Rigid.carrying(case.patient_axes, case.centre_ct, centre).matrix
        depths_mm = depths_about_start(half, SIGHT_STEP_MM)
        near = options.rotation_range_deg, options.click_range_mm
        return [SightSearch(pose, depths_mm, *near, options)]
    if known:
        return []
    raise InputError(
        "views",
        "nothing says where the bone is in the only X-ray",
        "give a start, or center_px and patient_axes, or more X-rays",
    )
