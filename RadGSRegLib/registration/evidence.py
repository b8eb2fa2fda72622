"""What speaks for and against a pose, without knowing the truth."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..geometry import Array, skew
from ..system import Progress, side_by_side_reporting
from . import bounds
from .consistency import Consistency, consistency
from .exploring import beyond_doubt
from .geometry_error import calibration_covariance
from .options import RegistrationOptions
from .proposers import Alternative, Candidate, Proposal, Tried
from .scene import Scene
from .stages import Hypothesis, Refiner


@dataclass(frozen=True)
class Evidence:
    """What is known about a registration without knowing the truth.

    ``score`` and ``weakest_score``: correlation over all views and in the worst one;
    ``edge_score`` and ``weakest_edge_score``: the same of edges (`edges.edge_scores`);
    ``expected_error_mm``: root mean square error of surface points by the covariance, and
    ``calibration_error_mm`` the part of it that comes of the cameras (None: their calibrations do
    not say how sure they are);
    ``disagreement_mm``: how far the pose moves when fitted again with other neighbourhoods;
    ``lead`` and ``fine_lead``: how much better it scores than the best clearly different pose, at
    the middle stage and among those refined finely (1 where there is no such pose), ``edge_lead``
    how much better its edges do; ``leads`` the same against each kind of `Alternative` by its name
    ("level": the target one level up or down, "picture": mirrored or exchanged pictures,
    "polarity": bone bright in one view and dark in another), and ``objection`` the reason of the
    one that explains the X-rays best, where that is too close;
    ``consistency``: whether the views contradict one another (None: there is only one);
    ``own_share``: by how much the target itself raises the score, beside all that is around it, in
    the view where it does so least (`own_share.own_shares`).
    """

    score: float
    weakest_score: float
    edge_score: float
    weakest_edge_score: float
    expected_error_mm: float
    disagreement_mm: float
    lead: float
    fine_lead: float
    edge_lead: float
    leads: Mapping[str, float]
    neighbour_shift_mm: float
    covariance: Array
    objection: str = ""
    calibration_error_mm: float | None = None
    consistency: Consistency | None = None
    own_share: float = 1.0

    @property
    def by_pictures(self) -> Evidence:
        """The evidence as it would be with cameras that are exact."""
        if self.calibration_error_mm is None:
            return self
        own = max(self.expected_error_mm**2 - self.calibration_error_mm**2, 0.0)
        return replace(self, expected_error_mm=float(np.sqrt(own)), calibration_error_mm=None)

    @property
    def confidence(self) -> float:
        """One number from the weakest view's score and the expected error; higher is surer."""
        return self.weakest_score - bounds.ERROR_WEIGHT * self.expected_error_mm

    def to_quality(self) -> dict[str, Any]:
        """Return it for the result's ``quality``."""
        left_out = ("covariance", "leads", "objection", "consistency")
        numbers = {name: value for name, value in vars(self).items() if name not in left_out}
        if self.calibration_error_mm is None:
            del numbers["calibration_error_mm"]
        if self.consistency is not None:
            numbers.update(self.consistency.to_quality())
        leads = {f"{name}_lead": lead for name, lead in self.leads.items()}
        return {**numbers, **leads, "confidence": self.confidence}


def independent_residuals(pixels: float, pixel_mm: float) -> float:
    """Return how many independent residuals so many weighted pixels of ``pixel_mm`` hold."""
    return max(pixels * pixel_mm**2 / bounds.CORRELATION_AREA_MM2, 1.0)


def pose_covariance(hessian: Array, cost: float, pixels: float, pixel_mm: float) -> Array:
    """Return the covariance (6, 6) of the target's twist, all else that was fitted marginalised.

    ``hessian`` (P, P) of the mean residual with the target's six first, ``cost`` the mean squared
    residual, over ``pixels`` weighted pixels of ``pixel_mm``.
    """
    independent = independent_residuals(pixels, pixel_mm)
    damped = hessian + 1e-9 * np.diag(np.maximum(np.diag(hessian), 1e-12))
    inverse = np.linalg.pinv(damped, hermitian=True)[:6, :6]
    covariance = inverse * cost / independent
    return np.asarray((covariance + covariance.T) / 2.0)


