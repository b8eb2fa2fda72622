"""What becomes of results when a number that decides is changed by a fifth either way.

    python Testing/benchmarks/bench_bounds.py [--rooms ROOM,...] [--files cases,...]
        [--phantoms 4] [--seed 41000] [--only NAME,...] [--jobs 2] [--out FILE.md]

Runs phantoms that nothing was tuned on (half of them realistic, half hard), then once more with
each number of the rooms' ``bounds.py`` times 0.8 and times 1.2 (whole numbers change by one at
least, percentiles by a fifth of what they leave out). `TRIALS` says what a room is tried on,
`WHERE` what single numbers are tried on instead, because they act there:

- ``registration``, ``views``: each phantom is registered as it is and with the label of the level
  above, which must never be `ok` unless the pose is that vertebra's own; where they act with one
  picture mirrored or inverted, two of three exchanged, from a rough start, with clicks beside the
  bone, with the patient lying in any way, with a small bone, with the target's label alone and a
  vessel; and the signs that pictures show are compared;
- ``networks``, and ``registration`` too: without clicks, by the shipped weights; where they are of
  levels, and ``spine``: X-rays of whole trunks, whose names must not be wrong;
- ``reconstruction``: registered once, then reconstructed with the CT as prior, as it is and
  stretched by a twentieth, and without it;
- ``segmentation``: the vertebra from a click in its middle;
- ``gaussians``: a vertebra as Gaussians, and its X-rays; ``training``: tiny networks.

With ``--files`` the tests that read files (`bounds_tests`) are run instead with each number of
``cases`` changed: how many right files are refused then, and how many wrong ones accepted.

Prints a table in Markdown: how many verdicts differ (or reasons, or names of levels), how many `ok`
are wrong (2 mm off or more; a Dice below 0.8), how far poses (mm), volumes (greatest change of a
voxel, as a share of the greatest value) or Dice and scores move at the most, and the numbers whose
change changed nothing, which are to be deleted or merged.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import bounds_fits
import bounds_levels
import bounds_poses
import bounds_tests
import numpy as np
from bounds_outcome import Outcome
from numpy.typing import NDArray

import RadGSRegLib
from RadGSRegLib.errors import InputError

Number = int | float
FACTORS = (0.8, 1.2)


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
    if isinstance(value, tuple) and len(value) == 2 and 90.0 < value[1] < 100.0:
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


def _functions(namespaces: Iterable[dict[str, Any]]) -> Iterator[FunctionType]:
    """Yield the functions and methods of modules."""
    parts = [part for names in namespaces for part in names.values()]
    parts += [part for kind in parts if isinstance(kind, type) for part in vars(kind).values()]
    for part in parts:
        function = vars(part).get("__wrapped__", part) if hasattr(part, "__dict__") else part
        if isinstance(function, FunctionType):
            yield function


def _give_default(function: FunctionType, before: Any, bound: Any) -> None:
    """Give a function another default where it has ``before`` itself for one."""
    if function.__defaults__:
        function.__defaults__ = tuple(
            bound if value is before else value for value in function.__defaults__
        )
    for key, value in (function.__kwdefaults__ or {}).items():
        if value is before:
            function.__kwdefaults__[key] = bound


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

    # Small whole numbers are one object wherever they stand: their defaults are not looked for.
    functions = [] if isinstance(before, int) else list(_functions(library.values()))

    def give(old: Any, bound: Any) -> None:
        for names in users:
            names[name] = bound
        for function in functions:
            _give_default(function, old, bound)
        for cache in caches:
            cache.cache_clear()

    give(before, value)
    try:
        yield
    finally:
        give(value, before)


RUNS = {**bounds_poses.RUNS, **bounds_fits.RUNS, **bounds_levels.RUNS}
TRIALS: dict[str, tuple[str, ...]] = {
    "registration": ("as it is", "level above", "learned"),
    "views": ("as it is", "level above"),
    "networks": ("learned",),
    "reconstruction": ("prior", "another shape", "fresh"),
    "segmentation": ("segment",),
    "gaussians": ("fit",),
    "training": ("train",),
    "spine": ("levels",),
}
"""What a room's numbers are tried on, but for these:"""

