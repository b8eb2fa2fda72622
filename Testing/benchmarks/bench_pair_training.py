"""Whether pairs that are simulated together train as well as those of the full simulator.

    python Testing/benchmarks/bench_pair_training.py [--steps 300] [--seeds 0 1]

A patient's model is trained from scratch, once on each kind of pairs, from the same weights, with
the same numbers of pairs. Both are measured on the same held-out pairs of the full simulator: the
loss that is trained on, and how far off poses are.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch

from RadGSRegLib.phantom import LABELS, make_phantom, random_spine
from RadGSRegLib.system import one_torch_thread
from RadGSRegLib.training.config import TrainingConfig
from RadGSRegLib.training.patient import patient_model
from RadGSRegLib.training.pool import VALIDATION, SamplePool, Simulated
from RadGSRegLib.training.samples import Sample, SampleOptions, simulate_fully
from RadGSRegLib.training.subjects import Subject, make_subject
from RadGSRegLib.training.trainer import Trainer


class InFull(Simulated):
    """A source whose pairs are the full simulator's."""

    def sample(self, subject: Subject, options: SampleOptions, seed: int) -> Sample:
        """Return a pair; the same seed gives the same."""
        return simulate_fully(subject, options, seed)


def held_out_loss(trainer: Trainer, unseen: SamplePool, count: int) -> float:
    """The mean loss of RecM's phase over held-out pairs, not moved and not rendered."""
    trainer.model.eval()
    losses = []
    for first in range(0, count, 8):
        numbers = [VALIDATION + n for n in range(first, min(first + 8, count))]
        batch = trainer._batch(numbers, None, unseen)
        trainer.model.recm.generator = torch.Generator().manual_seed(first)
        with torch.no_grad():
            losses.append(float(trainer.objective(batch, "recm", 0)["loss"]))
    return float(np.mean(losses))


def train(subject: Subject, kind: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Train once; what is measured on held-out pairs at the end."""
    config = replace(
        TrainingConfig().for_patient(),
        seed=seed,
        steps=args.steps,
        batch=8,
        pairs=args.pairs,
        first_pairs=args.pairs,
        validate=args.held,
        validate_every=args.steps,
        gaussians=200,
        final_gaussians=200,
    )
    full = InFull("phantom", lambda wide: subject, simulated=False)
    together = Simulated("phantom", lambda wide: subject)
    pool = SamplePool([together if kind == "batch" else full], config.samples, seed, None)
    unseen = SamplePool([full], config.samples, 999, None)
    torch.manual_seed(seed)
    model = patient_model(subject, config)
    trainer = Trainer(model, pool, replace(config, model=model.config), unseen=unseen)
    before = held_out_loss(trainer, unseen, args.held)
    entry = trainer.run().entries[-1]
    return {
        "loss before": before,
        "loss": held_out_loss(trainer, unseen, args.held),
        "recm_mm": entry["recm_mm"],
        "regm_mm": entry["regm_mm"],
    }


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=96)
    parser.add_argument("--held", type=int, default=24)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    args = parser.parse_args()
    phantom = make_phantom(random_spine(5), 2.0, "L3")
    subject = make_subject(phantom.ct, phantom.labels, LABELS["L3"])
    print("| pairs | seed | loss before | loss | RecM, mm | RegM, mm |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    with one_torch_thread():
        for seed in args.seeds:
            for kind in ("full", "batch"):
                got = train(subject, kind, seed, args)
                cells = " | ".join(f"{value:.3f}" for value in got.values())
                print(f"| {kind} | {seed} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
