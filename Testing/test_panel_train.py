# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""Training for one patient through the panel, on the stand-in for Qt with a real scene.

Most tests put a quick program in the library's place (see `panel_scene`); the last one trains.
"""

from __future__ import annotations

import functools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import panel_scene
import slicer_startup
from panel_scene import Library, wait_until

from RadGSRegLib.errors import Cancelled, InputError

slicer_startup.start()

from RadGSRegSlicer.exchange.modelcard import describe, knownCard, trainedFor
from RadGSRegSlicer.process import runs
from RadGSRegSlicer.process.jobs import parseFigures
from RadGSRegSlicer.scene import levels

import RadGSReg


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """An empty folder for models."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def planned(widget: Any, tmp_path: Path, models: Path) -> Any:
    """The widget between CT and operation: CT and vertebra are chosen, there are no X-rays."""
    ct, segmentation = panel_scene.load_nodes(panel_scene.write_files(tmp_path / "case"))
    widget.ui.ctSelector.setCurrentNode(ct)
    widget.ui.segmentSelector.setCurrentNode(segmentation)
    slicer.mrmlScene.SetRootDirectory(str(models))
    widget.ui.trainCollapsibleButton.collapsed = False
    widget.update()
    return widget


def _end(widget: Any) -> None:
    wait_until(lambda: widget.ui.trainButton.text == "Train for this patient")


def _train(widget: Any) -> None:
    assert widget.ui.trainButton.enabled, widget.ui.trainButton.toolTip
    widget.ui.trainButton.click()
    _end(widget)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _measured(widget: Any) -> bool:
    return bool(widget.ui.finishTrainingButton.enabled)


def test_without_a_vertebra_there_is_nothing_to_train_for(widget: Any) -> None:
    assert not widget.ui.trainButton.enabled
    assert "Step 1: Select the CT" in widget.ui.trainButton.toolTip
    assert widget.ui.trainMinutesSpinBox.value == 20


def test_a_model_is_trained_and_used(planned: Any, library: Library, models: Path) -> None:
    ui, parameters = planned.ui, planned._parameterNode
    path = models / "radgsreg-L3.safetensors"
    assert f"the model will be {path}" in ui.trainStatusLabel.text
    assert parameters.method == "optimize"
    ui.trainMinutesSpinBox.value = 2
    ui.deviceComboBox.setCurrentIndex(1)
    ui.trainButton.click()
    assert ui.trainButton.text == "Cancel"
    assert "Training" in ui.trainStatusLabel.text
    assert "min left" in ui.trainProgressLabel.text or "s left" in ui.trainProgressLabel.text
    assert not ui.trainMinutesSpinBox.enabled
    _end(planned)
    assert _names(models) == ["radgsreg-L3.md", "radgsreg-L3.safetensors"]
    assert f"Step 4 uses this model: {path}" in ui.trainProgressLabel.text
    assert "For one patient: L3, trained for 1.5 minutes, 40 steps" in ui.trainResultLabel.text
    assert "Reconstruction (mm): 4.1" in ui.trainResultLabel.text
    assert (parameters.modelPath, parameters.method) == (str(path), "learned")
    assert ui.modelPathLineEdit.currentPath == str(path)
    assert "For one patient: L3" in ui.modelInfoLabel.text
    arguments = json.loads(library.read("arguments"))
    assert arguments[:3] == ["pretrain", "--stage", "3"]
    assert arguments[arguments.index("--minutes") + 1] == "2"
    assert arguments[arguments.index("--device") + 1] == "cpu"
    # The library goes on from the weights that come with it.
    assert "--base" not in arguments
    assert set(json.loads(library.read("case"))) == {"ct", "segmentation", "label"}
    wait_until(lambda: not list(Path(tempfile.gettempdir()).glob("radgsreg-*")))
    # The next one does not take its place unasked.
    assert "radgsreg-L3-2.safetensors" in ui.trainStatusLabel.text
    # What was chosen is part of the scene.
    node = parameters.parameterNode
    assert node.GetParameter("modelPath") == str(path)
    assert node.GetParameter("trainMinutes") == "2"


