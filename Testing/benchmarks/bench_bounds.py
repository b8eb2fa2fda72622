"""What becomes of results when a number that decides is changed by a fifth either way.

    python Testing/benchmarks/bench_bounds.py [--rooms ROOM,...] [--phantoms 4] [--seed 41000]
        [--only NAME,...] [--jobs 2] [--out FILE.md]

Runs phantoms that nothing was tuned on (half of them realistic, half hard), then once more with
each number of the rooms' ``bounds.py`` times 0.8 and times 1.2 (whole numbers change by one at
least, percentiles by a fifth of what they leave out). A room is its trials:

- ``registration``, ``views``: each phantom is registered as it is and with the label of the level
  above, which must never be `ok` unless the pose is that vertebra's own;
- ``networks``, and ``registration`` too: without clicks, by the shipped weights;
- ``reconstruction``: registered once, then reconstructed with the CT as prior, as it is and
  stretched by a twentieth, and without it;
- ``segmentation``: the vertebra from a click in its middle.

Prints a table in Markdown: how many verdicts differ (or reasons), how many `ok` are wrong (2 mm off
or more; a Dice below 0.8), how far poses (mm), volumes (greatest change of a voxel, as a share of
the greatest value) or Dice and scores move at the most, and the numbers whose change changed
nothing, which are to be deleted or merged.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from numpy.typing import NDArray

import RadGSRegLib
from RadGSRegLib import pipeline
from RadGSRegLib.cases import Case
from RadGSRegLib.errors import InputError
from RadGSRegLib.measures import SUCCESS_MM, mtre
from RadGSRegLib.networks import learned_start, load_model
from RadGSRegLib.networks.shipped import shipped_weights
from RadGSRegLib.segmentation import segment_vertebra
from RadGSRegLib.simulation import simulate_phantom_case

Number = int | float
FACTORS = (0.8, 1.2)


@dataclass(frozen=True)
class Outcome:
    """What a run said: a status, what it yields (N,), scores (M,), and whether that is wrong."""

    status: str
    numbers: NDArray[np.float64]
    scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    wrong: bool = False


@dataclass(frozen=True)
class Trial:
    """A phantom by its seed, and what is done with it: a key of `RUNS`."""

    seed: int
    run: str


def bounds_of(room: str) -> dict[str, Any]:
    """Return the numbers of a room's ``bounds.py``, by name."""
    module = importlib.import_module(f"RadGSRegLib.{room}.bounds")
    return {name: value for name, value in vars(module).items() if name.isupper()}


def changed(value: Any, factor: float) -> Any:
    """Return a number, or every one of a tuple, times a factor; whole numbers by one at least, and
    of a low and a high percentile what they leave out."""
    if isinstance(value, tuple) and value[1] > 90.0:
        return (value[0] * factor, 100.0 - (100.0 - value[1]) * factor)
    if isinstance(value, tuple):
        return tuple(changed(number, factor) for number in value)
    if isinstance(value, int):
        return (
            min(round(value * factor), value - 1)
            if factor < 1
            else max(round(value * factor), value + 1)
        )
    return value * factor


