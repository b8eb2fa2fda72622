"""From many candidates to one pose: refinement from coarse to fine, the best ones kept."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..geometry import Array
from ..system import Progress
from ..tensors import applied, reads_are_free
from .bodies import Arrangement, Arrangements
from .bounds import ALONE_STEPS, CONVERGED_MM, CONVERGED_SCORE, SAME_POSE_MM
from .edges import edge_scores
from .normal_equations import Evaluations, evaluate_each
from .options import Places, RegistrationOptions, Stage
from .own_share import own_shares
from .problem import Problem, problem_at
from .proposers import Candidate
from .refine import Refined, Refinements, refine_each
from .residual import Residual
from .scene import Scene
from .steps import Stepper


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A refined arrangement with the views' signs."""

    refined: Refined
    signs: tuple[int, ...]

    @property
    def arrangement(self) -> Arrangement:
        """Where everything is."""
        return self.refined.arrangement

    @property
    def ct_to_world(self) -> Array:
        """The target's pose (4, 4)."""
        return self.refined.arrangement.ct_to_world

    @property
    def score(self) -> float:
        """How well it agrees with all views, at most 1."""
        return self.refined.score

    @property
    def weakest_score(self) -> float:
        """How well it agrees with the view that it agrees with least."""
        return min(self.refined.evaluation.view_scores)


