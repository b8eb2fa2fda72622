"""From simulated X-rays of beads to cameras: what is met, and how far the cameras are off.

    python Testing/benchmarks/bench_bead_calibration.py --seeds 100 110 [--no-patient] [--device]
    python Testing/benchmarks/bench_bead_calibration.py --seeds 100 103 --device --distortion-px 5
    python Testing/benchmarks/bench_bead_calibration.py --seeds 300 306 --distortion-px 5 --grid
    python Testing/benchmarks/bench_bead_calibration.py --seeds 300 306 --grid
    python Testing/benchmarks/bench_bead_calibration.py --seeds 400 404 --sharing [--no-patient]

Realistic X-rays of 488 x 488 pixels of the layout two-plates on its posts, over the built-in
phantom or in air (`--no-patient`). Each view is calibrated alone (`calibrate`) with the nominal
focal length and spacing; what `find_spots` and `match_beads` tell at first is said beside what is
told in the end: beads whose shadow, as the camera predicts it, has a spot (each other's nearest,
within 2 px or three times the rms), and those that the camera rests on (`kept`: without pairs that
contradict the others). With `--device`: eight views from anywhere by one device, whose principal
point is the middle (which is not told), alone and with shared intrinsics.
With `--distortion-px` pictures are bent by as much in their corners, and only what `calibrate`
makes of a device's views, with shared intrinsics and fitted distortion, is judged. With `--grid`
(eight views a device as well) the distortion is that of a picture of a grid for each view: alone,
shared, and each alone with a preset of the seed before's eight views, whose principal point is also
moved by 10 px to see whether that is noticed; what was met so far is printed after each seed. With
`--sharing` the eight views of a device, and pairs and fours of them, are judged by
`check_shared`, as they are and with spots moved as another principal point (of the first view, or
drawn for each as `simulate` does) or another focal length of the first view would move them; how
far off the cameras then are at the patient (corners of a cube of 80 mm about the beads' middle, the
worst view) is said as well, and all that is met so far after each seed.
Beads count whose outline is wholly in the picture and whose centre is a radius or more from any
other's; those that the display hides count as well, and are said (`hidden`: the bead and more than
half of what lies 1.5 to 3 px about its outline are at the same end of the display). A spot is right
within half a radius. The source and the rotation are in the beads' frame.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from RadGSRegLib.calibration import (
    Beads,
    Calibrated,
    Calibrating,
    Calibration,
    Exposure,
    Intrinsics,
    Prior,
    Resection,
    Sighting,
    Spots,
    calibrate,
    check_preset,
    check_shared,
    find_spots,
    grid_distortion_of,
    layout,
    match_beads,
    posts_under,
    resect,
    shadows_px,
    sphere_shift_px,
)
from RadGSRegLib.calibration.exposures import radius_range_px
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array, Camera, Distortion
from RadGSRegLib.simulation import (
    BeadPhantom,
    Prepared,
    SimulationParameters,
    simulate_beads,
    simulate_grids,
    simulate_phantom_case,
)

ALONE = Resection(sphere_shift=sphere_shift_px)
SHARED = replace(ALONE, shared_intrinsics=True)


@dataclass(frozen=True)
class Shown:
    """A view and its truth: ``camera`` in the beads' frame, ``places`` and ``radii`` in pixels."""

    name: str
    picture: NDArray[np.float32]
    camera: Camera
    bent: Distortion | None
    places: Array
    radii: Array

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Which beads are wholly in the picture and not upon another."""
        side = np.array(self.camera.size) - 1.0
        inside = (self.places > self.radii[:, None]) & (self.places < side - self.radii[:, None])
        apart = np.hypot(*(self.places[:, None] - self.places[None]).transpose(2, 0, 1))
        np.fill_diagonal(apart, np.inf)
        return np.asarray(inside.all(axis=1) & (apart.min(axis=1) > self.radii))

    @property
    def hidden(self) -> NDArray[np.bool_]:
        """Which beads lie in a part of the picture that the display shows black or white."""
        rows, columns = np.mgrid[: self.picture.shape[0], : self.picture.shape[1]]
        out = np.zeros(len(self.places), dtype=bool)
        for number, (place, radius) in enumerate(zip(self.places, self.radii, strict=True)):
            away = np.hypot(columns - place[0], rows - place[1])
            bead, about = away < radius, (away > radius + 1.5) & (away < radius + 3.0)
            for end in (self.picture.min(), self.picture.max()):
                at_end = self.picture == end
                if bead.any() and about.any():
                    out[number] |= min(at_end[bead].mean(), at_end[about].mean()) > 0.5
        return out

    def met(self, spots: Spots, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the pairs (M, 2) are right."""
        away = spots.centres_px[pairs[:, 1]] - self.places[pairs[:, 0]]
        return np.asarray(np.hypot(*away.T) < 0.5 * self.radii[pairs[:, 0]])


