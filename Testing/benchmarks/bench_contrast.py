"""What the contrast of details makes of unknown displays (`contrast_of_details`), before and after.

    python Testing/benchmarks/bench_contrast.py --views 40 --seeds 80210,80211

Simulates the X-rays of `bench_beam` and takes its first steps, up to the bend. A row has, of one
seed before and after: by how much line integrals are wrong in standard deviations of the true ones
(RMS, 60 keV; with the best gain and offset of all views, and with those of each), and attenuation
and bone as `bench_beam` has them, of voxels of 8 mm and of 4 mm.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import bench_beam
from beam_methods import with_gain_and_offset
from beam_scene import Patient, Scene, on_box, true_lines
from contrast_of_details import match_contrast
from torch import Tensor

from RadGSRegLib.geometry import Volume
from RadGSRegLib.reconstruction import Deadline
from RadGSRegLib.simulation import SimulationParameters
from RadGSRegLib.system import Progress, one_torch_thread
from RadGSRegLib.tomography import coarse as steps
from RadGSRegLib.tomography.beams import Beams, whole_beams
from RadGSRegLib.tomography.bend import bend_display
from RadGSRegLib.tomography.watch import Watch
from RadGSRegLib.views import prepare_views

DATA = Path(os.environ.get("RADGSREG_DATA", "../shared/data"))


def main() -> None:
    """Print two rows a seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--views", type=int, default=40)
    parser.add_argument("--seeds", default="80210")
    args = parser.parse_args()
    ct, labels = (DATA / f"ct/lumbar3mm_{name}.nii.gz" for name in ("ct", "vertebrae"))
    patient = Patient.read(ct, labels, 29, False)
    print("| seed | | wrong: all, each view | 8 mm: attenuation, bone | 4 mm | s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for seed in args.seeds.split(","):
        with one_torch_thread():
            _run(patient, int(seed), args.views)


def _run(patient: Patient, seed: int, count: int) -> None:
    given = bench_beam.arguments(["--cases", "realistic"])
    scene = bench_beam.scene_of(given, patient, "realistic", seed)
    views, centre = scene.spread(count), scene.truth.centre
    parameters = SimulationParameters.preset("realistic").with_field(given.field_mm, given.pixels)
    drawn = replace(
        parameters,
        path=given.path,
        views=given.pool + given.held_out,
        vertebra_deg=0.0,
        vertebra_mm=0.0,
    )
    exact, _ = true_lines(patient, drawn, seed, [view.camera for view in views])
    right = [
        replace(view, pixels=lines.numpy(), intensity="attenuation")
        for view, lines in zip(views, exact, strict=True)
    ]
    beams, true = (whole_beams(prepare_views(v), centre, given.pixels) for v in (views, right))
    until, report = Deadline(None), Progress()
    now = steps._coarsest(beams, centre, report, until)
    now = steps._refined(now, steps._COARSE, centre, report, until)
    few, watch = now.lines.thinned(steps._COARSE.factor), Watch(report, "")
    penalty = steps._penalty(few, steps._COARSE)
    assert now.display is not None
    display, voxels = now.display, now.voxels
    for name, step in (("bent", bend_display), ("contrast", match_contrast)):
        began = time.process_time()
        display, voxels = step(few, now.grid, voxels, display, penalty, watch)
        used = time.process_time() - began
        now = replace(now, display=display, voxels=voxels)
        lines = steps.as_lines(few, display, steps._matrix(few, now.grid).forward(voxels))
        wrong = _wrong(lines, true.thinned(steps._COARSE.factor).values)
        fine = steps._refined(now, steps._FINE, centre, report, until)
        of_both = " | ".join(_scores(scene, each) for each in (now, fine))
        print(f"| {seed} | {name} | {wrong} | {of_both} | {used:.0f} |", flush=True)


def _wrong(lines: Beams, true: Tensor) -> str:
    shown = lines.weight > 0.0
    spread = true[shown].std()
    of_all = with_gain_and_offset(lines.values[shown], true[shown])
    of_each = [
        with_gain_and_offset(values[here], exact[here]) - exact[here]
        for values, exact, here in zip(lines.values, true, shown, strict=True)
    ]
    squares = sum(float(off.square().sum()) for off in of_each) / float(shown.sum())
    every = (of_all - true[shown]).square().mean().sqrt() / spread
    return f"{float(every):.3f}, {squares**0.5 / float(spread):.3f}"


def _scores(scene: Scene, coarse: steps.Coarse) -> str:
    volume = Volume(coarse.voxels.numpy(), coarse.grid.index_to_world)
    attenuation, bone = scene.truth.scores(on_box(volume, scene.truth.box))
    return f"{attenuation:.3f}, {bone:.3f}"


if __name__ == "__main__":
    main()
