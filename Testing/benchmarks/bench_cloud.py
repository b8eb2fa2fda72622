"""What the Gaussians of a whole beam keep of the coarse voxels, from their drawing on.

    python Testing/benchmarks/bench_cloud.py --case realistic --views 40 --seeds 80230,80261
    python Testing/benchmarks/bench_cloud.py --case realistic --views 40 --seeds 80230 \\
        --settling 0 --slower 0

Simulates the X-rays of `bench_beam`, makes the coarse volume once a seed, draws Gaussians and fits
them. Rows have attenuation and bone as `bench_beam` has them, attenuation where both volumes are
blurred by 8 mm, how much the volume varies (standard deviation over its mean), and PSNR held out
(as it is, and with the best gain and offset of each view): of the voxels, of the Gaussians as they
are drawn, after shares of the steps, and in the end. ``--settling 0 --slower 0`` draws Gaussians
without letting their densities settle, and moves narrow ones as far as wide ones.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import bench_beam
import numpy as np
from beam_methods import held_out_figures, rendered_of
from beam_scene import Array, Patient, Scene, on_box
from scipy.ndimage import gaussian_filter

from RadGSRegLib.gaussians import GaussianCloud, voxelize
from RadGSRegLib.geometry import Volume
from RadGSRegLib.reconstruction import DensityControl, cube
from RadGSRegLib.system import Progress, one_torch_thread
from RadGSRegLib.tomography import BeamOptions, cloud_fit, drawing
from RadGSRegLib.tomography.beams import whole_beams
from RadGSRegLib.tomography.coarse import Coarse, coarse_volume
from RadGSRegLib.views import prepare_views

_SHARES = (0.03, 0.1, 0.3, 0.6)
_WIDE_MM = 8.0


def main() -> None:
    """Print the rows of each seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", default="realistic")
    parser.add_argument("--views", type=int, default=40)
    parser.add_argument("--seeds", default="80230")
    parser.add_argument("--steps", type=int, default=BeamOptions().steps)
    parser.add_argument("--settling", type=int, help="rounds in which densities settle")
    parser.add_argument("--slower", type=float, help="power of how much less narrow ones move")
    args = parser.parse_args()
    if args.settling is not None:
        drawing.SETTLING = args.settling
    if args.slower is not None:
        cloud_fit.SLOWER = args.slower
    given = bench_beam.arguments(["--cases", args.case])
    patient = Patient.read(given.ct, given.labels, given.label, False)
    print("| seed | | attenuation, bone | wide | varies | held out, dB | s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for seed in map(int, args.seeds.split(",")):
        scene = bench_beam.scene_of(given, patient, args.case, seed)
        with one_torch_thread():
            beams = whole_beams(
                prepare_views(scene.spread(args.views)), scene.truth.centre, given.pixels
            )
            coarse = coarse_volume(beams, scene.truth.centre, Progress())
            options = BeamOptions(seed=seed, spacing_mm=2.0, steps=args.steps)
            _fit(
                scene, coarse, options, lambda row, seed=seed: print(f"| {seed} {row}", flush=True)
            )


def _fit(scene: Scene, coarse: Coarse, options: BeamOptions) -> None:
    """Draw and fit Gaussians as `reconstruct_beam` does, and print what each stage has."""

    def say(cells: str) -> None:
        print(f"| {options.seed} {cells}", flush=True)

    voxels = Volume(coarse.voxels.numpy(), coarse.grid.index_to_world)
    say(f"| voxels {row(scene, on_box(voxels, scene.truth.box))}| {_held(scene, voxels)} | |")
    inner = cube(scene.truth.centre, options.box_mm, options.spacing_mm)
    began = time.process_time()
    cloud, count = drawing.draw_clouds(
        coarse.voxels, coarse.grid, inner, options.gaussians, coarse.lines.pixel_mm
    )
    drawn_s = time.process_time() - began
    volume = _of_cloud(scene, cloud)
    say(f"| drawn {row(scene, volume)}| {_held(scene, cloud)} | {drawn_s:.1f} |")
    shares = list(_SHARES)

    def told(share: float, so_far: Callable[[], GaussianCloud]) -> None:
        if shares and share >= shares[0]:
            say(f"| {100 * shares.pop(0):.0f} % {row(scene, _of_cloud(scene, so_far()))}| | |")

    began = time.process_time()
    fit = cloud_fit.fit_cloud(
        cloud,
        coarse.lines,
        cloud_fit.CoarseVoxels(coarse.voxels, coarse.grid, inner),
        options,
        DensityControl(options.gaussians - (len(cloud) - count)),
        report=told,
    )
    fitted_s = time.process_time() - began
    volume = _of_cloud(scene, fit.cloud)
    say(f"| fitted {row(scene, volume)}| {_held(scene, fit.cloud)} | {fitted_s:.0f} |")


def row(scene: Scene, volume: Array) -> str:
    """Attenuation, bone, attenuation of what is wide, and variation, of a volume on the box."""
    attenuation, bone = scene.truth.scores(volume)
    sigma = _WIDE_MM / scene.truth.box.spacing_mm
    both = (gaussian_filter(x, sigma).ravel() for x in (volume, scene.truth.attenuation))
    wide = float(np.corrcoef(*both)[0, 1])
    varies = float(volume.std() / volume.mean())
    return f"| {attenuation:.3f}, {bone:.3f} | {wide:.3f} | {varies:.3f} "


def _of_cloud(scene: Scene, cloud: GaussianCloud) -> Array:
    box = scene.truth.box
    return np.asarray(voxelize(cloud, box.index_to_world, box.size).cpu().numpy())


def _held(scene: Scene, made: Volume | GaussianCloud) -> str:
    figures = held_out_figures(rendered_of(made, scene.held), scene, False)
    return f"{figures['tissue_psnr_db']:.1f}, {figures['tissue_fitted_psnr_db']:.1f}"


if __name__ == "__main__":
    main()