def distortion_of(truth: Mapping[str, Any], name: str) -> Distortion | None:
    """The distortion of a view as the truth of a case says it."""
    said = truth.get("distortion", {}).get(name)
    return None if said is None else Distortion(**said)


def shown_views(
    seed: int, beads: Beads, patient: bool, device: bool, distortion_px: float = 0.0
) -> list[Shown]:
    """The views of a seed."""
    axes, radii = posts_under(beads) or (None, None)
    phantom = BeadPhantom(beads.name, beads.centres_mm, beads.diameters_mm, axes, radii)
    parameters = SimulationParameters.preset("realistic")
    if device:
        parameters = replace(parameters, path="arbitrary", views=8, principal_px=0.0)
    if patient:
        case = simulate_phantom_case(
            seed, parameters, prepared=Prepared(beads=phantom, distortion_px=distortion_px)
        )
        views, truth = case.case.views, case.truth
    else:
        alone = simulate_beads(phantom, parameters, seed, distortion_px=distortion_px)
        views, truth = alone.views, alone.truth
    out = []
    for view in views:
        to_camera = view.camera.world_to_camera @ np.array(truth["beads_to_world"])
        camera = replace(view.camera, world_to_camera=to_camera)
        depth = beads.centres_mm @ to_camera[2, :3] + to_camera[2, 3]
        size = 0.5 * beads.diameters_mm * camera.focal_px / depth
        places = np.array(truth["beads_px"][view.name])
        bent = distortion_of(truth, view.name)
        out.append(Shown(f"{seed} {view.name}", view.pixels, camera, bent, places, size))
    return out


class Tally:
    """What came of all views, by name of a column."""

    def __init__(self) -> None:
        self.columns: dict[str, list[float]] = {}
        self.refused: list[str] = []

    def add(self, **values: float) -> None:
        for name, value in values.items():
            self.columns.setdefault(name, []).append(value)

    def camera(self, kind: str, view: Calibrated, truth: Camera) -> None:
        """The errors of a camera."""
        turn = view.camera.world_to_camera[:3, :3] @ truth.world_to_camera[:3, :3].T
        off = view.camera.source_world - truth.source_world
        self.add(
            **{
                f"{kind}: rms, px": view.rms_px,
                f"{kind}: source, mm": float(np.linalg.norm(off)),
                f"{kind}: rotation, degrees": float(
                    np.degrees(Rotation.from_matrix(turn).magnitude())
                ),
            }
        )

    def cameras(self) -> None:
        """Median and 95 % of what is told of cameras, and of seconds."""
        for name, values in self.columns.items():
            if name.endswith("doubted"):
                print(f"  {name}: {np.sum(values):.0f} of {len(values)}")
            elif ":" in name or name == "seconds":
                far = np.percentile(values, 95)
                print(f"  {name}: {np.median(values):.3f} / {far:.3f} ({len(values)})")

    def report(self) -> None:
        """Sums as shares, the rest as median and 95 %."""
        c = self.columns
        beads = sum(c["beads"])
        print(
            f"{len(c['beads'])} views, {beads:.0f} beads; recall of spots "
            f"{sum(c['met']) / beads:.3f}, of pairs {sum(c['paired']) / beads:.3f}; false spots "
            f"{1 - sum(c['all met']) / sum(c['spots']):.3f}; refused {self.refused}"
        )
        hidden = sum(c["hidden"])
        for kind in ("alone", "shared"):
            if f"{kind} told" not in c:
                continue
            right, deep = sum(c[f"{kind} told"]), sum(c[f"{kind} told hidden"])
            print(
                f"  {kind}: in the end {right / beads:.3f}, "
                f"wrong {sum(c[f'{kind} told wrong']):.0f}; "
                f"kept {sum(c[f'{kind} kept']) / beads:.3f}, "
                f"wrong {sum(c[f'{kind} kept wrong']):.0f}; "
                f"{hidden:.0f} hidden, {deep:.0f} of them told; "
                f"of the others {(right - deep) / (beads - hidden):.3f}"
            )
        self.cameras()
        ratios = np.array(c["error over sigma"])
        print(
            f"  errors over sigma: rms {np.sqrt(np.mean(ratios**2)):.2f}, median of sizes "
            f"{np.median(np.abs(ratios)):.2f} (normal: 0.67)"
        )


