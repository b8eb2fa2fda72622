"""How well, and how fast, a vertebra is segmented from a click: Dice and seconds per point.

    python Testing/benchmarks/bench_segmentation.py [--points 20] [--threads 2] [--figure out.png]

Real CTs come from the shared data (see Testing/conftest.py) and are left out where that is absent.
Points are drawn at random inside the vertebral body, never nearer than 2 mm to its edge.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from RadGSRegLib.cases import read_ct, read_itk, volume_from_itk
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Volume
from RadGSRegLib.phantom import LABELS, make_phantom, random_poses, random_spine
from RadGSRegLib.segmentation import segment_vertebra

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Case:
    """A vertebra whose true mask is known; ``points`` (N, 3) mm lie inside its body."""

    name: str
    ct: Volume
    truth: NDArray[np.bool_]
    points: NDArray[np.float64]


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """The overlap of two masks, 0 to 1."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def body_points(
    volume: Volume, mask: NDArray[np.bool_], count: int, seed: int
) -> NDArray[np.float64]:
    """Random points (N, 3) mm inside a body, anywhere in voxels at least 2 mm below its edge.

    Without a mask of the body alone, the body is what lies deepest inside the vertebra.
    """
    depth = distance_transform_edt(np.pad(mask, 1), sampling=volume.spacing[::-1])[1:-1, 1:-1, 1:-1]
    voxels = np.argwhere(depth > 2.0)[:, ::-1]
    rng = np.random.default_rng(seed)
    chosen = voxels[rng.choice(len(voxels), count, replace=len(voxels) < count)]
    return volume.physical_points(chosen + rng.uniform(-0.5, 0.5, chosen.shape))


def body_of(mask: NDArray[np.bool_], spacing_xyz: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The body of a vertebra's mask: all that a ball of 7 mm radius, inside the mask, reaches."""
    sampling = spacing_xyz[::-1]
    core = distance_transform_edt(np.pad(mask, 1), sampling=sampling)[1:-1, 1:-1, 1:-1] > 7.0
    return np.asarray(mask & (distance_transform_edt(~core, sampling=sampling) < 7.0))


def shared_cases(points: int) -> Iterator[Case]:
    """The two real CTs of the shared data, if they are there."""
    root = os.environ.get("RADGSREG_DATA")
    data = Path(root) if root else REPOSITORY.parent / "shared" / "data"
    if not (data / "ct").is_dir():
        return

    def volume(name: str) -> Volume:
        return volume_from_itk(read_itk(data / "ct" / name))

    ct, labels = read_ct(data / "ct" / "l3_ct.nii.gz"), volume("l3_vertebrae.nii.gz")
    truth = labels.array == 22
    body = truth & (volume("l3_subregions.nii.gz").array >= 49)
    yield Case("real, 1.5 mm, L3", ct, truth, body_points(ct, body, points, 0))
    ct, labels = read_ct(data / "ct" / "lumbar3mm_ct.nii.gz"), volume("lumbar3mm_vertebrae.nii.gz")
    names = {27: "L5", 28: "L4", 29: "L3", 30: "L2", 31: "L1", 32: "T12"}
    each = max(1, points // 5)
    for number, name in names.items():
        truth = labels.array == number
        body = body_of(truth, ct.spacing)
        yield Case(f"real, 3 mm, {name}", ct, truth, body_points(ct, body, each, number))


def phantom_cases(points: int) -> Iterator[Case]:
    """Random anatomies, each vertebra moved in itself, with noise and voxels of several sizes."""
    each = max(1, points // 10)
    for seed, spacing, noise, levels in (
        (11, (1.0, 1.0, 1.0), 40.0, ("L3",)),
        (12, (1.5, 1.5, 1.5), 30.0, ("T12", "L2", "L5")),
        (13, (0.8, 0.8, 3.0), 20.0, ("L1", "L4")),
        (14, (2.0, 2.0, 2.0), 60.0, ("L2", "L3", "L5")),
        (15, (3.0, 3.0, 3.0), 25.0, ("T12", "L1", "L4")),
    ):
        spine = replace(random_spine(seed), noise_hu=noise)
        phantom = make_phantom(spine, spacing, "spine", moves=random_poses(spine, seed))
        for level in levels:
            truth = phantom.labels.array == LABELS[level]
            body = truth & (phantom.subregions.array >= 49)
            size = " x ".join(f"{s:g}" for s in spacing)
            name = f"phantom {seed}, {size} mm, {level}"
            yield Case(name, phantom.ct, truth, body_points(phantom.ct, body, each, seed))


def main() -> None:
    """Measure, print a table, and draw the first case if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=20, help="on the real L3; fewer elsewhere")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--figure", metavar="PNG", help="draw the worst result of every real case")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("| case | points | Dice, least | median | seconds, median | most | flagged |")
    print("|---|---|---|---|---|---|---|")
    drawn: list[tuple[str, Case, NDArray[np.bool_]]] = []
    for case in (*shared_cases(args.points), *phantom_cases(args.points)):
        scores, seconds, flagged = [], [], 0
        worst: NDArray[np.bool_] = np.zeros(case.truth.shape, dtype=bool)
        for point in case.points:
            start = time.perf_counter()
            try:
                result = segment_vertebra(case.ct, point)
                mask, flagged = result.mask.array, flagged + (result.status != "ok")
            except InputError:
                mask = np.zeros(case.truth.shape, dtype=bool)
            seconds.append(time.perf_counter() - start)
            scores.append(dice(mask, case.truth))
            if scores[-1] == min(scores):
                worst = mask
        drawn.append((f"{case.name}: Dice {min(scores):.2f}", case, worst))
        print(
            f"| {case.name} | {len(scores)} | {min(scores):.3f} | {np.median(scores):.3f} | "
            f"{np.median(seconds):.1f} | {max(seconds):.1f} | {flagged} |",
            flush=True,
        )
    if args.figure:
        _draw([one for one in drawn if one[0].startswith("real")] or drawn, Path(args.figure))


def _draw(drawn: list[tuple[str, Case, NDArray[np.bool_]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(drawn), figsize=(3.2 * len(drawn), 6.4), squeeze=False)
    for column, (title, case, mask) in enumerate(drawn):
        for row, axis_lps in enumerate((0, 2)):
            # The array axis along which this anatomical axis runs, whatever the orientation.
            axis = 2 - int(np.abs(case.ct.direction[axis_lps]).argmax())
            middle = int(np.median(np.argwhere(case.truth)[:, axis]))
            box = [slice(max(0, n - 6), n2 + 7) for n, n2 in _bounds(case.truth)]
            box[axis] = slice(middle, middle + 1)
            picture = [np.squeeze(a[tuple(box)], axis) for a in (case.ct.array, case.truth, mask)]
            plot = axes[row, column]
            plot.imshow(picture[0], cmap="gray", vmin=-150, vmax=600)
            plot.contour(picture[1], [0.5], colors="lime", linewidths=0.8)
            plot.contour(picture[2], [0.5], colors="red", linewidths=0.8)
            plot.set_axis_off()
        axes[0, column].set_title(title, fontsize=8)
    figure.suptitle("truth green, from one click red: the worst point of each case", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _bounds(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    where = np.argwhere(mask)
    return list(zip(where.min(0).tolist(), where.max(0).tolist(), strict=True))


if __name__ == "__main__":
    main()