def test_it_can_be_ended_with_the_best_so_far(planned: Any, library: Library, models: Path) -> None:
    library.behave("hang")
    ui = planned.ui
    ui.trainButton.click()
    assert not ui.finishTrainingButton.isHidden()
    assert not ui.finishTrainingButton.enabled
    assert "Nothing has been measured" in ui.finishTrainingButton.toolTip
    wait_until(lambda: _measured(planned))
    assert "Training reconstruction: step 40, error 4.1 mm" in ui.trainProgressLabel.text
    assert "reconstruction 4.1 mm, registration 7.9 mm" in ui.trainResultLabel.text
    assert ui.trainProgressBar.value == 20
    # Nothing else is computed at the same time.
    assert ui.applyButton.text == "Apply"
    assert not ui.segmentFromClickButton.enabled
    ui.finishTrainingButton.click()
    assert not ui.finishTrainingButton.enabled
    _end(planned)
    assert ui.finishTrainingButton.isHidden()
    assert _names(models) == ["radgsreg-L3.md", "radgsreg-L3.safetensors"]
    assert planned._parameterNode.method == "learned"


@pytest.mark.parametrize("behaviour", ["hang", "mute"])
def test_cancel_leaves_nothing(
    planned: Any, library: Library, models: Path, behaviour: str
) -> None:
    library.behave(behaviour)
    ui = planned.ui
    ui.trainButton.click()
    wait_until(lambda: "step" in ui.trainProgressLabel.text)
    began = time.monotonic()
    ui.trainButton.click()
    assert ui.trainProgressLabel.text == "Stopping..."
    _end(planned)
    assert time.monotonic() - began < 2.0
    assert ui.trainProgressLabel.text == "Cancelled; no model was written"
    assert ui.trainResultLabel.text == ""
    assert planned._parameterNode.method == "optimize"
    assert planned._parameterNode.modelPath == ""
    assert _names(models) == []
    wait_until(lambda: not list(Path(tempfile.gettempdir()).glob("radgsreg-*")))


def test_a_problem_is_told_in_the_step(planned: Any, library: Library, models: Path) -> None:
    library.behave("bad")
    _train(planned)
    assert "holds no bone" in planned.ui.trainStatusLabel.text
    assert _names(models) == []


def test_the_user_chooses_where_it_goes(planned: Any, library: Library, tmp_path: Path) -> None:
    ui = planned.ui
    ui.trainPathLineEdit.currentPath = str(tmp_path / "nowhere" / "mine")
    assert not ui.trainButton.enabled
    assert "its folder does not exist" in ui.trainButton.toolTip
    ui.trainPathLineEdit.currentPath = str(tmp_path)
    assert "is a folder" in ui.trainButton.toolTip
    chosen = tmp_path / "mine.safetensors"
    ui.trainPathLineEdit.currentPath = str(chosen.with_suffix(""))
    assert f"the model will be {chosen}" in ui.trainStatusLabel.text
    _train(planned)
    assert trainedFor(knownCard(chosen)) == "L3"
    assert f"this file will be replaced: {chosen}" in ui.trainStatusLabel.text
    first = chosen.stat().st_mtime_ns
    _train(planned)
    assert chosen.stat().st_mtime_ns != first


@pytest.mark.parametrize("path", ["~nobody of that name/m", "m" * 300, "a\0b"])
def test_whatever_is_typed_as_a_path_is_refused_in_the_step(planned: Any, path: str) -> None:
    ui, parameters = planned.ui, planned._parameterNode
    ui.trainPathLineEdit.currentPath = path
    assert not ui.trainButton.enabled
    assert "cannot be used" in ui.trainStatusLabel.text
    ui.trainPathLineEdit.currentPath = ""
    parameters.method = "learned"
    ui.modelPathLineEdit.currentPath = path
    with pytest.raises(InputError, match="is not there"):
        knownCard(path)
    # The steps below are brought up to date all the same.
    assert "Step 2" in ui.registerStatusLabel.text


def test_no_text_of_the_users_is_written_over_unasked(
    planned: Any, library: Library, models: Path
) -> None:
    (models / "radgsreg-L3.md").write_text("mine")
    planned.update()
    assert f"the model will be {models / 'radgsreg-L3-2.safetensors'}" in (
        planned.ui.trainStatusLabel.text
    )
    planned.ui.trainPathLineEdit.currentPath = str(models / "radgsreg-L3")
    assert f"will be replaced: {models / 'radgsreg-L3.md'}" in planned.ui.trainStatusLabel.text


