# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""Step 5 of the panel, clicked through on the stand-in for Qt, and its process seen from there."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("vtk")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import ball
import qt_standin
import slicer_startup

slicer_startup.start_panel()

from panel_scene import wait_until
from RadGSRegSlicer.panel.keys import KEYS, ArrowKeys
from RadGSRegSlicer.process import environment
from RadGSRegSlicer.process.client import ReviewClient, readRendering
from RadGSRegSlicer.review import views
from RadGSRegSlicer.scene import frames
from RadGSRegSlicer.scene.drawing import DRAWING
from review_scene import ball_nodes
from slicer_pictures import Stage

from RadGSRegLib.geometry import lps_to_ras, transform_points

# Answers as the server does, at once; "slow" after a while, "die" never.
PROGRAM = """
import json, sys, time
case, pose, folder = sys.argv[1:]
print(json.dumps({"progress": 0.5, "message": "loading"}), flush=True)
if "bad" in case:
    print(json.dumps({"error": "case.json: cannot be read"}), flush=True)
    sys.exit(2)
print(json.dumps({"ready": True, "views": ["AP", "LA"]}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "die":
        print("no more memory", file=sys.stderr)
        sys.exit(1)
    if request["do"] == "score":
        time.sleep(0.1)
    print(json.dumps({"id": request["id"], "x": request["ct_to_world"][0][3]}), flush=True)
"""


@pytest.fixture(autouse=True)
def scene() -> Any:
    scene = slicer_startup.start_panel()
    yield scene
    assert qt_standin.errors == []


@pytest.fixture
def panel(scene: Any) -> Any:
    stage = Stage(scene)
    views.layoutNode(scene).SetViewArrangement(3)
    widget = slicer_startup.make_widget()
    nodes = ball_nodes()
    parameters = widget._parameterNode
    parameters.ctVolume = nodes["ct"]
    parameters.segmentation = nodes["segmentation"]
    parameters.segmentId = nodes["segmentation"].GetSegmentation().GetNthSegmentID(0)
    parameters.xrays = nodes["xrays"]
    assert widget.steps["review"].missing() == "Register first"
    assert not widget.ui.reviewLayoutButton.enabled
    parameters.ctToWorld = nodes["transform"]
    widget.nodes, widget.stage = nodes, stage
    yield widget
    widget.cleanup()


