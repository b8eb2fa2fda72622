"""How many evaluations refinement needs: its own steps beside Levenberg-Marquardt's.

    python Testing/benchmarks/bench_steps.py CASES_DIR [PREFIX] [--starts 2]

Each case is refined from poses drawn about the truth (coarse: 6 degrees and 3 mm per axis, one
standard deviation; middle: 4 and 2; fine: 2 and 1), in each way and with the same number of
evaluations; ours also with the Hessian of the start alone, as registration takes it at the middle
and the fine stage. Per stage, a table in Markdown: how far the cost is above the lowest that any
found, as a share of what it was above that at the start, and the error (mTRE), both means, after so
many evaluations. Levenberg-Marquardt's damping is Nielsen's (1999), as this project had it before.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from RadGSRegLib.cases import Case, read_case
from RadGSRegLib.measures import mtre
from RadGSRegLib.registration import (
    Arrangement,
    Arrangements,
    LocallyNormalized,
    Problem,
    Refiner,
    RegistrationOptions,
    Stage,
    Stepper,
    StretchedGaussNewton,
    evaluate,
    evaluate_each,
    scene_of,
)
from RadGSRegLib.system import one_torch_thread

Array = NDArray[np.float64]
OPTIONS = RegistrationOptions()
STAGES = {"coarse": (6.0, 3.0), "middle": (4.0, 2.0), "fine": (2.0, 1.0)}
SHOWN = (2, 4, 6, 8, 12, 16, 24)


class LevenbergMarquardt:
    """Gauss-Newton's steps, damped by the gain that they bring; in the place of ours, one trial."""

    def __init__(self) -> None:
        self.damping, self.factor = 1e-2, 2.0
        self.predicted = 0.0

    def step(self, gradient: Tensor, matrix: Tensor) -> Tensor:
        """The damped step (1, P)."""
        diagonal = matrix.diagonal(dim1=1, dim2=2)
        diagonal = torch.maximum(diagonal, 1e-6 * diagonal.max() + 1e-12)
        step = torch.linalg.solve(matrix + self.damping * torch.diag_embed(diagonal), gradient)
        self.predicted = float((step * (self.damping * diagonal * step + gradient)).sum())
        return step

    def renewed(self) -> LevenbergMarquardt:
        """Return one that knows nothing yet."""
        return LevenbergMarquardt()

    def part(self, index: Tensor) -> LevenbergMarquardt:
        """Return one for the same trial, the only one."""
        return self

    def learn(
        self, step: Tensor, fall: Tensor, before: Tensor, after: Tensor, among: Tensor
    ) -> Tensor:
        """Whether to take the step; damps the next one accordingly."""
        fallen = float(fall)
        gain = fallen / max(self.predicted, 1e-12)
        if fallen > 0.0:
            self.damping *= max(1.0 / 3.0, 1.0 - (2.0 * min(gain, 1.5) - 1.0) ** 3)
            self.factor = 2.0
        else:
            self.damping *= self.factor
            self.factor *= 2.0
        return fall > 0.0


def drawn(true_ct_to_world: Array, centre_ct: Array, deg: float, mm: float, seed: int) -> Array:
    """A ct_to_world (4, 4) near the true one, turned about the target's centre."""
    rng = np.random.default_rng(seed)
    turn = Rotation.from_rotvec(np.radians(rng.normal(0.0, deg, 3))).as_matrix()
    pose = true_ct_to_world.copy()
    pose[:3, :3] = turn @ true_ct_to_world[:3, :3]
    centre = true_ct_to_world[:3, :3] @ centre_ct + true_ct_to_world[:3, 3] + rng.normal(0.0, mm, 3)
    pose[:3, 3] = centre - pose[:3, :3] @ centre_ct
    return pose


