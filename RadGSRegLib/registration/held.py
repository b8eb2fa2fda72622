"""A pose that is kept as it is: everything else placed around it, and judged like any other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..cases import Case
from ..errors import InputError
from ..geometry import Array
from ..system import Progress, one_torch_thread
from ..views import ViewFilter, sign_choices
from . import bounds
from .bodies import Arrangement
from .evidence import Evidence, doubtful, gather_evidence
from .normal_equations import evaluate
from .of_case import case_alternatives, case_proposers
from .options import RegistrationOptions
from .proposers import Candidate, GivenPoses
from .refine import Refined
from .register import Outcome, registration_of
from .residual import LocallyNormalized
from .scale import fitted, scaled
from .scene import scene_of
from .stages import Hypothesis, Refiner
from .steps import StretchedGaussNewton
from .types import Registration
from .verdict import judge


def judge_case(
    case: Case,
    ct_to_world: ArrayLike,
    options: RegistrationOptions | None = None,
    progress: Progress | None = None,
    filters: Sequence[ViewFilter] = (),
    device: torch.device | str = "cpu",
) -> Registration:
    """Judge a pose of the case's vertebra as `register_case` judges its own, and leave it as it is.

    Only the neighbours are moved, to where they explain the X-rays best. How far a fit would move
    the pose counts as "disagreement_mm"; what else may be the case is tried only where the pose
    would be ``ok`` without that.

    Args:
        case: CT, labels and X-rays.
        ct_to_world: (4, 4), the pose.
        options: None: the defaults.
        progress: told of the share done; may cancel.
        filters: what makes the X-rays better first.
        device: where to compute all but what is taken out of the CT.

    Returns:
        That pose, with its covariance, the status and the evidence.

    Raises:
        InputError: for a label without bone, and for a single X-ray, which says too little of how
            far away a pose is.
        Cancelled: when ``progress`` says so.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.registration import judge_case
        >>> away = np.array(truth["ct_to_world"])
        >>> away[:3, 3] += 6.0
        >>> judge_case(case, away).status in ("uncertain", "failed")
        True
    """
    began = time.perf_counter()
    if len(case.views) == 1:
        raise InputError("views", "one X-ray alone does not judge a pose", "add another one")
    given, report = options or RegistrationOptions(), progress or Progress()
    with one_torch_thread():
        report(0.0, "taking the bone out of the CT")
        given = fitted(given, case)
        options = scaled(given)
        pose = np.asarray(ct_to_world, dtype=float)
        scene = scene_of(case, options, filters, device)
        prepared = time.perf_counter() - began
        refiner = Refiner(scene, LocallyNormalized(), StretchedGaussNewton)
        signs = polarities_at(refiner, scene.bodies.as_in_ct(pose), options)
        held = hypothesis_at(refiner, pose, signs, options, report.part(0.1, 0.3))
        evidence = _evidence(case, refiner, held, options, report.part(0.3, 1.0))
    checked = time.perf_counter() - began - prepared
    spent_s = {"prepare": prepared, "check": checked}
    done = registration_of(scene, Outcome([held], evidence), spent_s, options)
    done = _said(done, evidence)
    return replace(
        done,
        parameters={**done.parameters, "registration": asdict(given)},
        ran_on={**done.ran_on, "prepare": "cpu"},
    )


def judge_held(
    case: Case,
    refiner: Refiner,
    arrangement: Arrangement,
    signs: tuple[int, ...],
    options: RegistrationOptions,
    progress: Progress,
    pictures_known: bool = False,
) -> Registration:
    """Judge an arrangement of the case's vertebra and all around it, and leave it as it is.

    ``refiner`` is of the case's scene, ``options`` are scaled, ``signs`` of the views. What else
    may be the case is tried only where the pose would be ``ok`` without that; with
    ``pictures_known`` only the neighbouring levels, as mirrored or exchanged X-rays and mixed
    polarities were tried with another vertebra of the same X-rays.
    """
    began = time.perf_counter()
    state = evaluate(refiner.problem(options.fine, arrangement, signs), arrangement)
    held = Hypothesis(Refined(arrangement, state, 0), signs)
    evidence = _evidence(case, refiner, held, options, progress, pictures_known)
    spent_s = {"check": time.perf_counter() - began}
    done = registration_of(refiner.scene, Outcome([held], evidence), spent_s, options)
    return _said(done, evidence)


def _evidence(
    case: Case,
    refiner: Refiner,
    held: Hypothesis,
    options: RegistrationOptions,
    progress: Progress,
    pictures_known: bool = False,
) -> Evidence:
    """What speaks for and against a hypothesis that is left as it is."""
    evidence = gather_evidence(refiner, [held], [held], (), options, progress.part(0.0, 0.3))
    if judge(evidence).status != "ok":
        return _untried(evidence)
    pose = held.ct_to_world
    proposer = GivenPoses([Candidate(pose, held.score, held.signs)], options.learned_places)
    asked = case_proposers(case, None, options, [proposer])
    others = case_alternatives(case, pose, refiner.scene, options, asked)
    if pictures_known:
        others = [other for other in others if other.name == "level"]
    if not doubtful(refiner, held, others, options):
        return replace(evidence, leads={other.name: 1.0 for other in others})
    part = progress.part(0.3, 1.0)
    return gather_evidence(refiner, [held], [held], others, options, part)


def _said(done: Registration, evidence: Evidence) -> Registration:
    """A registration of a pose that was left as it is, with the reason of that."""
    moved_mm = evidence.disagreement_mm
    if done.status == "uncertain" and moved_mm > bounds.SURE_DISAGREEMENT_MM:
        reason = f"a fit to the X-rays would move the bone by {moved_mm:.1f} mm from this pose"
        return replace(done, reason=reason)
    return done


def polarities_at(
    refiner: Refiner, arrangement: Arrangement, options: RegistrationOptions
) -> tuple[int, ...]:
    """Return the views' signs: known, or else what lets them correlate best at an arrangement."""
    views = refiner.scene.views
    problem = refiner.problem(options.middle, arrangement, (1,) * len(views))
    still = replace(options.middle.refine, move_neighbours=False)
    scores = evaluate(replace(problem, options=still), arrangement).view_scores
    return max(sign_choices(views), key=lambda signs: float(np.dot(signs, scores)))