@pytest.fixture
def alone(panel: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The panel in a Slicer where nothing is installed: no scores."""
    monkeypatch.setattr(environment, "missingPackages", lambda: ["torch"])
    panel.update()
    return panel


def _session(panel: Any) -> Any:
    return panel.steps["review"].review.session


def test_the_card_shows_as_soon_as_there_is_a_result(panel: Any) -> None:
    ui = panel.ui
    assert "2 mm" in ui.reviewCardLabel.text
    assert "0.91" in ui.reviewCardLabel.text
    assert "To be looked at" in ui.reviewStatusLabel.text
    assert ui.reviewLayoutButton.enabled
    assert not ui.reviewUndoButton.enabled
    assert not ui.reviewSaveButton.enabled
    assert ui.reviewSaveButton.toolTip == "Choose a folder first"


def test_every_button_of_the_review(alone: Any, tmp_path: Path) -> None:
    ui, step, scene = alone.ui, alone.steps["review"], slicer.mrmlScene
    ui.reviewLayoutButton.click()
    alone.stage.build({})
    ui.reviewLayoutButton.click()
    assert views.layoutNode(scene).GetViewArrangement() == views.LAYOUT_ID
    assert "torch" in ui.reviewScoreLabel.text
    for name, node in zip(views.XRAY_VIEWS, alone.nodes["xrays"], strict=True):
        assert views.compositeNode(scene, name).GetBackgroundVolumeID() == node.GetID()
    # The other way round.
    ui.reviewFirstComboBox.setCurrentIndex(1)
    ui.reviewSecondComboBox.setCurrentIndex(0)
    shown = step.review.layout.shown
    assert [shown[name].GetName() for name in views.XRAY_VIEWS] == ["LA", "AP"]
    # What the views show.
    ui.reviewModeComboBox.setCurrentIndex(ui.reviewModeComboBox.findData("blend"))
    assert alone._parameterNode.reviewMode == "blend"
    assert ui.reviewOpacitySlider.enabled
    ui.reviewOpacitySlider.value = 30
    ui.reviewContentComboBox.setCurrentIndex(1)
    ui.reviewEnhanceCheckBox.checked = False
    review = step.review
    assert (review.mode, review.opacity, review.content) == ("blend", 0.3, "vertebra")
    assert review.enhance is False
    fields = views.sliceNode(scene, views.XRAY_VIEWS[0]).GetFieldOfView()
    ui.reviewWholeCheckBox.checked = True
    whole = views.sliceNode(scene, views.XRAY_VIEWS[0]).GetFieldOfView()
    assert whole[0] > 1.2 * fields[0]
    before, after = review.display._before, review.display._after
    ui.reviewBeforeCheckBox.checked = True
    ui.reviewAfterCheckBox.checked = False
    assert before.GetDisplayNode().GetVisibility()
    assert not after.GetDisplayNode().GetVisibility()
    for name in ("Volume", "Gaussians"):
        box = getattr(ui, f"review{name}CheckBox")
        box.checked = not box.checked
    camera = views.cameraNode(scene)
    seen = []
    for name in ("Overview", "AlongFirst", "AlongSecond"):
        getattr(ui, f"review{name}Button").click()
        seen.append(camera.GetPosition())
    assert len(set(seen)) == 3
    # The report.
    ui.reviewReportPathLineEdit.currentPath = str(tmp_path / "report")
    assert ui.reviewSaveButton.enabled
    ui.reviewSaveButton.click()
    content = json.loads((tmp_path / "report" / "review.json").read_text())
    np.testing.assert_allclose(content["ct_to_world"], ball.POSE, atol=1e-6)
    assert "Saved" in ui.reviewScoreLabel.text
    ui.reviewLeaveButton.click()
    assert views.layoutNode(scene).GetViewArrangement() == 3


def test_corrections_verdict_and_hardening(alone: Any) -> None:
    ui, session = alone.ui, _session(alone)
    start = session.pose
    ui.reviewStepMmSpinBox.value = -3.0
    assert alone._parameterNode.reviewStepMm == pytest.approx(0.1)
    ui.reviewStepMmSpinBox.value = 2.0
    ui.reviewRightPlusButton.click()
    assert session.movedByHand()[0] == pytest.approx(2.0, abs=1e-6)
    assert ui.reviewRightSpinBox.value == pytest.approx(2.0)
    assert ui.reviewRightSlider.value == 20
    assert "Corrected by hand" in ui.reviewCardLabel.text
    ui.reviewRightSlider.value = 55
    assert session.movedByHand()[0] == pytest.approx(5.5, abs=1e-6)
    ui.reviewRollSpinBox.value = 4.0
    assert session.movedByHand()[1] == pytest.approx(4.0, abs=1e-5)
    ui.reviewRollMinusButton.click()
    assert session.movedByHand()[1] == pytest.approx(3.0, abs=1e-5)
    ui.reviewUndoButton.click()
    assert session.movedByHand()[1] == pytest.approx(4.0, abs=1e-5)
    assert ui.reviewRollSpinBox.value == 0.0  # the sliders begin anew where the pose is
    ui.reviewRedoButton.click()
    ui.reviewResetButton.click()
    np.testing.assert_allclose(session.pose, start, atol=1e-9)
    ui.reviewAcceptButton.click()
    assert session.isAccepted
    assert ui.reviewAcceptButton.text == "Accepted"
    assert "Accepted" in ui.reviewStatusLabel.text
    ui.reviewAcceptButton.click()
    assert not session.isAccepted
    ui.reviewHardenButton.click()
    assert alone.nodes["ct"].GetParentTransformNode() is None
    assert not ui.reviewHardenButton.enabled
    assert not ui.reviewAcceptButton.enabled
    ui.reviewUpPlusButton.click()  # refused, with no harm done
    ui.reviewUndoButton.click()
    assert alone.nodes["ct"].GetTransformNodeID() == alone.nodes["transform"].GetID()


def test_arrow_keys_move_in_the_axes_of_their_view(alone: Any) -> None:
    qt = sys.modules["qt"]
    pressed: list[tuple[Any, ...]] = []
    keys = ArrowKeys(lambda *what: pressed.append(what))
    window = qt.QWidget()
    keys.install(["A", "B"], {"A": window})
    assert keys.isInstalled
    for shortcut in list(keys._shortcuts):
        qt_standin.unwrap(shortcut).activated.emit()
    assert pressed == [(axis, sign, "A") for axis, sign in KEYS.values()]
    keys.remove()
    assert not keys.isInstalled
    step = alone.steps["review"]
    step.review.showLayout()
    alone.stage.build({})
    step.review.showLayout()
    session = _session(alone)
    second = alone.nodes["xrays"][1]
    before = session.outline(second).bounds
    step.nudge.press("right", 1, views.XRAY_VIEWS[1])
    after = session.outline(second).bounds
    per_mm = ball.FOCAL / ball.DISTANCE
    np.testing.assert_allclose(np.subtract(after, before), [per_mm, per_mm, 0, 0], atol=0.3)


def test_flicker_turns_over_by_itself(alone: Any) -> None:
    ui, step = alone.ui, alone.steps["review"]
    step.review.showLayout()
    alone.stage.build({})
    step.review.showLayout()
    ui.reviewModeComboBox.setCurrentIndex(ui.reviewModeComboBox.findData("flicker"))
    assert step.views._flicker.active
    comparison = step.review.comparisons[views.XRAY_VIEWS[0]]
    first = comparison._flickerOn
    wait_until(lambda: comparison._flickerOn is not first, 5.0)
    ui.reviewModeComboBox.setCurrentIndex(0)
    assert not step.views._flicker.active


def test_scores_come_while_the_window_lives(panel: Any) -> None:
    ui, step = panel.ui, panel.steps["review"]
    ui.reviewLayoutButton.click()
    panel.stage.build({})
    ui.reviewLayoutButton.click()
    ui.reviewModeComboBox.setCurrentIndex(ui.reviewModeComboBox.findData("rendering"))
    longest, last = 0.0, time.monotonic()

    def tick() -> bool:
        nonlocal longest, last
        now = time.monotonic()
        longest, last = max(longest, now - last), now
        return step.review.scores is not None

    wait_until(tick, 60.0)
    assert longest < 1.0  # on a machine with other work; 0.1 s where there is none
    assert "AP 0." in ui.reviewScoreLabel.text
    right = step.review.scores["score"]
    for _, registered, now in step.review.card().views:
        assert registered == now  # the same number at the same pose, not what the file says
    assert "0.89" not in ui.reviewCardLabel.text
    comparison = step.review.comparisons[views.XRAY_VIEWS[0]]
    wait_until(lambda: comparison.rendering is not None, 20.0)
    ui.reviewStepMmSpinBox.value = 5.0
    ui.reviewUpPlusButton.click()
    wait_until(lambda: step.review.scores is not None, 20.0)
    assert step.review.scores["score"] < right - 0.05
    assert step.review.card().views[-1][1] == f"{right:.2f}"
    ui.reviewRefineButton.click()
    centre = ball.CENTRE_CT * [-1, -1, 1]  # a ball may turn as it likes
    wanted = transform_points(lps_to_ras(ball.POSE), centre[None])[0]
    wait_until(lambda: np.linalg.norm(_session(panel).centreRas - wanted) < 0.5, 30.0)
    assert ui.reviewUndoButton.enabled
    process = step.review.client.processId
    panel.cleanup()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_saved_scene_comes_back_with_its_review(alone: Any, tmp_path: Path) -> None:
    scene, nodes = slicer.mrmlScene, alone.nodes
    _session(alone).nudge("right", 2.0, nodes["xrays"][0])
    _session(alone).accept()
    alone._parameterNode.reviewMode = "checkerboard"
    alone.steps["review"].review.showLayout()
    files = [nodes["ct"], *nodes["xrays"]]
    for node in files:
        storage = slicer.vtkMRMLNRRDStorageNode()
        storage.SetFileName(str(tmp_path / f"{node.GetName()}.nrrd"))
        scene.AddNode(storage)
        node.SetAndObserveStorageNodeID(storage.GetID())
        assert storage.WriteData(node)
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(tmp_path / "segmentation.seg.nrrd"))
    scene.AddNode(storage)
    nodes["segmentation"].SetAndObserveStorageNodeID(storage.GetID())
    assert storage.WriteData(nodes["segmentation"])
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Commit()
    text = (tmp_path / "scene.mrml").read_text()
    assert DRAWING not in text
    pose = _session(alone).pose
    alone.cleanup()

    again = slicer_startup.start_panel()
    stage = Stage(again)
    widget = slicer_startup.make_widget()
    again.SetURL(str(tmp_path / "scene.mrml"))
    assert again.Connect()
    widget.enter()
    session = widget.steps["review"].review.session
    np.testing.assert_allclose(session.pose, pose, atol=1e-3)  # a scene keeps six digits
    assert session.isAccepted
    assert session.movedByHand()[0] == pytest.approx(2.0, abs=1e-3)
    assert widget._parameterNode.reviewMode == "checkerboard"
    assert "Accepted" in widget.ui.reviewStatusLabel.text
    stage.build({})
    display = widget.steps["review"].review.display
    outlines = display._outlines[widget._parameterNode.xrays[0].GetID()]
    assert outlines[0].GetPolyData().GetNumberOfLines() == 1
    widget.cleanup()


def test_the_review_goes_on_after_another_module(alone: Any) -> None:
    ui, review = alone.ui, alone.steps["review"].review
    ui.reviewLayoutButton.click()
    ui.reviewRightPlusButton.click()
    alone.exit()
    alone.enter()
    assert alone.steps["review"].review is review
    assert review.layout.isShown
    assert ui.reviewUndoButton.enabled
    ui.reviewUndoButton.click()
    assert review.session.movedByHand()[0] == pytest.approx(0.0, abs=1e-9)


def test_a_scene_that_is_closed_ends_the_review(alone: Any) -> None:
    alone.ui.reviewLayoutButton.click()
    slicer.mrmlScene.Clear(False)
    assert alone.steps["review"].review is None


def test_what_cannot_be_reviewed_says_why(alone: Any) -> None:
    segmentation = alone.nodes["segmentation"]
    segmentation.GetSegmentation().AddEmptySegment("T12", "T12")
    alone._parameterNode.segmentId = "T12"
    assert alone.steps["review"].review is None
    assert "T12" in alone.ui.reviewStatusLabel.text
    assert not alone.ui.reviewLayoutButton.enabled


# The process, seen from the window


@pytest.fixture
def client(tmp_path: Path) -> Any:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    client = ReviewClient([sys.executable, str(program)])
    yield client
    client.end()


def _pose(x: float) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3] = x
    return pose


def test_only_the_newest_of_many_scores_is_asked(client: ReviewClient) -> None:
    client.start(Path("case.json"), np.eye(4))
    answers: list[float] = []
    for x in range(1, 6):
        client.ask(lambda answer: answers.append(answer["x"]), "score", _pose(x))
    assert client.wait(30.0)
    assert answers == [5.0]  # before it was ready all but the last had been overtaken
    assert client.views == ["AP", "LA"]
    began = time.monotonic()
    for x in range(10, 20):
        client.ask(lambda answer: answers.append(answer["x"]), "score", _pose(x))
        client.poll()
    assert time.monotonic() - began < 0.5  # asking does not wait
    assert client.wait(30.0)
    assert answers == [5.0, 10.0, 19.0]


def test_stopping_ends_the_process_at_once(client: ReviewClient) -> None:
    client.start(Path("case.json"), np.eye(4))
    assert client.wait(30.0)
    called: list[Any] = []
    client.ask(called.append, "score", _pose(1.0))
    began = time.monotonic()
    client.end()
    assert time.monotonic() - began < 2.0
    assert not client.folder.exists()
    assert called == []
    assert client.processId is not None
    with pytest.raises(ProcessLookupError):
        os.kill(client.processId, 0)
    client.end()  # twice does no harm


def test_a_process_that_fails_says_so(client: ReviewClient) -> None:
    client.start(Path("bad.json"), np.eye(4))
    assert not client.wait(30.0)
    assert str(client.error) == "case.json: cannot be read"


def test_a_case_is_written_piece_by_piece_before_the_process_starts(client: ReviewClient) -> None:
    done: list[int] = []

    def pieces() -> Any:
        for number in range(3):
            time.sleep(0.03)
            done.append(number)
            yield

    client.start(Path("case.json"), np.eye(4), pieces())
    assert client.isRunning
    assert client.processId is None
    client.poll()
    assert done == [0]  # a poll does no more than a moment's work
    answers: list[dict[str, Any]] = []
    client.ask(answers.append, "score", _pose(3.0))
    assert client.wait(30.0)
    assert done == [0, 1, 2]
    assert answers[0]["x"] == 3.0


def test_a_case_that_cannot_be_written_is_said(client: ReviewClient) -> None:
    def pieces() -> Any:
        yield
        raise OSError("no space left")

    client.start(Path("case.json"), np.eye(4), pieces())
    answers: list[dict[str, Any]] = []
    client.ask(answers.append, "score", np.eye(4))
    assert not client.wait(10.0)
    assert str(client.error) == "no space left"
    assert answers == [{"error": "no space left"}]


def test_a_process_that_dies_answers_with_its_last_words(client: ReviewClient) -> None:
    client.start(Path("case.json"), np.eye(4))
    answers: list[dict[str, Any]] = []
    client.ask(answers.append, "die", np.eye(4))
    assert not client.wait(30.0)
    (answer,) = answers
    assert "no more memory" in answer["error"]
    assert not client.isRunning


def test_a_rendering_is_read_and_its_file_removed(tmp_path: Path) -> None:
    path = tmp_path / "image.npy"
    np.save(path, np.ones((3, 4)))
    image = readRendering({"file": str(path)})
    assert image.shape == (3, 4)
    assert image.dtype == np.float32
    assert not path.exists()


def test_the_pose_goes_to_the_process_in_lps(alone: Any) -> None:
    np.testing.assert_allclose(_session(alone).poseLps, ball.POSE, atol=1e-6)
    np.testing.assert_allclose(_session(alone).pose, lps_to_ras(ball.POSE), atol=1e-6)
    np.testing.assert_allclose(frames.LPS_RAS @ frames.LPS_RAS, np.eye(4))
