"""A CT bent by the poses of its vertebrae: how rigid they stay in the file, how long it takes.

    python Testing/benchmarks/bench_bent.py --seeds 82100 82104

Phantoms of the lumbar spine at 1.5 mm, in the middle of a CT of 150 x 160 x 170 voxels or more. L1
to L5 have poses: neighbours differ by up to so many degrees and mm, at random, about the middle
between them; all are turned and shifted together too. Of every voxel of these bones: how far the
file's displacements lead its place in the world from where it was; and the least determinant of
the map's derivative, by differences over 3 mm.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from time import perf_counter

import numpy as np
from scipy.ndimage import map_coordinates

from RadGSRegLib.geometry import Array, Rigid, Volume, centroid, exp_se3, transform_points
from RadGSRegLib.multilevel import (
    BentGrid,
    PolyrigidMap,
    bent_grid,
    least_jacobian,
    polyrigid_map,
)
from RadGSRegLib.phantom import make_phantom, random_spine

LEVELS = ("L1", "L2", "L3", "L4", "L5")
SHAPE = (170, 160, 150)


def phantom(seed: int) -> tuple[Volume, list[int]]:
    """The label map in a larger CT, and the labels of the levels from above."""
    made = make_phantom(random_spine(seed), 1.5)
    missing = np.maximum(0, np.array(SHAPE) - made.labels.array.shape)
    before = missing // 2
    pads = list(zip(before, missing - before, strict=True))
    matrix = made.labels.index_to_physical.copy()
    matrix[:3, 3] = made.labels.physical_points([-before[::-1]])[0]
    label_of = {name: label for label, name in made.label_names.items()}
    return Volume(np.pad(made.labels.array, pads), matrix), [label_of[name] for name in LEVELS]


def random_motions(
    labels: Volume, wanted: list[int], seed: int, angle: float, shift: float
) -> dict[int, Array]:
    """Poses of the levels, each drawn from the one above."""
    rng = np.random.default_rng(seed)

    def direction() -> Array:
        vector = rng.normal(size=3)
        return vector / np.linalg.norm(vector)

    pose = exp_se3(np.r_[rng.uniform(0, 0.5) * direction(), rng.uniform(0, 100) * direction()])
    poses, last = {}, None
    for label in wanted:
        centre = centroid(labels, labels.array == label)
        if last is not None:
            twist = [
                np.radians(angle * rng.uniform()) * direction(),
                shift * rng.uniform() * direction(),
            ]
            about = Rigid.from_parts(np.eye(3), (centre + last) / 2.0)
            pose = pose @ about.matrix @ exp_se3(np.concatenate(twist)) @ about.inverse().matrix
        poses[label], last = pose, centre
    return poses


def off_mm(grid: BentGrid, labels: Volume, poses: dict[int, Array]) -> Array:
    """How far from its place every voxel of the bones comes back, mm."""
    out = []
    to_index = np.linalg.inv(grid.index_to_ct)
    for label, pose in poses.items():
        points = labels.physical_points(np.argwhere(labels.array == label)[:, ::-1])
        world = transform_points(pose, points)
        still = Rigid(grid.common_ct_to_world).inverse().apply(world)
        where = transform_points(to_index, still).T[::-1]
        moves = [map_coordinates(grid.displacement[..., a], where, order=1) for a in range(3)]
        out.append(np.linalg.norm(still + np.array(moves).T - points, axis=1))
    return np.concatenate(out)


def plain(bend: PolyrigidMap, grid: BentGrid) -> BentGrid:
    """The same grid with the map's own inverse at every node, near bones too."""
    shape = grid.displacement.shape
    numbers = np.indices(shape[:3]).reshape(3, -1).T[:, ::-1]
    nodes = transform_points(grid.index_to_ct, numbers)
    led = bend.lead_back(transform_points(grid.common_ct_to_world, nodes))
    return replace(grid, displacement=(led.points_ct - nodes).reshape(shape))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs=2, default=(82100, 82104))
    parser.add_argument("--steps-mm", type=float, nargs="+", default=[4.0, 3.0, 2.5, 2.0])
    parser.add_argument("--plain", action="store_true", help="nodes near bones as all others")
    given = parser.parse_args()
    columns = "seed | up to | step mm | s | MB | off: 95 %, 99 %, most | over 0.05 mm | Jacobian"
    print(f"| {columns} |\n|{' --- |' * 8}")
    for seed in range(*given.seeds):
        labels, wanted = phantom(seed)
        for angle, shift in ((3.0, 2.0), (5.0, 3.0), (10.0, 8.0)):
            poses = random_motions(labels, wanted, seed, angle, shift)
            begin = perf_counter()
            bend = polyrigid_map(labels, poses)
            made = perf_counter() - begin
            least = least_jacobian(bend, labels, 3.0)
            for step in given.steps_mm:
                begin = perf_counter()
                grid = bent_grid(bend, labels, step)
                seconds = made + perf_counter() - begin
                grid = plain(bend, grid) if given.plain else grid
                off = off_mm(grid, labels, poses)
                far = " ".join(f"{value:.3f}" for value in np.percentile(off, [95, 99, 100]))
                row = [
                    f"{seed} | {angle:.0f} deg, {shift:.0f} mm | {step} | {seconds:.2f}",
                    f"{grid.displacement.nbytes / 1e6:.1f} | {far}",
                    f"{(off > 0.05).mean():.1%} | {least:.2f}",
                ]
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
