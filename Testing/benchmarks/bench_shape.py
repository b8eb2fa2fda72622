"""Does a patient's reconstruction show a shape that the CT did not have?

    python Testing/benchmarks/bench_shape.py MODEL.safetensors CASE.json [--bent-mm 3] [--shapes 8]
        [--pairs 4]

The vertebra of the CASE's CT is deformed (smoothly, by ``--bent-mm`` of its surface, root mean
square, after the best rigid motion), as after an operation or a fracture; no training has used
these deformations. X-rays of it are simulated, RecM reconstructs, and the volume is compared with
that of the deformed vertebra and with that of the CT, each where it truly is: mean absolute
difference as a share of the vertebra's own. Beside it, how far Gaussians are from where the
deformation took them, and how far anchors are that stay as they were.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from RadGSRegLib.cases import read_ct_case
from RadGSRegLib.networks import RadGSReg, excess_cube, load_model, move_volume
from RadGSRegLib.system import one_torch_thread
from RadGSRegLib.training.deformed import Deformed
from RadGSRegLib.training.losses import volume_l1
from RadGSRegLib.training.own import anchor_offsets
from RadGSRegLib.training.patient import patient_source
from RadGSRegLib.training.pool import Source, stack_samples
from RadGSRegLib.training.samples import SampleOptions, draw_samples

# Far from those that a training counts from.
_FIRST = 3 * 10**6
COLUMNS = ("shape", "off from deformed", "off from CT", "nearer to", "Gaussians mm", "anchors mm")


def bent_by(source: Source, seed: int, bent_mm: float) -> Deformed:
    """The deformation of a seed, as strong as is asked for."""
    before = source.subject()
    points = before.surface_points_ct - before.centre_ct
    shift_mm = 5.0
    for _ in range(4):
        subject = Deformed(source, seed, shift_mm=shift_mm).subject()
        assert subject.undeformed_to_centred is not None
        axes = np.asarray(subject.anchors_to_centred)
        away = subject.undeformed_to_centred(points) - (points @ axes[:3, :3].T + axes[:3, 3])
        shift_mm *= bent_mm / float(np.sqrt((away**2).sum(1).mean()))
    return Deformed(source, seed, shift_mm=shift_mm)


@one_torch_thread()
def rows(model: RadGSReg, case: Path, shapes: int, pairs: int, bent_mm: float) -> list[list[str]]:
    """A row of the table for each shape."""
    recm, regm = model.recm, model.config.regm
    config = recm.config
    factor = max(1, int(config.pixel_mm))
    options = SampleOptions(size_px=config.size_px * factor, pixel_mm=config.pixel_mm / factor)
    source = patient_source(read_ct_case(case))
    own = source.subject()
    table = []
    for number in range(shapes):
        subject = bent_by(source, _FIRST + number, bent_mm).subject()
        seeds = [_FIRST + 100 * number + n for n in range(pairs)]
        samples = draw_samples([subject] * pairs, options, seeds)
        batch, _, truth = stack_samples(samples, config.pixel_mm, None)
        effect = recm.predict(batch).effect
        volumes = model.voxelize(recm.clouds(effect))
        axes = torch.from_numpy(np.asarray(subject.anchors_to_centred)).float()
        cubes = {
            "deformed": (excess_cube(subject.excess, subject.centre_ct, regm), truth),
            "CT": (excess_cube(own.excess, own.centre_ct, regm), truth @ axes),
        }
        off = {}
        for name, (cube, poses) in cubes.items():
            there = move_volume(cube.expand(pairs, *cube.shape), poses, regm.box_mm)
            parts = zip(volumes, there, strict=True)
            off[name] = float(np.mean([float(volume_l1(v[None], t[None])) for v, t in parts]))
        wanted = anchor_offsets(subject, recm.anchors.cloud())
        moved = recm.anchors.offsets(effect.raw)
        errors = (moved - wanted).norm(dim=-1).mean(), wanted.norm(dim=-1).mean()
        figures = [f"{value:.3f}" for value in off.values()]
        nearer = min(off, key=lambda name: off[name])
        table.append([str(number), *figures, nearer, *(f"{float(e):.2f}" for e in errors)])
    return table


def main() -> None:
    """Measure a model and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("case", type=Path)
    parser.add_argument("--bent-mm", type=float, default=3.0)
    parser.add_argument("--shapes", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=4)
    asked = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + " --- |" * len(COLUMNS))
    model = load_model(asked.model)
    for row in rows(model, asked.case, asked.shapes, asked.pairs, asked.bent_mm):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