_UNLABELLED = (
    *("GRID_SHARE", "LEAST_BONE_HU", "BLUR_MM", "LUMEN_SPREAD_HU", "LUMEN_MM", "LUMEN_MM3"),
    *("LUMEN_MOST_HU", "CORTEX_HU", "CORTEX_SHARE", "MARKER_DEPTH", "MARKER_REACH", "NECK"),
    *("PIECE_SHARE", "MOST_PIECES", "BONE_HU"),
)
_VERDICT = (
    *("SURE_CONFIDENCE", "ERROR_WEIGHT", "SURE_DISAGREEMENT_MM", "SURE_LEAD"),
    *("FAILED_SCORE", "SURE_EDGES", "FAILED_ERROR_MM"),
)
_AIR = (
    *("AIR_SHARE", "AIR_WIDTH", "AIR_LEAST_PX", "AIR_STEP", "SKIN_GROWTH", "AIR_AHEAD"),
    *("AIR_OUTSIDE", "AIR_LEAST_APART", "AIR_SPECKS_PX", "AIR_RIM", "AIR_SHARE_OF_OPENING"),
    *("MOST_CLOSED", "AIR_PIXELS"),
)
_LEVELS = (
    *("CANDIDATES", "CANDIDATE_LEAST", "SHARE_FLOOR", "LOOKS_FLOOR", "LOOKS_WEIGHT"),
    *("SACRUM_TRUST", "RIB_TRUST"),
)
_PICTURE_RUNS = ("as it is", "mirrored")
WHERE: dict[str, dict[str, tuple[str, ...]]] = {
    "registration": {
        **dict.fromkeys(_UNLABELLED, ("vessel",)),
        **dict.fromkeys(_VERDICT, tuple(f"judged {run}" for run in bounds_poses.JUDGED)),
        "SURE_ALTERNATIVE_LEAD": ("as it is", "level above", "mirrored"),
        "CLEAR_SCORE": ("as it is", "level above"),
        "CLEAR_PICTURE_SCORE": _PICTURE_RUNS,
        "CLEAR_EDGES": (*_PICTURE_RUNS, "from a start"),
        "LIKELY_PICTURE": ("mirrored", "inverted"),
        "ROUGH_PIXELS": ("mirrored", "exchanged"),
        "EXCHANGED_VIEWS": ("exchanged",),
        "EQUAL_EVIDENCE": ("from a start",),
        "GROUP_PX": ("as it is",),
        "TEMPLATE_FLOOR": ("as it is", "from a start"),
        "EVERY_TURN_DEG": ("any way",),
        "EVERY_TURN_KEPT": ("any way",),
        **dict.fromkeys(("VERTEBRA_THICKNESS_MM", "SCALE_POWER", "LEAST_SCALE"), ("small", "tiny")),
        "ROLLS_DEG": ("as it is", "level above", "from a start"),
        "OTHERS_KEPT": ("as it is", "level above", "from a start"),
        "EDGE_SCALES_PX": ("as it is", "level above"),
    },
    "gaussians": {"DEFAULT_CUTOFF": ("fit", "as it is")},
    "networks": dict.fromkeys(_LEVELS, ("levels",)),
    "training": {
        "TARGET_SHARE": ("train for a patient",),
        "LEAST_MINUTES": ("train in no time",),
    },
    "views": {
        **dict.fromkeys(_AIR, ("air",)),
        **dict.fromkeys(("BODY_MM", "AROUND_MM", "POLARITY_CENTRE_MM"), ("polarity", "fresh")),
        "WIDE_BLUR_REACH": ("polarity", "fresh", "learned"),
        **dict.fromkeys(
            ("CONTRAST_MM", "CONTRAST_REACH", "CONTRAST_FLOOR_DIVISOR", "CONTRAST_LEAST"),
            ("learned",),
        ),
    },
}
"""Where single numbers act."""


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
        bounds_poses.prepare(trial.run, trial.seed)
    with with_bound(room, name, changed(bounds_of(room)[name], factor)):
        return [outcome_of(trial) for trial in trials]


def trials_of(room: str, name: str, phantoms: int, seed: int) -> list[Trial]:
    """Return what a bound of a room is tried on."""
    runs = WHERE.get(room, {}).get(name, TRIALS[room])
    return [Trial(n, run) for n in range(seed, seed + phantoms) for run in runs]