@pytest.mark.parametrize("measured", [False, True])
def test_closing_the_application_leaves_no_copy_of_the_ct(
    planned: Any, library: Library, models: Path, measured: bool
) -> None:
    library.behave("hang")
    planned.ui.trainButton.click()
    if measured:
        wait_until(lambda: _measured(planned))
    task = planned.steps["train"]._run
    assert list(Path(tempfile.gettempdir()).glob("radgsreg-*"))
    planned.cleanup()
    assert not list(Path(tempfile.gettempdir()).glob("radgsreg-*"))
    assert task.poll()
    assert isinstance(task.error, Cancelled)
    assert not task.job.isRunning
    assert _names(models) == []


def test_without_a_python_nothing_is_left(
    planned: Any, library: Library, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> str:
        raise RuntimeError("PythonSlicer was not found")

    monkeypatch.setattr(runs, "pythonExecutable", missing)
    planned.ui.trainButton.click()
    assert "PythonSlicer was not found" in planned.ui.trainStatusLabel.text
    assert not list(Path(tempfile.gettempdir()).glob("radgsreg-*"))
    assert planned.ui.trainButton.enabled


def test_ctrl_c_in_the_console_leaves_nothing(planned: Any, library: Library, models: Path) -> None:
    library.behave("hang")

    def interrupt(fraction: float, message: str) -> None:
        raise KeyboardInterrupt

    parameters = planned._parameterNode
    where = parameters.ctVolume, parameters.segmentation, "L3"
    with pytest.raises(KeyboardInterrupt):
        planned.logic.pretrain(*where, models / "m", progressCallback=interrupt)
    assert not list(Path(tempfile.gettempdir()).glob("radgsreg-*"))
    assert _names(models) == []


def test_a_training_that_has_just_ended_need_not_be_stopped(
    planned: Any, library: Library, models: Path
) -> None:
    logic, parameters = planned.logic, planned._parameterNode
    where = parameters.ctVolume, parameters.segmentation, "L3"
    task = logic.pretrain(*where, models / "m", waitForCompletion=False)
    while not task._isLoaded:
        task.poll()
    assert task._removal is not None
    task._removal.join()
    task.finish()
    wait_until(lambda: task.isFinished)
    assert task.error is None


def test_another_vertebra_does_not_get_the_model(
    planned: Any, library: Library, models: Path
) -> None:
    library.behave("hang")
    ui, parameters = planned.ui, planned._parameterNode
    ui.trainButton.click()
    wait_until(lambda: _measured(planned))
    chosen = parameters.segmentId
    parameters.segmentId = ""
    ui.finishTrainingButton.click()
    _end(planned)
    assert "no longer the chosen one" in ui.trainProgressLabel.text
    assert (parameters.modelPath, parameters.method) == ("", "optimize")
    # Chosen by hand for a vertebra of another level it is used, with a warning.
    (path,) = models.glob("*.safetensors")
    files = models.parent / "case"
    ui.viewsPathLineEdit.currentPath = str(files / "views.json")
    ui.importButton.click()
    parameters.segmentId = chosen
    parameters.method, parameters.modelPath = "learned", str(path)
    assert "Ready to register" in ui.registerStatusLabel.text
    levels.setSegmentLevel(parameters.segmentation, chosen, "L4")
    assert "trained for L3, the chosen vertebra is L4" in ui.registerStatusLabel.text
    assert ui.applyButton.enabled


def test_no_name_that_somebody_typed_gets_into_the_model(planned: Any, library: Library) -> None:
    parameters = planned._parameterNode
    segment = parameters.segmentation.GetSegmentation().GetSegment(parameters.segmentId)
    segment.SetName("Mr Smith, the third one")
    parameters.ctVolume.SetName("Smith CT")
    planned.update()
    assert "radgsreg-vertebra.safetensors" in planned.ui.trainStatusLabel.text
    _train(planned)
    assert json.loads(library.read("names")) == ["vertebra"]
    assert "Smith" not in library.read("arguments")
    assert "Smith" not in planned.ui.trainProgressLabel.text


def test_closing_the_scene_ends_the_training(planned: Any, library: Library, models: Path) -> None:
    library.behave("hang")
    planned.ui.trainButton.click()
    wait_until(lambda: _measured(planned))
    slicer.mrmlScene.Clear()
    _end(planned)
    assert _names(models) == []
    assert planned._parameterNode.modelPath == ""
    assert planned.ui.trainProgressLabel.text == ""


def test_another_module_does_not_stop_it(planned: Any, library: Library, models: Path) -> None:
    planned.ui.trainButton.click()
    planned.exit()
    _end(planned)
    planned.enter()
    assert planned._parameterNode.modelPath == str(models / "radgsreg-L3.safetensors")


def test_from_the_console(planned: Any, library: Library, tmp_path: Path) -> None:
    logic, parameters = RadGSReg.RadGSRegLogic(), planned._parameterNode
    where = parameters.ctVolume, parameters.segmentation, "L3"
    target = tmp_path / "mine"
    said: list[str] = []
    model = logic.pretrain(
        *where, target, minutes=1.5, progressCallback=lambda _, message: said.append(message)
    )
    assert model.path == target.with_suffix(".safetensors")
    assert model.card["training"]["steps"] == 40
    assert "training reconstruction: step 40, error 4.1 mm" in said
    assert "--base" not in json.loads(library.read("arguments"))
    for base, given in (("none", "none"), (target, str(target))):
        logic.pretrain(*where, target, base=base)
        arguments = json.loads(library.read("arguments"))
        assert arguments[arguments.index("--base") + 1] == given
    library.behave("mute")
    task = logic.pretrain(*where, target, waitForCompletion=False)
    with pytest.raises(InputError, match="measured nothing yet"):
        task.finish()
    task.cancel()
    wait_until(lambda: task.isFinished)
    for change, problem in (
        ({"minutes": 0}, "no positive number"),
        ({"device": "tpu"}, "'tpu' is unknown"),
        ({"modelPath": tmp_path / "nowhere" / "m"}, "its folder does not exist"),
        ({"modelPath": ""}, "is a folder"),
        ({"ctNode": None}, "no volume is chosen"),
        ({"segmentationNode": None}, "none is chosen"),
        ({"segment": "L9"}, "has no segment 'L9'"),
    ):
        names = ("ctNode", "segmentationNode", "segment")
        given = {**dict(zip(names, where, strict=True)), "modelPath": target, **change}
        with pytest.raises(InputError, match=problem):
            logic.pretrain(**given)


def test_cards(tmp_path: Path) -> None:
    path = panel_scene.write_model(tmp_path / "m.safetensors", {"data": {"phantom spines": 3}})
    card = knownCard(path)
    assert trainedFor(card) == ""
    assert describe(card) == ["For any patient"]
    whole = path.read_bytes()
    for broken in (b"", whole[:20], b"\xff" * 30, (2).to_bytes(8, "little") + b"{}"):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="damaged or not a file of this program"):
            knownCard(path)
    with pytest.raises(InputError, match="is not there"):
        knownCard(tmp_path / "none")
    shipped = Path(__file__).parents[1] / "Resources" / "Models" / "population.safetensors"
    lines = describe(knownCard(shipped))
    assert lines[0].startswith("For any patient, trained for ")
    assert any(line.startswith("Reconstruction") for line in lines)


