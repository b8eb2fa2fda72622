"""What records call a device, and that one device is meant for the whole job."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from another_device import DEVICE, another_device
from ball import ball_case
from registration_scenes import QUICK

from RadGSRegLib import pipeline
from RadGSRegLib.methods import Settings, Task, choose_methods
from RadGSRegLib.reconstruction import ReconstructionOptions
from RadGSRegLib.registration import Scene
from RadGSRegLib.system import device_name


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
    module = importlib.import_module("RadGSRegLib.registration.of_case")
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


def test_another_device_refuses_what_is_on_the_host() -> None:
    with another_device():
        with pytest.raises(RuntimeError, match="device"):
            torch.ones(3) + torch.ones(3, device=DEVICE)
        assert 0.2 <= float(torch.ones(3, device=DEVICE).cpu()[0]) <= 0.7
