"""The trials of `bench_bounds.py` that fit Gaussians and train, briefly."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import lru_cache, partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from bounds_outcome import Outcome

from RadGSRegLib import cli
from RadGSRegLib.drr import excess_attenuation, project_volume
from RadGSRegLib.gaussians import FitOptions, fit_vertebra, rasterize
from RadGSRegLib.gaussians.fit import view_ring
from RadGSRegLib.geometry import Volume
from RadGSRegLib.networks import load_model
from RadGSRegLib.phantom import LABELS, make_phantom, random_spine
from RadGSRegLib.simulation import simulate_case, write_simulated_case

LEARNING: dict[str, Any] = {
    "model": {
        "recm": {"size_px": 32, "pixel_mm": 4.0, "maps": 3, "hidden": 24, "per_anchor": 16},
        "regm": {"voxels": 16, "width": 2},
        "detector": {"size_px": 32, "pixel_mm": 7.5, "width": 4},
    },
    "detection": {"steps": 3, "batch": 2, "pairs": 3, "first_pairs": 2, "validate": 20},
    "shapes": {"modes": 8, "phantoms": 1, "epochs": 1},
    "steps": 4,
    "batch": 2,
    "pairs": 3,
    "first_pairs": 2,
    "gaussians": 60,
    "final_gaussians": 90,
    "validate": 20,
    "render_every": 2,
    "joint_cases": 1,
}
"""Tiny networks, a few steps: what is trained on and what is said of it, not how well it learns."""


@lru_cache(maxsize=4)
def _vertebra(seed: int) -> Volume:
    phantom = make_phantom(random_spine(seed), 1.5, "L3")
    return excess_attenuation(phantom.ct, phantom.labels, LABELS["L3"])


def _fit(seed: int) -> Outcome:
    """Fit 4,000 Gaussians to a vertebra: its X-rays' relative errors in views of their own."""
    volume = _vertebra(seed)
    options = FitOptions(volume_steps=40, view_steps=60, views=24)
    cloud = fit_vertebra(volume, 4000, seed=seed, options=options)
    intrinsic, poses, size = view_ring(volume, 5, 1.0)
    errors = []
    for pose in poses:
        truth = project_volume(volume, intrinsic, pose, (size, size))
        errors.append(
            float((rasterize(cloud, intrinsic, pose, (size, size)) - truth).abs().sum())
            / float(truth.sum())
        )
    return Outcome("within 3 %" if max(errors) < 0.03 else "worse", np.array(errors))


@lru_cache(maxsize=4)
def _case_folder(seed: int) -> Path:
    phantom = make_phantom(random_spine(seed), 3.0, "L3")
    made = simulate_case(phantom.ct, phantom.labels, LABELS["L3"], "realistic", seed)
    return write_simulated_case(made, Path(tempfile.mkdtemp(prefix="bounds-")) / "case")


def _numbers_of(value: Any) -> list[float]:
    """All numbers of a model's card, in the order of its keys, but how long it took."""
    if isinstance(value, dict):
        times = ("second", "minute", "time", "rate")
        kept = [value[key] for key in sorted(value) if not any(word in key for word in times)]
        return [number for part in kept for number in _numbers_of(part)]
    if isinstance(value, list | tuple):
        return [number for part in value for number in _numbers_of(part)]
    return [float(value)] if isinstance(value, int | float) else []


def _train(seed: int, stage: int, minutes: float | None = None) -> Outcome:
    """Train briefly: the sums of the model's weights, and the numbers of its card."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = folder / "options.json"
        options.write_text(json.dumps({**LEARNING, "seed": seed}), encoding="utf-8")
        out = folder / "model.safetensors"
        given = ["--phantoms", "1"] if stage == 1 else [str(_case_folder(seed))]
        words = ["pretrain", "--stage", str(stage), *given, "--out", str(out)]
        words += ["--config", str(options)]
        if minutes is not None:
            words += ["--minutes", str(minutes)]
        with redirect_stdout(StringIO()):
            status = cli.main(words)
        model = load_model(out)
        sums = [float(v.double().abs().sum()) for v in model.state_dict().values()]
        return Outcome(str(status), np.array(sums), np.array(_numbers_of(model.card)))


RUNS: dict[str, Callable[[int], Outcome]] = {
    "fit": _fit,
    "train": partial(_train, stage=1),
    "train for a patient": partial(_train, stage=3),
    "train in no time": partial(_train, stage=3, minutes=0.001),
}
