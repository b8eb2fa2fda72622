"""Whether a registration ends at one pose, wherever it starts and whatever lies around the bone.

    python Testing/benchmarks/bench_starts.py CASES [--draws 3] [--seed 5] [--around -1000,0,60]

For each case of a folder (``*/case.json`` with ``truth.json``), and each label of its segmentation:
draws clicks (the centre moved by a normal 3 mm along each axis, the pixel by 4) where the case has
clicks, else starts (turned by up to 20 degrees about each axis, moved by up to 30 mm). With
``--around`` each drawn case also with everything outside the bone of that value (HU), as a masked
CT has it. Distances are from the pose in ``truth.json`` for the case's own label, and for the
others from the middle one of their results that are `ok`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from numpy.typing import NDArray

from RadGSRegLib.cases import Case, read_case
from RadGSRegLib.geometry import Rigid, compose_about
from RadGSRegLib.measures import SUCCESS_MM, mtre
from RadGSRegLib.registration import Registration, register_case

Pose = NDArray[np.float64]


def clicked(case: Case, pose: Pose, rng: np.random.Generator) -> Case:
    """Return the case with clicks near where the bone's centre is."""
    centre_world = Rigid(pose).apply(case.centre_ct) + rng.normal(0.0, 3.0, 3)

    def click(camera_pixel: NDArray[np.float64]) -> tuple[float, float]:
        column, row = camera_pixel + rng.normal(0.0, 4.0, 2)
        return float(column), float(row)

    views = [
        replace(v, center_px=click(v.camera.project(centre_world[None])[0])) for v in case.views
    ]
    return replace(case, views=tuple(views))


def started(case: Case, pose: Pose, rng: np.random.Generator) -> Pose:
    """Return a start near the pose."""
    twist = np.r_[np.radians(rng.uniform(-20.0, 20.0, 3)), rng.uniform(-30.0, 30.0, 3)]
    return compose_about(pose, twist, case.centre_ct)


def surrounded(case: Case, value_hu: float) -> Case:
    """Return the case with that value wherever the bone's label is not."""
    array = np.where(case.mask, case.ct.array, np.float32(value_hu))
    return replace(case, ct=case.ct.with_array(array.astype(case.ct.array.dtype)))


def trials(
    case: Case, pose: Pose, draws: int, seed: int, around: list[float]
) -> Iterator[tuple[str, Registration]]:
    """Register what is drawn; yield each with its name."""
    rng = np.random.default_rng(seed)
    for n in range(draws):
        start = None
        if all(view.center_px for view in case.views):
            drawn = clicked(case, pose, rng)
        else:
            drawn, start = case, started(case, pose, rng)
        yield f"draw {n}", register_case(drawn, start)
        for value in around:
            yield f"draw {n} in {value:g} HU", register_case(surrounded(drawn, value), start)


def main() -> None:
    """Register all, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=Path)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--around", default="")
    args = parser.parse_args()
    around = [float(word) for word in args.around.split(",") if word]
    total = ok = silent = 0
    for path in sorted(args.cases.glob("*/case.json")):
        own = read_case(path)
        truth = json.loads((path.parent / "truth.json").read_text(encoding="utf-8"))
        pose = np.array(truth["ct_to_world"])
        for label in np.unique(own.labels.array[own.labels.array > 0]):
            case = replace(own, label=int(label))
            results = list(trials(case, pose, args.draws, args.seed, around))
            points = case.surface_ct[::7]
            reference = pose
            if label != own.label:
                sure = [done for _, done in results if done.status == "ok"]
                poses = [done.ct_to_world for done in sure or [done for _, done in results]]
                spread = [sum(mtre(points, a, b) for b in poses) for a in poses]
                reference = poses[int(np.argmin(spread))]
            for name, done in results:
                error_mm = mtre(points, done.ct_to_world, reference)
                total, ok = total + 1, ok + (done.status == "ok")
                silent += done.status == "ok" and error_mm >= SUCCESS_MM
                title = f"{path.parent.name} {label} {name}"
                print(f"{title:44s} {error_mm:7.2f} mm  {done.status}", flush=True)
    print(f"{ok} of {total} are ok, {silent} silent failures")


if __name__ == "__main__":
    main()
