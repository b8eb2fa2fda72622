"""From one X-ray to a pose, how deep it is, and how sure both are."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ...geometry import Array
from ...system import Progress
from .. import bounds
from ..bodies import Arrangement
from ..bounds import CLEARLY_APART_MM
from ..exploring import explore
from ..options import RegistrationOptions, Stage
from ..proposers import (
    Alternative,
    Candidate,
    GivenPoses,
    Proposer,
    Tried,
    neighbouring_levels,
)
from ..register import Outcome, register, registration_of
from ..residual import LocallyNormalized
from ..rigid_bodies import RigidBodies
from ..scene import Scene
from ..stages import Hypothesis, Refiner
from ..steps import Stepper, StretchedGaussNewton
from ..types import Registration
from .held_depth import HeldDepth
from .judging import evidence_at_depth, with_depth
from .profile import Lowest, Place, Profiler
from .sight import sight_ct, sight_world


@dataclass(frozen=True)
class Depth:
    """Where the bone was put along the line of sight: the place, by how much its twist (6,) about
    its centre changes with each mm of depth, the depth's standard deviation, mm, and its parts
    (`_sigmas_mm`); and what other poses led to (`explore`)."""

    place: Place
    motion_per_mm: Array
    sigma_mm: float
    told_mm: tuple[float, float, float]
    others: tuple[Hypothesis, ...]


def register_one_view(
    scene: Scene,
    proposers: Sequence[Proposer],
    alternatives: Sequence[Alternative],
    options: RegistrationOptions,
    progress: Progress,
) -> Registration:
    """Register a scene with a single view.

    First as with more views, which fixes all but the depth; then the depth is sought by itself
    (`Profiler`), and the pose is judged there. Its covariance has what the profile says along the
    line of sight. `ok` only where the whole error is expected to be below what `ok` bets on.

    Args:
        scene: bodies and the view made ready.
        proposers: where the bone may be, as of `register`.
        alternatives: what else may be the case; those that need more views are left out.
        options: scaled.
        progress: told of the share done and of the best pose so far; may cancel.

    Returns:
        The pose (4, 4) with its covariance; the quality has "in_plane_error_mm" and
        "depth_error_mm", the expected parts of "expected_error_mm".

    Raises:
        InputError: where nothing is proposed.
        Cancelled: when ``progress`` says so.
    """
    first = register(scene, proposers, options=options, progress=progress.part(0.0, 0.4))
    first = _of_best_level(scene, first, options, progress.part(0.4, 0.5))
    began = time.perf_counter()
    (view,) = scene.views
    sign = 1 if first.quality["views"][view.name]["bone"] == "bright" else -1
    depth, refiner = _depth(scene, first, (sign,), options, progress.part(0.5, 0.8))
    progress.pose(depth.place.hypothesis.ct_to_world)
    sought_s = time.perf_counter() - began
    able = [other for other in alternatives if other.views_needed <= 1]
    held = depth.place.hypothesis
    fine = [held, *depth.others]
    evidence = evidence_at_depth(refiner, fine, able, options, progress.part(0.8, 1.0))
    timing_s = {name: spent for name, spent in first.timing_s.items() if name != "total"}
    timing_s["depth"] = sought_s
    timing_s["check"] = timing_s.get("check", 0.0) + time.perf_counter() - began - sought_s
    done = registration_of(scene, Outcome([held], evidence), timing_s, options)
    along_ct = sight_ct(view.camera, done.ct_to_world, done.centre_ct)
    done = with_depth(done, scene, along_ct, depth.sigma_mm * depth.motion_per_mm)
    told_mm = [float(min(part, bounds.DEPTH_REACH_MM)) for part in depth.told_mm]
    return replace(done, quality={**done.quality, "depth_profile_mm": told_mm})


def _of_best_level(
    scene: Scene, first: Registration, options: RegistrationOptions, progress: Progress
) -> Registration:
    """A registration, or that of the level above or below which explains the view better; from
    there likewise. Where a view is explained so well that no wrong level ever was, as it is."""
    for n in range(bounds.OTHER_LEVELS):
        if first.quality["weakest_score"] >= bounds.CLEAR_SCORE:
            break
        part = progress.part(n / bounds.OTHER_LEVELS, (n + 1) / bounds.OTHER_LEVELS)
        (view,) = scene.views
        sign = 1 if first.quality["views"][view.name]["bone"] == "bright" else -1
        tried = Tried(best=Candidate(first.ct_to_world, first.quality["score"], (sign,)))
        levels = neighbouring_levels(options)
        proposals = [level.propose(scene, tried, part.part(0.0, 0.3)) for level in levels]
        likely = [candidate for proposal in proposals for candidate in proposal.candidates]
        if not likely:
            break
        places = replace(options.learned_places, count=2, candidates=4, keep=2, afresh_below=None)
        proposer = GivenPoses(sorted(likely, key=lambda c: -c.score), places)
        other = register(scene, [proposer], options=options, progress=part.part(0.3, 1.0))
        if other.quality["score"] <= first.quality["score"]:
            break
        first = other
    return first


def _depth(
    scene: Scene,
    first: Registration,
    signs: tuple[int, ...],
    options: RegistrationOptions,
    progress: Progress,
) -> tuple[Depth, Refiner]:
    """The depth of a registration's bone, and a refiner that holds it."""
    (view,) = scene.views
    centre_ct = scene.bodies.centre_ct
    assert first.arrangement is not None
    at, pose = first.arrangement, first.ct_to_world
    stepper = partial(HeldDepth, sight_ct(view.camera, pose, centre_ct))
    sight = sight_world(view.camera, pose, centre_ct)
    refiners, rounds = _refiners(scene, stepper), bounds.DEPTH_WIDE_ROUNDS
    rough = Profiler(refiners, sight, options.middle, signs, rounds)
    wide = rough.profile(at, bounds.DEPTH_WIDE_MM, progress.part(0.0, 0.4), again=False)
    moved = rough.moved(wide.best, wide.lowest().depth_mm)
    best, *others = _explored(scene, moved, options, progress.part(0.4, 0.6))
    at = best.arrangement
    make_refiner = _refiners(with_one_mix(scene, options.fine, at, signs), stepper)
    sharp = tuple(mm * bounds.DEPTH_SHARP for mm in options.fine.refine.neighbourhoods_mm)
    fine = options.fine
    stage = replace(
        fine,
        pixel_mm=bounds.DEPTH_PIXELS * fine.pixel_mm,
        blur_mm=bounds.DEPTH_PIXELS * fine.blur_mm,
        refine=replace(fine.refine, neighbourhoods_mm=sharp),
    )
    profiler = Profiler(make_refiner, sight, stage, signs)
    part = progress.part(0.6, 0.9)
    profile = profiler.profile(at, bounds.DEPTH_PLACE_MM, part, again=True)
    lowest, refiner = profile.lowest(), Refiner(scene, LocallyNormalized(), stepper)
    # Judged as other registrations are, at the fine stage as it is.
    moved = profiler.moved(profile.best, lowest.depth_mm)
    finest = Profiler(refiners, sight, options.fine, signs)
    place = finest.settled(refiner, moved.arrangement, lowest.depth_mm)
    told_mm = _sigmas_mm(scene, place, lowest)
    sigma_mm = min(float(np.linalg.norm(told_mm)), bounds.DEPTH_REACH_MM)
    apart = tuple(other for other in others if turned_apart(scene, other, place.hypothesis))
    return Depth(place, profile.motion_per_mm(centre_ct), sigma_mm, told_mm, apart), refiner