def exposure_of(view: Shown) -> Exposure:
    """A view with its nominal focal length and spacing."""
    focal_px, spacing_mm = NOMINAL
    return Exposure(view.name, view.picture, spacing_mm, focal_px * spacing_mm[0])


def told(done: Calibration, beads: Beads) -> NDArray[np.int64]:
    """Beads and spots (M, 2) that are each other's nearest, as the camera predicts beads."""
    places = shadows_px(done.view.camera, beads, done.view.distortion)[:, :2]
    apart = np.hypot(*(places[:, None] - done.spots.centres_px[None]).transpose(2, 0, 1))
    nearest, number = apart.argmin(axis=1), np.arange(len(beads))
    kept = apart.argmin(axis=0)[nearest] == number
    kept &= apart[number, nearest] < max(2.0, 3.0 * done.view.rms_px)
    return np.column_stack([number[kept], nearest[kept]])


def at_first(view: Shown, beads: Beads, tally: Tally) -> None:
    """What the search of the whole picture meets and tells."""
    exposure, counted = exposure_of(view), view.counted
    spots, _ = find_spots(view.picture, radius_range_px(exposure, beads))
    away = np.hypot(*(spots.centres_px[:, None] - view.places[None]).transpose(2, 0, 1))
    near = away < 0.5 * view.radii
    pairs = np.zeros((0, 2), np.int64)
    clear = spots.some(np.arange(min(len(spots), 2 * len(beads))))
    with contextlib.suppress(InputError):
        pairs = match_beads(view.name, beads, clear, exposure.rough).pairs
    own = pairs[view.met(spots, pairs), 0]
    tally.add(
        **{
            "beads": counted.sum(),
            "hidden": (view.hidden & counted).sum(),
            "met": (near.any(axis=0) & counted).sum(),
            "paired": counted[own].sum(),
            "spots": len(spots),
            "all met": near.any(axis=1).sum(),
        }
    )


def in_the_end(kind: str, view: Shown, done: Calibration, beads: Beads, tally: Tally) -> None:
    """What a calibration tells, and its camera."""
    pairs, counted = told(done, beads), view.counted
    right, kept = view.met(done.spots, pairs), done.view.pairs
    right_kept = view.met(done.spots, kept)
    tally.add(
        **{
            f"{kind} told": counted[pairs[right, 0]].sum(),
            f"{kind} told hidden": (counted & view.hidden)[pairs[right, 0]].sum(),
            f"{kind} told wrong": (~right).sum(),
            f"{kind} kept": counted[kept[right_kept, 0]].sum(),
            f"{kind} kept wrong": (~right_kept).sum(),
        }
    )
    tally.camera(kind, done.view, view.camera)
    if kind == "alone" and done.spots.sigma_px is not None:
        own = pairs[right]
        error = done.spots.centres_px[own[:, 1]] - view.places[own[:, 0]]
        for ratio in (error / done.spots.sigma_px[own[:, 1], None]).ravel():
            tally.add(**{"error over sigma": float(ratio)})


def judged(views: list[Shown], beads: Beads, device: bool, tally: Tally) -> None:
    """Each view alone, and all of a device with shared intrinsics."""
    for view in views:
        at_first(view, beads, tally)
        start = time.perf_counter()
        try:
            (done,) = calibrate([exposure_of(view)], beads)
        except InputError as problem:
            tally.refused.append(str(problem)[:60])
            continue
        tally.add(seconds=time.perf_counter() - start)
        in_the_end("alone", view, done, beads, tally)
    if device:
        try:
            together = calibrate([exposure_of(v) for v in views], beads, Calibrating(True))
        except InputError as problem:
            tally.refused.append(str(problem)[:60])
            return
        for view, done in zip(views, together, strict=True):
            in_the_end("shared", view, done, beads, tally)


_PARAMETERS = SimulationParameters.preset("realistic")
NOMINAL = (
    _PARAMETERS.source_detector_mm / _PARAMETERS.pixel_mm,
    (_PARAMETERS.pixel_mm, _PARAMETERS.pixel_mm),
)


