"""Volumes from X-rays alone: ours, our voxels that it starts from, and RTK's SART, in one run.

    python Testing/benchmarks/bench_beam.py --views 5,10,20,30,50 --realism clean

Simulates X-rays of a CT, all from one seed, reconstructs from the first N that are spread over them
and compares: PSNR and SSIM of X-rays held out, and the correlation with the truth on a grid of 2 mm
in a cube of 110 mm about the vertebra, of attenuation and of what bone has above 120 HU. Prints a
table in Markdown. SART is RTK's own, on grey values scaled to [0, 1] where the display is unknown.
``--standardize``: once more from standardised X-rays, whose own held-out ones judge.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, uniform_filter

from RadGSRegLib.cases import View, read_ct, read_segmentation
from RadGSRegLib.gaussians import voxelize
from RadGSRegLib.geometry import Volume, transform_points
from RadGSRegLib.networks import Standardization, load_standardizer, shipped_weights
from RadGSRegLib.reconstruction import cube
from RadGSRegLib.simulation import SimulationParameters, simulate_case
from RadGSRegLib.tomography import BeamOptions, reconstruct_beam
from RadGSRegLib.views import ViewFilter

Array = NDArray[np.float32]
_BOX_MM, _STEP_MM = 110.0, 2.0
_DATA = Path(os.environ.get("RADGSREG_DATA", "../shared/data"))


class Truth:
    """The CT in the world, in the cube about its vertebra."""

    def __init__(self, ct: Volume, ct_to_world: NDArray[np.float64], pivot_ct: Sequence[float]):
        self.centre = transform_points(ct_to_world, np.array([pivot_ct]))[0]
        self.box = cube(self.centre, _BOX_MM, _STEP_MM)
        fine = cube(self.centre, _BOX_MM, _STEP_MM / 2.0)
        moved = Volume(ct.array.astype(np.float32) + 1000.0, ct_to_world @ ct.index_to_physical)
        # A voxel is the mean of the eight it consists of.
        hu = uniform_filter(on_box(moved, fine), 2)[1::2, 1::2, 1::2] - 1000.0
        self.attenuation, self.bone = np.maximum(hu + 1000.0, 0.0), np.maximum(hu - 120.0, 0.0)

    def scores(self, volume: Array) -> tuple[float, float]:
        """Correlations of a volume (K, J, I) on the cube with attenuation and with bone."""
        flat = volume.ravel()
        both = (np.corrcoef(flat, of.ravel())[0, 1] for of in (self.attenuation, self.bone))
        attenuation, bone = both
        return float(attenuation), float(bone)


def on_box(volume: Volume, box: object) -> Array:
    """A volume's trilinear values on a box's grid (K, J, I); 0 outside."""
    size = box.size  # type: ignore[attr-defined]
    matrix = np.linalg.inv(volume.index_to_physical) @ box.index_to_world  # type: ignore[attr-defined]
    ijk = np.indices(size[::-1], dtype=np.float64).reshape(3, -1)[::-1]
    where = matrix[:3, :3] @ ijk + matrix[:3, 3:]
    values = map_coordinates(volume.array, where[::-1], order=1, mode="constant")
    return np.asarray(values.reshape(size[::-1]), dtype=np.float32)


def sart(views: Sequence[View], box: object, iterations: int = 10) -> Array:
    """RTK's SART of square views of one size, in voxels of 4 mm of a cube of 400 mm, on a box."""
    import itk

    kind = itk.Image[itk.F, 3]
    geometry = itk.RTK.ThreeDCircularProjectionGeometry.New()
    pixels, pitch = views[0].camera.columns, views[0].pixel_spacing_mm[0]
    pictures = []
    for view in views:
        camera = view.camera
        right, down, ahead = camera.world_to_camera[:3, :3]
        foot = camera.source_world + pitch * camera.intrinsic[0, 0] * ahead
        middle = ((pixels - 1) / 2.0 - camera.intrinsic[:2, 2]) * pitch
        detector = foot + middle[0] * right + middle[1] * down
        vectors = (camera.source_world, detector, right, -down)
        if not geometry.AddProjection(*([float(x) for x in v] for v in vectors)):
            raise ValueError("RTK refuses this geometry")
        picture = np.asarray(view.pixels, np.float32)
        if view.intensity != "attenuation":
            picture = picture / max(float(picture.max()), 1e-6)
            rim = np.concatenate([picture[:4].ravel(), picture[-4:].ravel()])
            picture = picture if np.median(picture) >= np.median(rim) else 1.0 - picture
        pictures.append(picture[::-1])
    stack = itk.image_from_array(np.ascontiguousarray(np.stack(pictures)))
    stack.SetSpacing([pitch, pitch, 1.0])
    edge = -(pixels - 1) / 2.0 * pitch
    stack.SetOrigin([edge, edge, 0.0])
    region = cube(box.centre, 400.0, 4.0)  # type: ignore[attr-defined]
    start = itk.image_from_array(np.zeros(region.size[::-1], np.float32))
    start.SetSpacing([4.0] * 3)
    start.SetOrigin([float(x) for x in region.index_to_world[:3, 3]])
    method = itk.SARTConeBeamReconstructionFilter[kind, kind].New()
    method.SetInput(0, start)
    method.SetInput(1, stack)
    method.SetGeometry(geometry)
    method.SetNumberOfIterations(iterations)
    method.SetLambda(0.3)
    method.SetEnforcePositivity(True)
    method.Update()
    voxels = np.asarray(itk.array_from_image(method.GetOutput()), np.float32)
    return on_box(Volume(voxels, region.index_to_world), box)