def _explored(
    scene: Scene, begun: Hypothesis, options: RegistrationOptions, progress: Progress
) -> list[Hypothesis]:
    """The best finely refined pose about a depth, and the others that rolls and slides led to.

    However well a pose explains a single X-ray: from the side a vertebra that is turned by 17
    degrees about the spine scored 0.86, where it is 0.91.
    """
    refiner = Refiner(scene, LocallyNormalized(), StretchedGaussNewton)
    first, _ = options.fine.in_two()
    part = progress.part(0.0, 0.2)
    fine = refiner.refine_each(first, [begun], part, "refining the pose finely")
    return explore(refiner, fine, options, progress.part(0.2, 1.0), always=True)


def turned_apart(scene: Scene, other: Hypothesis, best: Hypothesis) -> bool:
    """Return whether two poses of one view are clearly apart, wherever they put the depth."""
    (view,) = scene.views
    sight = sight_world(view.camera, best.ct_to_world, scene.bodies.centre_ct)
    apart = scene.centre_world(best.ct_to_world) - scene.centre_world(other.ct_to_world)
    there = np.array(other.ct_to_world)
    there[:3, 3] += (apart @ sight) * sight
    return scene.distance_mm(there, best.ct_to_world) > CLEARLY_APART_MM


def _refiners(scene: Scene, stepper: Callable[[], Stepper]) -> Callable[[], Refiner]:
    """What makes refiners of a scene, one for each thread."""
    return lambda: Refiner(scene, LocallyNormalized(), stepper)


def with_one_mix(
    scene: Scene, stage: Stage, arrangement: Arrangement, signs: tuple[int, ...]
) -> Scene:
    """Return a scene whose background enters as it does best at an arrangement, wherever the bone
    is: with another mix at each place a profile would have steps."""
    bodies = scene.bodies
    if not isinstance(bodies, RigidBodies) or bodies.background is None:
        return scene
    refiner = Refiner(scene, LocallyNormalized(), StretchedGaussNewton)
    (group,) = refiner.problem(stage, arrangement, signs).groups
    if group.background is None:
        return scene
    mix = tuple(group.background.coefficients[0].tolist())
    background = replace(bodies.background, mixes=(mix,))
    return replace(scene, bodies=replace(bodies, background=background))


def _sigmas_mm(scene: Scene, place: Place, lowest: Lowest) -> tuple[float, float, float]:
    """The standard deviation of a depth in its parts: what the curvature of the costs says, what
    their roughness does, and what no cost says, as a bone whose outlines lie a little farther out
    in the picture looks like a nearer one."""
    (view,) = scene.views
    points = scene.bodies.surface_points_ct - scene.bodies.centre_ct
    along = sight_ct(view.camera, place.hypothesis.ct_to_world, scene.bodies.centre_ct)
    across = points - np.outer(points @ along, along)
    radius_mm = float(np.sqrt(np.mean(np.sum(across**2, axis=1))))
    centre = scene.centre_world(place.hypothesis.ct_to_world)
    distance_mm = float(np.linalg.norm(centre - view.camera.source_world))
    outline_mm = bounds.OUTLINE_SHARE * _voxel_mm(scene) * distance_mm / radius_mm
    return bounds.DEPTH_CURVED * lowest.curved_mm, lowest.rough_mm, outline_mm


def _voxel_mm(scene: Scene) -> float:
    """The edge of the CT's voxels, as of cubes; 0 where there are none."""
    excess = scene.bodies.target_excess if isinstance(scene.bodies, RigidBodies) else None
    return 0.0 if excess is None else float(np.prod(excess.spacing) ** (1.0 / 3.0))
