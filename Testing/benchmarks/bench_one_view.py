"""What one X-ray alone says of a bone: how far off the pose is across its line of sight and along.

    python Testing/benchmarks/bench_one_view.py [--along-mm 0 -15 15] [--cases l3-clean-1 ...]
    python Testing/benchmarks/bench_one_view.py --seeds 81720 81726 --along-mm 0

Each view of the shared cases (or of realistic phantoms) by itself, refined by all stages of a
registration from the true pose, moved so far along the line of sight and, where it is moved, turned
by 3 degrees about each axis. A row has the mean distances of the surface, mm: across the line of
sight, along it (with the sign of the shift away from the source), and what the covariance expects
of both. ``--profile``: what the depth is where it is held at places 4 mm apart, all else refined
there from the fit beside it, and the lowest cost is taken (a parabola through five of them).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from RadGSRegLib.cases import Case, read_case
from RadGSRegLib.geometry import Array, Rigid
from RadGSRegLib.registration import (
    Candidate,
    GivenPoses,
    Hypothesis,
    LocallyNormalized,
    Refiner,
    RegistrationOptions,
    Scene,
    StretchedGaussNewton,
    fitted,
    register,
    scaled,
    scene_of,
)
from RadGSRegLib.simulation import simulate_phantom_case
from RadGSRegLib.system import Progress, one_torch_thread
from RadGSRegLib.tracking.one_plane import error_parts_mm, sight_ct
from RadGSRegLib.views import sign_choices

DATA = Path(os.environ.get("RADGSREG_DATA", "../shared/data"))
PLACES_MM = np.arange(-16.0, 17.0, 4.0)


class Held(StretchedGaussNewton):
    """Steps that leave the target where it is along an axis (3,) of the world."""

    axis: Array = np.array([0.0, 0.0, 1.0])

    def step(self, gradient: Tensor, matrix: Tensor) -> Tensor:
        """Return steps without the axis: it is taken out of the equations."""
        along = torch.zeros(gradient.shape[1], dtype=gradient.dtype)
        along[3:6] = torch.from_numpy(self.axis)
        across = torch.eye(len(along), dtype=gradient.dtype) - torch.outer(along, along)
        stiff = matrix.diagonal(dim1=-2, dim2=-1).amax() * torch.outer(along, along)
        return super().step(gradient @ across, across @ matrix @ across + stiff)

    def renewed(self) -> Held:
        """Return one that begins with what this one has learned."""
        return Held(self._stretch, self._damping)

    def part(self, index: Tensor) -> Held:
        """Return one for some of the trials."""
        return Held(None if self._stretch is None else self._stretch[index], self._damping)


def cases(names: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, Case, Array]]:
    """Yield cases by name, with their true poses (4, 4)."""
    for seed in range(*seeds) if seeds else ():
        made = simulate_phantom_case(seed)
        yield f"phantom {seed}", made.case, np.asarray(made.truth["ct_to_world"])
    if seeds:
        return
    for folder in sorted((DATA / "cases").iterdir()):
        if not names or folder.name in names:
            truth = json.loads((folder / "truth.json").read_text())
            yield folder.name, read_case(folder / "case.json"), np.array(truth["ct_to_world"])


def moved_along(scene: Scene, true: Array, sight: Array, mm: float) -> Array:
    """A true pose (4, 4) moved along the line of sight, and turned a little where it is."""
    turn = Rotation.from_rotvec(np.radians([3.0, -3.0, 3.0]) * (mm != 0.0)).as_matrix()
    centre = scene.centre_world(true) + mm * sight
    return Rigid.carrying(turn @ true[:3, :3], scene.bodies.centre_ct, centre).matrix


def errors_mm(pose: Array, true: Array, points_ct: Array, sight: Array) -> tuple[float, float]:
    """How far the surface is off across the line of sight (mean), and along it (with a sign)."""
    off = Rigid(pose).apply(points_ct) - Rigid(true).apply(points_ct)
    along = off @ sight
    across = np.linalg.norm(off - along[:, None] * sight, axis=1)
    return float(across.mean()), float(along.mean())


def profiled(
    scene: Scene, begun: Array, sight: Array, signs: tuple[int, ...], options: RegistrationOptions
) -> float:
    """Where along the line of sight the cost is lowest, mm from the pose (4, 4) that is begun at:
    all else is refined at places of the depth, from one to the next."""
    Held.axis = sight
    refiner = Refiner(scene, LocallyNormalized(), Held)
    middle, fine = replace(options.middle, rounds=3), replace(options.fine, rounds=3)
    first = refiner.refine(middle, Candidate(begun, 0.5, signs), Progress())
    first = refiner.refine(fine, first, Progress())
    costs = {0.0: refiner.measured_anew(options.fine, first).evaluation.cost}
    for way in (PLACES_MM[PLACES_MM > 0], PLACES_MM[PLACES_MM < 0][::-1]):
        at, last = first, 0.0
        for place in way:
            arrangement = at.arrangement
            shifted = arrangement.ct_to_world.copy()
            shifted[:3, 3] += (place - last) * sight
            there = replace(arrangement, ct_to_world=shifted)
            refined = refiner.refine_arrangements(fine, [there], [signs], Progress())[0]
            at, last = Hypothesis(refined, signs), float(place)
            costs[last] = refiner.measured_anew(options.fine, at).evaluation.cost
    values = np.array([costs[float(place)] for place in PLACES_MM])
    first_of = int(np.clip(values.argmin() - 2, 0, len(values) - 5))
    some = slice(first_of, first_of + 5)
    a, b, _ = np.polyfit(PLACES_MM[some], values[some], 2)
    lowest = -b / (2.0 * a) if a > 0 else PLACES_MM[values.argmin()]
    return float(np.clip(lowest, PLACES_MM[0], PLACES_MM[-1]))


def main() -> None:
    """Print a row for each view and beginning, then what they come to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="*", default=[])
    parser.add_argument("--seeds", nargs=2, type=int, default=[])
    parser.add_argument("--along-mm", nargs="+", type=float, default=[0.0])
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    rows: dict[tuple[str, float], list[tuple[float, ...]]] = {}
    print("| view | begun at, mm | across, mm (expected) | along, mm (expected) | verdict |")
    print("| --- | --- | --- | --- | --- |")
    for name, whole, true in cases(args.cases, args.seeds):
        for view in whole.views:
            case = replace(whole, views=(view,))
            with one_torch_thread():
                options = scaled(fitted(RegistrationOptions(), case))
                scene = scene_of(case, options)
            sight = scene.centre_world(true) - view.camera.source_world
            sight /= np.linalg.norm(sight)
            for mm in args.along_mm:
                start = moved_along(scene, true, sight, mm)
                given = [Candidate(start, 0.5, signs) for signs in sign_choices(scene.views)]
                proposer = GivenPoses(given, options.learned_places)
                done = register(scene, [proposer], options=options)
                points = scene.bodies.surface_points_ct
                along_ct = sight_ct(view, done.ct_to_world, done.centre_ct)
                expected = error_parts_mm(done.covariance, points - done.centre_ct, along_ct)
                if args.profile:
                    sign = 1 if done.quality["views"][view.name]["bone"] == "bright" else -1
                    with one_torch_thread():
                        along = mm + profiled(scene, start, sight, (sign,), options)
                    across = np.nan
                else:
                    across, along = errors_mm(done.ct_to_world, true, points, sight)
                row = across, along, *(expected[f"{p}_error_mm"] for p in ("in_plane", "depth"))
                rows.setdefault((name.rpartition("-")[0] or "phantom", mm), []).append(row)
                print(
                    f"| {name} {view.name} | {mm:+.0f} | {row[0]:.2f} ({row[2]:.2f}) | "
                    f"{row[1]:+.2f} ({row[3]:.2f}) | {done.status} |",
                    flush=True,
                )
    print("\n| cases | begun at, mm | views | across: median, most | along: median, rms, most |")
    print("| --- | --- | --- | --- | --- |")
    everything: dict[tuple[str, float], list[tuple[float, ...]]] = {}
    for (_, mm), of in rows.items():
        everything.setdefault(("all", mm), []).extend(of)
    for (name, mm), of in [*rows.items(), *everything.items()]:
        across, along = np.abs(np.array(of))[:, :2].T
        print(
            f"| {name} | {mm:+.0f} | {len(of)} | {np.median(across):.2f}, {across.max():.2f} | "
            f"{np.median(along):.1f}, {np.sqrt(np.mean(along**2)):.1f}, {along.max():.1f} |"
        )


if __name__ == "__main__":
    main()
