"""Simulated pairs of X-rays for training: as on the CPU, as the full simulator's, and how many."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from measuring import devices, scenes
from measuring.parts import Notes
from measuring.timing import median_ms
from setting import Setting

from RadGSRegLib.training.samples import Sample, SampleOptions, draw_samples, simulate_fully

CROP = SampleOptions(size_px=64, pixel_mm=2.0)
# Of a picture's mean: the device's sums are of another order, and some pixels round otherwise.
SAME = 1e-3
# Of the vertebra's own line integrals' mean: voxels are cut at the vertebra, rays alike.
FULLY = 0.005
# The middle difference of pictures scaled to about 1: both simulators have noise of their own.
NOISE = 0.05


def drawn(setting: Setting, count: int, device: torch.device, realism: str) -> list[Sample]:
    """So many pairs, made together on a device."""
    subject = scenes.subject(setting.spacing_mm)
    options = replace(CROP, realism=realism)
    return draw_samples([subject] * count, options, list(range(count)), device)


def compare(setting: Setting, notes: Notes) -> str:
    """Pairs made together on the device against those made on the CPU, and against the full
    simulator's."""
    subject = scenes.subject(setting.spacing_mm)
    kinds = set()
    for realism in ("hard", "clean"):
        there = drawn(setting, 2, setting.device, realism)
        here = drawn(setting, 2, torch.device("cpu"), realism)
        kinds.add(devices.on(*(sample.images for sample in there)))
        for name in ("images", "targets", "valid"):
            ours, truth = (
                torch.stack([getattr(s, name) for s in ss]).cpu() for ss in (there, here)
            )
            error = (ours - truth).abs().mean() / truth.abs().mean()
            notes.check(f"simulated pairs, {realism}, {name}", float(error), SAME)
        fully = simulate_fully(subject, replace(CROP, realism=realism), 0)
        ours, truth = there[0].targets.cpu(), fully.targets
        error = (ours - truth).abs().mean() / truth.abs().mean()
        notes.check(f"full simulator, {realism}, targets", float(error), FULLY)
        error = (there[0].images.cpu() - fully.images).abs().median()
        notes.check(f"full simulator, {realism}, pictures", float(error), NOISE)
    return kinds.pop() if len(kinds) == 1 else "mixed"


def simulation(setting: Setting, notes: Notes) -> None:
    """Pairs of X-rays for training, 64 pixels."""
    made = drawn(setting, setting.pairs, setting.device, "mixed")
    notes.ran_on = devices.on(*(sample.images for sample in made))
    run = partial(drawn, setting, setting.pairs, setting.device, "mixed")
    rate = 1e3 * setting.pairs / median_ms(run, setting.device, setting.rounds)
    notes.figure(f"pairs of X-rays, {setting.pairs} at a time", rate, "per s")
