# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""Requests: what they refuse, in one sentence, and which command line each of them is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer_startup

from RadGSRegLib.cli import build_parser
from RadGSRegLib.errors import InputError

slicer_startup.start()

from RadGSRegSlicer.exchange.results import OutputNodes
from RadGSRegSlicer.operations.batch import BatchRequest
from RadGSRegSlicer.operations.calibration import CalibrateRequest
from RadGSRegSlicer.operations.clicked import ClickRequest
from RadGSRegSlicer.operations.pretraining import PretrainRequest
from RadGSRegSlicer.operations.reconstruction import ReconstructRequest
from RadGSRegSlicer.operations.registration import RegisterRequest
from RadGSRegSlicer.operations.requests import Request
from RadGSRegSlicer.operations.simulated import SimulateRequest
from RadGSRegSlicer.process.runs import WorkFolder

import RadGSReg


@pytest.fixture(autouse=True)
def scene() -> Any:
    return slicer_startup.start()


@pytest.fixture
def folder() -> Iterator[WorkFolder]:
    folder = WorkFolder()
    yield folder
    folder.remove()


def _volume(name: str) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, np.zeros((4, 5, 6), np.int16))
    return node


def test_each_request_is_a_command_that_the_library_takes(
    folder: WorkFolder, tmp_path: Path
) -> None:
    ct = _volume("CT")
    anything = {"model": "m.safetensors", "startTransform": np.eye(4)}
    requests: list[Request] = [
        RegisterRequest(ct, None, "L3", [], effort="fast", device="cpu", **anything),
        RegisterRequest(ct, None, "L3", [], method="published", refine=False),
        ReconstructRequest([], method="learned", model="m.safetensors"),
        ReconstructRequest([], ctNode=ct, startTransform=np.eye(4)),
        ReconstructRequest([ct] * 3, standardize=True),
        ClickRequest(ct, [-1.0, -2.0, 3.0]),
        SimulateRequest(realism="hard", seed=3),
        SimulateRequest(trunk=True),
        SimulateRequest(ct, ct, "L3"),
        PretrainRequest(ct, None, "L3", tmp_path / "m", base="none", config="options.json"),
        CalibrateRequest([ct, ct], "helix", sourceDetectorMm=1000.0, pairs="pairs.json"),
        RegisterRequest(ct, None, "L3", [], refineCameras=True),
    ]
    parser = build_parser()
    said = []
    for request in requests:
        arguments = [str(argument) for argument in request.toArguments(folder)]
        said.append(parser.parse_args([*arguments, "--progress"]))
    asked = said.pop(1)
    assert (asked.command, asked.method, asked.refine) == ("register", "published", False)
    assert said[0].method is None
    assert not said[0].refine_cameras
    assert said.pop().refine_cameras
    names = "register reconstruct reconstruct reconstruct segment"
    names += " simulate simulate simulate pretrain calibrate"
    assert [args.command for args in said] == names.split()
    assert said[0].effort == "fast"
    assert Path(said[0].start) == folder.inputs / "start.json"
    assert said[2].ct_prior
    assert [args.standardize for args in said[1:4]] == [None, None, True]
    assert said[5].realism == "hard"
    assert [args.trunk for args in said[5:8]] == [False, True, False]
    assert Path(said[7].case) == folder.inputs / "case.json"
    batch = BatchRequest(["case"], outputFolder=tmp_path, effort="careful")
    args = parser.parse_args([str(a) for a in batch.argumentsFor(tmp_path / "case.json", folder)])
    assert (args.command, args.effort) == ("register", "careful")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"device": "tpu"}, "device: 'tpu' is unknown; use auto, cpu, cuda"),
        ({"effort": "utmost"}, "effort: 'utmost' is unknown; use fast, normal, careful"),
        ({"startNode": 1, "startTransform": 1}, "start: is given both as a node and as a matrix"),
        ({"method": "best"}, "method: 'best' is unknown; use ours, published"),
        ({"refine": False}, "refine: can be left out only with the method 'published'"),
        ({"method": "published", "refine": False}, ""),
        ({}, ""),
    ],
)
def test_a_request_says_what_is_wrong_with_it(options: dict[str, Any], sentence: str) -> None:
    assert RegisterRequest(None, None, "L3", [], **options).problem() == sentence


