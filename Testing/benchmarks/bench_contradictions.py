"""X-rays that contradict the others: which right ones are named, and which wrong ones are not.

    python Testing/benchmarks/bench_contradictions.py --views 10,20 --seeds 80250,80251 \\
        --keep /tmp/lines --json rows.jsonl

Simulates X-rays of a CT as `bench_beam` does and finds their displays as `radgsreg reconstruct`
does it. A fault is put into the line integrals that it compares: none, one view turned by 10
degrees about an axis drawn at random, two views swapped, and one view replaced by what the same
camera sees of another patient, a phantom's trunk. (So the displays are those of right X-rays.)
``--polarity`` tells which polarity the X-rays have, which takes half the time. ``--keep`` keeps the
line integrals of a seed, so that they are not found again. Prints for each fault the named ones and
the wrong ones, and in the end how many there were.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bench_beam
import numpy as np
import torch
from beam_scene import Patient
from bench_shape_guided import phantom
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from RadGSRegLib.drr import SystemMatrix
from RadGSRegLib.geometry import Camera
from RadGSRegLib.reconstruction import Deadline, cube
from RadGSRegLib.system import Progress, one_torch_thread
from RadGSRegLib.tomography import bounds
from RadGSRegLib.tomography.beams import Beams, whole_beams
from RadGSRegLib.tomography.coarse import lines_to_compare
from RadGSRegLib.tomography.consistency import contradictions
from RadGSRegLib.views import prepare_views

Array = NDArray[np.float64]
FAULTS = ("none", "turned", "swapped", "patient")
_TURNED_DEG, _VOXEL_MM, _PIXELS = 10.0, 8.0, 128


def lines_of(args: argparse.Namespace, patient: Patient, seed: int, count: int) -> Beams:
    """The line integrals of so many X-rays of a seed, about the origin, as they are compared."""
    kept = None if args.keep is None else args.keep / f"{args.case}_{seed}_{count}.npz"
    told = ["--ct", str(args.ct), "--labels", str(args.labels), "--label", str(args.label)]
    told += ["--pool", str(args.pool), "--held-out", "1", "--views", str(count)]
    scene = bench_beam.scene_of(bench_beam.arguments(told), patient, args.case, seed)
    beams = whole_beams(prepare_views(scene.spread(count)), scene.truth.centre, _PIXELS)
    moved = np.eye(4)
    moved[:3, 3] = scene.truth.centre
    if args.polarity:
        beams = replace(beams, sign=torch.full_like(beams.sign, 1 if scene.bone_bright else -1))
    if kept is None or not kept.exists():
        _, lines = lines_to_compare(beams, scene.truth.centre, Progress(None), Deadline(None))
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez(kept, values=lines.values.numpy(), weight=lines.weight.numpy())
    else:
        lines = beams.thinned(2)
        with np.load(kept) as arrays:
            values, weight = (torch.from_numpy(arrays[name]) for name in ("values", "weight"))
        lines = replace(lines, values=values, weight=weight)
    return replace(lines, cameras=tuple(_moved(c, moved) for c in lines.cameras))


def with_fault(lines: Beams, fault: str, generator: np.random.Generator) -> tuple[Beams, list[int]]:
    """Return X-rays about the origin with a fault, and which of them are wrong."""
    if fault == "none":
        return lines, []
    first, second = (int(n) for n in generator.choice(len(lines), 2, replace=False))
    if fault == "swapped":
        order = list(range(len(lines)))
        order[first], order[second] = second, first
        other = replace(lines, values=lines.values[order], weight=lines.weight[order])
        return other, sorted((first, second))
    if fault == "turned":
        axis = generator.normal(size=3)
        turn = np.eye(4)
        angle = np.radians(_TURNED_DEG)
        turn[:3, :3] = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
        cameras = list(lines.cameras)
        cameras[first] = _moved(cameras[first], turn)
        return replace(lines, cameras=tuple(cameras)), [first]
    ct = phantom(int(generator.integers(1, 3)), False)
    grid = ct.index_to_physical.copy()
    middle = (np.array(ct.array.shape[::-1]) - 1.0) / 2.0
    grid[:3, 3] = -grid[:3, :3] @ middle
    hu = torch.from_numpy(ct.array.astype(np.float32))
    voxels = (bounds.TISSUE_MU * (1.0 + hu / 1000.0)).clamp_min(0.0)
    values = lines.values.clone()
    values[first] = SystemMatrix([lines.cameras[first]], grid, voxels.shape).forward(voxels)[0]
    return lines.with_values(values), [first]


def _moved(camera: Camera, matrix: Array) -> Camera:
    return Camera(camera.intrinsic, camera.world_to_camera @ matrix, *camera.size)


def row_of(lines: Beams, fault: str, seed: int) -> dict[str, Any]:
    """Look for the fault: names of the X-rays that are wrong and of those that are named."""
    faulty, wrong = with_fault(lines, fault, np.random.default_rng([seed, len(lines)]))
    grid = cube(np.zeros(3), bounds.REGION_MM, _VOXEL_MM)
    scores, odd = contradictions(faulty, grid)
    return {
        "seed": seed,
        "views": len(lines),
        "fault": fault,
        "wrong": [lines.names[n] for n in wrong],
        "named": [lines.names[n] for n in odd],
        "agreement": float(np.nanmedian(scores)),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Sums for each number of X-rays and fault."""
    out = [
        "| X-rays | fault | sets | wrong ones named | right ones named | sets with these |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for count in sorted({row["views"] for row in rows}):
        for fault in FAULTS:
            some = [row for row in rows if (row["views"], row["fault"]) == (count, fault)]
            wrong = sum(len(row["wrong"]) for row in some)
            hit = sum(len({*row["wrong"]} & {*row["named"]}) for row in some)
            false = [len({*row["named"]} - {*row["wrong"]}) for row in some]
            named = f"{hit} of {wrong}" if wrong else ""
            sets = sum(n > 0 for n in false)
            out.append(f"| {count} | {fault} | {len(some)} | {named} | {sum(false)} | {sets} |")
    return "\n".join(out)


def main(given: Sequence[str] | None = None) -> None:
    """Run all rows and print them and their sums."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = bench_beam.DATA
    parser.add_argument("--ct", type=Path, default=data / "ct/lumbar3mm_ct.nii.gz")
    parser.add_argument("--labels", type=Path, default=data / "ct/lumbar3mm_vertebrae.nii.gz")
    parser.add_argument("--label", type=int, default=29)
    parser.add_argument("--case", default="realistic", choices=("clean", "realistic", "hard"))
    parser.add_argument("--views", default="10,20,30")
    parser.add_argument("--pool", type=int, default=30, help="X-rays that the N are spread over")
    parser.add_argument("--seeds", default="80250")
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--polarity", action="store_true", help="tell it which one they have")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of line integrals")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append rows as lines of JSON")
    args = parser.parse_args(given)
    patient = Patient.read(args.ct, args.labels, args.label, False)
    rows = []
    for count in (int(n) for n in args.views.split(",")):
        for seed in (int(n) for n in args.seeds.split(",")):
            with one_torch_thread():
                lines = lines_of(args, patient, seed, count)
                for fault in args.faults.split(","):
                    rows.append(row_of(lines, fault, seed))
                    said = json.dumps(rows[-1])
                    print(said, flush=True)
                    if args.json is not None:
                        with args.json.open("a") as file:
                            file.write(said + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
