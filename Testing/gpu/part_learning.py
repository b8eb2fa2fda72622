"""The networks and training: right, and how fast."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from measuring import devices, scenes
from measuring.parts import Notes, NotHereError
from measuring.timing import median_ms
from part_jobs import case_of
from part_simulation import CROP
from setting import Setting

from RadGSRegLib.measures import mtre
from RadGSRegLib.networks import (
    ModelConfig,
    RadGSReg,
    RecMConfig,
    RegMConfig,
    grid_cloud,
    learned_start,
    load_model,
    shipped_weights,
)
from RadGSRegLib.training import TrainingConfig
from RadGSRegLib.training.compute import Compute
from RadGSRegLib.training.config import PhaseShares
from RadGSRegLib.training.pool import SamplePool, Simulated, stack_samples
from RadGSRegLib.training.samples import draw_samples
from RadGSRegLib.training.trainer import Trainer

# Relative, float32 on both; mm for a pose that follows from it.
NETWORK, NETWORK_POSE = 1e-3, 0.05


def networks(setting: Setting, notes: Notes) -> None:
    """The shipped weights: one look, and a start for a registration."""
    path = shipped_weights()
    if path is None:
        raise NotHereError("the weights that come with the program are not here")
    # Convolutions in full precision, to be compared.
    torch.backends.cudnn.allow_tf32 = False
    there, here = load_model(path, setting.device), load_model(path)
    pixel_mm = there.config.recm.pixel_mm
    options = replace(CROP, size_px=there.config.recm.size_px * round(pixel_mm), pixel_mm=1.0)
    subject = scenes.subject(setting.spacing_mm)
    seeds = list(range(setting.batch))
    samples = draw_samples([subject] * setting.batch, options, seeds)
    views, _, _ = stack_samples(samples, pixel_mm, None)
    moved = views.to(setting.device)
    with torch.no_grad():
        ours, truth = there.recm.predict(moved), here.recm.predict(views)
        for name in ("poses", "stretch", "raw"):
            value, wanted = getattr(ours.effect, name), getattr(truth.effect, name)
            error = (value.cpu() - wanted).abs().max() / wanted.abs().max().clamp_min(1e-6)
            notes.check(f"RecM, {name}", float(error), NETWORK)
        spent = median_ms(lambda: there.recm.predict(moved), setting.device, setting.rounds)
    notes.figure(f"RecM, {setting.batch} pairs", spent, "ms")
    notes.ran_on = devices.on(ours.effect.poses, ours.effect.raw)
    simulated = case_of(setting, 0)
    start = learned_start(simulated.case, there, fit=False)
    wanted = learned_start(simulated.case, here, fit=False)
    pairs = zip(start.candidates, wanted.candidates, strict=True)
    points = simulated.truth["points_ct"]
    errors = [mtre(points, a.ct_to_world, b.ct_to_world) for a, b in pairs]
    notes.check("a start from the networks, mm", max(errors), NETWORK_POSE)
    if setting.tiny:
        return
    torch.backends.cudnn.allow_tf32 = True
    for fit, name in ((False, "as predicted"), (True, "fitted to the X-rays")):
        run = partial(learned_start, simulated.case, there, fit=fit)
        notes.figure(f"a start from the networks, {name}", median_ms(run, setting.device, 3), "ms")


def training(setting: Setting, notes: Notes) -> None:
    """Steps of training from pairs that are there already."""
    _steps(setting, notes, "recm", Compute(setting.device))
    _steps(setting, notes, "joint", Compute(setting.device))
    if setting.device.type == "cuda":
        _steps(setting, notes, "recm", Compute(setting.device, "float32"))
        _steps(setting, notes, "recm", Compute(setting.device, compile=True))


def _steps(setting: Setting, notes: Notes, phase: str, compute: Compute) -> None:
    """Steps of one phase, computed in one way."""
    model, samples = TrainingConfig().model, CROP
    if setting.tiny:
        model = ModelConfig(
            RecMConfig(size_px=32, pixel_mm=4.0), RegMConfig(voxels=32, box_mm=96.0)
        )
        samples = replace(CROP, size_px=128, pixel_mm=1.0)
    steps, batch = setting.training_steps, setting.batch
    config = TrainingConfig(
        model=replace(model, detector=None),
        samples=samples,
        shares=PhaseShares(*(float(phase == name) for name in ("recm", "regm", "joint"))),
        steps=steps,
        batch=batch,
        pairs=batch,
        first_pairs=batch,
        joint_cases=min(4, batch),
        validate=1,
        validate_every=10 * steps,
        checkpoint_every=10 * steps,
    )
    subject = scenes.subject(setting.spacing_mm)
    pool = SamplePool(
        [Simulated("phantom", lambda wide: subject)], config.samples, 0, None, device=setting.device
    )
    for number in range(batch):
        pool.sample(number)
    torch.manual_seed(0)
    network = RadGSReg(config.model, grid_cloud(8))
    asked: list[float] = []

    def enough() -> bool:
        devices.synchronize(setting.device)
        asked.append(time.perf_counter())
        return False

    history = Trainer(network, pool, config, compute=compute).run(enough=enough)
    way = "bfloat16" if compute.reduced else "float32"
    what = f"{phase}, {way}" + (", compiled" if compute.compile else "")
    between = np.diff(asked)[1:]
    notes.figure(f"steps of training, {what}", 1.0 / float(np.median(between)), "per s")
    notes.ran_on = devices.on(*network.parameters())
    notes.remarks += [f"{what}: {note}" for note in history.notes]
    finite = all(bool(torch.isfinite(weight).all()) for weight in network.parameters())
    notes.check(f"{what}: weights that are not finite", float(not finite), 0.0)
