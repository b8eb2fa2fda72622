"""How far a vertebra's own axes (`bones.bone_axes`) lie from anatomical ones, on phantoms.

    python Testing/benchmarks/bench_axes.py [--phantoms 20] [--seed 900] [--spacing 1.5]

Each phantom's vertebrae T12 to L5 are known by label and by the frame they were built in (z midway
between the end plates, x across the plane of symmetry). Each mask is turned at random by
up to 15 degrees about each axis, as a patient lies. Also tried: moments of the whole bone, the
plane of symmetry with moments in it, the mask of a reconstruction (blurred by 2 mm, cut where
its volume stays), and each number that decides times 0.8 and 1.2.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from bench_bounds import bounds_of, changed, with_bound
from scipy import ndimage
from scipy.spatial.transform import Rotation

from RadGSRegLib.bones import bone_axes
from RadGSRegLib.bones.symmetry import mirror_normal
from RadGSRegLib.geometry import Array, Volume, affine, rotation_angle_deg
from RadGSRegLib.phantom import LABELS, MOBILE_LEVELS, make_phantom, random_spine

Way = Callable[[Volume], Array]


@dataclass(frozen=True)
class Bone:
    """A mask, turned, and the rotation (3, 3) of its anatomical axes."""

    name: str
    mask: Volume
    truth: Array


def bones(seeds: range, spacing_mm: float) -> Iterator[Bone]:
    """Yield the vertebrae of phantoms."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        phantom = make_phantom(random_spine(seed), spacing_mm)
        for name in MOBILE_LEVELS:
            inside = phantom.labels.array == LABELS[name]
            k, j, i = ndimage.find_objects(inside.astype(np.uint8))[0]
            low = np.array([i.start, j.start, k.start]) - 6
            cut = phantom.labels.with_array(inside).crop(low, [i.stop + 6, j.stop + 6, k.stop + 6])
            turn = Rotation.from_rotvec(np.radians(rng.uniform(-15.0, 15.0, 3))).as_matrix()
            mask = Volume(cut.array, affine(turn, np.zeros(3)) @ cut.index_to_physical)
            yield Bone(f"{name} of {seed}", mask, turn @ phantom.poses[name][:3, :3])


def moments(mask: Volume) -> Array:
    """Return the principal axes (3, 3), in the order and sense nearest to the world's."""
    points = mask.physical_points(np.argwhere(mask.array)[:, ::-1].astype(float))
    return nearest(np.linalg.eigh(np.cov(points.T))[1])


def symmetry_and_moments(mask: Volume) -> Array:
    """Return the normal of the plane of symmetry and the principal axes in the plane (3, 3)."""
    across = mirror_normal(mask, np.eye(3))
    points = mask.physical_points(np.argwhere(mask.array)[:, ::-1].astype(float))
    around = points - points.mean(axis=0)
    within = around - np.outer(around @ across, across)
    vectors = np.linalg.eigh(np.cov(within.T))[1]
    return nearest(np.column_stack([across, vectors[:, 1:]]))


def nearest(directions: Array) -> Array:
    """Return the rotation (3, 3) of three perpendicular directions that is nearest to none."""
    frames = [
        directions[:, order] * np.array(signs)
        for order in permutations(range(3))
        for signs in product((1.0, -1.0), repeat=3)
    ]
    return max((f for f in frames if np.linalg.det(f) > 0), key=lambda f: float(np.trace(f)))


def shipped(mask: Volume) -> Array:
    """Return the axes (3, 3) as the library finds them."""
    return bone_axes(mask)[:3, :3]


def blurred(mask: Volume) -> Volume:
    """Return a mask as a reconstruction may show it."""
    soft = ndimage.gaussian_filter(mask.array.astype(np.float32), 2.0 / mask.spacing[::-1])
    share = np.count_nonzero(mask.array) / mask.array.size
    pieces, _ = ndimage.label(soft > np.quantile(soft, 1.0 - share))
    counts = np.bincount(pieces.ravel())
    counts[0] = 0
    return mask.with_array(pieces == counts.argmax())


def row(name: str, sample: list[Bone], way: Way) -> str:
    """Return a row of the table: all three angles, and that of left to right alone."""
    whole, across = [], []
    for bone in sample:
        axes = way(bone.mask)
        whole.append(rotation_angle_deg(axes.T @ bone.truth))
        cosine = float(axes[:, 0] @ bone.truth[:, 0])
        across.append(float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))))
    worst = sample[int(np.argmax(whole))].name
    figures = [np.median(whole), np.percentile(whole, 90), max(whole)]
    cells = [f"{value:.1f}" for value in (*figures, np.median(across), max(across))]
    return f"| {name} | {' | '.join(cells)} | {worst} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phantoms", type=int, default=20)
    parser.add_argument("--seed", type=int, default=900)
    parser.add_argument("--spacing", type=float, default=1.5)
    args = parser.parse_args()
    sample = list(bones(range(args.seed, args.seed + args.phantoms), args.spacing))
    print(f"{len(sample)} vertebrae of {args.phantoms} phantoms, degrees\n")
    print("| axes | median | 90 % | worst | left to right: median | worst | worst bone |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print(row("moments of the whole bone", sample, moments))
    print(row("symmetry, moments in its plane", sample, symmetry_and_moments))
    print(row("symmetry, end plates", sample, shipped), flush=True)
    print(row("the same, blurred by 2 mm", sample, lambda mask: shipped(blurred(mask))))
    for name, value in bounds_of("bones").items():
        if name in ("PERCENTILE", "MOST_ML"):
            continue
        for factor in (0.8, 1.2):
            other = changed(value, factor)
            with with_bound("bones", name, other):
                print(row(f"{name} {other:.3g}", sample, shipped), flush=True)


if __name__ == "__main__":
    main()
