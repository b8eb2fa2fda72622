"""Whether X-rays whose cameras are wrong say so: `epipolar_mm` and `apart_deg` of registrations.

    python Testing/benchmarks/bench_epipolar.py --seeds 81300 81306 --mm 0.5 1 2 3 --deg 0.5 1 2 3
    python Testing/benchmarks/bench_epipolar.py --seeds 81300 81305 --realism hard

Cases of the built-in phantom, from clicks, with true cameras, and with the second camera moved by
so much across the epipolar plane at the isocentre, or turned by so much about a random axis
through it. Printed are a row for each registration: error (mTRE, mm, against the truth by the
first camera's world), verdict, what the views say, and its share of the time of the whole.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from RadGSRegLib.cases import Case
from RadGSRegLib.geometry import Array, affine, exp_se3
from RadGSRegLib.measures import mtre
from RadGSRegLib.registration import evidence, register_case
from RadGSRegLib.simulation import simulate_phantom_case

Rows = dict[tuple[float, float], list[tuple[float, float, float, bool]]]


def wrong(case: Case, mm: float, deg: float, seed: int) -> Case:
    """The case with its second camera off: across the epipolar plane, and about an axis."""
    first, second = (view.camera for view in case.views[:2])
    across = [np.eye(3) - np.outer(c.view_direction_world, c.view_direction_world)
              for c in (first, second)]  # fmt: skip
    sides = [a @ c.source_world for a, c in zip(across, (first, second), strict=True)]
    isocentre: Array = np.linalg.lstsq(np.vstack(across), np.hstack(sides), rcond=None)[0]
    normal = np.cross(isocentre - first.source_world, isocentre - second.source_world)
    axis = np.random.default_rng(seed).normal(size=3)
    turn = exp_se3([*np.radians(deg) * axis / np.linalg.norm(axis), 0.0, 0.0, 0.0])[:3, :3]
    moved = affine(turn, isocentre - turn @ isocentre + mm * normal / np.linalg.norm(normal))
    camera = replace(second, world_to_camera=second.world_to_camera @ moved)
    views = (case.views[0], replace(case.views[1], camera=camera), *case.views[2:])
    return replace(case, views=views)


@contextmanager
def timed(spent_s: list[float]) -> Iterator[None]:
    """Note how long each look at the consistency takes."""
    plain = evidence.consistency

    def timing(*args: Any) -> Any:
        began = time.perf_counter()
        out = plain(*args)
        spent_s.append(time.perf_counter() - began)
        return out

    evidence.consistency = timing
    try:
        yield
    finally:
        evidence.consistency = plain


def summary(rows: Rows) -> None:
    """Print what each setting came to."""
    print("\n| off by | cases | `ok` | of it wrong | error, mm | across, mm | apart, degrees |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (mm, deg), of in sorted(rows.items()):
        error, across, apart, ok = (np.array(column) for column in zip(*of, strict=True))
        print(
            f"| {mm:g} mm, {deg:g} degrees | {len(of)} | {ok.sum()} | {(ok & (error >= 2)).sum()} "
            + "".join(
                f"| {np.median(x):.2f} ({x.min():.2f} to {x.max():.2f}) "
                for x in (error, across, apart)
            )
            + "|"
        )


def main() -> None:
    """Print a row for each registration, then one for each setting."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs=2, default=(81300, 81320), metavar=("A", "B"))
    parser.add_argument("--realism", default="realistic")
    parser.add_argument("--mm", type=float, nargs="*", default=())
    parser.add_argument("--deg", type=float, nargs="*", default=())
    args = parser.parse_args()
    settings = [(0.0, 0.0), *((mm, 0.0) for mm in args.mm), *((0.0, deg) for deg in args.deg)]
    rows: Rows = defaultdict(list)
    looks_s: list[float] = []
    total_s = 0.0
    for seed in range(*args.seeds):
        simulated = simulate_phantom_case(seed, args.realism)
        points = np.array(simulated.truth["points_ct"])
        for mm, deg in settings:
            with timed(looks_s):
                done = register_case(wrong(simulated.case, mm, deg, seed))
            total_s += done.timing_s["total"]
            error = mtre(points, done.ct_to_world, np.array(simulated.truth["ct_to_world"]))
            across, apart = done.quality["epipolar_mm"], done.quality["apart_deg"]
            rows[mm, deg].append((error, across, apart, done.status == "ok"))
            print(
                f"{seed} {mm:g} mm {deg:g} degrees: {done.status} {error:.2f} mm, across "
                f"{across:.3f} mm, apart {apart:.2f} degrees, confidence "
                f"{done.quality['confidence']:.2f}",
                flush=True,
            )
    summary(rows)
    print(f"share of the time: {sum(looks_s) / total_s:.3f}")


if __name__ == "__main__":
    main()
