"""Nominal cameras refined with the vertebrae: how well, and what the program says of it.

    python Testing/benchmarks/bench_nominal.py --seeds 81530 81536 [--realism realistic]
        [--turn-deg 3 --shift-mm 10] [--views 2] [--field-mm 250]
        [--focal-percent 1] [--principal-px 20] [--no-before] [--first]

Cases of the built-in phantom's trunk with L1 to L5 in every X-ray, each vertebra moved in itself.
Each camera is turned about the isocentre by ``--turn-deg`` around a random axis and shifted by
``--shift-mm`` along another; the cases are registered from their clicks as
``register --refine-cameras`` does. With ``--focal-percent`` and ``--principal-px`` the focal length
of each camera is also wrong by so much, longer or shorter by chance, and its principal point by so
many pixels in a random direction. ``--no-before`` leaves the first of the following out.
``--first`` times nothing but the registration that refinement begins with: seconds of one core of a
whole one and of `unjudged_pose`, and how far their poses differ. Printed are, in mm:

- *as nominal*: the error of L3 (mTRE) as registered with the nominal cameras, in their world, and
  the verdict;
- *vertebrae*: the error of each vertebra used (mTRE) in the frame that they share: one rigid motion
  is taken out of all of them together;
- *cameras*: the same with the motion taken out that the refined cameras follow best, so that where
  the cameras stand beside the vertebrae counts too;
- *across, along*: how far the vertebrae are off in front of each camera, across its beam and along
  it;
- *sources*: how far each camera's source is off beside the vertebrae, over the standard deviation
  that is said of it, the most along any axis;
- the verdict on L3, the error that it says to expect, and the seconds of one core that refinement
  took (`refine_cameras` alone).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from RadGSRegLib.cases import Case, middle_of_views
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array, affine, transform_points
from RadGSRegLib.pipeline import register_case
from RadGSRegLib.registration import RegistrationOptions, unjudged_pose
from RadGSRegLib.selfcalibration import CameraRefinement, judged, refine_cameras
from RadGSRegLib.selfcalibration.first import meeting_clicks, with_cameras
from RadGSRegLib.simulation import SimulationParameters, simulate_phantom_case
from RadGSRegLib.system import Progress


def off_by(case: Case, turn_deg: float, shift_mm: float, seed: int) -> Case:
    """The case with every camera turned about the isocentre, shifted, and called nominal."""
    rng = np.random.default_rng(seed)
    isocentre = middle_of_views(case.views)
    views = []
    for view in case.views:
        axis, along = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
        turn = Rotation.from_rotvec(np.radians(turn_deg) * axis).as_matrix()
        moved = affine(turn, isocentre - turn @ isocentre + shift_mm * along)
        camera = view.camera
        wrong = replace(camera, world_to_camera=camera.world_to_camera @ moved)
        views.append(replace(view, camera=wrong, nominal=True))
    return replace(case, views=tuple(views))


def wrong_inside(case: Case, focal_percent: float, principal_px: float, seed: int) -> Case:
    """The case with the focal length and principal point of every camera wrong."""
    rng = np.random.default_rng([seed, 1])
    views = []
    for view in case.views:
        longer = 1.0 + rng.choice([-1.0, 1.0]) * focal_percent / 100.0
        angle = rng.uniform(0.0, 2.0 * np.pi)
        intrinsic = view.camera.intrinsic.copy()
        intrinsic[[0, 1], [0, 1]] *= longer
        intrinsic[:2, 2] += principal_px * np.array([np.cos(angle), np.sin(angle)])
        views.append(replace(view, camera=replace(view.camera, intrinsic=intrinsic)))
    return replace(case, views=tuple(views))


def carried(points: Array, others: Array) -> Array:
    """The rigid motion (4, 4) of least squares from points (N, 3) to others (N, 3)."""
    middle, other = points.mean(axis=0), others.mean(axis=0)
    turn, _ = Rotation.align_vectors(others - other, points - middle)
    return affine(turn.as_matrix(), other - turn.as_matrix() @ middle)


@dataclass(frozen=True)
class Errors:
    """What is off, mm: per vertebra in both frames, per camera across and along the beam; and how
    far each source (V, 3) is off beside the vertebrae."""

    vertebrae: dict[str, float]
    beside_cameras: dict[str, float]
    across: list[float]
    along: list[float]
    sources: list[list[float]]


def errors_of(case: Case, truth: dict[str, Any], refinement: CameraRefinement) -> Errors:
    """Compare refined cameras and vertebrae with the truth of a case with true cameras."""
    true = {int(label): np.array(pose) for label, pose in truth["neighbours"].items()}
    true[case.label] = np.array(truth["ct_to_world"])
    shown, real = {}, {}
    for label, pose in refinement.ct_to_world.items():
        surface = replace(case, label=label).surface_ct
        points = surface[:: max(len(surface) // 1000, 1)]
        shown[label], real[label] = (transform_points(p, points) for p in (pose, true[label]))
    refined = refinement.case.views
    # Axes of the cameras with their sources, of the size of the vertebrae's distance.
    marks = np.array([[0.0, 0.0, z] for z in (600.0, 800.0)] + [[100.0, 0, 700], [0, 100.0, 700]])
    marks = np.concatenate([marks, marks * [-1.0, -1.0, 1.0]])
    ends = [
        np.concatenate([transform_points(v.camera.camera_to_world, marks) for v in views])
        for views in (refined, case.views)
    ]

    def left(motion: Array) -> dict[str, float]:
        return {
            case.label_names[label]: float(
                np.linalg.norm(transform_points(motion, shown[label]) - real[label], axis=1).mean()
            )
            for label in sorted(shown)
        }

    across, along = [], []
    for estimate, view in zip(refined, case.views, strict=True):
        apart = np.concatenate(
            [
                transform_points(estimate.camera.world_to_camera, shown[label])
                - transform_points(view.camera.world_to_camera, real[label])
                for label in shown
            ]
        )
        across.append(float(np.linalg.norm(apart[:, :2], axis=1).mean()))
        along.append(float(np.abs(apart[:, 2]).mean()))
    together = carried(*(np.concatenate(list(points.values())) for points in (shown, real)))
    sources = [
        (
            transform_points(together, v.camera.source_world[None])[0] - w.camera.source_world
        ).tolist()
        for v, w in zip(refined, case.views, strict=True)
    ]
    return Errors(left(together), left(carried(*ends)), across, along, sources)


def as_nominal(wrong: Case, truth: dict[str, Any]) -> dict[str, Any]:
    """What a registration with the nominal cameras gives."""
    try:
        before = register_case(wrong)
    except InputError as error:
        return {"nominal_status": f"refused: {error.problem}"}
    points = np.array(truth["points_ct"])
    apart = transform_points(before.ct_to_world, points) - transform_points(
        truth["ct_to_world"], points
    )
    return {
        "nominal_mm": float(np.linalg.norm(apart, axis=1).mean()),
        "nominal_status": before.status,
    }


def measured(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One seed's figures."""
    parameters = SimulationParameters.preset(args.realism).with_field(args.field_mm, 488)
    if args.views != 2:
        parameters = replace(parameters, views=args.views, path="arbitrary")
    simulated = simulate_phantom_case(seed, parameters, field="trunk")
    case, truth = simulated.case, simulated.truth
    wrong = off_by(case, args.turn_deg, args.shift_mm, seed)
    wrong = wrong_inside(wrong, args.focal_percent, args.principal_px, seed)
    row: dict[str, Any] = {"seed": seed, "nominal_status": ""}
    if not args.no_before:
        row |= as_nominal(wrong, truth)
    began = time.process_time()
    try:
        refinement = refine_cameras(wrong)
    except InputError as error:
        return {**row, "status": f"refused: {error.problem}"}
    row["cpu_s"] = time.process_time() - began
    start = refinement.ct_to_world[case.label]
    answer = judged(register_case(refinement.case, start), refinement)
    poses = {**refinement.ct_to_world, case.label: answer.ct_to_world}
    cameras = answer.quality["cameras"]["views"]
    errors = errors_of(case, truth, replace(refinement, ct_to_world=poses))
    return {
        **row,
        **vars(errors),
        "status": answer.status,
        "reason": answer.reason,
        "expected_mm": answer.quality["expected_error_mm"],
        "cameras_mm": answer.quality["calibration_error_mm"],
        "settled_mm": refinement.settled_mm,
        "source_sigmas": [
            float(np.max(np.abs(off) / said["source_sigma_mm"]))
            for off, said in zip(errors.sources, cameras.values(), strict=True)
        ],
        "sigma_targets": [np.sqrt(np.diag(c)).tolist() for c in refinement.spread.targets],
        "sigma_cameras": [
            np.sqrt(np.diag(by_view[number])).tolist()
            for number, by_view in enumerate(refinement.spread.cameras)
        ],
    }