class Refiner:
    """Refines poses of a scene at stages, and remembers what became of each."""

    def __init__(self, scene: Scene, residual: Residual, stepper: Callable[[], Stepper]) -> None:
        """``stepper`` makes a new one for each refinement."""
        self.scene = scene
        self._residual = residual
        self._stepper = stepper
        self._refined: dict[tuple[Candidate | Hypothesis, Stage, bool], Hypothesis] = {}
        self._edges: dict[tuple[Hypothesis, Stage], list[float]] = {}
        self._measured: tuple[Hypothesis, Stage, Problem] | None = None
        self._by_view: tuple[Hypothesis, Stage, Problem, Evaluations] | None = None

    def within(self, scene: Scene) -> Refiner:
        """Return one that refines likewise in another scene."""
        return self if scene is self.scene else Refiner(scene, self._residual, self._stepper)

    def edge_scores(self, stage: Stage, hypothesis: Hypothesis) -> list[float]:
        """Return how well the edges agree in each view (`edges.edge_scores`), remembered."""
        key = (hypothesis, stage)
        if key not in self._edges:
            at, signs = self._there([hypothesis.arrangement]), self._signs([hypothesis.signs])
            scores = edge_scores(self._problem_of(stage, hypothesis), at, signs)
            self._edges[key] = scores[0].tolist()
        return self._edges[key]

    def own_shares(self, stage: Stage, hypothesis: Hypothesis) -> list[float]:
        """Return by how much the target itself raises each view's score (`own_shares`)."""
        at = self._there([hypothesis.arrangement])
        shares: list[float] = own_shares(self._problem_of(stage, hypothesis), at)[0].tolist()
        return shares

    def edge_score(self, stage: Stage, hypothesis: Hypothesis) -> float:
        """Return the mean of `edge_scores`."""
        return float(np.mean(self.edge_scores(stage, hypothesis)))

    def problem(self, stage: Stage, arrangement: Arrangement, signs: tuple[int, ...]) -> Problem:
        """Return what a stage fits: windows around where an arrangement puts the target."""
        return self._problem(stage, self._there([arrangement]), self._signs([signs]))

    def _problem_of(self, stage: Stage, hypothesis: Hypothesis) -> Problem:
        """What a stage fits at a hypothesis; the last one is remembered, as a pose that is believed
        is measured twice."""
        if self._measured is None or self._measured[:2] != (hypothesis, stage):
            problem = self.problem(stage, hypothesis.arrangement, hypothesis.signs)
            self._measured = hypothesis, stage, problem
        return self._measured[2]

    def _problem(self, stage: Stage, arrangements: Arrangements, signs: Tensor) -> Problem:
        scene = self.scene
        return problem_at(scene.bodies, scene.views, self._residual, stage, arrangements, signs)

    def _there(self, arrangements: Sequence[Arrangement]) -> Arrangements:
        return Arrangements.of(arrangements, self.scene.bodies.device)

    def _signs(self, signs: Sequence[tuple[int, ...]]) -> Tensor:
        return torch.tensor(signs, dtype=torch.float32, device=self.scene.bodies.device)

    def refine(
        self,
        stage: Stage,
        start: Candidate | Hypothesis,
        progress: Progress,
        *,
        afresh: bool = False,
    ) -> Hypothesis:
        """Refine a pose at a stage; see `refine_each`."""
        return self.refine_each(stage, [start], progress, afresh=afresh)[0]

    def refine_each(
        self,
        stage: Stage,
        starts: Sequence[Candidate | Hypothesis],
        progress: Progress,
        message: str = "refining the pose",
        *,
        afresh: bool = False,
    ) -> list[Hypothesis]:
        """Refine poses at a stage, rendering the background anew each round.

        ``afresh``: with all else as in the CT. Coming back to the same start costs nothing. A stage
        without rounds leaves hypotheses as they are, and raises ValueError for a candidate.
        """
        if stage.rounds == 0:
            kept = [start for start in starts if isinstance(start, Hypothesis)]
            if len(kept) < len(starts):
                raise ValueError("a stage without rounds makes no hypothesis of a candidate")
            return kept
        keys = [(start, stage, afresh) for start in starts]
        new = [key for key in dict.fromkeys(keys) if key not in self._refined]
        arrangements = [
            self.scene.bodies.as_in_ct(start.ct_to_world)
            if afresh or isinstance(start, Candidate)
            else start.arrangement
            for start, _, _ in new
        ]
        signs = [start.signs for start, _, _ in new]
        progress(0.0, message)
        refined = self.refine_arrangements(stage, arrangements, signs, progress)
        for key, done in zip(new, refined, strict=True):
            self._refined[key] = Hypothesis(done, key[0].signs)
        return [self._refined[key] for key in keys]

    def refine_arrangements(
        self,
        stage: Stage,
        arrangements: Sequence[Arrangement],
        signs: Sequence[tuple[int, ...]],
        progress: Progress,
    ) -> list[Refined]:
        """Refine arrangements, each in as many rounds as the stage has, or until they bring it
        nothing."""
        if not arrangements:
            return []
        at, own = self._there(arrangements), self._signs(signs)
        return self.refine_there(stage, at, own, progress).on_host()

    def refine_there(
        self, stage: Stage, at: Arrangements, own: Tensor, progress: Progress
    ) -> Refinements:
        """Do what `refine_arrangements` does, on the device: T arrangements with the views' signs
        ``own`` (T, V).

        The host reads nothing of them, except on the CPU, where those that have ended are left out.
        """
        index = torch.arange(len(at), device=own.device)
        going = torch.ones_like(index, dtype=torch.bool)
        stepper = self._stepper()
        done: Refinements | None = None
        for n in range(stage.rounds):
            part = progress.part(n / stage.rounds, (n + 1) / stage.rounds)
            stepper = stepper.renewed()
            refined = refine_each(self._problem(stage, at, own), at, stepper, part)
            before = torch.full_like(refined.evaluations.cost, -1.0)
            if done is not None:
                before = done.evaluations.score[index]
            done = refined if done is None else done.put(index, refined, going)
            moved_mm = self._distances_mm(at.ct_to_world, refined.arrangements.ct_to_world)
            at = refined.arrangements.where(going, at)
            better = refined.evaluations.score >= before + CONVERGED_SCORE
            going = going & (moved_mm >= CONVERGED_MM) & better
            if reads_are_free(going):
                # What has ended is left out.
                left = going.nonzero()[:, 0]
                if len(left) == 0:
                    break
                if len(left) < len(going):
                    index, at, own, going = index[left], at.part(left), own[left], going[left]
                    stepper = stepper.part(left)
        assert done is not None
        return done

    def _distances_mm(self, ct_to_world: Tensor, other_ct_to_world: Tensor) -> Tensor:
        """The mean distance (T,) of the target's surface between poses (T, 4, 4)."""
        points_ct = torch.from_numpy(self.scene.distance_points_ct).to(ct_to_world.device)
        there = applied(other_ct_to_world[:, None], points_ct)
        moved: Tensor = applied(ct_to_world[:, None], points_ct) - there
        apart: Tensor = moved.norm(dim=-1).mean(1)
        return apart

    def measured_anew(self, stage: Stage, hypothesis: Hypothesis) -> Refined:
        """Return a hypothesis with cost and Hessian of its own place: its Hessian may be that of
        where the last round began. The scores stay those that the rounds were judged by."""
        (state,) = self._each_view(stage, hypothesis)[1].together().on_host()
        evaluation = replace(
            hypothesis.refined.evaluation,
            cost=state.cost,
            hessian=state.hessian,
            effective_pixels=state.effective_pixels,
        )
        return replace(hypothesis.refined, evaluation=evaluation)

    def refine_alone(
        self, stage: Stage, hypothesis: Hypothesis, progress: Progress
    ) -> list[Arrangement]:
        """Refine a hypothesis to each view alone, with few steps in the windows around it: what it
        asks for that the others do not see."""
        problem, state = self._each_view(stage, hypothesis)
        brief = replace(problem.options, iterations=ALONE_STEPS, steps_per_matrix=ALONE_STEPS)
        problem, starts = replace(problem, options=brief), self._of_each_view(hypothesis)
        done = refine_each(problem, starts, self._stepper(), progress, state)
        return done.arrangements.on_host()

    def _of_each_view(self, hypothesis: Hypothesis) -> Arrangements:
        """The arrangement of a hypothesis, once for each view."""
        return self._there([hypothesis.arrangement] * len(self.scene.views))

    def _each_view(self, stage: Stage, hypothesis: Hypothesis) -> tuple[Problem, Evaluations]:
        """What a stage fits at a hypothesis, of each view alone, and its normal equations there;
        the last ones are remembered."""
        if self._by_view is None or self._by_view[:2] != (hypothesis, stage):
            problem = self._problem_of(stage, hypothesis).each_view()
            state = evaluate_each(problem, self._of_each_view(hypothesis))
            self._by_view = hypothesis, stage, problem, state
        return self._by_view[2:]

    def distinct(
        self, hypotheses: Sequence[Hypothesis], apart_mm: float | None = None, count: int = 0
    ) -> list[Hypothesis]:
        """Return the best ``count`` (0: all) that lie at least ``apart_mm`` from each other."""
        least = SAME_POSE_MM if apart_mm is None else apart_mm
        kept: list[Hypothesis] = []
        for hypothesis in sorted(hypotheses, key=lambda h: -h.score):
            pose = hypothesis.ct_to_world
            if all(self.scene.distance_mm(pose, k.ct_to_world) > least for k in kept):
                kept.append(hypothesis)
            if len(kept) == count:
                break
        return kept


