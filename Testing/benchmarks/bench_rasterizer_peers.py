"""Our rasterizer against the projectors of diffdrr, ITK and RTK, taking turns in one run.

    python Testing/benchmarks/bench_rasterizer_peers.py --out DIR

4,000 Gaussians fitted to a real L3, 128 x 128 pixels of 1 mm at the vertebra. The peers project the
voxels that the Gaussians were fitted to ("vertebra": its box, soft tissue taken off) and the whole
crop that it was cut from ("crop": all that is in it). A peer that is not installed is left out,
with a line that says so.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from peer_report import describe, machine, markdown, race, ratio, shared_data, write
from peer_views import Turntable

from RadGSRegLib.cases import labels_on_ct, read_ct, read_segmentation
from RadGSRegLib.drr import (
    excess_attenuation,
    hu_to_attenuation,
    project_volume,
    project_volume_with_jacobian,
)
from RadGSRegLib.errors import InputError
from RadGSRegLib.gaussians import GaussianCloud, fit_vertebra, rasterize, rasterize_with_jacobian
from RadGSRegLib.geometry import Camera, Volume

Array = NDArray[np.float64]
Run = Callable[[], Any]

FORWARD, BACKWARD = "forward", "forward and backward"
OURS = "Gaussians"


def on_threads(count: int, run: Run) -> Run:
    """``run`` with torch on ``count`` threads: each contestant as it runs fastest."""

    def inner() -> Any:
        torch.set_num_threads(count)
        return run()

    return inner


class Scene:
    """A vertebra, the crop around it, its Gaussians and one camera that looks at it."""

    def __init__(self, ct_path: Path, labels_path: Path, label: str, count: int, pixels: int):
        ct = read_ct(ct_path)
        labels, value, _ = labels_on_ct(read_segmentation(labels_path), label, ct, labels_path)
        self.vertebra = excess_attenuation(ct, labels, value)
        self.crop = ct.with_array(hu_to_attenuation(ct.array))
        inside = np.argwhere(np.asarray(labels.array) == value)[:, ::-1].astype(float)
        self.centre = labels.physical_points(inside).mean(axis=0)
        # AP and LA, 750 mm away, a little oblique so that no ray runs along a face of the voxels
        sources = [self.centre + np.array(p) for p in ([60.0, -740.0, 40.0], [745.0, 30.0, -50.0])]
        self.table = Turntable.of(sources, self.centre)
        self.pixel_mm = 128.0 / pixels
        self.camera: Camera = self.table.cameras(pixels, self.pixel_mm)[0]
        self.cloud = fit_vertebra(self.vertebra, count)
        generator = torch.Generator().manual_seed(1)
        self.weights = torch.rand(pixels, pixels, generator=generator)

    @property
    def view(self) -> tuple[Array, Array, tuple[int, int]]:
        """What our functions want to know of the camera."""
        return self.camera.intrinsic, self.camera.world_to_camera, self.camera.size


def our_runs(scene: Scene) -> tuple[dict[str, Run], dict[str, Array]]:
    """Our contestants by "name: what" and their images."""
    intrinsic, pose, size = scene.view
    cloud = GaussianCloud(*(t.clone().requires_grad_() for t in scene.cloud.tensors))
    matrix = torch.as_tensor(pose).float().requires_grad_()
    leaves = [*cloud.tensors, matrix]

    def backward() -> None:
        image = rasterize(cloud, intrinsic, matrix, size)
        torch.autograd.grad((image * scene.weights).sum(), leaves)

    def jacobian() -> None:
        rasterize_with_jacobian(scene.cloud, intrinsic, pose, size, scene.centre)

    def forward() -> torch.Tensor:
        return rasterize(scene.cloud, intrinsic, pose, size)

    def voxels() -> torch.Tensor:
        return project_volume(scene.vertebra, intrinsic, pose, size)

    def voxel_jacobian() -> None:
        project_volume_with_jacobian(scene.vertebra, intrinsic, pose, size, scene.centre)

    runs: dict[str, Run] = {
        f"{OURS}: {FORWARD}": forward,
        f"{OURS}: {BACKWARD} (all parameters and pose)": backward,
        f"{OURS}: forward and Jacobian (pose)": jacobian,
        f"our voxel projector, vertebra: {FORWARD}": voxels,
        "our voxel projector, vertebra: forward and Jacobian (pose)": voxel_jacobian,
    }
    images = {OURS: forward().numpy(), "our voxel projector, vertebra": voxels().numpy()}
    return {name: on_threads(1, run) for name, run in runs.items()}, images


def diffdrr_runs(scene: Scene, threads: int) -> tuple[dict[str, Run], dict[str, Array]]:
    """diffdrr's two renderers. ImportError where it is not installed."""
    from peer_diffdrr import DiffdrrProjector

    runs: dict[str, Run] = {}
    images: dict[str, Array] = {}
    identity = torch.eye(4)
    for part, volume in (("vertebra", scene.vertebra), ("crop", scene.crop)):
        for renderer in ("siddon", "trilinear"):
            project = DiffdrrProjector(volume, [scene.camera], renderer)
            name = f"diffdrr {renderer}, {part}"

            def forward(project: DiffdrrProjector = project) -> torch.Tensor:
                with torch.no_grad():
                    return project(identity)[0]

            def backward(all_parameters: bool, project: DiffdrrProjector = project) -> None:
                pose = torch.eye(4, requires_grad=True)
                project.voxels.requires_grad_(all_parameters)
                image = project(pose)[0]
                leaves = [pose, project.voxels] if all_parameters else [pose]
                torch.autograd.grad((image * scene.weights).sum(), leaves)
                project.voxels.requires_grad_(False)

            runs[f"{name}: {FORWARD}"] = forward
            runs[f"{name}: {BACKWARD} (pose)"] = partial(backward, False)
            runs[f"{name}: {BACKWARD} (voxels and pose)"] = partial(backward, True)
            images[name] = forward().numpy()
    return {name: on_threads(threads, run) for name, run in runs.items()}, images


