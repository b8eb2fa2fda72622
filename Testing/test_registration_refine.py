"""Refinement: right slopes by every body's motion, steps about the right centres, the right end."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from registration_scenes import bodies, error_mm, one_thread, scene, simulated, truth

from RadGSRegLib.drr import project_volume
from RadGSRegLib.errors import Cancelled
from RadGSRegLib.geometry import (
    Rigid,
    compose_about,
    exp_se3,
    is_rigid,
    twist_about,
)
from RadGSRegLib.registration import (
    Arrangement,
    Arrangements,
    LocallyNormalized,
    Problem,
    RefineOptions,
    Refiner,
    RegistrationOptions,
    Stage,
    StretchedGaussNewton,
    evaluate,
)
from RadGSRegLib.registration import problem as problem_room
from RadGSRegLib.registration import refine as refinement
from RadGSRegLib.registration.background import RenderedBackground
from RadGSRegLib.registration.evidence import pose_covariance
from RadGSRegLib.registration.normal_equations import Evaluations, evaluate_each
from RadGSRegLib.registration.problem import Group, problem_at
from RadGSRegLib.registration.refine import Refined
from RadGSRegLib.registration.residual import NormalizedTerm
from RadGSRegLib.system import Progress
from RadGSRegLib.views import Contrast, LocalNormalization, Normalized, Windows

OPTIONS = RegistrationOptions()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    one_thread()


def _recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, torch.Tensor]:
    """What was last normalised, and its slopes, with one floor for all so that slopes compare."""
    found: dict[str, torch.Tensor] = {}
    push, normalized = Normalized.push, Contrast.normalized

    def pushed(self: Normalized, jacobian: torch.Tensor) -> torch.Tensor:
        slopes = push(self, jacobian)
        found["result"], found["slopes"] = self.image[0], slopes[:, 0]
        return slopes

    monkeypatch.setattr(Normalized, "push", pushed)
    monkeypatch.setattr(Contrast, "normalized", lambda self, floor: normalized(self, 0.02))
    return found


def _problem(stage: Stage, arrangement: Arrangement) -> Problem:
    """What a registration fits at a stage, around where an arrangement puts the target."""
    refiner = Refiner(scene(), LocallyNormalized(), StretchedGaussNewton)
    return refiner.problem(stage, arrangement, (1,) * len(scene().views))


def _refine(problem: Problem, start: Arrangement, progress: Progress | None = None) -> Refined:
    return refinement.refine(problem, start, StretchedGaussNewton(), progress)


def _shuffled(seed: int) -> Arrangement:
    """Target and everything else away from the truth, none as in the CT."""
    rng = np.random.default_rng(seed)
    start = bodies().as_in_ct(truth(simulated()))
    scale = np.array([0.06] * 3 + [3.0] * 3)
    others = rng.uniform(-1, 1, (len(bodies().movable_centres_ct), 6)) * scale
    target = rng.uniform(-1, 1, 6) * scale
    return _moved(start, np.concatenate([target, others.ravel()]))


def _there(arrangement: Arrangement) -> Arrangements:
    return Arrangements.of([arrangement], torch.device("cpu"))


def _moved(arrangement: Arrangement, step: np.ndarray) -> Arrangement:
    """Where a step of the unknowns leads."""
    (moved,) = bodies().moved(_there(arrangement), torch.from_numpy(step)[None]).on_host()
    return moved


def _first(problem: Problem) -> Problem:
    """The problem of the first view alone."""
    group = problem.groups[0]
    index = torch.tensor([0])
    terms = tuple(problem.residual.part(term, index) for term in group.terms)
    background = None if group.background is None else group.background.part(index)
    only = Group((0,), group.windows.part(index), terms, background)
    return replace(problem, groups=(only,), views=1)


@pytest.mark.parametrize("place", ["as in the CT", "everything moved"])
@pytest.mark.parametrize(
    ("voxels", "mix", "tolerance"),
    # Sampled voxels have kinks, so their differences are rougher than the Gaussians'.
    [(False, (0.0, 0.0), 0.005), (False, (1.0, 0.5), 0.08), (True, (0.0, 0.0), 0.08)],
)
def test_slopes_by_the_motion_of_every_body(
    place: str,
    voxels: bool,
    mix: tuple[float, float],
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Columns of the Jacobian against pictures rendered with that body moved there and back."""
    done = bodies()
    arrangement = done.as_in_ct(truth(simulated()))
    if place == "everything moved":
        arrangement = _shuffled(3)
    options = RefineOptions(fine=True, voxels=voxels, move_neighbours=True)
    problem = _first(_problem(Stage(2.5, 1.5, options), arrangement))
    (group,) = problem.groups
    normalizer = LocalNormalization(group.windows.valid, 4.0)
    term = NormalizedTerm(normalizer, group.terms[0].observed)
    found = _recorded(monkeypatch)

    def rendered(at: Arrangement) -> tuple[torch.Tensor, torch.Tensor]:
        # The background rendered truly anew, not by its own linear forecast.
        background = _background(group.windows, at, mix)
        anew = replace(group, terms=(term,), background=background)
        evaluate(replace(problem, groups=(anew,)), at)
        return found["result"], found["slopes"]

    slopes = rendered(arrangement)[1].clone()
    count = 1 + len(done.movable_centres_ct)
    assert slopes.shape[0] == 6 * count
    for body in range(count):
        if body == count - 1 and mix == (0.0, 0.0):
            assert not slopes[6 * body :].any()
            continue
        for first, step in ((0, 1e-3), (3, 0.04)):
            axes = range(6 * body + first, 6 * body + first + 3)
            strongest = max(float(slopes[axis].norm()) for axis in axes)
            assert strongest > 0
            for axis in axes:
                twists = np.zeros(6 * count)
                twists[axis] = step
                there = _moved(arrangement, twists)
                back = _moved(arrangement, -twists)
                measured = (rendered(there)[0] - rendered(back)[0]) / (2.0 * step)
                error = float((measured - slopes[axis]).norm())
                assert error < tolerance * strongest, (body, axis)