def settled_around(
    refiner: Refiner,
    ct_to_world: Array,
    signs: tuple[int, ...],
    options: RegistrationOptions,
    progress: Progress,
) -> Arrangement:
    """Return the target at a pose (4, 4), the neighbours where they explain the X-rays best with
    it."""
    arrangement = refiner.scene.bodies.as_in_ct(ct_to_world)
    for done, stage in ((0.0, options.middle), (0.4, options.fine)):
        progress(done, "placing the neighbours")
        brief = replace(stage, rounds=1)
        (refined,) = refiner.refine_arrangements(brief, [arrangement], [signs], Progress())
        # The neighbours' places are taken over, the target's own pose is not.
        arrangement = refined.arrangement.with_target_at(ct_to_world)
    return arrangement


def hypothesis_at(
    refiner: Refiner,
    ct_to_world: Array,
    signs: tuple[int, ...],
    options: RegistrationOptions,
    progress: Progress,
) -> Hypothesis:
    """Return a pose (4, 4), all else settled around it, measured as the finest stage measures."""
    arrangement = settled_around(refiner, ct_to_world, signs, options, progress)
    state = evaluate(refiner.problem(options.fine, arrangement, signs), arrangement)
    return Hypothesis(Refined(arrangement, state, 0), signs)


def _untried(evidence: Evidence) -> Evidence:
    """The evidence of a pose that nothing else was tried beside: no lead is known."""
    return replace(evidence, leads={})
