"""What counterfactual attention, the synergistic phase, the stages and the encoders bring.

    python Testing/benchmarks/bench_ablations.py CASE.json --steps 1500 --seeds 2 --work DIR

Trains a patient-specific model for each variant with the same number of steps on the same simulated
X-rays, then measures all of them on the same held-out pairs: the networks alone, before anything is
fitted to the X-rays. "all" is the whole method; each other variant differs from it in one thing:

- no CAL: without the counterfactual, the head's factual output is the answer;
- no synergy: the joint phase's share goes to RecM and RegM alone, in their proportion;
- resnet50, densenet121, vit12: another encoder;
- BASE (with --base NAME=PATH): networks that go on from a model, as stage 3 does after 1 or 1+2.

Prints a table in Markdown: medians, Wilcoxon's signed-rank test against "all" pair by pair, seconds
per step. Everything trained is kept in --work, and is not trained again: a folder is for one case.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from RadGSRegLib.cases import read_ct_case
from RadGSRegLib.geometry import translation
from RadGSRegLib.measures import reconstruction_quality
from RadGSRegLib.networks import RadGSReg, load_model
from RadGSRegLib.networks.cubes import excess_cube
from RadGSRegLib.reconstruction import box_of_cloud
from RadGSRegLib.reproduction import ABLATIONS
from RadGSRegLib.training.config import TrainingConfig
from RadGSRegLib.training.losses import point_distance
from RadGSRegLib.training.patient import finish_patient_model, patient_model, patient_source
from RadGSRegLib.training.pool import VALIDATION, SamplePool, stack_samples
from RadGSRegLib.training.trainer import Trainer

ENCODERS = ("resnet50", "densenet121", "vit12")
# Numbers of pairs that no training and no choice of the best weights has seen.
HELD_OUT = VALIDATION + 1000


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    name: str
    config: TrainingConfig
    base: Path | None = None


def variants(steps: int, bases: list[tuple[str, Path]], encoders: list[str]) -> list[Variant]:
    """The whole method first."""
    default = TrainingConfig().for_patient()
    whole = replace(default, steps=steps, detection=replace(default.detection, share=0.0))
    recm = whole.model.recm

    def with_recm(**changes: object) -> TrainingConfig:
        model = replace(whole.model, recm=replace(recm, **changes))  # type: ignore[arg-type]
        return replace(whole, model=model)

    found = [Variant("all", whole)]
    found += [Variant(name.replace("-", " "), leave(whole)) for name, leave in ABLATIONS.items()]
    found += [Variant(name, with_recm(encoder=name)) for name in encoders]
    found += [Variant(name, whole, path) for name, path in bases]
    return found


def train(variant: Variant, seed: int, pool: SamplePool, work: Path) -> tuple[RadGSReg, dict]:
    """The trained model and its time, read back where it was trained before."""
    from RadGSRegLib.networks import save_model

    name = f"{variant.name.replace(' ', '-')}-{variant.config.steps}-{seed}"
    path = work / f"{name}.safetensors"
    if path.is_file():
        model = load_model(path)
        return model, dict(model.card)
    torch.manual_seed(seed)
    subject = pool.subject(0)
    base = None if variant.base is None else load_model(variant.base)
    model = patient_model(subject, variant.config, base)
    config = replace(variant.config, model=model.config, seed=seed)
    began = time.process_time()
    trainer = Trainer(model, pool, config)
    history = trainer.run()
    facts = {"cpu_s": time.process_time() - began, "steps": trainer.step}
    finish_patient_model(model, subject, config)
    save_model(path, model, {**facts, "history": history.entries})
    return model.eval(), facts


@torch.no_grad()
def measure(model: RadGSReg, pool: SamplePool, count: int) -> dict[str, np.ndarray]:
    """Errors of RecM and RegM (mm), SSIM and PSNR (dB), one number per held-out pair."""
    subject = pool.subject(0)
    points = torch.from_numpy(subject.surface_points_ct - subject.centre_ct).float()[None]
    cube = excess_cube(subject.excess, subject.centre_ct, model.config.regm)[None]
    found: dict[str, list[float]] = {"recm_mm": [], "regm_mm": [], "ssim": [], "psnr_db": []}
    for number in range(HELD_OUT, HELD_OUT + count):
        views, _, truth = stack_samples([pool.sample(number)], model.config.recm.pixel_mm, None)
        prediction = model.recm.predict(views)
        found["recm_mm"].append(float(point_distance(points, truth, prediction.effect.poses)))
        aligned = model.align(prediction, cube)
        found["regm_mm"].append(float(point_distance(points, truth, aligned)))
        cloud = model.recm.clouds(prediction.effect)[0].detach()
        ct_to_box = truth[0].double().numpy() @ translation(-subject.centre_ct)
        volume = box_of_cloud(cloud, 1.5).voxelize(cloud)
        try:
            quality = reconstruction_quality(
                volume, subject.ct, subject.labels, subject.label, ct_to_box
            )
        except ValueError:
            quality = {"ssim": 0.0, "psnr_db": 0.0}
        found["ssim"].append(quality["ssim"])
        found["psnr_db"].append(quality["psnr_db"])
    return {name: np.array(values) for name, values in found.items()}


def row(name: str, values: dict[str, np.ndarray], whole: dict[str, np.ndarray], facts: dict) -> str:
    """A line of the table."""
    cells = [name]
    for key, digits in (("recm_mm", 2), ("regm_mm", 2), ("ssim", 3), ("psnr_db", 1)):
        text = f"{np.median(values[key]):.{digits}f}"
        if values is not whole:
            p = stats.wilcoxon(values[key], whole[key]).pvalue
            text += f" (p {p:.2g})"
        cells.append(text)
    cells.append(f"{1000 * facts['cpu_s'] / facts['steps']:.0f}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=48, help="held-out pairs")
    parser.add_argument("--encoders", nargs="*", default=[], choices=ENCODERS)
    parser.add_argument("--base", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--only", nargs="*", help="names of variants to train and show")
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    bases = [(text.split("=")[0], Path(text.split("=", 1)[1])) for text in args.base]
    chosen = variants(args.steps, bases, args.encoders)
    if args.only:
        chosen = [v for v in chosen if v.name in {"all", *args.only}]
    source = patient_source(read_ct_case(args.case))
    pool = SamplePool([source], TrainingConfig().samples, 0, args.work / "pairs")
    print("| variant | RecM mm | RegM mm | SSIM | PSNR dB | CPU ms per step |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    whole: dict[str, np.ndarray] | None = None
    record = {}
    for variant in chosen:
        parts, cost = [], {"cpu_s": 0.0, "steps": 0}
        for seed in range(args.seeds):
            model, facts = train(variant, seed, pool, args.work)
            parts.append(measure(model, pool, args.pairs))
            cost = {key: cost[key] + facts[key] for key in cost}
        values = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        whole = whole or values
        record[variant.name] = {key: value.tolist() for key, value in values.items()}
        print(row(variant.name, values, whole, cost), flush=True)
    (args.work / "ablations.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main()