def _background(shown: Windows, at: Arrangement, mix: tuple[float, float]) -> RenderedBackground:
    background, centre_ct = bodies().background, torch.from_numpy(bodies().centre_ct)
    assert background is not None
    pose = torch.from_numpy(at.background_to_world)[None]
    share = torch.tensor([mix])
    rendered = background.render_linear(
        share, shown.lenses, shown.world_to_camera @ pose, centre_ct
    )
    return RenderedBackground(*rendered, pose, centre_ct, share)


def test_the_background_between_every_second_pixel_is_what_all_pixels_show() -> None:
    done, arrangement = bodies(), _shuffled(2)
    assert done.background is not None
    options = RefineOptions(fine=True)
    for pixel_mm in (OPTIONS.middle.pixel_mm, OPTIONS.fine.pixel_mm):
        (group,) = _first(_problem(Stage(pixel_mm, 1.0, options), arrangement)).groups
        lenses, pose = group.windows.lenses, torch.from_numpy(arrangement.background_to_world)
        to_camera = group.windows.world_to_camera[0] @ pose
        (found,) = done.background.render(lenses, to_camera[None])
        linear = _background(group.windows, arrangement, (1.0, 0.5))
        for volume, image in zip(
            (done.background.excess, done.background.field), found, strict=True
        ):
            step_mm = float(volume.spacing.min())
            every = project_volume(
                volume, lenses.intrinsics[0], to_camera, lenses.size, step_mm=step_mm
            )
            error = float((image - every).norm() / (every - every.mean()).norm())
            assert error < 0.08 * pixel_mm, pixel_mm
        mixed = found[0] + 0.5 * found[1]
        assert torch.allclose(linear.image[0], mixed, atol=1e-4 * float(mixed.abs().max()))


