"""What becomes of registrations when a number that decides is changed by a fifth either way.

    python Testing/benchmarks/bench_bounds.py [--rooms registration,networks,views] [--phantoms 4]
        [--seed 41000] [--only NAME,...] [--jobs 2] [--out FILE.md]

Registers phantoms that nothing was tuned on (half of them realistic, half hard), each as it is and
with the label of the level above, which must never be `ok` unless the pose is that vertebra's own;
for the room ``networks`` without clicks, by the shipped weights. Then once more with each number of
the rooms' ``bounds.py`` times 0.8 and times 1.2 (whole numbers change by one at least). Prints a
table in Markdown: how many verdicts differ, how far poses and confidences move at the most, and the
numbers whose change changed nothing, which are to be deleted or merged.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from numpy.typing import NDArray

from RadGSRegLib import pipeline
from RadGSRegLib.cases import Case
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import transform_points
from RadGSRegLib.networks import learned_start, load_model
from RadGSRegLib.networks.shipped import shipped_weights
from RadGSRegLib.simulation import simulate_phantom_case

Number = int | float
FACTORS = (0.8, 1.2)


@dataclass(frozen=True)
class Outcome:
    """What a registration said: status, pose, confidence, and how far off it is (mm)."""

    status: str
    pose: NDArray[np.float64]
    confidence: float
    error_mm: float


@dataclass(frozen=True)
class Trial:
    """A phantom by its seed; ``above``: with the label of the level above; ``learned``: by the
    shipped weights, without clicks."""

    seed: int
    above: bool
    learned: bool


def bounds_of(room: str) -> dict[str, Any]:
    """Return the numbers of a room's ``bounds.py``, by name."""
    module = importlib.import_module(f"RadGSRegLib.{room}.bounds")
    return {name: value for name, value in vars(module).items() if name.isupper()}


def changed(value: Any, factor: float) -> Any:
    """Return a number, or every one of a tuple, times a factor; whole numbers by one at least."""
    if isinstance(value, tuple):
        return tuple(changed(number, factor) for number in value)
    if isinstance(value, int):
        return (
            min(round(value * factor), value - 1)
            if factor < 1
            else max(round(value * factor), value + 1)
        )
    return value * factor


@contextmanager
def with_bound(room: str, name: str, value: Any) -> Iterator[None]:
    """Give a bound another value, in its table and wherever it was imported by name."""
    before = bounds_of(room)[name]
    tables = [
        module
        for key, module in sys.modules.items()
        if key.startswith(f"RadGSRegLib.{room}") and vars(module).get(name) is before
    ]
    for module in tables:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module in tables:
            setattr(module, name, before)


@lru_cache(maxsize=64)
def _case(seed: int, above: bool) -> tuple[Case, NDArray[np.float64], NDArray[np.float64]]:
    """A case, its target's true pose (4, 4) and points of its surface (N, 3)."""
    realism = "hard" if seed % 2 else "realistic"
    simulated = simulate_phantom_case(seed, realism)
    case, truth = simulated.case, simulated.truth
    pose = truth["ct_to_world"]
    if above:
        levels = sorted(int(label) for label in truth["neighbours"])
        label = max((n for n in levels if n < case.label), default=levels[0])
        case, pose = replace(case, label=label), truth["neighbours"][str(label)]
    return case, np.asarray(pose), case.surface_ct


@lru_cache(maxsize=1)
def _model() -> Any:
    path = shipped_weights()
    assert path is not None, "the shipped weights are not there"
    return load_model(path)


def outcome_of(trial: Trial) -> Outcome:
    """Register a trial's phantom with the bounds as they are."""
    case, true_pose, points = _case(trial.seed, trial.above)
    proposers = []
    try:
        if trial.learned:
            case = replace(case, views=tuple(replace(v, center_px=None) for v in case.views))
            proposers = [learned_start(case, _model()).proposer()]
        done = pipeline.register_case(case, proposers=proposers)
    except InputError as error:
        return Outcome(f"refused ({error.problem})", np.eye(4), 0.0, np.inf)
    moved = transform_points(done.ct_to_world, points) - transform_points(true_pose, points)
    error_mm = float(np.linalg.norm(moved, axis=1).mean())
    return Outcome(done.status, done.ct_to_world, done.quality["confidence"], error_mm)


