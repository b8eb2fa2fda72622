"""With which first rate the published settings learn: RecM and RegM alone, a few dozen steps.

    python Testing/benchmarks/bench_paper_rates.py --steps 90 --held 8

The settings of `TrainingConfig.paper`, smaller: encoder "small", crops of 64 px of 2 mm, cubes of
32 voxels, a grid of 10^3 Gaussians; batches of 8, eq. 2 and 3 alone. One phantom's vertebra. Trains
RecM and RegM by turns from the same weights with each rate and prints the loss of held-out pairs
before and after, with the attenuation that RecM's volumes hold, as a share of the true ones', and
the error of RegM, as a table in Markdown. ``--even``: a grid that is as dense everywhere.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

from RadGSRegLib.networks import RadGSReg, grid_cloud, move_volume, nearest_grid
from RadGSRegLib.phantom import LABELS, make_phantom, random_spine
from RadGSRegLib.training.config import PhaseShares, TrainingConfig
from RadGSRegLib.training.pool import VALIDATION, SamplePool, Simulated
from RadGSRegLib.training.subjects import Subject, make_subject
from RadGSRegLib.training.trainer import Trainer


def small_paper(encoder: str = "small", **changes: object) -> TrainingConfig:
    """The paper's settings for a CPU."""
    paper = TrainingConfig.paper(encoder)
    recm = replace(paper.model.recm, size_px=64, pixel_mm=2.0)
    regm = replace(paper.model.regm, voxels=32)
    model = replace(paper.model, recm=recm, regm=regm, detector=None)
    return replace(paper, model=model, gaussians=1000, **changes)  # type: ignore[arg-type]


@torch.no_grad()
def held_out(trainer: Trainer, phase: str, count: int) -> dict[str, float]:
    """The terms of held-out pairs, every case rendered; the same random numbers every time."""
    batch = trainer._batch([VALIDATION + n for n in range(count)], None)
    trainer.model.recm.generator = torch.Generator().manual_seed(7)
    trainer.objective.eval()
    terms = trainer.objective(batch, phase, count)
    trainer.objective.train()
    measured = {name: float(value) for name, value in terms.items()}
    prediction = trainer.model.recm.predict(batch.views)
    volumes = trainer.model.voxelize(trainer.model.recm.clouds(prediction.effect))
    true = move_volume(batch.ct, batch.centred_to_box, trainer.model.config.regm.box_mm)
    return {**measured, "mass": float(volumes.sum() / true.sum())}


def learn(
    subject: Subject, pool: SamplePool, phase: str, rate: float, args: argparse.Namespace
) -> str:
    """A row of the table."""
    shares = PhaseShares(*(float(name == phase) for name in ("recm", "regm", "joint")))
    config = small_paper(
        args.encoder,
        steps=args.steps,
        halve_every=max(args.steps // 6, 1),
        shares=shares,
        rate=rate,
        pairs=args.pairs,
        first_pairs=args.pairs,
        validate=1,
        validate_every=10 * args.steps,
    )
    torch.manual_seed(0)
    grid = grid_cloud(10) if args.even else nearest_grid(config.gaussians)
    model = RadGSReg(config.model, grid)
    trainer = Trainer(model, pool, config)
    before = held_out(trainer, phase, args.held)
    trainer.run()
    after = held_out(trainer, phase, args.held)
    cells = [{"recm": "RecM", "regm": "RegM"}[phase], f"{rate:g}"]
    cells += [f"{terms['loss']:.3f}" for terms in (before, after)]
    name, digits = ("mass", 2) if phase == "recm" else ("registered_mm", 1)
    cells += [f"{terms[name]:.{digits}f}" for terms in (before, after)]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--held", type=int, default=16)
    parser.add_argument("--encoder", default="small")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1, 0.01, 0.001, 0.0001])
    parser.add_argument("--phases", nargs="+", default=["recm", "regm"], choices=["recm", "regm"])
    parser.add_argument("--even", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    phantom = make_phantom(random_spine(5), 3.0, "L3")
    subject = make_subject(phantom.ct, phantom.labels, LABELS["L3"], "phantom")
    pool = SamplePool([Simulated("phantom", lambda wide: subject)], small_paper().samples, 0, None)
    print("| network | first rate | loss before | after | share or mm before | after |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for phase in args.phases:
        for rate in args.rates:
            print(learn(subject, pool, phase, rate, args), flush=True)


if __name__ == "__main__":
    main()
