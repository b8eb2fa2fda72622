"""Registration without training: from what proposes poses to the pose, and how sure it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from ..errors import InputError
from ..system import Progress, device_name, one_torch_thread
from .bounds import STANDS_ALONE, WORTH_FINISHING
from .evidence import Evidence, gather_evidence
from .exploring import beyond_doubt, explore
from .geometry_error import loosest
from .options import Places, RegistrationOptions
from .proposers import Alternative, Candidate, Proposer, Tried
from .residual import LocallyNormalized, Residual
from .scene import Scene
from .stages import (
    Hypothesis,
    Refiner,
    refine_afresh,
    refine_coarsely,
    refine_finely,
    refine_further,
)
from .steps import Stepper, StretchedGaussNewton
from .types import Registration
from .verdict import judge, verdict_of, with_room


@one_torch_thread()
def register(
    scene: Scene,
    proposers: Sequence[Proposer],
    residual: Residual | None = None,
    stepper: Callable[[], Stepper] = StretchedGaussNewton,
    *,
    alternatives: Sequence[Alternative] = (),
    options: RegistrationOptions | None = None,
    progress: Progress | None = None,
) -> Registration:
    """Register a scene's target: ask proposers, refine what they propose, judge what comes of it.

    Each proposer is asked in turn, and its candidates join those of the ones before. All but the
    last have to convince: their best pose has to be `ok` and to explain each view well, or the next
    one is asked.

    Args:
        scene: bodies, and views made ready (`scene_of`); of poses with equal evidence the nearest
            to its start is the best.
        proposers: asked in this order.
        residual: how renderings are compared with X-rays; None: `LocallyNormalized`.
        stepper: makes what steps down the cost, one for each refinement.
        alternatives: asked for poses that may look right too; the best of all has to be better.
        options: None: the defaults.
        progress: told of the share done and of the best pose so far; may cancel.

    Returns:
        The pose (4, 4) LPS mm, its covariance, the status and the evidence.

    Raises:
        InputError: where nothing is proposed, or every proposer needs more views.
        Cancelled: when ``progress`` says so.

    Example:
        >>> from dataclasses import replace
        >>> from RadGSRegLib.registration import (
        ...     Candidate, GivenPoses, RegistrationOptions, register, scene_of
        ... )
        >>> options = RegistrationOptions()
        >>> given = [Candidate(truth["start_ct_to_world"], 0.5, (1, 1))]
        >>> proposer = GivenPoses(given, options.learned_places)
        >>> scene = scene_of(case, options)
        >>> registration = register(scene, [proposer], options=options)
        >>> registration.ct_to_world.shape
        (4, 4)
    """
    options, report = options or RegistrationOptions(), progress or Progress()
    count = len(scene.views)
    asked = [proposer for proposer in proposers if proposer.views_needed <= count]
    others = [alternative for alternative in alternatives if alternative.views_needed <= count]
    if proposers and not asked:
        least = min(proposer.views_needed for proposer in proposers)
        raise InputError(
            "views", f"at least {least} X-rays are needed to find the pose, not {count}"
        )
    route = _Route(Refiner(scene, residual or LocallyNormalized(), stepper), others, options)
    began = time.perf_counter()
    timing_s: dict[str, float] = {}

    def lap(name: str) -> None:
        spent = time.perf_counter() - began - sum(timing_s.values())
        timing_s[name] = timing_s.get(name, 0.0) + spent

    candidates: list[Candidate] = []
    outcome: Outcome | None = None
    for number, proposer in enumerate(asked):
        last = number == len(asked) - 1
        part = report.part(*_span(number, len(asked)))
        proposal = proposer.propose(scene, Tried(candidates, route.best), part.part(0.0, 0.3))
        tried = len(candidates)
        candidates = [*candidates, *proposal.candidates]
        if last:
            lap(proposer.name)
        if candidates:
            progress_on = part.part(0.3, 1.0)
            if last:
                outcome = route.follow(candidates, tried, proposal.places, progress_on, lap)
            else:
                outcome = route.follow(candidates, tried, proposal.places, progress_on)
        if not last:
            lap(proposer.name)
        if outcome is not None:
            break
    if outcome is None:
        raise InputError(
            "views",
            "the X-rays show nothing where the clicks or the start say the bone is",
            "check center_px, the start and the geometry",
        )
    return registration_of(scene, outcome, timing_s, options)


def _span(number: int, count: int) -> tuple[float, float]:
    """The share of the progress that one of several proposers has: the last one has most."""
    if number == count - 1:
        return (0.0 if count == 1 else 0.25), 1.0
    return 0.25 * number / (count - 1), 0.25 * (number + 1) / (count - 1)


@dataclass(frozen=True)
class Outcome:
    """Finely refined hypotheses, the best first, and what is known about that."""

    fine: list[Hypothesis]
    evidence: Evidence


class _Route:
    """The way from candidates to a judged pose."""

    def __init__(
        self, refiner: Refiner, alternatives: Sequence[Alternative], options: RegistrationOptions
    ) -> None:
        self._refiner, self._alternatives, self._options = refiner, alternatives, options
        self.best: Hypothesis | None = None

    def follow(
        self,
        candidates: Sequence[Candidate],
        tried: int,
        places: Places,
        progress: Progress,
        lap: Callable[[str], None] | None = None,
    ) -> Outcome | None:
        """Follow candidates, of which so many were ``tried`` before, from coarse to fine.

        With a ``lap`` to end each stage this is the last time: the likeliest of the new ones goes
        first and may be enough (`_clear_at_once`), and there is an outcome in any case. Without one
        only where the best pose is `ok` and explains each view well. `ok` includes that
        the alternatives were tried wherever a view is not explained better than a wrong level ever
        was.
        """
        refiner, options, last = self._refiner, self._options, lap is not None
        end = lap or (lambda name: None)
        progress.pose(candidates[0].ct_to_world)
        if last and len(candidates) > tried:
            part = progress.part(0.0, 0.5)
            clear = self._clear_at_once(candidates[tried], part, end)
            if clear is not None:
                evidence = self._judged(*clear, progress.part(0.5, 1.0), end)
                return Outcome(clear[0], evidence)
            progress = progress.part(0.05, 1.0)
        part = progress.part(0.0, 0.3)
        coarse = refine_coarsely(refiner, candidates, tried, places, options, part)
        progress.pose(coarse[0].ct_to_world)
        end("coarse")
        middle = refine_further(refiner, coarse, options, progress.part(0.3, 0.45))
        self.best = middle[0]
        if not last and self.best.weakest_score < WORTH_FINISHING:
            return None
        if places.afresh_below is None or self.best.weakest_score < places.afresh_below:
            part = progress.part(0.45, 0.55)
            middle = refine_afresh(refiner, middle, places, options, part)
        progress.pose(middle[0].ct_to_world)
        end("middle")
        fine = refine_finely(refiner, middle, options, progress.part(0.55, 0.75))
        if last or fine[0].weakest_score >= STANDS_ALONE:
            fine = explore(refiner, fine, options, progress.part(0.75, 0.85))
        self.best = fine[0]
        progress.pose(self.best.ct_to_world)
        end("fine")
        if not last and self.best.weakest_score < STANDS_ALONE:
            return None
        evidence = self._judged(fine, middle, progress.part(0.85, 1.0), end)
        return Outcome(fine, evidence) if last or judge(evidence).status == "ok" else None

    def _clear_at_once(
        self, candidate: Candidate, progress: Progress, end: Callable[[str], None]
    ) -> tuple[list[Hypothesis], list[Hypothesis]] | None:
        """Follow the likeliest candidate alone: what becomes of it finely and at the middle stage,
        where that is beyond doubt, so that no other needs to be followed; else None."""
        refiner, options = self._refiner, self._options
        coarse = refiner.refine(options.coarse, candidate, progress.part(0.0, 0.2))
        end("coarse")
        middle = refine_further(refiner, [coarse], options, progress.part(0.2, 0.4))
        end("middle")
        if middle[0].weakest_score < STANDS_ALONE:
            return None
        progress.pose(middle[0].ct_to_world)
        fine = refine_finely(refiner, middle, options, progress.part(0.4, 1.0))
        end("fine")
        edges = refiner.edge_scores(options.fine, fine[0])
        if not beyond_doubt(fine[0], min(edges)):
            return None
        self.best = fine[0]
        progress.pose(self.best.ct_to_world)
        return fine, middle

    def _judged(
        self,
        fine: Sequence[Hypothesis],
        middle: Sequence[Hypothesis],
        progress: Progress,
        end: Callable[[str], None],
    ) -> Evidence:
        evidence = gather_evidence(
            self._refiner, fine, middle, self._alternatives, self._options, progress
        )
        progress(1.0, "checking the pose")
        end("check")
        return evidence


def registration_of(
    scene: Scene, outcome: Outcome, timing_s: dict[str, float], options: RegistrationOptions
) -> Registration:
    """Judge an outcome, and say all that is known of it."""
    best, evidence = outcome.fine[0], outcome.evidence
    drawn = [view.name for view in scene.views if view.bone_alone]
    verdict = verdict_of(evidence, loosest(scene, best.ct_to_world), scene.nominal, drawn)
    room = scene.room_nominal
    scores, agreeing = best.refined.evaluation.view_scores, evidence.consistency
    return Registration(
        status=verdict.status,
        reason=with_room(verdict.reason, {"room_nominal": room}),
        ct_to_world=best.ct_to_world,
        covariance=evidence.covariance,
        centre_ct=scene.bodies.centre_ct,
        quality={
            **evidence.to_quality(),
            **({"room_nominal": list(room)} if room else {}),
            "views": {
                view.name: {
                    "score": score,
                    "bone": "bright" if sign > 0 else "dark",
                    **({} if agreeing is None else agreeing.of_view(number)),
                }
                for number, (view, score, sign) in enumerate(
                    zip(scene.views, scores, best.signs, strict=True)
                )
            },
            # With these a review measures the pose as it was measured here.
            "shifts_ct": [shift.tolist() for shift in best.arrangement.shifts_ct],
        },
        timing_s={**timing_s, "total": sum(timing_s.values())},
        parameters={**scene.parameters, "registration": asdict(options)},
        seed=options.seed,
        arrangement=best.arrangement,
        ran_on=dict.fromkeys(timing_s, device_name(scene.device)),
    )
