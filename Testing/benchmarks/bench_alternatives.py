"""Whether `ok` holds where something else than the truth looks right.

    python Testing/benchmarks/bench_alternatives.py [CASES ...] [--phantoms 15] [--seed 61000]
        [--realism clean,realistic,hard] [--kinds KIND,...]

Registers phantoms that nothing was tuned on (in turn clean, realistic and hard), and the clicked
cases of folders (``*/case.json`` with ``truth.json``), as they are and spoilt on purpose: with the
target's label alone, each X-ray mirrored, the two exchanged, the label one level off (right where
the pose is that vertebra's own), starts rolled about the bone's axes and moved by its own width.
Prints each result, and per kind how many were `ok`, how many of these wrong by 2 mm or more (silent
failures), and how many right ones were not `ok` (false alarms).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from numpy.typing import NDArray

from RadGSRegLib.cases import Case, View, read_case
from RadGSRegLib.errors import InputError
from RadGSRegLib.measures import SUCCESS_MM, mtre
from RadGSRegLib.registration import register_case
from RadGSRegLib.registration.exploring import other_poses
from RadGSRegLib.simulation import simulate_phantom_case

KINDS = ("plain", "alone", "mirrored", "exchanged", "level", "rolled")
Pose = NDArray[np.float64]


def mirrored(view: View) -> View:
    """Return a view whose picture, and the click in it, are mirrored; the geometry stays."""
    pixels = np.ascontiguousarray(view.pixels[:, ::-1])
    if view.center_px is None:
        return replace(view, pixels=pixels)
    column, row = view.center_px
    return replace(view, pixels=pixels, center_px=(pixels.shape[1] - 1 - column, row))


@dataclass(frozen=True)
class Trial:
    """What is registered, from where (None: from clicks), and the pose that is right."""

    kind: str
    case: Case
    pose: Pose
    start: Pose | None = None


def spoilt(case: Case, truth: dict[str, Any], kinds: tuple[str, ...]) -> Iterator[Trial]:
    """Yield the trials of these kinds of a case with its truth."""
    first, second = case.views[:2]
    pose = np.array(truth["ct_to_world"])
    if "plain" in kinds:
        yield Trial("plain", case, pose)
    if "alone" in kinds:
        labels = np.where(case.mask, case.labels.array, 0).astype(case.labels.array.dtype)
        yield Trial("alone", replace(case, labels=case.labels.with_array(labels)), pose)
    if "mirrored" in kinds:
        yield Trial("mirrored", replace(case, views=(mirrored(first), second)), pose)
        yield Trial("mirrored", replace(case, views=(first, mirrored(second))), pose)
    if "exchanged" in kinds and first.pixels.shape == second.pixels.shape:
        a = replace(first, pixels=second.pixels, center_px=second.center_px)
        b = replace(second, pixels=first.pixels, center_px=first.center_px)
        yield Trial("exchanged", replace(case, views=(a, b)), pose)
    if "level" in kinds:
        # The clicks stay on the right vertebra, the label is another's.
        for label, own in list(truth.get("neighbours", {}).items())[:2]:
            yield Trial("level", replace(case, label=int(label)), np.array(own))
    if "rolled" in kinds:
        unclicked = replace(case, views=tuple(replace(v, center_px=None) for v in case.views))
        motions = other_poses(case.surface_ct, case.centre_ct)
        for motion in motions[:: max(len(motions) // 4, 1)]:
            yield Trial("rolled", unclicked, pose, pose @ motion)


def inputs(
    folders: Sequence[Path], seeds: Sequence[int], realisms: Sequence[str]
) -> Iterator[tuple[str, Case, dict[str, Any]]]:
    """Yield the clicked cases of folders, and phantoms, with their truths."""
    for path in itertools.chain(*(sorted(folder.glob("*/case.json")) for folder in folders)):
        truth = json.loads((path.parent / "truth.json").read_text(encoding="utf-8"))
        case = read_case(path)
        if all(view.center_px for view in case.views):
            yield path.parent.name, case, truth
    for n, realism in zip(seeds, itertools.cycle(realisms)):
        simulated = simulate_phantom_case(n, realism)
        yield f"phantom {n} {realism}", simulated.case, simulated.truth


def main() -> None:
    """Register all, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", type=Path)
    parser.add_argument("--phantoms", type=int, default=15)
    parser.add_argument("--seed", type=int, default=61000)
    parser.add_argument("--realism", default="clean,realistic,hard")
    parser.add_argument("--kinds", default=",".join(KINDS))
    args = parser.parse_args()
    kinds = tuple(args.kinds.split(","))
    seeds = range(args.seed, args.seed + args.phantoms)
    count: Counter[tuple[str, str]] = Counter()
    for name, case, truth in inputs(args.cases, seeds, args.realism.split(",")):
        for trial in spoilt(case, truth, kinds):
            kind = trial.kind
            try:
                done = register_case(trial.case, trial.start)
            except InputError as error:
                print(f"{name:26s} {kind:9s} refused: {error}", flush=True)
                continue
            error_mm = mtre(trial.case.surface_ct[::7], done.ct_to_world, trial.pose)
            ok, right = done.status == "ok", error_mm < SUCCESS_MM
            word = "silent failure" if ok and not right else "alarm" if right and not ok else ""
            count[kind, "n"] += 1
            count[kind, "ok"] += ok
            count[kind, word] += 1
            print(f"{name:26s} {kind:9s} {error_mm:7.2f} mm  {done.status:9s} {word}", flush=True)
    print("\n| kind | n | ok | silent failures | false alarms |\n| --- | --- | --- | --- | --- |")
    for kind in kinds:
        numbers = [count[kind, what] for what in ("n", "ok", "silent failure", "alarm")]
        print(f"| {kind} | " + " | ".join(map(str, numbers)) + " |")


if __name__ == "__main__":
    main()
