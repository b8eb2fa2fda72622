# ruff: noqa: E402, N802 (the stand-in for Slicer's start must run before the module is imported)
"""``RadGSRegLogic.segmentFromClick``: a point in, a segment in the scene out, through the child."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("vtk")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import slicer_startup

from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.phantom import LABELS, Phantom, make_phantom, random_spine
from RadGSRegLib.vertebrae import SNOMED_CODES

slicer_startup.start()

from RadGSRegSlicer.operations import clicked
from RadGSRegSlicer.process.driver import TaskError
from RadGSRegSlicer.scene import levels, segments
from RadGSRegSlicer.scene.frames import setIjkToLps

import RadGSReg


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(random_spine(3), 2.5, ["L2", "L3", "L4"])


@pytest.fixture
def ctNode(phantom: Phantom) -> Any:
    slicer_startup.start()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    slicer.util.updateVolumeFromArray(node, phantom.ct.array)
    setIjkToLps(node, phantom.ct.index_to_physical)
    return node


def centre(phantom: Phantom, level: str) -> np.ndarray:
    """The middle of a body, RAS."""
    return phantom.poses[level][:3, 3] * [-1.0, -1.0, 1.0]


@pytest.mark.usefixtures("brief_children")
def test_a_click_gives_a_segment_of_the_level_that_was_said(ctNode: Any, phantom: Phantom) -> None:
    turn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    ctNode.SetAndObserveTransformNodeID(turn.GetID())
    said: list[str] = []
    node, segmentId = RadGSReg.RadGSRegLogic().segmentFromClick(
        ctNode,
        centre(phantom, "L3"),
        "L3",
        progressCallback=lambda fraction, message: said.append(message),
    )
    assert segmentId == "vertebrae_L3"
    assert levels.segmentLevel(node, segmentId).level == "L3"
    assert segments.snomedCode(node.GetSegmentation(), segmentId) == SNOMED_CODES["L3"]
    # It is drawn in the CT's own frame and moves with it.
    assert node.GetTransformNodeID() == turn.GetID()
    found = segments.labelsOnCt(node, segmentId, ctNode)
    mask, truth = found.array == found.label, phantom.labels.array == LABELS["L3"]
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.8
    assert "looking for the vertebra around the click" in said
    info = clicked.clickInfo(node, segmentId)
    assert info is not None
    assert info["status"] in ("ok", "uncertain")
    assert np.allclose(info["point_lps"], phantom.poses["L3"][:3, 3])


def test_a_second_click_corrects_the_first(ctNode: Any, phantom: Phantom, library: Any) -> None:
    """The segment of a level is replaced in its segmentation; the mask is a box of the test's."""
    logic = RadGSReg.RadGSRegLogic()
    node, _ = logic.segmentFromClick(ctNode, centre(phantom, "L3"), "L3")
    other, _ = logic.segmentFromClick(ctNode, centre(phantom, "L2"), "L2", segmentationNode=node)
    assert other is node
    asked = centre(phantom, "L3") + [3.0, 0.0, 2.0]
    again, second = logic.segmentFromClick(ctNode, asked, "L3", segmentationNode=node)
    assert again is node
    ids = segments.segmentIds(node)
    assert sorted(levels.segmentLevel(node, each).level for each in ids) == ["L2", "L3"]
    assert second in ids
    info = clicked.clickInfo(node, second)
    assert info is not None
    assert np.allclose(info["point_lps"], asked * [-1.0, -1.0, 1.0])


def test_a_point_that_cannot_be_used_is_refused_and_leaves_no_node(
    ctNode: Any, phantom: Phantom
) -> None:
    logic = RadGSReg.RadGSRegLogic()
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(InputError, match="outside the CT"):
        logic.segmentFromClick(ctNode, [0.0, 900.0, 0.0])
    with pytest.raises(InputError, match="not three finite numbers"):
        logic.segmentFromClick(ctNode, [0.0, float("nan"), 0.0])
    with pytest.raises(InputError, match="no vertebra"):
        logic.segmentFromClick(ctNode, centre(phantom, "L3"), "C9")
    with pytest.raises(InputError, match="no volume is chosen"):
        logic.segmentFromClick(None, [0.0, 0.0, 0.0])
    corner = phantom.ct.physical_points(np.array([[2.0, 2.0, 2.0]]))[0] * [-1.0, -1.0, 1.0]
    with pytest.raises(TaskError, match="click inside the body of a vertebra"):
        logic.segmentFromClick(ctNode, corner)
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_it_can_be_cancelled_at_once(ctNode: Any, phantom: Phantom) -> None:
    task = RadGSReg.RadGSRegLogic().segmentFromClick(
        ctNode, centre(phantom, "L3"), waitForCompletion=False
    )
    while task.progress < 0.05 and not task.poll():
        time.sleep(0.02)
    start = time.monotonic()
    task.cancel()
    while not task.poll():
        time.sleep(0.02)
    assert time.monotonic() - start < 2.5
    assert isinstance(task.error, Cancelled)
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