def starts_of(
    case: Case, true_ct_to_world: Array, starts: int
) -> Iterator[tuple[str, Problem, Arrangement]]:
    """Yield all refinements of a case: the stage's name, what is fitted, the start."""
    scene = scene_of(case, OPTIONS)
    refiner = Refiner(scene, LocallyNormalized(), StretchedGaussNewton)
    signs = signs_at(refiner, true_ct_to_world)
    for (name, (deg, mm)), seed in itertools.product(STAGES.items(), range(starts)):
        pose = drawn(true_ct_to_world, scene.bodies.centre_ct, deg, mm, seed)
        stage: Stage = getattr(OPTIONS, name)
        arrangement = scene.bodies.as_in_ct(pose)
        yield name, refiner.problem(stage, arrangement, signs), arrangement


def signs_at(refiner: Refiner, true_ct_to_world: Array) -> tuple[int, ...]:
    """Return the polarities with which the X-rays fit best at the true pose."""
    arrangement = refiner.scene.bodies.as_in_ct(true_ct_to_world)

    def score(signs: tuple[int, ...]) -> float:
        return evaluate(refiner.problem(OPTIONS.coarse, arrangement, signs), arrangement).score

    choices = itertools.product(*[(v.sign,) if v.sign else (1, -1) for v in refiner.scene.views])
    return max(choices, key=score)


def followed(
    problem: Problem, start: Arrangement, steps: Stepper, keep: bool
) -> tuple[list[float], list[Array]]:
    """Return cost and pose after each evaluation, the start's first; ``keep``: the start's
    Hessian."""
    here = Arrangements.of([start], problem.bodies.device)
    state = evaluate_each(problem, here)
    costs, poses = [float(state.cost)], [start.ct_to_world]
    alone = torch.ones(1, dtype=torch.bool)
    for _ in range(max(SHOWN)):
        step = steps.step(state.gradient, state.hessian)
        there = problem.bodies.moved(here, step)
        tried = evaluate_each(problem, there, state.hessian if keep else None)
        fall = state.cost - tried.cost
        if bool(steps.learn(step, fall, state.gradient, tried.gradient, alone)):
            here, state = there, tried
        costs.append(float(state.cost))
        poses.append(here.ct_to_world[0].numpy())
    return costs, poses


def main() -> None:
    """Run all and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=Path)
    parser.add_argument("prefix", nargs="?", default="")
    parser.add_argument("--starts", type=int, default=2)
    asked = parser.parse_args()
    paths = sorted(asked.cases.glob(f"{asked.prefix}*/case.json"))
    if not paths:
        parser.error(f"there is no {asked.cases}/{asked.prefix}*/case.json")
    ways: dict[str, tuple[Callable[[], Stepper], bool]] = {
        "Levenberg-Marquardt": (LevenbergMarquardt, False),
        "stretched": (StretchedGaussNewton, False),
        "stretched, one Hessian": (StretchedGaussNewton, True),
    }
    left: dict[tuple[str, str], list[list[float]]] = {}
    errors: dict[tuple[str, str], list[list[float]]] = {}
    with one_torch_thread():
        for path in paths:
            case = read_case(path)
            told = json.loads((path.parent / "truth.json").read_text())
            true_ct_to_world = np.asarray(told["ct_to_world"])
            for name, problem, start in starts_of(case, true_ct_to_world, asked.starts):
                found = {
                    way: followed(problem, start, steps(), keep)
                    for way, (steps, keep) in ways.items()
                }
                lowest = min(costs[-1] for costs, _ in found.values())
                for way, (costs, poses) in found.items():
                    share = [(c - lowest) / max(costs[0] - lowest, 1e-12) for c in costs]
                    left.setdefault((name, way), []).append(share)
                    error = [mtre(told["points_ct"], pose, true_ct_to_world) for pose in poses]
                    errors.setdefault((name, way), []).append(error)
    for name in STAGES:
        runs = len(left[name, "stretched"])
        print(f"\n{name}, {runs} runs: share of the cost left; error in mm\n")
        print("| evaluations | " + " | ".join(str(n) for n in SHOWN) + " |")
        print("|" + " --- |" * (len(SHOWN) + 1))
        for way in ways:
            share, error = np.mean(left[name, way], axis=0), np.mean(errors[name, way], axis=0)
            cells = [f"{100 * share[n]:.0f} %; {error[n]:.2f}" for n in SHOWN]
            print(f"| {way} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
