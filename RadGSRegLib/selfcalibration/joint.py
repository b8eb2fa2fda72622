"""Nominal cameras and several vertebrae, refined together.

Bundle adjustment over all targets and views: the pictures of several vertebrae, each rigid and each
with a pose of its own, say how the cameras stand to each other, far better than the tags of an
X-ray do. Where all of them are together in the room they do not say: there the cameras stay, in the
mean, where they were meant to be.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..cases import Case
from ..errors import InputError
from ..geometry import Array, transform_points, twist_about
from ..multilevel import Equations, Normal, Setup, Shown, Target, Unknowns, descend
from ..registration import (
    LocallyNormalized,
    Refiner,
    RegistrationOptions,
    Scene,
    Stage,
    StretchedGaussNewton,
    case_bodies,
    fitted,
    polarities_at,
    scaled,
    unjudged_pose,
)
from ..system import Progress, one_torch_thread
from ..views import ViewFilter, prepare_views
from . import bounds
from .first import in_every_view, meeting_clicks, whole, with_cameras
from .gauge import as_meant, in_common_frame
from .refined import nominal_views, room_known, with_refined
from .spread import Spread, spread_of
from .stretch import stretched

# Points of each surface that its motion is measured by.
_POINTS = 100


@dataclass(frozen=True)
class NominalSpread:
    """How far nominal cameras may be off about and along each axis (one standard deviation), and
    how far cameras that were calibrated may be, beside which nominal ones are refined."""

    turn_deg: float = bounds.NOMINAL_DEG
    shift_mm: float = bounds.NOMINAL_MM
    calibrated_deg: float = bounds.CALIBRATED_DEG
    calibrated_mm: float = bounds.CALIBRATED_MM

    def of_cameras(self, case: Case) -> Array:
        """Standard deviations (V, 6) of each view's camera, radians and mm; where no view is
        nominal, all are taken to be."""
        loose = np.repeat([np.radians(self.turn_deg), self.shift_mm], 3)
        tight = np.repeat([np.radians(self.calibrated_deg), self.calibrated_mm], 3)
        nominal = nominal_views(case)
        return np.array([loose if view.name in nominal else tight for view in case.views])


@dataclass(frozen=True)
class CameraRefinement:
    """Cameras and vertebrae that explain the X-rays together.

    ``case``: the case with refined cameras; ``refined``: the names of their views, ``nominal``: of
    those whose geometry was only nominal. ``ct_to_world`` of each vertebra (label: (4, 4)), the
    case's own first, and its ``scores`` (label: one for each view); ``spread`` is of the vertebrae
    in the same order. ``turned_deg`` and ``shifted_mm`` (at the vertebrae) say by how much each
    camera was moved, ``sigmas`` how far that is in standard deviations, at the most along any axis.
    ``settled_mm``: how far the last round moved the vertebrae in their own frame.
    ``points_from_centre`` (N, 3) mm of the target's surface. ``problem``: why nothing was refined;
    cameras and pose are then those it began with.
    """

    case: Case
    refined: tuple[str, ...]
    nominal: tuple[str, ...]
    ct_to_world: dict[int, Array]
    scores: dict[int, tuple[float, ...]]
    spread: Spread
    turned_deg: tuple[float, ...]
    shifted_mm: tuple[float, ...]
    sigmas: tuple[float, ...]
    settled_mm: float
    points_from_centre: Array
    seconds: float
    problem: str = ""

    @property
    def room_known(self) -> bool:
        """Whether some camera that was not refined says where all are in the room."""
        return room_known(self.case, self.refined)


def refine_cameras(
    case: Case,
    start_ct_to_world: ArrayLike | None = None,
    options: RegistrationOptions | None = None,
    nominal: NominalSpread | None = None,
    progress: Progress | None = None,
    filters: Sequence[ViewFilter] = (),
    device: torch.device | str = "cpu",
) -> CameraRefinement:
    """Refine the cameras of a case together with the poses of its vertebrae.

    Nominal cameras are first moved so that they meet the clicks; the target is registered with them
    as well as that goes; then all labelled vertebrae that CT and X-rays show are fitted together
    with the cameras, from coarse to fine. Focal lengths and principal points stay as they are.

    Args:
        case: CT, labels of three vertebrae or more, X-rays. Views that are not nominal are held
            where they are, unless none is.
        start_ct_to_world: (4, 4), an approximate pose of the target; None where there are clicks.
        options: of the registration; None: the defaults.
        nominal: how far nominal cameras may be off; None: 3 degrees and 10 mm about and along each
            axis.
        progress: told of the share done; may cancel.
        filters: what makes the views better first.
        device: where to compute all but what is taken out of the CT.

    Returns:
        The case with refined cameras, poses (4, 4) LPS mm in the same world, and how sure both are;
        or why nothing was refined (`CameraRefinement.problem`).

    Raises:
        InputError: where the CT holds fewer than three vertebrae whole, or there is nothing to
            start from.
        Cancelled: when ``progress`` says so.

    Example:
        >>> from RadGSRegLib.errors import InputError
        >>> from RadGSRegLib.selfcalibration import refine_cameras
        >>> try:  # its CT has one whole vertebra
        ...     refine_cameras(case)
        ... except InputError as error:
        ...     print(error.problem[:27])
        needs 3 labelled vertebrae
    """
    began = time.perf_counter()
    given, report = options or RegistrationOptions(), progress or Progress()
    points_ct = whole(case)
    if len(points_ct) < bounds.FEWEST_VERTEBRAE:
        raise InputError(
            "--refine-cameras",
            f"needs {bounds.FEWEST_VERTEBRAE} labelled vertebrae that the CT holds whole, and "
            f"there are {len(points_ct)}",
            "label more of them, or calibrate by beads",
        )
    report(0.0, "placing the vertebra with the nominal cameras")
    met = meeting_clicks(case.views, nominal_views(case))
    begun = with_cameras(case, met)
    part = report.part(0.0, 0.4)
    with one_torch_thread():
        first = unjudged_pose(begun, start_ct_to_world, given, part, filters, device)
        setting = _Setting(filters, device, given, nominal or NominalSpread())
        labels = in_every_view(begun, points_ct, first)
        try:
            _need(len(labels), "all X-rays show with the nominal cameras")
            joint = _Joint(case, labels, met, first, setting)
            done = joint.refined(report.part(0.4, 1.0))
        except _TooFewError as error:
            done = _unrefined(case, first, str(error))
        except np.linalg.LinAlgError:
            problem = "the pictures do not fix them (no finite numbers); check the X-rays"
            done = _unrefined(case, first, problem)
    return replace(done, seconds=time.perf_counter() - began)


class _TooFewError(Exception):
    """So few vertebrae are where they should be that cameras cannot be refined with them."""


def _need(count: int, which: str) -> None:
    if count < bounds.FEWEST_VERTEBRAE:
        raise _TooFewError(
            f"{count} of the vertebrae that {which} are too few, {bounds.FEWEST_VERTEBRAE} are "
            "needed; check the clicks, or calibrate by beads"
        )


def _unrefined(case: Case, ct_to_world: Array, problem: str) -> CameraRefinement:
    """What there is where nothing was refined."""
    count = len(case.views)
    return CameraRefinement(
        case=case,
        refined=(),
        nominal=tuple(view.name for view in case.views if view.nominal),
        ct_to_world={case.label: ct_to_world},
        scores={},
        spread=Spread(np.zeros((1, 6, 6)), np.zeros((1, 6, 6)), np.zeros((count, count, 6, 6))),
        turned_deg=(0.0,) * count,
        shifted_mm=(0.0,) * count,
        sigmas=(0.0,) * count,
        settled_mm=0.0,
        points_from_centre=np.zeros((1, 3)),
        seconds=0.0,
        problem=problem,
    )


@dataclass(frozen=True)
class _Setting:
    filters: Sequence[ViewFilter]
    device: torch.device | str
    options: RegistrationOptions
    nominal: NominalSpread


class _Joint:
    """Cameras and vertebrae, from coarse to fine."""

    def __init__(
        self,
        case: Case,
        labels: Sequence[int],
        world_to_nominal: Array,
        ct_to_world: Array,
        setting: _Setting,
    ) -> None:
        self._case = case
        options = scaled(fitted(setting.options, case))
        targets = []
        for label in labels:
            bodies = case_bodies(replace(case, label=label), options).to(setting.device)
            targets.append(Target(label, case.label_names.get(label, str(label)), bodies))
        self._targets, self._options = tuple(targets), options
        self._pivot = transform_points(ct_to_world, case.centre_ct[None])[0]
        unknowns = self._unknowns(options.coarse)
        self._setup = unknowns.as_in_ct(world_to_nominal, ct_to_world)
        views = tuple(prepare_views(case.views, setting.filters))
        seen_now = Scene(targets[0].bodies, tuple(self._setup.views(views)))
        refiner = Refiner(seen_now, LocallyNormalized(), StretchedGaussNewton)
        signs = polarities_at(refiner, unknowns.arrangement(0, self._setup), options)
        self._shown = Shown(views, signs, setting.nominal.of_cameras(case))

    def refined(self, progress: Progress) -> CameraRefinement:
        """Go through the stages; leave out, after the middle one, what does not lie there."""
        options = self._options
        self._stage(options.coarse, bounds.COARSE_ROUNDS, progress.part(0.0, 0.05))
        middle, fine = _patiently(options.middle), _patiently(options.fine)
        normal, _ = self._stage(middle, bounds.MIDDLE_ROUNDS, progress.part(0.05, 0.15))
        larger, smaller = bounds.STRETCHES, bounds.SMALLER_STRETCHES
        normal = self._best_stretch(middle, larger, normal, progress.part(0.15, 0.21))
        normal = self._best_stretch(middle, smaller, normal, progress.part(0.21, 0.25))
        if self._left_out(normal):
            self._stage(middle, 1, progress.part(0.25, 0.3))
        normal, settled_mm = self._stage(fine, bounds.FINE_ROUNDS, progress.part(0.3, 0.9))
        if settled_mm > bounds.SETTLED_MM:
            # A step along what the pictures hardly tell may come late.
            more = bounds.MORE_ROUNDS
            normal, settled_mm = self._stage(fine, more, progress.part(0.9, 1.0), bounds.SETTLED_MM)
        return self._answer(normal, settled_mm)

    def _unknowns(self, stage: Stage) -> Unknowns:
        alone = not stage.refine.move_neighbours
        return Unknowns(self._targets, len(self._case.views), self._pivot, alone)

    def _stage(
        self, stage: Stage, rounds: int, progress: Progress, settled_mm: float = 0.0
    ) -> tuple[Normal, float]:
        """Some rounds at a stage, or until one moves things by less; the last one's normal
        equations, and how far it moved them."""
        unknowns, refine = self._unknowns(stage), stage.refine
        for number in range(rounds):
            part = progress.part(number / rounds, (number + 1) / rounds)
            before = self._setup
            equations = Equations(unknowns, self._shown, stage, before)
            self._setup, normal = descend(
                equations, before, refine.iterations, refine.steps_per_matrix, part
            )
            moved_mm = self._apart_mm(before, self._setup)
            if moved_mm < settled_mm:
                break
        return normal, moved_mm

    def _best_stretch(
        self, stage: Stage, shares: Sequence[float], normal: Normal, progress: Progress
    ) -> Normal:
        """Try the spine longer and shorter, a round each, and keep what explains pictures best.

        Two cameras that are held say how long it is.
        """
        unknowns, refine = self._unknowns(stage), stage.refine
        refined = nominal_views(self._case)
        held = [n for n, view in enumerate(self._case.views) if view.name not in refined]
        if len(held) > 1:
            return normal
        begun, best = self._setup, float(normal.scores.mean())
        for number, share in enumerate(shares):
            part = progress.part(number / len(shares), (number + 1) / len(shares))
            there = stretched(unknowns, self._shown, begun, share, held[0] if held else None)
            equations = Equations(unknowns, self._shown, stage, there)
            steps = refine.iterations, refine.steps_per_matrix
            tried, state = descend(equations, there, *steps, part)
            score = float(state.scores.mean())
            if score > best:
                self._setup, normal, best = tried, state, score
        return normal

    def _apart_mm(self, before: Setup, after: Setup) -> float:
        """How far the vertebrae are between two setups, in the frame that they share."""
        ends = [
            np.concatenate(
                [
                    transform_points(pose, points)
                    for pose, points in zip(setup.ct_to_world, self._points, strict=False)
                ]
            )
            for setup in (before, after)
        ]
        return float(np.linalg.norm(in_common_frame(*ends) - ends[1], axis=1).max())

    @property
    def _points(self) -> list[Array]:
        """Some of each target's surface (N, 3), mm."""
        out = []
        for target in self._targets:
            points = target.bodies.surface_points_ct
            out.append(np.asarray(points[:: max(len(points) // _POINTS, 1)], dtype=float))
        return out

    def _left_out(self, normal: Normal) -> bool:
        """Leave out the vertebrae that some view does not show where they should be."""
        scores = normal.scores.min(axis=1)
        kept = [n for n, score in enumerate(scores) if n == 0 or score >= bounds.LEAST_SCORE]
        _need(len(kept), "lie where all X-rays show them")
        if len(kept) == len(self._targets):
            return False
        before = self._unknowns(self._options.middle)
        self._targets = tuple(self._targets[n] for n in kept)
        after = self._unknowns(self._options.middle)
        where = {piece.name: n for n, piece in enumerate(before.pieces)}
        poses = [self._setup.ct_to_world[where[piece.name]] for piece in after.pieces]
        self._setup = replace(self._setup, ct_to_world=np.array(poses))
        return True

    def _answer(self, normal: Normal, settled_mm: float) -> CameraRefinement:
        unknowns = self._unknowns(self._options.fine)
        setup = as_meant(unknowns, self._setup, self._shown.deviations)
        case = with_cameras(self._case, setup.world_to_nominal)
        cameras = [view.camera for view in case.views]
        # Moved as one piece, all of it looks the same: the Hessian is that of where it was.
        refined = nominal_views(self._case)
        known = len(refined) < len(case.views)
        spread = spread_of(unknowns, setup, cameras, normal.hessian, self._points, known)
        views = with_refined(self._case, case.views, refined)
        off = [twist_about(np.eye(4), shift, self._pivot) for shift in setup.world_to_nominal]
        labels = [target.label for target in self._targets]
        return CameraRefinement(
            case=replace(case, views=views),
            refined=refined,
            nominal=tuple(view.name for view in self._case.views if view.nominal),
            ct_to_world=dict(zip(labels, setup.ct_to_world, strict=False)),
            scores={
                label: tuple(scores.tolist())
                for label, scores in zip(labels, normal.scores, strict=True)
            },
            spread=spread,
            turned_deg=tuple(float(np.degrees(np.linalg.norm(twist[:3]))) for twist in off),
            shifted_mm=tuple(float(np.linalg.norm(twist[3:])) for twist in off),
            sigmas=tuple(np.abs(np.array(off) / self._shown.deviations).max(axis=1).tolist()),
            settled_mm=settled_mm,
            points_from_centre=self._points[0] - self._targets[0].bodies.centre_ct,
            seconds=0.0,
        )


def _patiently(stage: Stage) -> Stage:
    """A stage with as many steps as all unknowns together need."""
    steps, per_matrix = bounds.STEPS, bounds.STEPS_PER_MATRIX
    refine = replace(stage.refine, iterations=steps, steps_per_matrix=per_matrix)
    return replace(stage, refine=refine)