def refine_coarsely(
    refiner: Refiner,
    candidates: Sequence[Candidate],
    tried: int,
    places: Places,
    options: RegistrationOptions,
    progress: Progress,
) -> list[Hypothesis]:
    """Refine the best candidates of the best places coarsely, and return the best of what becomes
    of them. ``tried`` as in `by_place`."""
    groups = by_place(refiner.scene, candidates, places, tried)
    every = [candidate for group in groups for candidate in group]
    message = "refining the likeliest poses"
    refined = iter(refiner.refine_each(options.coarse, every, progress, message))
    kept = []
    for group in groups:
        poses = list(itertools.islice(refined, len(group)))
        kept.append(refiner.distinct(poses, count=places.survivors))
    kept.sort(key=lambda poses: -poses[0].score)
    return refiner.distinct([pose for poses in kept[: places.keep] for pose in poses])


def refine_further(
    refiner: Refiner, coarse: Sequence[Hypothesis], options: RegistrationOptions, progress: Progress
) -> list[Hypothesis]:
    """Refine all poses at the middle stage; the best come first."""
    message = "refining the best poses"
    return refiner.distinct(refiner.refine_each(options.middle, coarse, progress, message))


def refine_afresh(
    refiner: Refiner,
    middle: Sequence[Hypothesis],
    places: Places,
    options: RegistrationOptions,
    progress: Progress,
) -> list[Hypothesis]:
    """Refine the best pose of each of the best places again with all else as in the CT, and return
    all poses, the best first.

    While the target was still far off, neighbours and background may have gone astray with it.
    """
    stage = replace(options.middle, rounds=2)
    best = refiner.distinct(middle, places.apart_mm, places.finals)
    worth = [h for h in best if h.score >= best[0].score - options.fine_lead]
    message = "refining the best poses afresh"
    again = refiner.refine_each(stage, worth, progress, message, afresh=True)
    return refiner.distinct([*middle, *again])


def refine_finely(
    refiner: Refiner, middle: Sequence[Hypothesis], options: RegistrationOptions, progress: Progress
) -> list[Hypothesis]:
    """Refine the best poses finely: one round tells which is best, and that one is finished."""
    threshold = middle[0].score - options.fine_lead
    close = [h for h in middle[: options.fine_candidates] if h.score >= threshold]
    first, rest = options.fine.in_two()
    message = "refining the pose finely"
    poses = refiner.distinct(refiner.refine_each(first, close, progress.part(0.0, 0.5), message))
    progress.pose(poses[0].ct_to_world)
    return [refiner.refine(rest, poses[0], progress.part(0.5, 1.0)), *poses[1:]]


def by_place(
    scene: Scene, candidates: Sequence[Candidate], places: Places, tried: int = 0
) -> list[list[Candidate]]:
    """Group candidates (best first) by where they put the target's centre.

    The first ``tried`` of them, which were proposed before, take no other's place in a group.
    """
    groups: list[tuple[Array, list[Candidate]]] = []
    room: list[int] = []
    for number, candidate in enumerate(candidates):
        centre = scene.centre_world(candidate.ct_to_world)
        home = 0 if places.count == 1 and groups else None
        for n, (place, _) in enumerate(groups):
            if home is None and np.linalg.norm(centre - place) < places.apart_mm:
                home = n
        if home is None:
            if len(groups) == places.count:
                continue
            home = len(groups)
            groups.append((centre, []))
            room.append(places.candidates)
        if number < tried:
            groups[home][1].append(candidate)
        elif room[home] > 0:
            groups[home][1].append(candidate)
            room[home] -= 1
    return [members for _, members in groups]
