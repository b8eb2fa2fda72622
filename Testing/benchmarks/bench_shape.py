"""Does a patient's reconstruction show a shape that the CT did not have?

    python Testing/benchmarks/bench_shape.py MODEL.safetensors CASE.json [--bent-mm 3] [--shapes 8]
        [--pairs 4] [--first 3000000] [--no-fit]

The vertebra of the CASE's CT is deformed (smoothly, by ``--bent-mm`` of its surface, root mean
square, after the best rigid motion), as after an operation or a fracture; no training has used
these deformations. X-rays of it are simulated, the vertebra is reconstructed from them and clicks
alone (RecM, moved and bent to the X-rays unless ``--no-fit``), and its volume is compared with that
of the deformed vertebra and with that of the CT, each where it truly is: mean absolute difference
as a share of the vertebra's own. Beside it how far Gaussians are from where the deformation took
them, how far those of the CT would be, the change that the reconstruction reports, and how far off
the pose is. The last row is the vertebra as it is, in as many pairs as all others together; with
``--bent-mm 0`` it is the only one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from RadGSRegLib.cases import View, read_ct_case
from RadGSRegLib.gaussians import GaussianCloud
from RadGSRegLib.geometry import Camera, invert_rigid
from RadGSRegLib.networks import (
    RadGSReg,
    bounds,
    excess_cube,
    load_model,
    move_volume,
    project,
    see,
)
from RadGSRegLib.tensors import applied
from RadGSRegLib.training.deformed import Deformed
from RadGSRegLib.training.losses import point_distance, volume_l1
from RadGSRegLib.training.patient import patient_source
from RadGSRegLib.training.pool import Source
from RadGSRegLib.training.samples import Sample, SampleOptions, draw_samples
from RadGSRegLib.training.subjects import Subject

COLUMNS = (
    "shape",
    "off from deformed",
    "off from CT",
    "nearer to deformed",
    "Gaussians mm",
    "CT's mm",
    "change mm",
    "changed",
    "pose mm",
)


class Row(NamedTuple):
    """One pair: relative volume errors, mm, and whether a change is reported."""

    off_deformed: float
    off_ct: float
    gaussians_mm: float
    ct_mm: float
    change_mm: float
    pose_mm: float


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


def anchor_offsets(subject: Subject, anchors: GaussianCloud) -> torch.Tensor:
    """Return how far a deformation took a subject from each of a patient's anchors (N, 3), mm in
    the anchors' axes, float32: zeros for a subject that is none."""
    means = anchors.means.detach().to("cpu", torch.float64)
    if subject.undeformed_to_centred is None:
        return torch.zeros(means.shape)
    points_centred = torch.from_numpy(subject.undeformed_to_centred(means.numpy()))
    centred_to_anchors = torch.from_numpy(invert_rigid(subject.anchors_to_centred))
    return (applied(centred_to_anchors, points_centred) - means).float()


def xrays(sample: Sample) -> list[View]:
    """A pair as X-rays in the box's frame, with the clicks at the boxes' middle."""
    middle = project(torch.zeros(1, 1, 3), sample.intrinsics[None], sample.extrinsics[None])
    size = (sample.images.shape[-1], sample.images.shape[-2])
    views = []
    for n, image in enumerate(sample.images):
        parts = (sample.intrinsics[n].double().numpy(), sample.extrinsics[n].double().numpy())
        u, v = middle[0, n, 0].tolist()
        camera = Camera(*parts, *size)
        views.append(View(f"view {n}", image.numpy(), camera, (1.0, 1.0), center_px=(u, v)))
    return views


def measured(
    model: RadGSReg, subject: Subject, own: Subject, samples: list[Sample], fit: bool
) -> list[Row]:
    """What reconstructions of a subject's pairs are like; ``own``: the vertebra as the CT has
    it."""
    regm, anchors = model.config.regm, model.recm.anchors
    axes = torch.from_numpy(np.asarray(subject.anchors_to_centred)).float()
    deformed, ct = (excess_cube(s.excess, s.centre_ct, regm)[None] for s in (subject, own))
    wanted = anchor_offsets(subject, anchors.cloud())
    points = torch.from_numpy(own.surface_points_ct - own.centre_ct).float()
    rows = []
    for sample in samples:
        seen = see(xrays(sample), model, fit=fit)
        volume = model.voxelize([seen.cloud_world])
        truth = sample.centred_to_box[None]
        there = [(deformed, truth), (ct, truth @ axes)]
        off = [float(volume_l1(volume, move_volume(v, p, regm.box_mm))) for v, p in there]
        effect = seen.prediction.effect
        moved = anchors.offsets(effect.raw)[0]
        errors = [float((w - wanted).norm(dim=-1).mean()) for w in (moved, torch.zeros_like(moved))]
        pose = torch.from_numpy(seen.frame.box_to_world).float() @ effect.poses
        apart = float(point_distance(points, truth @ axes, pose))
        rows.append(Row(*off, *errors, seen.change_mm or 0.0, apart))
    return rows


def shown(name: str, rows: list[Row]) -> str:
    """A row of the table."""
    mean = Row(*np.mean(rows, axis=0))
    changed = sum(row.change_mm >= bounds.LEAST_CHANGE_MM for row in rows)
    nearer = sum(row.off_deformed < row.off_ct for row in rows)
    volumes = f"{mean.off_deformed:.3f} | {mean.off_ct:.3f} | {nearer} of {len(rows)}"
    lengths = f"{mean.gaussians_mm:.2f} | {mean.ct_mm:.2f} | {mean.change_mm:.2f}"
    return f"| {name} | {volumes} | {lengths} | {changed} of {len(rows)} | {mean.pose_mm:.2f} |"


def main() -> None:
    """Measure a model and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("case", type=Path)
    parser.add_argument("--bent-mm", type=float, default=3.0)
    parser.add_argument("--shapes", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=4)
    # Far from those that a training counts from.
    parser.add_argument("--first", type=int, default=3 * 10**6)
    parser.add_argument("--no-fit", action="store_true", help="RecM's answer as it is")
    asked = parser.parse_args()
    model = load_model(asked.model)
    config = model.config.recm
    factor = max(1, int(config.pixel_mm))
    options = SampleOptions(size_px=config.size_px * factor, pixel_mm=config.pixel_mm / factor)
    source = patient_source(read_ct_case(asked.case))
    own = source.subject()
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + " --- |" * len(COLUMNS))
    every: list[list[Row]] = []

    def measure(name: str, subject: Subject, count: int, number: int) -> None:
        seeds = [asked.first + 100 * number + n for n in range(count)]
        samples = draw_samples([subject] * count, options, seeds)
        every.append(measured(model, subject, own, samples, not asked.no_fit))
        print(shown(name, every[-1]), flush=True)

    shapes = asked.shapes if asked.bent_mm > 0 else 0
    for number in range(shapes):
        bent = bent_by(source, asked.first + number, asked.bent_mm).subject()
        measure(str(number), bent, asked.pairs, number)
    if every:
        print(shown("all", [row for rows in every for row in rows]))
        means = [Row(*np.mean(rows, axis=0)) for rows in every]
        nearer = sum(mean.off_deformed < mean.off_ct for mean in means)
    measure("as it is", own, asked.shapes * asked.pairs, shapes)
    if shapes:
        print(f"\nnearer to the deformed vertebra in {nearer} of {shapes} shapes")


if __name__ == "__main__":
    main()