@lru_cache(maxsize=1)
def _load_all() -> None:
    """Import the whole library: a module that is first imported while a bound is changed would keep
    it."""
    for module in pkgutil.walk_packages(RadGSRegLib.__path__, "RadGSRegLib."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


@contextmanager
def with_bound(room: str, name: str, value: Any) -> Iterator[None]:
    """Give a bound another value, in its table and wherever in the library it was imported by name.

    What the library has cached is forgotten before and after: it may rest on the bound.
    """
    _load_all()
    before = bounds_of(room)[name]
    library = {key: vars(m) for key, m in sys.modules.items() if key.startswith("RadGSRegLib.")}
    # Another room's table may hold an equal number by the same name.
    users = [
        names
        for key, names in library.items()
        if names.get(name) is before
        and (key == f"RadGSRegLib.{room}.bounds" or not key.endswith(".bounds"))
    ]
    caches = [
        part
        for key, names in library.items()
        if not key.startswith("RadGSRegLib.system")
        for part in names.values()
        if hasattr(part, "cache_clear")
    ]

    def give(bound: Any) -> None:
        for names in users:
            names[name] = bound
        for cache in caches:
            cache.cache_clear()

    give(value)
    try:
        yield
    finally:
        give(before)


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


@lru_cache(maxsize=64)
def _registered(seed: int) -> tuple[Any, Any]:
    """A phantom's registration, and its vertebra's Gaussians in the CT frame."""
    case, *_ = _case(seed, False)
    registration = pipeline.register_case(case)
    return registration, pipeline.posed_prior(case, registration).transformed(
        np.linalg.inv(registration.ct_to_world)
    )


def _register(seed: int, above: bool = False, learned: bool = False) -> Outcome:
    case, true_pose, points = _case(seed, above)
    proposers = []
    if learned:
        case = replace(case, views=tuple(replace(v, center_px=None) for v in case.views))
        proposers = [learned_start(case, _model()).proposer()]
    done = pipeline.register_case(case, proposers=proposers)
    wrong = mtre(points, done.ct_to_world, true_pose) >= SUCCESS_MM
    scores = [value for value in done.quality.values() if isinstance(value, float)]
    return Outcome(done.status, done.ct_to_world[:3, 3], np.array(scores), wrong)


def _reconstruct(seed: int, stretch: float) -> Outcome:
    """Reconstruct with a prior that is stretched about its middle; without one for 0."""
    case, *_ = _case(seed, False)
    if stretch:
        registration, cloud = _registered(seed)
        middle = cloud.means.mean(0)
        cloud = replace(cloud, means=middle + stretch * (cloud.means - middle))
        done = pipeline.reconstruct_registered(case, registration, prior_ct=cloud)
    else:
        done = pipeline.reconstruct(case.views)
    said = done.quality.get("reason") or str(done.quality["background"])
    values = done.volume.array.ravel() / done.volume.array.max()
    ssims = np.array([view["ssim"] for view in done.quality["views"].values()])
    return Outcome(said, values, ssims)


def _segment(seed: int) -> Outcome:
    case, *_ = _case(seed, False)
    done = segment_vertebra(case.ct, case.centre_ct)
    mask, truth = done.mask.array, case.labels.array == case.label
    dice = 2.0 * float((mask & truth).sum()) / float(mask.sum() + truth.sum())
    return Outcome(done.status, np.array([dice]), np.array([done.quality["fit"]]), dice < 0.8)


RUNS: dict[str, Callable[[int], Outcome]] = {
    "as it is": _register,
    "level above": partial(_register, above=True),
    "learned": partial(_register, learned=True),
    "prior": partial(_reconstruct, stretch=1.0),
    "another shape": partial(_reconstruct, stretch=1.05),
    "fresh": partial(_reconstruct, stretch=0.0),
    "segment": _segment,
}
TRIALS = {
    "registration": ("as it is", "level above", "learned"),
    "views": ("as it is", "level above"),
    "networks": ("learned",),
    "reconstruction": ("prior", "another shape", "fresh"),
    "segmentation": ("segment",),
}


def outcome_of(trial: Trial) -> Outcome:
    """Run a trial with the bounds as they are."""
    try:
        return RUNS[trial.run](trial.seed)
    except InputError as error:
        return Outcome(f"refused ({error.problem})", np.empty(0))
    except (ValueError, RuntimeError, ArithmeticError) as error:
        return Outcome(f"broken ({error})", np.empty(0))


def sweep(task: tuple[str, str, float, Sequence[Trial]]) -> list[Outcome]:
    """Return the outcomes of trials with a bound times a factor (no name: as it is)."""
    room, name, factor, trials = task
    if not name:
        return [outcome_of(trial) for trial in trials]
    for trial in trials:  # what is given is made with the bounds as they are
        _case(trial.seed, trial.run == "level above")
        if trial.run in ("prior", "another shape"):
            _registered(trial.seed)
    with with_bound(room, name, changed(bounds_of(room)[name], factor)):
        return [outcome_of(trial) for trial in trials]


def trials_of(room: str, phantoms: int, seed: int) -> list[Trial]:
    """Return what a room's bounds are tried on."""
    return [Trial(n, run) for n in range(seed, seed + phantoms) for run in TRIALS[room]]


def apart(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return how far what two runs yield is apart at the most."""
    return float(np.abs(a - b).max(initial=0.0)) if a.shape == b.shape else float("inf")


def silent(outcomes: Sequence[Outcome]) -> int:
    """Return how many are `ok` and wrong."""
    return sum(outcome.status == "ok" and outcome.wrong for outcome in outcomes)


def row(room: str, name: str, found: Sequence[Sequence[Outcome]]) -> tuple[str, bool]:
    """Return a bound's line of the table, from the outcomes as it is, less and more; and whether
    nothing changed."""
    usual, *others = found
    cells, nothing = [], True
    for outcomes in others:
        pairs = list(zip(usual, outcomes, strict=True))
        verdicts = sum(a.status != b.status for a, b in pairs)
        moved = max(apart(a.numbers, b.numbers) for a, b in pairs)
        score = max(apart(a.scores, b.scores) for a, b in pairs)
        nothing &= verdicts == 0 and moved == 0.0 and score == 0.0
        cells.append(f"{verdicts} | {silent(outcomes)} | {moved:.2g} | {score:.2g}")
    return f"| {room}.{name} | {bounds_of(room)[name]} | {' | '.join(cells)} |", nothing


def main() -> None:
    """Sweep and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rooms", default=",".join(TRIALS))
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
            outcomes = pool.map(sweep, tasks)
            usual = next(outcomes)
            statuses = Counter(outcome.status for outcome in usual)
            said = ", ".join(f"{count} {status}" for status, count in statuses.items())
            lines += [
                f"{room}, {len(trials)} trials: {said}; {silent(usual)} `ok` and wrong",
                "",
                "| bound | value | x 0.8: verdicts | wrong `ok` | moved | scores "
                "| x 1.2: verdicts | wrong `ok` | moved | scores |",
                "|" + " --- |" * 10,
            ]
            for name in names:
                line, nothing = row(room, name, [usual, next(outcomes), next(outcomes)])
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