def test_the_backgrounds_linear_forecast_is_near_its_true_picture() -> None:
    arrangement = _shuffled(5)
    (group,) = _first(_problem(Stage(2.0, 1.5, RefineOptions(fine=True)), arrangement)).groups
    before = _background(group.windows, arrangement, (1.0, 1.0))
    still = np.zeros(6 * len(bodies().movable_centres_ct))
    twist = np.array([0.01, -0.01, 0.01, 0.6, -0.6, 0.4])
    moved = _moved(arrangement, np.concatenate([still, twist]))
    after = _background(group.windows, moved, (1.0, 1.0)).image
    forecast = before.moved_to(torch.from_numpy(moved.background_to_world)[None])
    assert float((forecast - after).norm()) < 0.3 * float((before.image - after).norm())
    there = torch.from_numpy(arrangement.background_to_world)[None]
    assert torch.allclose(before.moved_to(there), before.image, atol=1e-6)


def test_normal_equations_are_those_of_the_residual() -> None:
    """The gradient against finite differences of the cost along a step."""
    start = _shuffled(8)
    options = RefineOptions(fine=True, move_neighbours=True)
    problem = _problem(Stage(1.5, 1.0, options), start)
    state = evaluate(problem, start)
    assert state.hessian == pytest.approx(state.hessian.T, abs=1e-5 * state.hessian.max())
    assert np.linalg.eigvalsh(state.hessian).min() > 0
    direction = np.linalg.solve(
        state.hessian + 1e-2 * np.diag(np.diag(state.hessian)), state.gradient
    )
    costs = []
    for step in (-0.05, 0.05):
        twists = step * direction
        moved = _moved(start, twists)
        costs.append(evaluate(problem, moved).cost)
    measured = (costs[1] - costs[0]) / 0.1
    # The footprint's weights move a little with the pose, which the gradient leaves out.
    assert measured == pytest.approx(-2.0 * float(state.gradient @ direction), rel=0.25)


@pytest.mark.parametrize("stage", [OPTIONS.coarse, OPTIONS.middle, OPTIONS.fine])
def test_views_evaluated_together_are_what_each_is_alone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = _shuffled(4)
    found = {}
    for name, split in {
        "together": lambda pictures, _: [pictures],
        "alone": lambda pictures, _: [[picture] for picture in pictures],
    }.items():
        monkeypatch.setattr(problem_room, "grouped_pictures", split)
        problem = _problem(stage, start)
        assert len(problem.groups) == {"together": 1, "alone": 2}[name]
        found[name] = evaluate(problem, start)
    together, alone = found["together"], found["alone"]
    assert together.cost == pytest.approx(alone.cost, rel=1e-5)
    assert together.view_scores == pytest.approx(alone.view_scores, abs=1e-5)
    assert together.effective_pixels == pytest.approx(alone.effective_pixels, rel=1e-6)
    size = np.abs(alone.gradient).max()
    assert together.gradient == pytest.approx(alone.gradient, abs=1e-4 * size)
    size = np.abs(alone.hessian).max()
    assert together.hessian == pytest.approx(alone.hessian, abs=1e-4 * size)


def test_views_are_grouped_by_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = 10_000, 4_000
    monkeypatch.setattr(problem_room, "GROUP_PX", 60_000)

    def groups(trials: int, pixels: int) -> list[int]:
        pictures = list(itertools.product(range(trials), range(2)))
        parts = problem_room.grouped_pictures(pictures, pixels)
        assert list(itertools.chain(*parts)) == pictures
        return [len(part) for part in parts]

    monkeypatch.setattr(problem_room, "worker_count", lambda: 2)
    assert groups(1, large) == [1, 1]
    assert groups(3, large) == [3, 3]
    monkeypatch.setattr(problem_room, "worker_count", lambda: 1)
    assert groups(1, large) == [2]
    # Small ones of several trials go together, as many as fit.
    assert groups(4, small) == [8]
    monkeypatch.setattr(problem_room, "GROUP_PX", 12_000)
    assert groups(4, small) == [2, 3, 3]


