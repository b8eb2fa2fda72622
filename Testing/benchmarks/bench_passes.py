"""How far off a patient's RecM with landmarks is after each of its passes, no fit after them.

    python Testing/benchmarks/bench_passes.py MODEL.safetensors CASE.json [--pairs 96]
        [--centre-mm 8] [--seed 2000000]

MODEL may also be one of many vertebrae: its landmarks are then put on the CASE's, as a training
begins. New pairs of X-rays of that vertebra are simulated, none of which the training has used,
with the middle of the crop up to ``--centre-mm`` off (a click's error). A pass is two views through
the encoder; seconds are those of a pair alone on one thread, all passes so far, inputs in memory.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

from RadGSRegLib.cases import read_ct_case
from RadGSRegLib.networks import RadGSReg, load_model
from RadGSRegLib.system import one_torch_thread
from RadGSRegLib.training.config import TrainingConfig
from RadGSRegLib.training.losses import point_distance
from RadGSRegLib.training.patient import patient_model, patient_source
from RadGSRegLib.training.pool import stack_samples
from RadGSRegLib.training.samples import SampleOptions, draw_samples

_TOGETHER = 16


@one_torch_thread()
def rows(model: RadGSReg, case: Path, options: SampleOptions, seeds: range) -> list[list[str]]:
    """A row of the table per pass."""
    subject = patient_source(read_ct_case(case)).subject()
    if not model.is_patient_specific:
        asked = replace(TrainingConfig().for_patient(), model=model.config)
        model = patient_model(subject, asked, model).eval()
    points = torch.from_numpy(subject.surface_points_ct - subject.centre_ct).float()[::8]
    recm = model.recm
    config = recm.config
    off: list[list[torch.Tensor]] = [[] for _ in range(config.passes)]
    for first in range(0, len(seeds), _TOGETHER):
        some = list(seeds[first : first + _TOGETHER])
        pairs = draw_samples([subject] * len(some), options, some)
        batch, _, truth = stack_samples(pairs, config.pixel_mm, None)
        for number, each in enumerate(recm.predict(batch).passes):
            off[number].append(point_distance(points, truth, each.poses))
    alone = batch.case(0)
    table = []
    for number, parts in enumerate(off):
        error = torch.cat(parts)
        recm.config = replace(config, passes=number + 1)
        recm.predict(alone)
        began = time.perf_counter()
        for _ in range(5):
            recm.predict(alone)
        seconds = (time.perf_counter() - began) / 5
        figures = (error.median(), error.mean(), error.quantile(0.9))
        shares = [100.0 * (error < limit).float().mean() for limit in (1.14, 2.0)]
        shown = [f"{float(value):.2f}" for value in figures]
        table.append([str(number + 1), *shown, *(f"{s:.0f} %" for s in shares), f"{seconds:.3f}"])
    recm.config = config
    return table


def main() -> None:
    """Measure a model and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("case", type=Path)
    parser.add_argument("--pairs", type=int, default=96)
    parser.add_argument("--centre-mm", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=2_000_000)
    asked = parser.parse_args()
    model = load_model(asked.model)
    if not model.config.recm.landmarks:
        parser.error(f"{asked.model} looks for no landmarks")
    config = model.config.recm
    # Pairs are simulated at pixels of a millimetre, as in training.
    factor = max(1, int(config.pixel_mm))
    options = SampleOptions(size_px=config.size_px * factor, pixel_mm=config.pixel_mm / factor)
    options = replace(options, centre_mm=asked.centre_mm)
    print("| passes | median mm | mean mm | 90 % mm | under 1.14 mm | under 2 mm | s |")
    print("|" + " --- |" * 7)
    for row in rows(model, asked.case, options, range(asked.seed, asked.seed + asked.pairs)):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