def itk_runs(scene: Scene) -> tuple[dict[str, Run], dict[str, Array]]:
    """ITK's Siddon-Jacobs. ImportError where it is not installed."""
    from peer_itk import Stage

    runs: dict[str, Run] = {}
    images: dict[str, Array] = {}
    for part, volume in (("vertebra", scene.vertebra), ("crop", scene.crop)):
        stage = Stage(volume, scene.centre, scene.table)
        run = stage.projector(0, np.eye(4), scene.camera.columns, scene.pixel_mm)
        runs[f"ITK Siddon-Jacobs, {part}: {FORWARD}"] = run
        images[f"ITK Siddon-Jacobs, {part}"] = run()
    return runs, images


def rtk_runs(scene: Scene) -> tuple[dict[str, Run], dict[str, Array]]:
    """RTK's Joseph. ImportError where it is not installed."""
    from peer_rtk import RtkProjector

    runs: dict[str, Run] = {}
    images: dict[str, Array] = {}
    for part, volume in (("vertebra", scene.vertebra), ("crop", scene.crop)):
        project = RtkProjector(volume, [scene.camera])
        runs[f"RTK Joseph, {part}: {FORWARD}"] = partial(project, np.eye(4))
        images[f"RTK Joseph, {part}"] = np.array(project(np.eye(4))[0])
    return runs, images


def differences(scene: Scene, images: dict[str, Array]) -> dict[str, float]:
    """Relative L1 of every image to a finely sampled projection of the same voxels."""
    intrinsic, pose, size = scene.view

    def truth(volume: Volume) -> Array:
        image = project_volume(volume, intrinsic, pose, size, step_mm=0.1)
        return np.asarray(image, dtype=float)

    truths = {"vertebra": truth(scene.vertebra), "crop": truth(scene.crop)}
    out = {}
    for name, image in images.items():
        wanted = truths["crop" if name.endswith("crop") else "vertebra"]
        out[name] = float(np.abs(image - wanted).sum() / wanted.sum())
    return out


def main() -> int:
    """Race, print and write the table."""
    data = shared_data() / "ct"
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--ct", type=Path, default=data / "l3_ct.nii.gz")
    parser.add_argument("--labels", type=Path, default=data / "l3_vertebrae.nii.gz")
    parser.add_argument("--label", default="22")
    parser.add_argument("--gaussians", type=int, default=4000)
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    threads = max(threads, 1)
    place = machine(threads)
    try:
        scene = Scene(args.ct, args.labels, args.label, args.gaussians, args.pixels)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    runs, images = our_runs(scene)
    notes = []
    peers: dict[str, Callable[[], tuple[dict[str, Run], dict[str, Array]]]] = {
        "diffdrr": lambda: diffdrr_runs(scene, threads),
        "itk-twoprojectionregistration": lambda: itk_runs(scene),
        "itk-rtk": lambda: rtk_runs(scene),
    }
    for package, make in peers.items():
        try:
            more, pictures = make()
        except ImportError as error:
            notes.append(f"{package} is left out: it is not installed ({error}).")
            print(notes[-1])
            continue
        runs.update(more)
        images.update(pictures)
    times = race(runs, args.rounds)
    ours = {
        FORWARD: times[f"{OURS}: {FORWARD}"],
        BACKWARD: times[f"{OURS}: {BACKWARD} (all parameters and pose)"],
    }
    distances = differences(scene, images)
    table: list[dict[str, Any]] = []
    for name, seconds in times.items():
        who, _, what = name.partition(": ")
        base = ours[FORWARD if what == FORWARD else BACKWARD]
        table.append(
            {
                "projector": who,
                "what": what,
                "milliseconds": 1000.0 * float(np.median(seconds)),
                "times_ours": ratio(seconds, base),
                "relative_l1": distances[who],
            }
        )
    header = [
        "projector",
        "what",
        "median ms",
        "times as long as the Gaussians",
        "relative L1 to the voxels' line integrals",
    ]
    voxels = {"vertebra": scene.vertebra.size, "crop": scene.crop.size}
    text = "\n".join(
        [
            f"{len(scene.cloud):,} Gaussians, {args.pixels} x {args.pixels} pixels; "
            + ", ".join(f"{part} {' x '.join(map(str, s))} voxels" for part, s in voxels.items())
            + f"; {args.rounds} rounds in turn.",
            "",
            describe(place),
            "",
            markdown(header, [list(row.values()) for row in table]),
            *(["", *notes] if notes else []),
        ]
    )
    print(text)
    content = {
        "machine": place,
        "gaussians": len(scene.cloud),
        "pixels": args.pixels,
        "voxels": voxels,
        "rounds": args.rounds,
        "table": table,
        "seconds": times,
        "notes": notes,
    }
    write(args.out, "rasterizer_peers", content, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
