"""What standardisation is worth: pictures of bones, and registrations with and without it.

    python Testing/benchmarks/bench_standard.py --cases 8 --realism hard

Simulates phantoms that nothing was trained on. Of every X-ray: how well the drawn bones correlate
with the true line integrals of the vertebra and its neighbours where there are any, and how well
the grey values do. Then each case is registered three ways in one run: to the X-rays as they are,
to the standardised ones alone, and to the X-rays as they are with the pose in the standardised ones
proposed (`radgsreg register --standardize`). Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from RadGSRegLib import pipeline
from RadGSRegLib.drr import excess_attenuation, project_volume
from RadGSRegLib.measures import mtre
from RadGSRegLib.networks import (
    Standardization,
    load_standardizer,
    shipped_weights,
    standardised_start,
    unlike_views,
)
from RadGSRegLib.registration import Registration, register_case, registration_options
from RadGSRegLib.simulation import SimulatedCase, simulate_phantom_case
from RadGSRegLib.views import PreparedView, prepare_views

_STEP_PX = 4


def correlations(
    simulated: SimulatedCase, before: PreparedView, after: PreparedView
) -> tuple[float, float]:
    """Of grey values (either polarity) and of drawn bones with the vertebra's line integrals, in
    its shadow."""
    case, pose = simulated.case, np.asarray(simulated.truth["ct_to_world"])
    excess = excess_attenuation(case.ct, case.labels, case.label)
    first = (_STEP_PX - 1) / 2.0
    columns, rows = (n // _STEP_PX for n in before.camera.size)
    camera = before.camera.window(first, first, columns, rows, float(_STEP_PX))
    lines = np.asarray(
        project_volume(
            excess, camera.intrinsic, camera.world_to_camera @ pose, camera.size, step_mm=1.0
        )
    )
    near = lines > 0.05 * lines.max()

    def with_lines(values: np.ndarray) -> float:
        whole = values[: rows * _STEP_PX, : columns * _STEP_PX]
        coarse = whole.reshape(rows, _STEP_PX, columns, _STEP_PX).mean((1, 3))
        return float(np.corrcoef(coarse[near], lines[near])[0, 1])

    return abs(with_lines(before.values)), with_lines(after.values)


def main() -> None:
    """Simulate, draw, register, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=shipped_weights("standard"))
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--first", type=int, default=81100)
    parser.add_argument("--realism", default="realistic")
    parser.add_argument("--field", default="crop", choices=("crop", "trunk"))
    parser.add_argument("--effort", default="normal")
    args = parser.parse_args()
    network = load_standardizer(args.model)
    print(f"{args.cases} phantoms from seed {args.first}, {args.realism}, {args.field}")
    print("| seed | grey | bones | unlike | as they are | standardised alone | proposed | s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    options = registration_options(args.effort)
    for seed in range(args.first, args.first + args.cases):
        simulated = simulate_phantom_case(seed, args.realism, field=args.field)
        case = simulated.case
        views = case.views
        points, true = (np.asarray(simulated.truth[n]) for n in ("points_ct", "ct_to_world"))
        bones = Standardization(network, pipeline.centre_of_views(views))
        grey, drawn = zip(
            *(
                correlations(simulated, before, after)
                for before, after in zip(
                    prepare_views(views), prepare_views(views, [bones]), strict=True
                )
            ),
            strict=True,
        )

        def said(
            registration: Registration, points: np.ndarray = points, true: np.ndarray = true
        ) -> str:
            return f"{mtre(points, registration.ct_to_world, true):.2f} {registration.status}"

        began = time.perf_counter()
        plain = register_case(case, options=options)
        plain_s = time.perf_counter() - began
        began = time.perf_counter()
        proposer, alone = standardised_start(case, bones, options=options)
        alone_s = time.perf_counter() - began
        both = register_case(case, options=options, proposers=[proposer])
        both_s = time.perf_counter() - began
        print(
            f"| {seed} | {np.mean(grey):.2f} | {np.mean(drawn):.2f} | {len(unlike_views([bones]))} "
            f"| {said(plain)} | {said(alone)} | {said(both)} "
            f"| {plain_s:.1f}, {alone_s:.1f}, {both_s:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
