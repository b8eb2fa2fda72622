"""From spots to cameras: how often beads are told, how far cameras are off, whether they know it.

    python Testing/benchmarks/bench_calibration.py [--views 200] [--noise 0.1 0.2 0.3] [--each 7]
    python Testing/benchmarks/bench_calibration.py --bounds [--views 24]
    python Testing/benchmarks/bench_calibration.py --together [--views 200]

Spots of two plates of beads (140 mm wide, 80 mm apart, two sizes), with noise, a quarter of the
beads missing and 35 % of the spots false, from random sides, every fourth picture mirrored. The
camera is of the matched pairs: alone, with a prior on the focal length (0.5 %), and with the
intrinsics shared by groups of ten views. With ``--bounds``: the numbers that decide which spot is
which bead, times 0.8 and 1.2, on harder pictures (40 % of the spots false, a fifth of the radii
wrong by 35 % or more). Errors against the true camera; coverage is the share of
errors inside two of the standard deviations that the camera says. With ``--together``: what two
cameras that were calibrated together (by ten views, and by the two alone) do to the pose of points
60 mm beside the beads that is fitted to what the true cameras show, and what is said of it with
the covariances between both cameras and without.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bead_scenes import FOCAL, SIZE, SPACING, Scene, random_camera, scene, two_plates
from bench_bounds import bounds_of, changed, with_bound

from RadGSRegLib.calibration import (
    Calibrated,
    Prior,
    Resection,
    RoughCamera,
    Sighting,
    match_beads,
    resect,
)
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array, Camera, Rigid, compose_about, transform_points
from RadGSRegLib.registration.geometry_error import propagated

SHARED = 10
PRIOR_SHARE = 0.005


def error(view: Calibrated, camera: Camera) -> Array:
    """Estimate minus truth (9,): rotation vector, source, focal length, principal point."""
    pose, truth = view.camera.world_to_camera[:3, :3], camera.world_to_camera[:3, :3]
    return np.concatenate(
        [
            Rotation.from_matrix(pose @ truth.T).as_rotvec(),
            view.camera.source_world - camera.source_world,
            [view.camera.focal_px - camera.focal_px],
            (view.camera.intrinsic - camera.intrinsic)[:2, 2],
        ]
    )


def scenes(views: int, each: int, noise_px: float) -> list[Scene]:
    """Pictures; each ten in turn of one device."""
    out = []
    for number in range(views):
        camera = random_camera(number, mirrored=number // SHARED % 4 == 3)
        device = random_camera(number // SHARED * SHARED, number // SHARED % 4 == 3)
        camera = replace(camera, intrinsic=device.intrinsic)
        out.append(scene(two_plates(number // SHARED, each), camera, number, noise_px))
    return out


def matched(made: list[Scene], focal_px: float | None = FOCAL) -> dict[int, Sighting]:
    """The views whose beads are told, and a line of how well."""
    out: dict[int, Sighting] = {}
    seconds, recalls, wrong = [], [], 0
    complaints: Counter[str] = Counter()
    for number, picture in enumerate(made):
        rough = RoughCamera(SIZE, focal_px, SPACING)
        start = time.perf_counter()
        try:
            match = match_beads(f"{number}", picture.beads, picture.spots, rough)
        except InputError as problem:
            complaints["ambiguous" if "ambiguous" in problem.problem else "none"] += 1
            continue
        finally:
            seconds.append(time.perf_counter() - start)
        right = picture.bead[match.pairs[:, 1]] == match.pairs[:, 0]
        recalls.append(right.sum() / (picture.bead >= 0).sum())
        wrong += int((~right).sum())
        out[number] = Sighting(f"{number}", picture.beads, picture.spots, match.pairs, match.camera)
    print(
        f"  matched {len(out)} of {len(made)} views {dict(complaints)}; recall mean "
        f"{np.mean(recalls):.4f}, least {min(recalls):.2f}; wrong pairs {wrong}; seconds median "
        f"{np.median(seconds):.2f}, most {max(seconds):.2f}"
    )
    return out


def report(name: str, views: dict[int, Calibrated], made: list[Scene], seconds: float) -> None:
    """A line of errors and of coverage."""
    off = np.array([error(view, made[number].camera) for number, view in views.items()])
    sigma = np.array([np.sqrt(np.diag(view.covariance)) for view in views.values()])
    inside = np.abs(off) < 2 * sigma
    source = np.linalg.norm(off[:, 3:6], axis=1)
    angle = np.degrees(np.linalg.norm(off[:, :3], axis=1))
    rms = [view.rms_px for view in views.values()]

    def both(values: Array) -> str:
        return f"{np.median(values):.3f} / {np.percentile(values, 95):.3f}"

    groups = [inside[:, columns].mean() for columns in (slice(3), slice(3, 6), 6, slice(7, 9))]
    print(
        f"  {name}: source mm {both(source)}; rotation deg {both(angle)}; focal px "
        f"{both(np.abs(off[:, 6]))}; rms px {np.median(rms):.3f}; inside 2 sigma: rotation "
        "{:.3f}, source {:.3f}, focal {:.3f}, principal {:.3f}".format(*groups)
        + f"; seconds a view {seconds / max(len(views), 1):.3f}"
    )


TELLING = (
    "COARSE_SHARE",
    "FINE_PX",
    "LEAST_PAIRS",
    "CHANCE",
    "SECOND_SHARE",
    "WHOLE_SHARE",
    "TRIPLES",
    "SIZE_RATIO",
    "DEPTH_SHARE",
    "FOCAL_SHARES",
    "FOCAL_DOUBT",
    "MIDDLE_DOUBT",
)


def sweep(views: int) -> None:
    """A line for each number that decides which spot is which bead, and for each as it is."""
    made = [
        scene(
            two_plates(number),
            random_camera(number, number % 4 == 3),
            number,
            0.3,
            missing=0.3,
            false=0.4,
            radii=0.3,
        )
        for number in range(views)
    ]
    own = bounds_of("calibration")
    print("as they are", flush=True)
    matched(made)
    for name in TELLING:
        for factor in (0.8, 1.2):
            value = changed(own[name], factor)
            print(f"{name} {own[name]} -> {value}", flush=True)
            with with_bound("calibration", name, value):
                # Without a focal length, what is tried then counts.
                matched(made, None if name == "FOCAL_SHARES" else FOCAL)


def pose_error(views: list[Calibrated], truth: list[Camera], points: Array) -> Array:
    """How far (6,) points (N, 3) are moved to fit what true cameras show, by calibrated ones."""
    centre = points.mean(axis=0)
    scales = [np.linalg.norm(centre - c.source_world) / c.focal_px for c in truth]
    shown = [c.project(points) for c in truth]

    def misfit(twist: Array) -> Array:
        moved = transform_points(compose_about(np.eye(4), twist, centre), points)
        parts = zip(views, shown, scales, strict=True)
        return np.concatenate(
            [(mm * (v.camera.project(moved) - at)).ravel() for v, at, mm in parts]
        )

    return least_squares(misfit, np.zeros(6), x_scale=[0.02] * 3 + [1.0] * 3).x


def jointly(made: list[Scene], sightings: dict[int, Sighting], size: int) -> None:
    """Report what is said of pairs of views that were calibrated in groups of a size."""
    points = np.random.default_rng(3).normal(size=(40, 3)) * 15.0 + [0.0, 60.0, 0.0]
    centre = points.mean(axis=0)
    found: dict[str, list[list[float]]] = {"with": [], "without": []}
    for first in range(0, len(made), size):
        group = [n for n in range(first, first + size) if n in sightings]
        done = resect([sightings[n] for n in group], Resection(shared_intrinsics=True))
        for k in range(0, len(group) - 1, 2):
            pair, truth = done[k : k + 2], [made[n].camera for n in group[k : k + 2]]
            error = pose_error(pair, truth, points)
            covariances = {n: view.covariance for n, view in enumerate(pair)}
            crossed = {(0, 1): pair[0].covariance_with[pair[1].name]}
            for name, both in (("with", crossed), ("without", {})):
                cameras = [view.camera for view in pair]
                said = propagated(cameras, covariances, Rigid(np.eye(4)), points, centre, both)
                square = float(error @ np.linalg.solve(said, error)) / 6.0
                inside = float(np.mean(np.abs(error) < 2.0 * np.sqrt(np.diag(said))))
                shift = [float(np.linalg.norm(error[3:])), float(np.trace(said[3:, 3:]) ** 0.5)]
                found[name].append([square, inside, *shift])
    for name, rows in found.items():
        square, inside, error_mm, said_mm = np.array(rows).T
        print(
            f"  by {size}, {name} covariances between both: {len(rows)} pairs; squares over "
            f"variances {square.mean():.2f} (1), inside two deviations {inside.mean():.3f}; "
            f"shift of the centre, rms: {np.sqrt(np.mean(error_mm**2)):.4f} mm, said "
            f"{np.sqrt(np.mean(said_mm**2)):.4f} mm"
        )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--views", type=int, default=200)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.1, 0.2, 0.3])
    parser.add_argument("--each", type=int, default=7, help="beads on each plate")
    parser.add_argument("--bounds", action="store_true", help="the numbers that decide instead")
    parser.add_argument("--together", action="store_true", help="pairs of cameras instead")
    options = parser.parse_args()
    if options.bounds:
        sweep(options.views)
        return
    for noise_px in options.noise:
        print(f"noise {noise_px} px, {2 * options.each} beads; median / 95th percentile")
        made = scenes(options.views, options.each, noise_px)
        sightings = matched(made)
        if options.together:
            for size in (SHARED, 2):
                jointly(made, sightings, size)
            continue
        for name in ("alone", "focal within 0.5 %", f"shared by {SHARED}"):
            start = time.perf_counter()
            views: dict[int, Calibrated] = {}
            if name.startswith("shared"):
                for first in range(0, options.views, SHARED):
                    group = [n for n in range(first, first + SHARED) if n in sightings]
                    shared = Resection(shared_intrinsics=True)
                    views |= zip(group, resect([sightings[n] for n in group], shared), strict=True)
            else:
                for number, sighting in sightings.items():
                    prior = Prior()
                    if name != "alone":
                        # What a nominal distance says: the truth, off by as much as it claims.
                        rng = np.random.default_rng(number)
                        focal = made[number].camera.focal_px
                        sigma = PRIOR_SHARE * focal
                        prior = Prior(focal_px=(focal + rng.normal(0, sigma), sigma))
                    views[number] = resect([sighting], Resection(prior=prior))[0]
            report(name, views, made, time.perf_counter() - start)


if __name__ == "__main__":
    main()
