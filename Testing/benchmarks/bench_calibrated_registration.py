"""What a calibration by beads costs a registration: true cameras against calibrated ones.

    python Testing/benchmarks/bench_calibrated_registration.py --seeds 200 210 [--realism realistic]

Cases of the built-in phantom with the beads of two-plates in the beam, from clicks: registered
with the true cameras, and with the cameras that `calibrate` makes of the same two X-rays, each
view by itself; the beads' shadows are masked in both. The calibrated cameras are brought into the
true world by the beads' true place, so that both answers are compared with the same truth. Printed
are errors (mTRE, mm), verdicts, and what the calibrated registration says of itself.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from RadGSRegLib.calibration import Exposure, calibrate, layout, posts_under
from RadGSRegLib.cases import Case
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array, Camera, invert_rigid
from RadGSRegLib.measures import mtre
from RadGSRegLib.pipeline import register_case
from RadGSRegLib.simulation import BeadPhantom, Prepared, simulate_phantom_case


def in_world(camera: Camera, covariance: Array, beads_to_world: Array) -> tuple[Camera, Array]:
    """A camera and its covariance, of the beads' frame, in the world's."""
    moved = replace(camera, world_to_camera=camera.world_to_camera @ invert_rigid(beads_to_world))
    turn = np.eye(9)
    turn[3:6, 3:6] = beads_to_world[:3, :3]  # the source moves; camera axes and pixels do not
    return moved, turn @ covariance @ turn.T


def pair_of(seed: int, realism: str) -> tuple[Case, Case, dict[str, object]]:
    """A case with true cameras and the same with calibrated ones, and its truth."""
    beads = layout("two-plates")
    axes, radii = posts_under(beads) or (None, None)
    phantom = BeadPhantom(beads.name, beads.centres_mm, beads.diameters_mm, axes, radii)
    simulated = simulate_phantom_case(seed, realism, prepared=Prepared(beads=phantom))
    case, truth = simulated.case, simulated.truth
    exposures = [
        Exposure(v.name, v.pixels, v.pixel_spacing_mm, v.camera.focal_px * v.pixel_spacing_mm[0])
        for v in case.views
    ]
    done = calibrate(exposures, beads)
    to_world = np.array(truth["beads_to_world"])
    masked, calibrated = [], []
    for view, c in zip(case.views, done, strict=True):
        view = replace(view, metal_px=tuple(map(tuple, c.shadows_px.tolist())))
        camera, covariance = in_world(c.view.camera, c.view.covariance, to_world)
        masked.append(view)
        calibrated.append(replace(view, camera=camera, camera_covariance=covariance))
    return replace(case, views=tuple(masked)), replace(case, views=tuple(calibrated)), truth


def main() -> None:
    """Print a row for each seed, and medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs=2, default=(200, 210), metavar=("A", "B"))
    parser.add_argument("--realism", default="realistic")
    args = parser.parse_args()
    rows = []
    print("| seed | true cameras, mm | calibrated, mm | says | of it cameras |")
    print("| --- | --- | --- | --- | --- |")
    for seed in range(*args.seeds):
        try:
            exact, calibrated, truth = pair_of(seed, args.realism)
        except InputError as error:
            print(f"| {seed} | refused: {error} | | | |", flush=True)
            continue
        points, true = np.array(truth["points_ct"]), np.array(truth["ct_to_world"])
        errors, answers = [], []
        for case in (exact, calibrated):
            answers.append(register_case(case))
            errors.append(mtre(points, answers[-1].ct_to_world, true))
        said = answers[1].quality
        rows.append(errors)
        print(
            f"| {seed} | {errors[0]:.3f} {answers[0].status} | {errors[1]:.3f} {answers[1].status} "
            f"| {said['expected_error_mm']:.2f} | {said['calibration_error_mm']:.2f} |",
            flush=True,
        )
    if rows:
        table = np.array(rows)
        print(
            "median", np.median(table, axis=0).round(3), "mean cost", np.diff(table).mean().round(3)
        )


if __name__ == "__main__":
    main()