def surface_error(covariance: Array, points_from_centre: Array) -> float:
    """Return the root mean square displacement (mm) of points (N, 3), from the pivot, under a
    covariance (6, 6)."""
    step = max(len(points_from_centre) // 300, 1)
    total = []
    for point in points_from_centre[::step]:
        jacobian = np.hstack([-skew(point), np.eye(3)])
        total.append(float(np.trace(jacobian @ covariance @ jacobian.T)))
    return float(np.sqrt(np.mean(total)))


def gather_evidence(
    refiner: Refiner,
    fine: Sequence[Hypothesis],
    middle: Sequence[Hypothesis],
    alternatives: Sequence[Alternative],
    options: RegistrationOptions,
    progress: Progress,
) -> Evidence:
    """Gather what speaks for and against the best of the finely refined hypotheses, the first.

    ``middle``: all poses at the stage before; ``alternatives`` propose other poses that may look
    right.
    """
    progress(0.0, "checking the pose")
    best, scene = fine[0], refiner.scene
    edges = refiner.edge_scores(options.fine, best)
    doubted = doubtful(refiner, best, alternatives, options)
    # Fitted again with wider neighbourhoods: a right pose does not care.
    wide_mm = 2.0 * options.fine.refine.neighbourhoods_mm[0]
    wide = replace(
        options.fine,
        rounds=1,
        refine=replace(options.fine.refine, neighbourhoods_mm=(wide_mm,), iterations=8),
    )

    jobs: list[Callable[[Progress], Any]] = [lambda part: refiner.refine(wide, best, part)]
    jobs += [partial(proposed, refiner, best, other) for other in doubted]
    part = progress.part(0.0, 0.4)
    again, *proposals = side_by_side_reporting(
        lambda job, own: job(own), jobs, part, "checking the pose"
    )

    near = max((h.score for h in middle if _same(scene, h, best)), default=best.score)
    anew = refiner.measured_anew(options.fine, best)
    agreeing = consistency(refiner, options.fine, best, progress.part(0.4, 0.45))
    state, bodies = anew.evaluation, scene.bodies
    covariance = pose_covariance(
        state.hessian, state.cost, state.effective_pixels, options.fine.pixel_mm
    )
    points_from_centre = bodies.surface_points_ct - bodies.centre_ct
    by_cameras = calibration_covariance(scene, best.ct_to_world)
    if by_cameras is not None:
        covariance = covariance + by_cameras
    edge_score = float(np.mean(edges))
    apart = [h for h in fine if not _same(scene, h, best)]
    beside = max((refiner.edge_score(options.fine, h) for h in apart), default=edge_score - 1.0)
    leads, objection = leads_over(refiner, best, proposals, options, progress.part(0.45, 1.0))
    return Evidence(
        score=state.score,
        weakest_score=min(state.view_scores),
        edge_score=edge_score,
        weakest_edge_score=min(edges),
        expected_error_mm=surface_error(covariance, points_from_centre),
        disagreement_mm=scene.distance_mm(again.ct_to_world, best.ct_to_world),
        lead=near - max((h.score for h in middle if not _same(scene, h, best)), default=near - 1.0),
        fine_lead=best.score - max((h.score for h in apart), default=best.score - 1.0),
        edge_lead=edge_score - beside,
        leads={**{other.name: 1.0 for other in alternatives}, **leads},
        neighbour_shift_mm=bodies.largest_shift_mm(best.arrangement),
        covariance=covariance,
        objection=objection,
        calibration_error_mm=(
            None if by_cameras is None else surface_error(by_cameras, points_from_centre)
        ),
        consistency=agreeing,
        own_share=min(refiner.own_shares(options.fine, best)),
    )


def doubtful(
    refiner: Refiner,
    best: Hypothesis,
    alternatives: Sequence[Alternative],
    options: RegistrationOptions,
) -> list[Alternative]:
    """Return those alternatives beside which a finely refined pose is not beyond doubt."""
    weakest = min(refiner.edge_scores(options.fine, best))
    return [a for a in alternatives if not beyond_doubt(best, weakest, a.clear_score)]


def _same(scene: Scene, a: Hypothesis, b: Hypothesis) -> bool:
    """Whether two poses are not clearly apart."""
    return scene.distance_mm(a.ct_to_world, b.ct_to_world) <= bounds.CLEARLY_APART_MM


def proposed(
    refiner: Refiner, best: Hypothesis, alternative: Alternative, progress: Progress
) -> Proposed:
    """Ask an alternative to a pose."""
    there = refiner.within(alternative.scene(refiner.scene))
    before = Tried([Candidate(best.ct_to_world, best.score, best.signs)], best)
    return Proposed(alternative, there, alternative.propose(there.scene, before, progress))


def leads_over(
    refiner: Refiner,
    best: Hypothesis,
    proposals: Sequence[Proposed],
    options: RegistrationOptions,
    progress: Progress,
) -> tuple[dict[str, float], str]:
    """Return how much better a pose scores than the best of each kind of alternative, and the
    reason of the one that explains the X-rays best, where it is too close.

    One level off, a spine fits its own picture fairly well, in every view at once, and so it does
    in a mirrored picture; only trying tells. There the search starts anew, up to the middle stage,
    and to the fine one where that is close. 1 for a kind of which nothing comes.
    """
    leads = {"level": 1.0, "picture": 1.0, **{p.alternative.name: 1.0 for p in proposals}}

    def tried(known: Proposed, part: Progress) -> list[_Other]:
        there, places = known.refiner, known.proposal.places
        likely = known.proposal.candidates[: places.candidates]
        coarse = there.refine_each(options.coarse, likely, part.part(0.0, 0.3), message)
        kept = there.distinct(coarse, count=places.survivors)
        if there is not refiner:
            kept = [h for h in kept if h.score > least]
        part = part.part(0.3, 1.0)
        middle = there.refine_each(options.middle, kept, part, message, afresh=True)
        return [_Other(h, known) for h in middle]

    message = "trying what else may be the case"
    likely = list(itertools.chain(*(_likeliest(refiner, proposals, name) for name in leads)))
    if not any(known.proposal.candidates for known in likely):
        return leads, ""
    own = refiner.refine(options.coarse, best, progress.part(0.0, 0.05), afresh=True)
    least = own.score - bounds.CLOSE_LEVELS
    refined = side_by_side_reporting(tried, likely, progress.part(0.05, 0.8), message)
    others = list(itertools.chain(*refined))
    if not others:
        return leads, ""
    own = refiner.refine(options.middle, best, progress.part(0.8, 0.85), afresh=True)
    reasons = {"": bounds.SURE_ALTERNATIVE_LEAD}
    for name in leads:
        kind = [other for other in others if other.source.alternative.name == name]
        if kind:
            other = max(kind, key=lambda o: o.hypothesis.score)
            part = progress.part(0.85, 1.0)
            leads[name] = _lead(refiner, own, best, other, options, part)
            reasons[other.source.alternative.reason] = leads[name]
    return leads, min(reasons, key=lambda reason: reasons[reason])


def _lead(
    refiner: Refiner,
    own: Hypothesis,
    best: Hypothesis,
    other: _Other,
    options: RegistrationOptions,
    progress: Progress,
) -> float:
    """By how much the pose leads at the middle stage (``own``), or at the fine one (``best``)
    where that is close."""
    hypothesis, there = other.hypothesis, other.source.refiner
    lead = own.score - hypothesis.score
    close = bounds.CLOSE_LEVELS if there is refiner else bounds.SURE_ALTERNATIVE_LEAD
    if abs(lead) < close:
        first, rest = options.fine.in_two()
        for stage, part in ((first, progress.part(0.0, 0.5)), (rest, progress.part(0.5, 1.0))):
            hypothesis = there.refine(stage, hypothesis, part)
            lead = best.score - hypothesis.score
            if lead > bounds.LEFT_BEHIND:
                break
    return lead


def _likeliest(refiner: Refiner, proposals: Sequence[Proposed], name: str) -> list[Proposed]:
    """Of one kind's scenes only those whose best proposal is near the best of all."""
    kind = [known for known in proposals if known.alternative.name == name]
    scores = [max((c.score for c in known.proposal.candidates), default=-1.0) for known in kind]
    least = bounds.LIKELY_PICTURE * max(scores, default=0.0)
    pairs = zip(kind, scores, strict=True)
    return [known for known, score in pairs if known.refiner is refiner or score >= least]


@dataclass(frozen=True)
class Proposed:
    """What an alternative proposed, and the refiner of its scene."""

    alternative: Alternative
    refiner: Refiner
    proposal: Proposal


@dataclass(frozen=True)
class _Other:
    """What came of an alternative."""

    hypothesis: Hypothesis
    source: Proposed