def test_a_request_refuses_an_input_for_a_result() -> None:
    ct = _volume("CT")
    outputs = OutputNodes(reconstructionNode=ct)
    problem = RegisterRequest(ct, None, "L3", [], outputs=outputs).problem()
    assert problem == "CT: is an input and cannot take the reconstruction"
    problem = RegisterRequest(ct, None, "L3", [], outputs=OutputNodes(boneNode=ct)).problem()
    assert problem == "CT: is an input and cannot take the bone"
    other = _volume("Other")
    outputs = OutputNodes(reconstructionNode=other, boneNode=other)
    problem = ReconstructRequest([ct] * 3, outputs=outputs).problem()
    assert problem == "Other: cannot take reconstruction and bone both"


def test_an_option_that_is_none_is_refused() -> None:
    logic = RadGSReg.RadGSRegLogic()
    with pytest.raises(InputError, match=r"^effrot: is no option here; there are .*effort"):
        logic.register(None, None, "L3", [], effrot="fast")
    with pytest.raises(InputError, match="realism: 'perfect' is unknown"):
        logic.simulate(realism="perfect")


def test_a_training_takes_no_folder_beside_its_path(tmp_path: Path) -> None:
    request = PretrainRequest(None, None, "L3", tmp_path / "m", outputFolder=tmp_path)
    assert request.problem() == "outputFolder: is of no use here; the model goes to modelPath"


def test_every_choice_of_a_request_is_one_of_the_command_line(
    folder: WorkFolder, tmp_path: Path
) -> None:
    ct, parser = _volume("CT"), build_parser()
    requests: list[Request] = [
        RegisterRequest(ct, None, "L3", []),
        ReconstructRequest([]),
        SimulateRequest(),
        PretrainRequest(ct, None, "L3", tmp_path / "m"),
    ]
    said = []
    for request in requests:
        for field in dataclasses.fields(request):
            for value in field.metadata.get("choices", ()):
                asked = dataclasses.replace(request, **{field.name: value})
                args = parser.parse_args([str(a) for a in asked.toArguments(folder)])
                # What is the default anyway need not be said.
                assert (getattr(args, field.name) or field.default) == value
                said.append(value)
    assert {"careful", "learned", "hard", "cuda"} <= set(said)


def test_a_folder_with_other_people_s_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "holiday"
    folder.mkdir()
    (folder / "photo.jpg").write_text("mine")
    with pytest.raises(InputError, match=r"no results of this program: photo\.jpg"):
        WorkFolder(folder)
    with pytest.raises(InputError, match="is empty"):
        WorkFolder(" ")
    assert [path.name for path in folder.iterdir()] == ["photo.jpg"]
    shared = WorkFolder(folder, isShared=True)  # a model beside other files
    shared.outputs.mkdir()
    (shared.outputs / "model.safetensors").write_text("weights")
    assert shared.publish() == folder
    shared.remove()
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "photo.jpg"]


def test_a_folder_that_was_filled_meanwhile_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "results"
    folder = WorkFolder(target)
    folder.outputs.mkdir()
    (folder.outputs / "registration.json").write_text('{"schema": "radgsreg/registration"}')
    target.mkdir()
    (target / "thesis.docx").write_text("mine")
    with pytest.raises(InputError, match=r"thesis\.docx"):
        folder.publish()
    (target / "thesis.docx").unlink()
    assert folder.publish() == target
    again = WorkFolder(target)  # one's own results are replaced
    again.remove()
    folder.remove()