def first_registration(seed: int, args: argparse.Namespace) -> str:
    """How long the registration takes that refinement begins with."""
    parameters = SimulationParameters.preset(args.realism).with_field(args.field_mm, 488)
    case = simulate_phantom_case(seed, parameters, field="trunk").case
    wrong = off_by(case, args.turn_deg, args.shift_mm, seed)
    met = meeting_clicks(wrong.views, [view.name for view in wrong.views])
    begun = with_cameras(wrong, met)
    began = time.process_time()
    whole = register_case(begun).ct_to_world
    between = time.process_time()
    pose = unjudged_pose(begun, None, RegistrationOptions(), Progress(), (), "cpu")
    seconds = between - began, time.process_time() - between
    apart = float(np.abs(pose - whole).max())
    return f"{seed}: {seconds[0]:.1f} s, {seconds[1]:.1f} s, apart by {apart:g}"


def _line(row: dict[str, Any]) -> str:
    """A row of the table."""

    def listed(values: Sequence[float]) -> str:
        return " ".join(f"{value:.2f}" for value in values)

    before = f"{row['nominal_mm']:.1f} " if "nominal_mm" in row else ""
    start = f"| {row['seed']} | {before}{row['nominal_status']} "
    if "vertebrae" not in row:
        return f"{start}| | | | | {row['status']} | |"
    both = " / ".join(listed(list(row[name].values())) for name in ("vertebrae", "beside_cameras"))
    return (
        f"{start}| {both.replace(' / ', ' | ')} | {listed(row['across'])}, {listed(row['along'])} "
        f"| {listed(row['source_sigmas'])} "
        f"| {row['status']} | {row['expected_mm']:.2f}, {row['cpu_s']:.0f} s |"
    )


def main() -> None:
    """Print a row for each seed, and keep all figures where a file is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs=2, default=(81530, 81536), metavar=("A", "B"))
    parser.add_argument("--realism", default="realistic")
    parser.add_argument("--turn-deg", type=float, default=3.0)
    parser.add_argument("--shift-mm", type=float, default=10.0)
    parser.add_argument("--focal-percent", type=float, default=0.0)
    parser.add_argument("--principal-px", type=float, default=0.0)
    parser.add_argument("--no-before", action="store_true")
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--field-mm", type=float, default=250.0)
    parser.add_argument("--rows", type=Path, help="lines of JSON to add to")
    parser.add_argument("--first", action="store_true")
    args = parser.parse_args()
    if args.first:
        for seed in range(*args.seeds):
            print(first_registration(seed, args), flush=True)
        return
    print(
        "| seed | as nominal | L1 to L5 | beside the cameras | across, along | sources | verdict "
        "| expected, CPU s |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for seed in range(*args.seeds):
        row = measured(seed, args)
        print(_line(row), flush=True)
        if args.rows is not None:
            with args.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