def bent(views: list[Shown], beads: Beads, tally: Tally) -> None:
    """What `calibrate` makes of a device's distorted views."""
    exposures = [exposure_of(v) for v in views]
    try:
        done = calibrate(exposures, beads, Calibrating(True, "fit"))
    except InputError as problem:
        print(f"refused: {problem}")
        return
    for view, c in zip(views, done, strict=True):
        tally.camera("distorted", c.view, view.camera)


def with_grids(views: list[Shown], seed: int) -> list[Exposure]:
    """The views as exposures, each with the distortion that its grid's picture shows."""
    bent = {view.name: view.bent for view in views if view.bent is not None}
    grids = simulate_grids({v.name: v.camera for v in views}, bent, _PARAMETERS, seed)
    focal_px, spacing_mm = NOMINAL
    return [
        Exposure(
            v.name, v.picture, spacing_mm, focal_px * spacing_mm[0],
            grid_distortion_of(v.name, grids[v.name].pixels)[0] if bent else None,
        )
        for v in views
    ]  # fmt: skip


MOVED_PX = 10.0


def again(c: Calibration, beads: Beads, distortion: Distortion | None) -> Sighting:
    """What was met in a view, to be refined otherwise."""
    sigma = c.spots.sigma_px
    return Sighting(c.view.name, beads, c.spots, c.view.pairs, c.view.camera, sigma, distortion)


def told_of(before: Intrinsics, met: list[Calibration], beads: Beads, tally: Tally) -> None:
    """Whether a preset is doubted whose detector was moved since, of one, two and eight views."""
    for moved_px, axis in ((0.0, 1), (MOVED_PX, 1), (MOVED_PX, 2)):
        mean = before.mean_px.copy()
        mean[axis] += moved_px
        moved = replace(before, mean_px=mean)
        options = Calibrating(True, prior=Prior(intrinsics=moved))
        how = Resection(True, options.prior, sphere_shift=sphere_shift_px)
        for count in (1, 2, 8):
            for first in range(0, len(met), count):
                some = met[first : first + count]
                views = resect([again(c, beads, c.view.distortion) for c in some], how)
                done = [replace(c, view=v) for c, v in zip(some, views, strict=True)]
                check = check_preset(done, beads, moved, options)
                name = f"moved by {moved_px:g} px, {count} views: doubted"
                tally.add(**{name: check.doubted})


def by_grid(
    seed: int, beads: Beads, distortion_px: float, before: Intrinsics | None, tally: Tally
) -> Intrinsics:
    """A device's views alone, shared, and with what the seed before says of it."""
    views = shown_views(seed, beads, True, True, distortion_px)
    exposures = with_grids(views, seed)
    together = calibrate(exposures, beads, Calibrating(True))
    for view, c in zip(views, together, strict=True):
        tally.camera("shared", c.view, view.camera)
    for view, exposure in zip(views, exposures, strict=True):
        (c,) = calibrate([exposure], beads)
        tally.camera("alone", c.view, view.camera)
        if before is None:
            continue
        (c,) = calibrate([exposure], beads, Calibrating(prior=Prior(intrinsics=before)))
        tally.camera("preset", c.view, view.camera)
    if before is not None:
        told_of(before, together, beads, tally)
    if distortion_px:
        fitted = replace(SHARED, distortion="fit")
        bent = resect([again(c, beads, None) for c in together], fitted)
        for view, camera in zip(views, bent, strict=True):
            tally.camera("shared, one distortion fitted for all", camera, view.camera)
    tally.cameras()
    camera = together[0].view
    return Intrinsics.of(camera.camera, camera.covariance[6:, 6:])


def otherwise(c: Calibration, move_px: Array, stretch: float) -> Calibration:
    """A view as it would be with another principal point and focal length: its spots moved."""
    middle = c.view.camera.intrinsic[:2, 2]
    places = middle + stretch * (c.spots.centres_px - middle) + move_px
    return replace(c, spots=replace(c.spots, centres_px=places))


SHARING = ("as they are", "3 px", "6 px", "13 px each", "focal 1 %", "focal 3 %")
# Points that stand for a patient, to either side of the beads' middle.
PATIENT_MM = 40.0