def test_a_part_of_a_problem_is_that_of_its_trials() -> None:
    """Trials that are left over keep their own windows, whatever groups they were in."""
    starts = [_shuffled(seed) for seed in (4, 5, 6)]
    arrangements = Arrangements.of(starts, torch.device("cpu"))
    there = scene()
    args = there.bodies, there.views, LocallyNormalized(), OPTIONS.middle
    whole = problem_at(*args, arrangements, torch.ones(3, 2))
    scores = evaluate_each(whole, arrangements).view_scores
    assert len({round(float(score), 3) for score in scores[:, 0]}) == 3
    for kept in ([0, 2], [1], [0, 1, 2]):
        index = torch.tensor(kept)
        part = evaluate_each(whole.part(kept), arrangements.part(index)).view_scores
        torch.testing.assert_close(part, scores[index], atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("stage", [OPTIONS.coarse, OPTIONS.fine])
def test_poses_refined_together_end_where_each_ends_alone(stage: Stage) -> None:
    stage = replace(stage, rounds=1, refine=replace(stage.refine, iterations=3))
    starts = [_shuffled(seed) for seed in (4, 5, 6)]
    alone = [_refine(_problem(stage, start), start) for start in starts]
    refiner = Refiner(scene(), LocallyNormalized(), StretchedGaussNewton)
    together = refiner.refine_arrangements(stage, starts, [(1, 1)] * 3, Progress())
    assert len({round(done.score, 3) for done in alone}) == 3
    for one, other in zip(alone, together, strict=True):
        assert other.arrangement.ct_to_world == pytest.approx(one.arrangement.ct_to_world, abs=1e-3)
        assert other.score == pytest.approx(one.score, abs=1e-4)
        assert other.iterations == one.iterations


def test_a_matrix_handed_on_is_kept_and_changes_nothing_else() -> None:
    start = _shuffled(8)
    problem = _problem(OPTIONS.middle, start)
    own = evaluate_each(problem, _there(start))
    other = 2.0 * own.hessian
    kept = evaluate_each(problem, _there(start), other)
    assert kept.hessian is other
    torch.testing.assert_close(kept.gradient, own.gradient, atol=1e-9, rtol=0.0)
    assert torch.equal(kept.cost, own.cost)
    assert torch.equal(kept.view_scores, own.view_scores)


@pytest.mark.parametrize(("every", "matrices"), [(1, 4), (2, 2), (3, 2), (4, 1), (9, 1)])
def test_the_hessian_is_computed_anew_as_often_as_asked(
    every: int, matrices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    evaluated = refinement.evaluate_each

    def counted(
        problem: Problem, at: Arrangements, hessian: torch.Tensor | None = None
    ) -> Evaluations:
        asked.append(hessian is None)
        return evaluated(problem, at, hessian)

    monkeypatch.setattr(refinement, "evaluate_each", counted)
    start = _shuffled(1)
    options = replace(OPTIONS.middle.refine, iterations=4, steps_per_matrix=every, tolerance_mm=0.0)
    _refine(replace(_problem(OPTIONS.middle, start), options=options), start)
    assert len(asked) == 5
    assert sum(asked) == matrices


twists = st.tuples(*[st.floats(-0.3, 0.3)] * 3, *[st.floats(-10.0, 10.0)] * 3).map(np.array)


@given(target=twists, other=twists, earlier=twists)
def test_moved_turns_every_body_about_its_own_present_centre(
    target: np.ndarray, other: np.ndarray, earlier: np.ndarray
) -> None:
    done = bodies()
    count = len(done.movable_centres_ct)
    still, nothing = np.zeros((count, 6)), np.zeros(6)

    def moved(before: Arrangement, target: np.ndarray, others: np.ndarray) -> Arrangement:
        return _moved(before, np.concatenate([target, others.ravel()]))

    start = done.as_in_ct(truth(simulated()))
    before = moved(start, target, np.tile(earlier, (count, 1)))

    # The target's step carries the others with it: they keep their place in the CT.
    one = moved(before, target, still)
    assert twist_about(before.ct_to_world, one.ct_to_world, done.centre_ct) == pytest.approx(
        target, abs=1e-6
    )
    assert np.allclose(one.shifts_ct, before.shifts_ct)

    # A neighbour's step moves it alone.
    for n, centre_ct in enumerate(done.movable_centres_ct):
        step = still.copy()
        step[n] = other
        after = moved(before, nothing, step)
        assert np.allclose(after.ct_to_world, before.ct_to_world)
        for m in range(count):
            assert is_rigid(after.shifts_ct[m], 1e-6)
            if m != n:
                assert np.allclose(after.shifts_ct[m], before.shifts_ct[m])
        centre = Rigid(before.shifts_ct[n]).apply(centre_ct)
        expected = compose_about(np.eye(4), other, centre) @ before.shifts_ct[n]
        assert np.allclose(after.shifts_ct[n], expected)
        # The centre moves by the translation alone, however far the body turns.
        assert Rigid(after.shifts_ct[n]).apply(centre_ct) - centre == pytest.approx(
            exp_se3(other)[:3, 3], abs=1e-6
        )
    assert np.allclose(after.background_to_world, after.ct_to_world @ after.shifts_ct[-1])


def _refined(start: np.ndarray) -> Refined:
    arrangement = bodies().as_in_ct(start)
    for stage in (OPTIONS.coarse, OPTIONS.middle, OPTIONS.fine):
        for _ in range(stage.rounds):
            done = _refine(_problem(stage, arrangement), arrangement)
            arrangement = done.arrangement
    return done


def _start(seed: int) -> np.ndarray:
    """5 degrees and 5 mm from the truth, in random directions."""
    axes = np.random.default_rng(seed).standard_normal((2, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    twist = np.concatenate([np.radians(5.0) * axes[0], 5.0 * axes[1]])
    return compose_about(truth(simulated()), twist, bodies().centre_ct)


def test_refine_recovers_the_pose() -> None:
    start = _start(1)
    assert error_mm(simulated(), start) > 4.0
    done = _refined(start)
    assert error_mm(simulated(), done.arrangement.ct_to_world) < 0.3
    assert done.score > 0.9
    state = done.evaluation
    covariance = pose_covariance(
        state.hessian, state.cost, state.effective_pixels, OPTIONS.fine.pixel_mm
    )
    assert (covariance == covariance.T).all()
    assert np.linalg.eigvalsh(covariance).min() > 0
    # Neither absurdly sure nor unsure of a clean case.
    deviations = np.sqrt(np.diag(covariance))
    assert (deviations[3:] > 1e-3).all()
    assert (deviations[3:] < 0.5).all()


def test_refine_never_ends_worse_than_it_began() -> None:
    for seed in range(3):
        start = _shuffled(seed)
        problem = _problem(OPTIONS.middle, start)
        problem = replace(problem, options=replace(problem.options, iterations=3))
        before = evaluate(problem, start)
        after = _refine(problem, start)
        assert after.evaluation.cost < before.cost
        assert after.evaluation.cost == pytest.approx(
            evaluate(problem, after.arrangement).cost, rel=1e-6
        )


def test_held_neighbours_stay_as_in_the_ct() -> None:
    start = bodies().as_in_ct(_start(4))
    options = replace(OPTIONS.middle.refine, move_neighbours=False, iterations=3)
    done = _refine(replace(_problem(OPTIONS.middle, start), options=options), start)
    assert done.evaluation.hessian.shape == (6, 6)
    assert np.allclose(done.arrangement.shifts_ct, np.eye(4))


def test_the_prior_holds_what_no_picture_shows() -> None:
    """With pictures masked, only the prior speaks: everything goes back to its place in the CT."""
    start = _shuffled(6)
    options = replace(OPTIONS.middle.refine, iterations=10)
    problem = _problem(OPTIONS.middle, start)
    blind = tuple(
        replace(
            group,
            windows=replace(group.windows, valid=torch.zeros_like(group.windows.valid)),
        )
        for group in problem.groups
    )
    done = _refine(replace(problem, groups=blind, options=options), start)
    for centre, shift in zip(bodies().movable_centres_ct, done.arrangement.shifts_ct, strict=True):
        assert Rigid(shift).apply(centre) == pytest.approx(centre, abs=0.1)


def test_refine_can_be_stopped() -> None:
    start = bodies().as_in_ct(_start(4))
    with pytest.raises(Cancelled):
        _refine(
            _problem(OPTIONS.coarse, start), start, Progress(lambda fraction, _: fraction < 0.3)
        )