def apart(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return how far what two runs yield is apart at the most."""
    return float(np.abs(a - b).max(initial=0.0)) if a.shape == b.shape else float("inf")


def silent(outcomes: Sequence[Outcome]) -> int:
    """Return how many are `ok` and wrong."""
    return sum(outcome.status == "ok" and outcome.wrong for outcome in outcomes)


def row(room: str, name: str, every: Sequence[Sequence[Outcome]]) -> tuple[str, bool]:
    """Return a bound's line of the table, from the outcomes as it is, less and more; and whether
    nothing changed."""
    usual, *others = every
    cells, nothing = [], True
    for outcomes in others:
        pairs = list(zip(usual, outcomes, strict=True))
        verdicts = sum(a.status != b.status for a, b in pairs)
        moved = max(apart(a.numbers, b.numbers) for a, b in pairs)
        score = max(apart(a.scores, b.scores) for a, b in pairs)
        nothing &= verdicts == 0 and moved == 0.0 and score == 0.0
        cells.append(f"{verdicts} | {silent(outcomes)} | {moved:.2g} | {score:.2g}")
    value = bounds_of(room)[name]
    return f"| {room}.{name} | {value} | {len(usual)} | {' | '.join(cells)} |", nothing


def sweep_tests(task: tuple[str, str, float, Sequence[str]]) -> Counter[str]:
    """Return how tests fail with a bound times a factor."""
    room, name, factor, tests = task
    with with_bound(room, name, changed(bounds_of(room)[name], factor)):
        return bounds_tests.run_tests(tests).failed


def of_files(room: str, only: set[str], pool: ProcessPoolExecutor) -> Iterator[str]:
    """Yield the table of a room's numbers that decide about files, line by line."""
    tests = pool.submit(bounds_tests.tests_asking, room).result()
    bounds = bounds_of(room)
    names = [name for name in bounds if name in tests and (not only or name in only)]
    kinds = "right refused | wrong accepted | otherwise"
    yield f"| bound | value | tests | x 0.8: {kinds} | x 1.2: {kinds} |"
    yield "|" + " --- |" * 9
    tasks = [(room, name, factor, tests[name]) for name in names for factor in FACTORS]
    outcomes = pool.map(sweep_tests, tasks)
    for name in names:
        failed = [next(outcomes) for _ in FACTORS]
        cells = [str(f[kind]) for f in failed for kind in ("refused", "accepted", "otherwise")]
        yield f"| {room}.{name} | {bounds[name]} | {len(tests[name])} | {' | '.join(cells)} |"
    left = [name for name in bounds if name not in tests]
    yield f"Asked for by no test: {', '.join(left) or 'none'}"


def main() -> None:
    """Sweep and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rooms", default=",".join(TRIALS))
    parser.add_argument("--files", default="", help="rooms whose tests are run: cases, gaussians")
    parser.add_argument("--phantoms", type=int, default=4)
    parser.add_argument("--seed", type=int, default=41000)
    parser.add_argument("--only", default="", help="names of bounds, by commas")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    only = set(filter(None, args.only.split(",")))
    lines, idle = [], []
    with ProcessPoolExecutor(args.jobs) as pool:
        for room in filter(None, args.files.split(",")):
            for line in of_files(room, only, pool):
                lines.append(line)
                print(line, flush=True)
        for room in filter(None, args.rooms.split(",")):
            names = [name for name in bounds_of(room) if not only or name in only]
            trials = {name: trials_of(room, name, args.phantoms, args.seed) for name in names}
            every = list(dict.fromkeys(trial for own in trials.values() for trial in own))
            tasks: list[tuple[str, str, float, Sequence[Trial]]]
            tasks = [(room, "", 1.0, [trial]) for trial in every]
            tasks += [(room, name, factor, trials[name]) for name in names for factor in FACTORS]
            outcomes = pool.map(sweep, tasks)
            usual = {trial: next(outcomes)[0] for trial in every}
            said = "; ".join(
                f"{run} {', '.join(o.status for t, o in usual.items() if t.run == run)}"
                for run in dict.fromkeys(trial.run for trial in every)
            )
            lines += [
                f"{room}: {said}; {silent(list(usual.values()))} `ok` and wrong",
                "",
                "| bound | value | trials | x 0.8: verdicts | wrong `ok` | moved | scores "
                "| x 1.2: verdicts | wrong `ok` | moved | scores |",
                "|" + " --- |" * 11,
            ]
            print("\n".join(lines[-4:]), flush=True)
            for name in names:
                own = [usual[trial] for trial in trials[name]]
                line, nothing = row(room, name, [own, next(outcomes), next(outcomes)])
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
