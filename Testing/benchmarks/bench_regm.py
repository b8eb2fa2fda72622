"""What RegM learns from CT pairs with each encoder and head: phantoms, the same steps for each.

    python Testing/benchmarks/bench_regm.py --steps 600 --heads displacement pose --encoders small

Cubes of 32 voxels of 3 mm around lumbar vertebrae of phantoms, moved by random poses (20 degrees
and --shift mm along each axis, `CtPairs`). Trains with the losses of the RegM phase (eq. 3 for
--compared cases of a batch of 8, and what simulation adds), then measures pairs of spines that were
not trained on: the mean distance of surface points, after one pass and after three. Prints a table
in Markdown; the time of a step is a ratio to the first row's.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from RadGSRegLib.networks import ModelConfig, RadGSReg, RegMConfig, excess_cube, move_volume
from RadGSRegLib.phantom import LABELS, make_phantom, random_spine
from RadGSRegLib.training.ct_pairs import CtPairs
from RadGSRegLib.training.losses import ExtraWeights, point_distance
from RadGSRegLib.training.objective import Objective
from RadGSRegLib.training.pool import Batch
from RadGSRegLib.training.subjects import make_subject

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import network_scenes as scenes

CONFIG = RegMConfig(voxels=32, box_mm=96.0)
LEVELS = ("L1", "L2", "L3", "L4", "L5")


def vertebrae(spines: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cubes (N, K, J, I) and surface points (N, 64, 3) of all lumbar vertebrae of phantoms."""
    cubes, points = [], []
    for n in range(spines):
        phantom = make_phantom(random_spine(seed + n), 2.0, list(LEVELS))
        for level in LEVELS:
            subject = make_subject(phantom.ct, phantom.labels, LABELS[level])
            cubes.append(excess_cube(subject.excess, subject.centre_ct, CONFIG))
            surface = subject.surface_points_ct - subject.centre_ct
            points.append(torch.from_numpy(surface[np.linspace(0, 499, 64).astype(int)]).float())
    return torch.stack(cubes), torch.stack(points)


def batch_of(cubes: torch.Tensor, points: torch.Tensor, chosen: torch.Tensor) -> Batch:
    """A batch for RegM alone, which asks for no X-rays."""
    eye = torch.eye(4).repeat(len(chosen), 1, 1)
    views = scenes.rendered_batch(scenes.lopsided_cloud())
    return Batch(views, torch.ones(len(chosen), 2, 32, 32), eye, eye, points[chosen], cubes[chosen])


def rate_at(step: int, steps: int, rate: float) -> float:
    """A warm-up, then a cosine to nearly zero, as `Trainer` has it."""
    return rate * min(1.0, (step + 1) / 30) * (0.51 + 0.5 * np.cos(np.pi * step / steps))


def train(config: RegMConfig, data: tuple[torch.Tensor, torch.Tensor], args) -> tuple:
    """The network, and its CPU seconds per step."""
    torch.manual_seed(args.seed)
    model = RadGSReg(ModelConfig(scenes.TINY.recm, config), scenes.lopsided_cloud())
    objective = Objective(model, ExtraWeights(), ct_pairs=CtPairs(20.0, args.shift)).train()
    model.recm.generator = torch.Generator().manual_seed(args.seed)
    optimizer = torch.optim.Adam(model.regm.parameters(), lr=args.rate)
    began = time.process_time()
    for step in range(args.steps):
        chosen = torch.randint(len(data[0]), (8,), generator=model.recm.generator)
        loss = objective(batch_of(*data, chosen), "regm", args.compared)["loss"]
        optimizer.param_groups[0]["lr"] = rate_at(step, args.steps, args.rate)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.regm.parameters(), 1.0)
        optimizer.step()
    return model.regm.eval(), (time.process_time() - began) / args.steps


@torch.no_grad()
def measure(regm, data: tuple[torch.Tensor, torch.Tensor], shift: float) -> list[torch.Tensor]:
    """Errors (mm) before, after one pass and after three, one number per pair."""
    generator = torch.Generator().manual_seed(77)
    chosen = torch.arange(len(data[0])).repeat(4)
    batch = batch_of(*data, chosen)
    truth = CtPairs(20.0, shift).draw(batch.points, CONFIG.box_mm, generator)
    moved = move_volume(batch.ct, truth, CONFIG.box_mm)
    poses = [torch.eye(4).repeat(len(chosen), 1, 1)]
    poses += [regm(moved, batch.ct, passes=passes) for passes in (1, 3)]
    return [point_distance(batch.points, truth, p) for p in poses]


def main() -> None:
    """Train and measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--shift", type=float, default=13.0)
    parser.add_argument("--compared", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoders", nargs="+", default=["small"])
    parser.add_argument("--heads", nargs="+", default=["displacement", "pose"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    known, new = vertebrae(8, 7000), vertebrae(4, 7900)
    print("| encoder, head | before, mm | one pass | three passes | below 2 mm | step |")
    print("| --- | --- | --- | --- | --- | --- |")
    first = 0.0
    for encoder in args.encoders:
        for head in args.heads:
            regm, seconds = train(replace(CONFIG, encoder=encoder, head=head), known, args)
            first = first or seconds
            errors = measure(regm, new, args.shift)
            cells = " | ".join(f"{float(e.median()):.2f}" for e in errors)
            below = 100.0 * float((errors[-1] < 2.0).float().mean())
            print(f"| {encoder}, {head} | {cells} | {below:.0f} % | {seconds / first:.1f} |")


if __name__ == "__main__":
    main()
