"""Steps down a cost: to the end of what is quadratic, and fast where the matrix is too stiff."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize

from RadGSRegLib.registration import StretchedGaussNewton

Array = NDArray[np.float64]
Cost = Callable[[Array], tuple[float, Array, Array]]
"""The cost at a place (P,), minus half its derivative (P,), and Gauss-Newton's matrix (P, P)."""


class Alone:
    """The steps of a single trial, as numbers on the host."""

    def __init__(self) -> None:
        self.stepper = StretchedGaussNewton()

    def step(self, gradient: Array, matrix: Array) -> Array:
        step = self.stepper.step(*(torch.from_numpy(a)[None] for a in (gradient, matrix)))
        return np.asarray(step[0])

    def learn(self, step: Array, fall: float, before: Array, after: Array) -> bool:
        fallen = torch.tensor([fall], dtype=torch.float64)
        tensors = [torch.from_numpy(a)[None] for a in (step, before, after)]
        taken = self.stepper.learn(
            tensors[0], fallen, tensors[1], tensors[2], torch.ones(1, dtype=torch.bool)
        )
        return bool(taken)


def descend(cost: Cost, start: Array, steps: int) -> tuple[Array, list[float]]:
    """Where ``steps`` steps end, and the cost after each."""
    descent = Alone()
    place, (value, gradient, matrix) = start, cost(start)
    values = []
    for _ in range(steps):
        step = descent.step(gradient, matrix)
        tried = cost(place + step)
        if descent.learn(step, value - tried[0], gradient, tried[1]):
            place, (value, gradient, matrix) = place + step, tried
        values.append(value)
    return place, values


def plainly(cost: Cost, start: Array, steps: int) -> float:
    """The cost after as many of Gauss-Newton's own steps."""
    place = start
    for _ in range(steps):
        _, gradient, matrix = cost(place)
        place = place + np.linalg.solve(matrix, gradient)
    return cost(place)[0]


def bowl(seed: int, stiffness: float) -> tuple[Cost, Array]:
    """A quadratic cost whose matrix is said to be ``stiffness`` times what it is, and its lowest
    place."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(12, 6)) * rng.uniform(0.3, 3.0, 6)
    true = factor.T @ factor
    lowest = rng.normal(size=6)

    def cost(place: Array) -> tuple[float, Array, Array]:
        away = place - lowest
        return float(away @ true @ away), -true @ away, stiffness * true

    return cost, lowest


def regression(seed: int) -> tuple[Cost, Callable[[Array], float], Array]:
    """A curve through points of which a third are wild, under the robust loss of `refine`: with
    Gauss-Newton's reweighted matrix, and as a function for scipy. From a start."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-2.0, 2.0, 90)
    truth = np.array([0.8, -0.5, 1.7, 0.4])
    basis = np.stack([np.sin(2.0 * x), np.cos(3.0 * x), x, np.ones_like(x)], axis=1)
    observed = basis @ truth + 0.1 * rng.normal(size=90)
    observed[::3] += rng.uniform(-6.0, 6.0, 30)
    start = truth + 0.4 * rng.normal(size=4)

    def residual(place: Array) -> Array:
        return np.asarray(observed - basis @ place)

    def cost(place: Array) -> tuple[float, Array, Array]:
        rest = residual(place)
        weight = 1.0 / (1.0 + rest**2) ** 2
        return value(place), basis.T @ (weight * rest), (basis.T * weight) @ basis

    def value(place: Array) -> float:
        square = residual(place) ** 2
        return float((square / (1.0 + square)).sum())

    return cost, value, start


@given(st.integers(0, 10_000))
def test_a_quadratic_is_followed_to_its_end(seed: int) -> None:
    cost, lowest = bowl(seed, 1.0)
    start = np.zeros(6)
    place, values = descend(cost, start, 12)
    assert values[-1] < 1e-6 * cost(start)[0]
    assert np.linalg.norm(place - lowest) < 0.1


@given(st.integers(0, 10_000), st.sampled_from([0.3, 2.0, 5.0, 12.0]))
def test_a_wrong_stiffness_is_found_out(seed: int, stiffness: float) -> None:
    cost, _ = bowl(seed, stiffness)
    start = np.zeros(6)
    _, values = descend(cost, start, 12)
    assert values[-1] < 1e-3 * cost(start)[0]


def test_a_matrix_far_too_stiff_costs_gauss_newton_many_times_the_steps() -> None:
    cost, _ = bowl(3, 12.0)
    start = np.zeros(6)
    _, values = descend(cost, start, 8)
    assert values[-1] < 0.1 * plainly(cost, start, 16)


