"""Volumes from few X-rays, from scratch and guided by the shape of another CT.

    python Testing/benchmarks/bench_shape_guided.py --views 5,10 --guide phantom:2
    python Testing/benchmarks/bench_shape_guided.py --only-label --label 22 --field-mm 125 \
        --ct ../shared/data/ct/l3_ct.nii.gz --labels ../shared/data/ct/l3_vertebrae.nii.gz \
        --guide phantom:2 --guide ../shared/data/ct/lumbar3mm:29 --guide phantom:2:over

Simulates X-rays of a CT and compares with it, as bench_beam.py does (X-rays held out choose
nothing), without a guide and with each of some: ``phantom:SEED``, a phantom's trunk, or L3 where
``--only-label``; or ``STEM:LABEL``, the files STEM_ct.nii.gz and STEM_vertebrae.nii.gz, of which
that label is left where ``--only-label``. ``:over`` behind it turns it upside down, ``:whole`` and
``:bone`` take the trunk and the bone whatever the X-rays show. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from beam_methods import held_out_figures, rendered_of
from beam_scene import Patient, simulate_scene
from bench_beam import DATA

from RadGSRegLib.cases import read_ct, read_segmentation
from RadGSRegLib.gaussians import voxelize
from RadGSRegLib.geometry import Volume
from RadGSRegLib.phantom import LABELS, make_phantom, random_spine, region_box
from RadGSRegLib.simulation import SimulationParameters
from RadGSRegLib.tomography import BeamOptions, ShapeGuide, reconstruct_beam

# A trunk with air around it, mm beyond the box of the lumbar spine or about its middle.
_HALF_WIDTH, _FRONT, _BACK, _ABOVE = 190.0, 200.0, 130.0, 70.0


def alone(ct: Volume, labels: Volume, label: int) -> Volume:
    """The bone of a label in air."""
    inside = labels.array == label
    return ct.with_array(np.where(inside, ct.array, -1024).astype(ct.array.dtype))


def phantom(seed: int, bone: bool) -> Volume:
    """A phantom's L3 in air at 1.5 mm, or its trunk at 3 mm."""
    anatomy = random_spine(seed)
    if bone:
        built = make_phantom(anatomy, 1.5)
        return alone(built.ct, built.labels, LABELS["L3"])
    lower, upper = region_box(anatomy, "lumbar")
    middle = 0.5 * (lower + upper)
    low = np.array([middle[0] - _HALF_WIDTH, middle[1] - _FRONT, lower[2] - _ABOVE])
    high = np.array([middle[0] + _HALF_WIDTH, middle[1] + _BACK, upper[2] + _ABOVE])
    return make_phantom(anatomy, 3.0, (low, high), thoracic=3).ct


def guide_of(name: str, bone: bool) -> ShapeGuide:
    """The guide that an argument names."""
    first, second, *more = name.split(":")
    bone = {"whole": False, "bone": True}.get(more[-1] if more else "", bone)
    if first == "phantom":
        ct = phantom(int(second), bone)
    else:
        ct = read_ct(Path(f"{first}_ct.nii.gz"))
        if bone:
            segments = read_segmentation(Path(f"{first}_vertebrae.nii.gz"))
            labels = Volume(segments.array[0], segments.index_to_physical)
            ct = alone(ct, labels, int(second))
    if "over" in more:
        turned = np.diag([-1.0, 1.0, -1.0, 1.0]) @ ct.index_to_physical
        ct = Volume(ct.array, turned)
    return ShapeGuide(ct)


def main() -> None:
    """Run all numbers of views without and with the guides, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ct", type=Path, default=DATA / "ct/lumbar3mm_ct.nii.gz")
    parser.add_argument("--labels", type=Path, default=DATA / "ct/lumbar3mm_vertebrae.nii.gz")
    parser.add_argument("--label", type=int, default=29)
    parser.add_argument("--only-label", action="store_true", help="the vertebra by itself, in air")
    parser.add_argument("--guide", action="append", default=[])
    parser.add_argument("--realism", default="clean")
    parser.add_argument("--views", default="5")
    parser.add_argument("--held-out", type=int, default=10)
    parser.add_argument("--field-mm", type=float, default=250.0)
    parser.add_argument("--pixels", type=int, default=96)
    parser.add_argument("--seed", type=int, default=80000)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--gaussians", type=int, default=20000)
    args = parser.parse_args()
    counts = [int(n) for n in args.views.split(",")]

    patient = Patient.read(args.ct, args.labels, args.label, args.only_label)
    parameters = SimulationParameters.preset(args.realism).with_field(args.field_mm, args.pixels)
    number = max(counts) + args.held_out
    parameters = replace(parameters, path="arbitrary", views=number)
    scene = simulate_scene(patient, parameters, args.held_out, args.seed)
    options = BeamOptions(
        steps=args.steps,
        spacing_mm=2.0,
        seed=args.seed,
        pixels=args.pixels,
        gaussians=args.gaussians,
    )
    print(f"{args.realism}, {args.field_mm:g} mm, {args.pixels} px, seed {args.seed}")
    print(
        "| views | guide | prior | PSNR | SSIM | attenuation | bone "
        "| predicts: with, without | bent: median, 95 % | s |"
    )
    print("|" + " --- |" * 10, flush=True)
    for count in counts:
        for name in ("", *args.guide):
            shape = guide_of(name, args.only_label) if name else None
            began = time.process_time()
            done = reconstruct_beam(
                scene.spread(count),
                centre_world=scene.truth.centre,
                options=options,
                shape=shape,
            )
            seconds = time.process_time() - began
            box = scene.truth.box
            grid = voxelize(done.cloud, box.index_to_world, box.size).cpu().numpy()
            attenuation, bone = scene.truth.scores(grid)
            held = held_out_figures(rendered_of(done.cloud, scene.held), scene, False)
            q = done.quality
            said = q.get("shape", {})
            shares = [said.get(key) for key in ("predicts_db", "predicts_without_db")]
            bent = said.get("bent_mm", {}).values()
            cells = [
                str(count),
                Path(name).name or "none",
                q["prior"],
                f"{held['tissue_psnr_db']:.1f}",
                f"{held['tissue_ssim']:.3f}",
                f"{attenuation:.3f}",
                f"{bone:.3f}",
                ", ".join(f"{x:.1f}" for x in shares if x is not None),
                ", ".join(f"{x:.1f}" for x in bent),
                f"{seconds:.0f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
