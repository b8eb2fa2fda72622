"""What records call a device, and that one device is meant for the whole job."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from ball import ball_case
from registration_scenes import QUICK, bodies, one_thread, simulated

from RadGSRegLib import pipeline
from RadGSRegLib.geometry import transform_points
from RadGSRegLib.methods import Settings, Task, choose_methods
from RadGSRegLib.reconstruction import ReconstructionOptions
from RadGSRegLib.registration import Scene
from RadGSRegLib.registration.clouds import block_cloud
from RadGSRegLib.system import device_name
from RadGSRegLib.tensors import without_host_reads


class AskedError(Exception):
    """Stands for the work of a part that was asked."""


def test_a_device_is_named_with_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_name("cpu") == device_name(torch.device("cpu")) == "cpu"
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"card {number}")
    assert device_name("cuda") == "cuda:1 (card 1)"
    assert device_name("cuda:3") == device_name(torch.device("cuda", 3)) == "cuda:3 (card 3)"


def test_both_parts_of_the_main_job_have_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def scene_of(*given: Any) -> Scene:
        asked["scene"] = given[-1]
        raise AskedError

    # The package's `register` is the function of that name.
    module = importlib.import_module("RadGSRegLib.registration.register")
    monkeypatch.setattr(module, "scene_of", scene_of)
    options = pipeline.PipelineOptions(QUICK, ReconstructionOptions(device="meta"))
    assert options.device == "meta"
    assert pipeline.PipelineOptions(QUICK).device == "cpu"
    with pytest.raises(AskedError):
        pipeline.run(ball_case(), options=options)
    assert asked == {"scene": "meta"}


def test_methods_register_on_the_device_of_their_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def register_case(*given: Any, device: str) -> None:
        raise AskedError(device)

    monkeypatch.setattr(pipeline, "register_case", register_case)
    (method,) = choose_methods(["optimize"], Settings(device="meta"))
    case = ball_case()
    with pytest.raises(AskedError, match="meta"):
        method.solve(Task("a", case.views, case))


def test_the_main_job_as_a_gpu_computes_it_gives_the_same() -> None:
    """From the search to the reconstruction nothing hangs on what only a CPU may look at."""
    one_thread()
    case, prior = simulated().case, block_cloud(bodies().target_excess, 6.0)
    options = pipeline.PipelineOptions(
        QUICK, ReconstructionOptions(prior_steps=2, spacing_mm=3.0, pixel_mm=2.4)
    )
    plain = pipeline.run(case, options=options, prior_ct=prior)
    with without_host_reads():
        masked = pipeline.run(case, options=options, prior_ct=prior)
    assert masked.registration.status == plain.registration.status == "ok"
    poses = [run.registration.ct_to_world for run in (plain, masked)]
    moved = [transform_points(pose, bodies().surface_points_ct) for pose in poses]
    assert np.linalg.norm(moved[0] - moved[1], axis=1).mean() < 0.01
    apart = np.abs(masked.volume_world.array - plain.volume_world.array)
    assert apart.max() < 0.02 * plain.volume_world.array.max()