def unlike(kind: str, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """By how much spots of views are moved (count, 2), and stretched (count,)."""
    moves, stretches = np.zeros((count, 2)), np.ones(count)
    number = float(kind.split()[0]) if kind[0].isdigit() else 0.0
    if kind.endswith("each"):
        moves = rng.uniform(-number, number, (count, 2))
    elif number:
        angle = rng.uniform(0, 2 * np.pi)
        moves[0] = number * np.array([np.cos(angle), np.sin(angle)])
    elif kind.startswith("focal"):
        stretches[0] += float(kind.split()[1]) / 100.0
    return moves, stretches


def elsewhere_mm(camera: Camera, truth: Camera, middle: Array) -> float:
    """How far a camera shows points at the patient elsewhere than the true one, at the most."""
    corners = np.array(list(itertools.product((-PATIENT_MM, PATIENT_MM), repeat=3))) + middle
    away = np.linalg.norm(camera.project(corners) - truth.project(corners), axis=1)
    depth = corners @ truth.world_to_camera[2, :3] + truth.world_to_camera[2, 3]
    return float((away * depth / truth.focal_px).max())


def sharing(seed: int, views: list[Shown], beads: Beads, tally: Tally) -> None:
    """Whether a device's views are believed to share their intrinsics, true and not."""
    exposures = [exposure_of(v) for v in views]
    options = Calibrating(True)
    try:
        met = calibrate(exposures, beads, options)
    except InputError as problem:
        print(f"refused: {problem}")
        return
    rng = np.random.default_rng(seed)
    for count, times in ((2, 10), (4, 3), (8, 1)):
        for _ in range(times):
            chosen = rng.permutation(len(met))[:count]
            for kind in SHARING:
                moves, stretches = unlike(kind, count, rng)
                moved, truths = [], []
                for n, move, stretch in zip(chosen, moves, stretches, strict=True):
                    moved.append(otherwise(met[n], move, float(stretch)))
                    k = views[n].camera.intrinsic.copy()
                    k[:2, :2] *= stretch
                    k[:2, 2] += move
                    truths.append(replace(views[n].camera, intrinsic=k))
                shared = resect([again(c, beads, None) for c in moved], SHARED)
                done = [replace(c, view=v) for c, v in zip(moved, shared, strict=True)]
                check = check_shared(done, beads, options)
                if check is None:
                    continue
                name = f"{count} views, {kind}"
                tally.add(**{f"{name}: -log10 of the chance": -np.log10(max(check.chance, 1e-99))})
                for chance in (0.05, 0.01, 0.001):
                    tally.add(**{f"{name}: below {chance:g}, doubted": check.chance < chance})
                off = max(
                    elsewhere_mm(c.view.camera, truth, beads.centres_mm.mean(axis=0))
                    for c, truth in zip(done, truths, strict=True)
                )
                believed = "doubted" if check.doubted else "believed"
                tally.add(**{f"{name}: {believed}, off at the patient, mm": off})
                if check.doubted and count > 2 and kind != "as they are":
                    right = check.furthest == done[0].view.name
                    tally.add(**{f"{name}: first view named, doubted": right})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs=2, default=(100, 110), help="first, and after")
    parser.add_argument("--no-patient", action="store_true")
    parser.add_argument("--device", action="store_true", help="eight views of one device")
    parser.add_argument("--distortion-px", type=float, default=0.0, metavar="X")
    parser.add_argument("--grid", action="store_true", help="distortion of a grid's picture")
    parser.add_argument("--sharing", action="store_true", help="are shared intrinsics shared?")
    given = parser.parse_args()
    beads, tally = layout("two-plates"), Tally()
    if given.grid:
        before: Intrinsics | None = None
        for seed in range(*given.seeds):
            before = by_grid(seed, beads, given.distortion_px, before, tally)
        return
    if given.sharing:
        for seed in range(*given.seeds):
            sharing(seed, shown_views(seed, beads, not given.no_patient, True), beads, tally)
            print(f"up to seed {seed}:", flush=True)
            tally.cameras()
        return
    if given.distortion_px:
        for seed in range(*given.seeds):
            bent(
                shown_views(seed, beads, not given.no_patient, True, given.distortion_px),
                beads,
                tally,
            )
        tally.cameras()
        return
    for seed in range(*given.seeds):
        views = shown_views(seed, beads, not given.no_patient, given.device)
        judged(views, beads, given.device, tally)
    tally.report()


if __name__ == "__main__":
    main()