def sweep(task: tuple[str, str, float, Sequence[Trial]]) -> list[Outcome]:
    """Return the outcomes of trials with a bound times a factor (no name: as it is)."""
    room, name, factor, trials = task
    if not name:
        return [outcome_of(trial) for trial in trials]
    value = changed(bounds_of(room)[name], factor)
    # What was measured with the bound as it is must not be remembered, nor the other way round.
    with with_bound(room, name, value):
        return [outcome_of(trial) for trial in trials]


def trials_of(room: str, phantoms: int, seed: int) -> list[Trial]:
    """Return what a room's bounds are tried on."""
    seeds = range(seed, seed + phantoms)
    if room == "networks":
        return [Trial(n, False, True) for n in seeds]
    return [Trial(n, above, False) for n in seeds for above in (False, True)]


def row(room: str, name: str, value: Any, found: Sequence[Sequence[Outcome]]) -> tuple[str, bool]:
    """Return a bound's line of the table, from the outcomes as it is, less and more; and whether
    nothing changed."""
    usual, *others = found
    cells, nothing = [], True
    for outcomes in others:
        verdicts = sum(a.status != b.status for a, b in zip(usual, outcomes, strict=True))
        moved = max(
            float(np.abs(a.pose[:3, 3] - b.pose[:3, 3]).max())
            for a, b in zip(usual, outcomes, strict=True)
        )
        confidence = max(
            abs(a.confidence - b.confidence) for a, b in zip(usual, outcomes, strict=True)
        )
        silent = sum(o.status == "ok" and o.error_mm >= 2.0 for o in outcomes)
        nothing &= verdicts == 0 and moved == 0.0 and confidence == 0.0
        cells.append(f"{verdicts} | {silent} | {moved:.2g} | {confidence:.2g}")
    return f"| {room}.{name} | {value} | {' | '.join(cells)} |", nothing


def main() -> None:
    """Sweep and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rooms", default="registration,networks,views")
    parser.add_argument("--phantoms", type=int, default=4)
    parser.add_argument("--seed", type=int, default=41000)
    parser.add_argument("--only", default="", help="names of bounds, by commas")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    only = set(filter(None, args.only.split(",")))
    lines, idle = [], []
    with ProcessPoolExecutor(args.jobs) as pool:
        for room in args.rooms.split(","):
            trials = trials_of(room, args.phantoms, args.seed)
            names = [name for name in bounds_of(room) if not only or name in only]
            tasks: list[tuple[str, str, float, Sequence[Trial]]] = [(room, "", 1.0, trials)]
            tasks += [(room, name, factor, trials) for name in names for factor in FACTORS]
            usual, *others = pool.map(sweep, tasks)
            statuses = [outcome.status for outcome in usual]
            errors = [outcome.error_mm for outcome in usual if outcome.status == "ok"]
            lines.append(
                f"{room}: {len(trials)} registrations, {statuses.count('ok')} `ok` "
                f"(at most {max(errors, default=np.nan):.2f} mm off)"
            )
            lines += [
                "",
                "| bound | value | x 0.8: verdicts | silent failures | moved mm | confidence "
                "| x 1.2: verdicts | silent failures | moved mm | confidence |",
                "|" + " --- |" * 10,
            ]
            for number, name in enumerate(names):
                found = [usual, *others[2 * number : 2 * number + 2]]
                line, nothing = row(room, name, bounds_of(room)[name], found)
                lines.append(line)
                if nothing:
                    idle.append(f"{room}.{name}")
                print(line, flush=True)
            lines.append("")
    lines.append(f"Changed nothing in these trials: {', '.join(idle) or 'none'}")
    text = "\n".join(lines)
    print(f"\n{text}")
    if args.out is not None:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