@pytest.mark.parametrize(
    ("line", "figures"),
    [
        ('{"progress": 0.1, "figures": {"recm_mm": 2}}', {"recm_mm": 2.0}),
        ('{"progress": 0.1, "figures": {"recm_mm": "two"}}', {}),
        ('{"progress": 0.1, "figures": [2]}', {}),
        ('{"progress": 0.1}', {}),
        ("figures", {}),
    ],
)
def test_figures_of_a_line(line: str, figures: dict[str, float]) -> None:
    assert parseFigures(line) == figures


def test_a_real_training_through_the_panel(
    planned: Any, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library itself, in its child process: a few steps, ended early with the best so far."""
    options = {**RadGSReg.RadGSRegTest.BRIEFLY, "steps": 10**6, "validate_every": 3}
    config = tmp_path / "options.json"
    config.write_text(json.dumps(options))
    briefly = functools.partial(planned.logic.pretrain, config=config)
    monkeypatch.setattr(planned.logic, "pretrain", briefly)
    planned.ui.deviceComboBox.setCurrentIndex(1)
    planned.ui.trainButton.click()
    wait_until(lambda: _measured(planned) or planned.steps["train"].problem, 90.0)
    assert planned.steps["train"].problem == ""
    # What was measured is said with the next step.
    wait_until(lambda: "error" in planned.ui.trainProgressLabel.text)
    planned.ui.finishTrainingButton.click()
    wait_until(lambda: planned.ui.trainButton.text == "Train for this patient", 90.0)
    assert planned.steps["train"].problem == ""
    card = knownCard(planned._parameterNode.modelPath)
    assert trainedFor(card) == "L3"
    assert 3 <= card["training"]["steps"] < 1000
    assert "Reconstruction, likeness" in planned.ui.trainResultLabel.text
    assert _names(models) == ["radgsreg-L3.md", "radgsreg-L3.safetensors"]