@given(st.integers(0, 10_000))
def test_the_cost_never_rises(seed: int) -> None:
    cost, _, start = regression(seed)
    _, values = descend(cost, start, 20)
    assert (np.diff([cost(start)[0], *values]) <= 0.0).all()


@pytest.mark.parametrize("seed", range(8))
def test_it_ends_where_scipy_does(seed: int) -> None:
    cost, value, start = regression(seed)
    expected = minimize(value, start, method="BFGS", options={"gtol": 1e-8})
    place, values = descend(cost, start, 25)
    assert values[-1] == pytest.approx(expected.fun, rel=1e-6)
    assert place == pytest.approx(expected.x, abs=1e-3)


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_after_a_rise_comes_a_shorter_step_from_the_same_place(seed: int, steps: int) -> None:
    cost, _, start = regression(seed)
    descent, place = Alone(), start
    value, gradient, matrix = cost(place)
    for _ in range(steps):
        step = descent.step(gradient, matrix)
        tried = cost(place + step)
        if descent.learn(step, value - tried[0], gradient, tried[1]):
            place, (value, gradient, matrix) = place + step, tried
    rejected = descent.step(gradient, matrix)
    assert not descent.learn(rejected, -1.0, gradient, gradient)
    again = descent.step(gradient, matrix)

    def length(step: Array) -> float:
        return float(step @ matrix @ step)

    assert length(again) <= 0.51**2 * length(rejected)
    assert again @ gradient > 0.0


@pytest.mark.parametrize("fall", [np.nan, -np.inf])
def test_what_is_no_number_is_a_rise(fall: float) -> None:
    descent = Alone()
    gradient, matrix = np.array([1.0, -2.0]), np.diag([2.0, 3.0])
    first = descent.step(gradient, matrix)
    assert not descent.learn(first, fall, gradient, np.full(2, np.nan))
    again = descent.step(gradient, matrix)
    assert np.isfinite(again).all()
    assert np.linalg.norm(again) <= 0.2 * np.linalg.norm(first)


def test_a_flat_direction_is_left_alone() -> None:
    """What no picture shows has no curvature and no slope: it must not move."""
    step = Alone().step(np.array([1.0, 0.0]), np.diag([4.0, 0.0]))
    assert np.isfinite(step).all()
    assert step[1] == 0.0


@given(st.integers(0, 10_000))
def test_trials_side_by_side_are_what_each_is_alone(seed: int) -> None:
    """Those that end earlier learn nothing more, and hold nothing up."""
    costs = [regression(seed + n)[0] for n in range(3)]
    places = np.stack([regression(seed + n)[2] for n in range(3)])
    ends = np.array([9, 4, 9])
    together, alone = StretchedGaussNewton(), [Alone() for _ in costs]
    states = [cost(place) for cost, place in zip(costs, places, strict=True)]
    for n in range(9):
        values, gradients, matrices = (np.stack(part) for part in zip(*states, strict=True))
        steps = together.step(torch.from_numpy(gradients), torch.from_numpy(matrices)).numpy()
        tried = [cost(place + step) for cost, place, step in zip(costs, places, steps, strict=True)]
        falls = torch.from_numpy(values - [state[0] for state in tried])
        among = torch.from_numpy(n < ends)
        after = torch.from_numpy(np.stack([state[1] for state in tried]))
        before = torch.from_numpy(gradients)
        taken = together.learn(torch.from_numpy(steps), falls, before, after, among).numpy()
        for trial in np.flatnonzero(n < ends):
            own = alone[trial].step(gradients[trial], matrices[trial])
            np.testing.assert_allclose(steps[trial], own, rtol=1e-6, atol=1e-9)
            fall = float(falls[trial])
            assert taken[trial] == alone[trial].learn(own, fall, gradients[trial], tried[trial][1])
            if taken[trial]:
                places[trial], states[trial] = places[trial] + steps[trial], tried[trial]
    # What each has learned goes on with it, in whatever order.
    order = torch.tensor([2, 1])
    next_steps = (
        together.renewed()
        .part(order)
        .step(torch.from_numpy(gradients)[order], torch.from_numpy(matrices)[order])
    )
    for step, trial in zip(next_steps.numpy(), order.tolist(), strict=True):
        own = Alone()
        own.stepper = alone[trial].stepper.renewed()
        expected = own.step(gradients[trial], matrices[trial])
        np.testing.assert_allclose(step, expected, rtol=1e-6, atol=1e-9)