def spread(views: Sequence[View], count: int) -> list[View]:
    """So many of the views, spread over their list."""
    return [views[int(n)] for n in np.linspace(0, len(views) - 1, count).round()]


def main() -> None:
    """Run all numbers of views and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ct", type=Path, default=_DATA / "ct/lumbar3mm_ct.nii.gz")
    parser.add_argument("--labels", type=Path, default=_DATA / "ct/lumbar3mm_vertebrae.nii.gz")
    parser.add_argument("--label", type=int, default=29)
    parser.add_argument("--only-label", action="store_true", help="the vertebra by itself, in air")
    parser.add_argument("--realism", default="clean")
    parser.add_argument("--path", default="arbitrary")
    parser.add_argument("--views", default="5,10,20,30,50")
    parser.add_argument("--held-out", type=int, default=15)
    parser.add_argument("--field-mm", type=float, default=250.0)
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--seed", type=int, default=80000)
    parser.add_argument("--steps", type=int, default=BeamOptions().steps)
    parser.add_argument("--standardize", nargs="?", const=shipped_weights("standard"), type=Path)
    args = parser.parse_args()
    counts = [int(n) for n in args.views.split(",")]

    ct, segmentation = read_ct(args.ct), read_segmentation(args.labels)
    labels = Volume(segmentation.array[0], segmentation.index_to_physical)
    if args.only_label:
        alone = labels.array == args.label
        ct = ct.with_array(np.where(alone, ct.array, -1024).astype(ct.array.dtype))
        labels = labels.with_array(np.where(alone, args.label, 0).astype(labels.array.dtype))
    parameters = SimulationParameters.preset(args.realism).with_field(args.field_mm, args.pixels)
    # The spine as one piece, so that the CT is the truth everywhere.
    parameters = replace(
        parameters,
        vertebra_deg=0.0,
        vertebra_mm=0.0,
        path=args.path,
        views=max(counts) + args.held_out,
    )
    simulated = simulate_case(ct, labels, args.label, parameters, args.seed)
    truth_of = simulated.truth
    truth = Truth(ct, np.array(truth_of["spine_ct_to_world"]), truth_of["pivot_ct"])
    every = simulated.case.views
    order = np.random.default_rng(args.seed).permutation(len(every))
    if args.path != "arbitrary":  # those held out lie between the others
        order = np.concatenate([order[: args.held_out], np.sort(order[args.held_out :])])
    held = [every[n] for n in order[: args.held_out]]
    rest = [every[n] for n in order[args.held_out :]]
    print(f"{args.realism}, {args.path}, {args.field_mm:g} mm, {args.pixels} px, seed {args.seed}")
    print("| views | status | PSNR | SSIM | attenuation | bone | s | SART att. | SART bone | s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for count in counts:
        few = spread(rest, count)
        began = time.perf_counter()
        figures = held_out_figures(few, held, truth, args, ())
        ours = time.perf_counter() - began
        began = time.perf_counter()
        peer = truth.scores(sart(few, truth.box))
        seconds = time.perf_counter() - began
        print(
            f"| {count} | {figures} | {ours:.0f} | {peer[0]:.3f} | {peer[1]:.3f} | {seconds:.0f} |",
            flush=True,
        )
        if args.standardize is not None:
            began = time.perf_counter()
            bones = Standardization(load_standardizer(args.standardize), truth.centre)
            figures = held_out_figures(few, held, truth, args, (bones,))
            ours = time.perf_counter() - began
            print(f"| {count}, standardised | {figures} | {ours:.0f} | | | |", flush=True)


def held_out_figures(
    fitted: Sequence[View],
    held: Sequence[View],
    truth: Truth,
    args: argparse.Namespace,
    filters: Sequence[ViewFilter],
) -> str:
    """Reconstruct from ``fitted`` alone; the cells of the table from status to bone."""
    options = BeamOptions(steps=args.steps, spacing_mm=2.0, seed=args.seed)
    done = reconstruct_beam(
        fitted, centre_world=truth.centre, options=options, judged_on=held, filters=filters
    )
    grid = voxelize(done.cloud, truth.box.index_to_world, truth.box.size).cpu().numpy()
    attenuation, bone = truth.scores(grid)
    q = done.quality
    return (
        f"{' '.join([q['status'], *q['odd_views']])} | {q['held_out_psnr_db']:.1f} | "
        f"{q['held_out_ssim']:.3f} | {attenuation:.3f} | {bone:.3f}"
    )


if __name__ == "__main__":
    main()
