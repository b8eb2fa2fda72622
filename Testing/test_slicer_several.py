# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""``RadGSRegLogic.register`` with several vertebrae: nodes, the bent CT, what a scene keeps.

A quick program stands in the library's place (see `panel_scene`); the last test computes.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import panel_scene
import slicer_startup
from panel_scene import Library

from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import transform_points
from RadGSRegLib.simulation import (
    SimulationParameters,
    simulate_phantom_case,
    write_simulated_case,
)

slicer_startup.start()

from RadGSRegSlicer.exchange.gaussians import CLOUD
from RadGSRegSlicer.exchange.spineresults import SpineResult, loadSpine
from RadGSRegSlicer.exchange.volumes import VOLUME
from RadGSRegSlicer.operations import simulated
from RadGSRegSlicer.operations.severalregistration import registrationRequest
from RadGSRegSlicer.scene.record import recordOf, reportOf
from RadGSRegSlicer.scene.registeredspine import begunWith, isLevel, levelsOf, motionsOf, segmentOf
from RadGSRegSlicer.scene.segments import segmentIds
from RadGSRegSlicer.scene.starts import pointsInCt

import RadGSReg


@pytest.fixture(autouse=True)
def scene() -> Any:
    return slicer_startup.start()


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    library = panel_scene.quick_library(tmp_path, monkeypatch)
    library.bend()
    return library


@pytest.fixture
def nodes(tmp_path: Path) -> tuple[Any, Any, list[Any]]:
    """The ball as L3 with an L2 above it and an L4 below, and its two X-rays."""
    files = panel_scene.write_files(tmp_path / "case")
    ct, segmentation = panel_scene.load_nodes(files)
    panel_scene.three_levels(ct, segmentation)
    return ct, segmentation, RadGSReg.RadGSRegLogic().importXray(files / "views.json")


def register(nodes: Any, segments: Any = ("L3", "L2", "L4"), **options: Any) -> Any:
    ct, segmentation, xrays = nodes
    return RadGSReg.RadGSRegLogic().register(ct, segmentation, segments, xrays, **options)


def shift_of(node: Any) -> list[float]:
    """Where a transform puts the origin, LPS."""
    return list(np.array(slicer_startup.transform_point(node, [0, 0, 0])) * [-1.0, -1.0, 1.0])


def test_a_list_registers_all_and_bends_the_ct(library: Library, nodes: Any) -> None:
    ct, segmentation, _ = nodes
    result = register(nodes)
    assert isinstance(result, SpineResult)
    arguments = json.loads(library.read("arguments"))
    assert arguments[arguments.index("--labels") + 1] == "1,2,3"
    assert (result.status, result.begunWith, list(result.levels)) == (
        "ok",
        "L3",
        ["L2", "L3", "L4"],
    )
    assert ct.GetParentTransformNode() is result.transformNode
    assert segmentation.GetParentTransformNode() is result.transformNode
    assert not result.transformNode.IsLinear()
    np.testing.assert_allclose(shift_of(result.transformNode), [-1, 20, 30], atol=0.05)
    for number, (name, level) in enumerate(result.levels.items()):
        assert level.transformNode.GetName() == f"{name} ct-to-world"
        np.testing.assert_allclose(shift_of(level.transformNode), [10 * number, 20, 30])
        record = recordOf(level.transformNode)
        assert record is not None
        assert (record.status, record.reason) == ("ok", f"as the test wants {name}")
        assert reportOf(level.transformNode) == f"<html>{name}</html>"
        assert level.reconstructionNode is not None
        assert level.gaussiansNode.GetDisplayNode().GetVisibility() == 0
        assert level.outputFolder is None
    assert result.notes == ["left out: AP shows 12 % of L5"]
    (motion, _) = result.motions
    assert (motion.upper, motion.lower, motion.turn_deg) == ("L2", "L3", (3.0, 0.0, 4.0))


def test_a_scene_keeps_what_belongs_together(library: Library, nodes: Any, tmp_path: Path) -> None:
    result = register(nodes)
    ids = {level.name: level.segment for level in levelsOf(result.transformNode)}
    segmentation = nodes[1].GetSegmentation()
    assert {n: segmentation.GetSegment(id_).GetName() for n, id_ in ids.items()} == {
        name: name for name in ("L2", "L3", "L4")
    }
    scene = slicer.mrmlScene
    for kind in ("vtkMRMLVolumeNode", "vtkMRMLModelNode", "vtkMRMLSegmentationNode"):
        for node in slicer.util.getNodesByClass(kind):
            scene.RemoveNode(node)  # their files are another test's
    bent = result.transformNode
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(tmp_path / "bent.h5"))
    scene.AddNode(storage)
    bent.SetAndObserveStorageNodeID(storage.GetID())
    assert storage.WriteData(bent)
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Commit()
    again = slicer_startup.start()
    again.SetURL(str(tmp_path / "scene.mrml"))
    assert again.Connect()
    (bent,) = [n for n in slicer.util.getNodesByClass("vtkMRMLTransformNode") if levelsOf(n)]
    assert begunWith(bent) == "L3"
    assert {level.name: level.segment for level in levelsOf(bent)} == ids
    assert [segmentOf(level.transformNode) for level in levelsOf(bent)] == list(ids.values())
    assert [motion.shift_mm for motion in motionsOf(bent)] == [(1.0, 2.0, 2.0)] * 2


def test_nodes_are_taken_again_and_those_left_over_go(library: Library, nodes: Any) -> None:
    first = register(nodes)
    outputs = RadGSReg.OutputNodes(spineNode=first.transformNode)
    before = slicer.mrmlScene.GetNumberOfNodes()
    again = register(nodes, outputs=outputs)
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert again.transformNode is first.transformNode
    fewer = register(nodes, ["L3", "L4"], outputs=outputs)
    assert list(fewer.levels) == ["L3", "L4"]
    assert fewer.levels["L4"].transformNode is first.levels["L4"].transformNode
    assert first.levels["L2"].transformNode.GetScene() is None
    assert first.levels["L2"].reconstructionNode.GetScene() is None


def test_what_is_not_there_any_more_of_a_vertebra_goes(
    library: Library, nodes: Any, tmp_path: Path
) -> None:
    ct, segmentation, _ = nodes
    first = register(nodes, outputFolder=tmp_path / "kept")
    folder = first.levels["L2"].outputFolder
    for file in (CLOUD, VOLUME):
        (folder / file).unlink()
    outputs = RadGSReg.OutputNodes(spineNode=first.transformNode)
    again = loadSpine(tmp_path / "kept", ct, outputs, segmentation)
    assert again.levels["L2"].transformNode is first.levels["L2"].transformNode
    assert again.levels["L2"].reconstructionNode is None
    assert first.levels["L2"].reconstructionNode.GetScene() is None
    assert first.levels["L2"].gaussiansNode.GetScene() is None
    assert first.levels["L3"].reconstructionNode.GetScene() is not None
    assert again.levels["L3"].gaussiansNode is first.levels["L3"].gaussiansNode


def test_the_nodes_of_another_ct_stay_its_own(library: Library, nodes: Any) -> None:
    ct, segmentation, xrays = nodes
    first = register(nodes)
    other = slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, ct, "other")
    other.SetAndObserveTransformNodeID(None)
    outputs = RadGSReg.OutputNodes(spineNode=first.transformNode)
    second = register((other, segmentation, xrays), outputs=outputs)
    assert second.transformNode is not first.transformNode
    assert ct.GetParentTransformNode() is first.transformNode
    assert other.GetParentTransformNode() is second.transformNode
    own = {id(level.transformNode) for level in first.levels.values()}
    assert own.isdisjoint(id(level.transformNode) for level in second.levels.values())
    assert [level.name for level in levelsOf(first.transformNode)] == ["L2", "L3", "L4"]


def test_a_vertebra_that_failed_leaves_the_ct_where_it_is(library: Library, nodes: Any) -> None:
    library.behave("uncertain")
    library.bend({"L2": "ok", "L4": "failed"})
    result = register(nodes)
    assert result.status == "failed"
    assert {name: level.status for name, level in result.levels.items()} == {
        "L2": "ok",
        "L3": "uncertain",
        "L4": "failed",
    }
    assert nodes[0].GetParentTransformNode() is None
    assert "L4 failed" in result.notes[-1]


def scene_now() -> dict[str, tuple[str, str | None]]:
    """The scene's nodes, with the transform that each is under."""
    scene = slicer.mrmlScene
    nodes = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
    return {
        node.GetID(): (node.GetName(), getattr(node, "GetTransformNodeID", lambda: None)())
        for node in nodes
    }


@pytest.mark.parametrize("is_second", [False, True])
def test_a_cancelled_run_leaves_the_scene_as_it_was(
    library: Library, nodes: Any, tmp_path: Path, is_second: bool
) -> None:
    outputs = None
    if is_second:
        outputs = RadGSReg.OutputNodes(spineNode=register(nodes).transformNode)
    before = scene_now()
    library.behave("hang")
    run = register(nodes, outputs=outputs, outputFolder=tmp_path / "kept", waitForCompletion=False)
    # No window here whose events could be waited for.
    deadline = time.monotonic() + 30.0
    while not run.poll() and run.progress < 0.5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert run.progress >= 0.5
    run.cancel()
    with pytest.raises(Cancelled):
        run.wait()
    assert scene_now() == before
    assert not (tmp_path / "kept").exists()


def test_results_that_cannot_be_read_leave_the_scene_as_it_was(
    library: Library, nodes: Any, tmp_path: Path
) -> None:
    ct, segmentation, _ = nodes
    first = register(nodes, outputFolder=tmp_path / "kept")
    before = scene_now()
    (tmp_path / "kept" / "level_3" / CLOUD).write_bytes(b"no cloud")
    outputs = RadGSReg.OutputNodes(spineNode=first.transformNode)
    with pytest.raises(InputError):
        loadSpine(tmp_path / "kept", ct, outputs, segmentation)
    assert scene_now() == before


def test_a_folder_of_several_is_loaded_again(library: Library, nodes: Any, tmp_path: Path) -> None:
    ct, segmentation, _ = nodes
    register(nodes, outputFolder=tmp_path / "kept")
    ct.SetAndObserveTransformNodeID(None)
    result = RadGSReg.RadGSRegLogic().loadResult(tmp_path / "kept", ct, segmentation)
    assert isinstance(result, SpineResult)
    assert ct.GetParentTransformNode() is result.transformNode
    assert result.first.outputFolder == tmp_path / "kept" / "level_1"
    count = slicer.mrmlScene.GetNumberOfNodes()
    (tmp_path / "kept" / "spine_ct_to_world.h5").unlink()
    with pytest.raises(InputError, match=r"spine_ct_to_world\.h5: does not exist"):
        RadGSReg.RadGSRegLogic().loadResult(tmp_path / "kept", ct, segmentation)
    assert slicer.mrmlScene.GetNumberOfNodes() == count


@pytest.mark.parametrize(
    ("segments", "options", "match"),
    [
        ([], {}, "there is none"),
        (["L3", "L9"], {}, "has no segment 'L9'"),
        (["L3", "L2"], {"method": "published"}, "cannot go with the method as published"),
        (["L3", "L2"], {"model": "weights"}, "cannot go with a model"),
    ],
)
def test_what_several_cannot_be_is_refused(
    library: Library, nodes: Any, segments: list[str], options: dict[str, Any], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        register(nodes, segments, **options)
    assert not (library.folder / "arguments").exists()


def test_a_node_of_several_holds_one_alone_and_forgets_which_it_was_of(
    library: Library, nodes: Any
) -> None:
    node = register(nodes).levels["L2"].transformNode
    assert segmentOf(node)
    one = register(nodes, "L3", outputs=RadGSReg.OutputNodes(transformNode=node))
    assert one.transformNode is node
    assert not isLevel(node)
    assert segmentOf(node, "L3") == "L3"


def test_one_segment_is_what_it_was(library: Library, nodes: Any) -> None:
    result = register(nodes, "L3")
    assert "--labels" not in json.loads(library.read("arguments"))
    assert not isinstance(result, SpineResult)
    assert result.transformNode.IsLinear()
    # A list of one is still a list: what comes back has the form of several.
    assert list(register(nodes, ["L3"]).levels) == ["L3"]
    ct, segmentation, xrays = nodes
    assert registrationRequest(ct, segmentation, "L3", xrays).segment == "L3"


def test_a_point_on_a_bent_ct_is_where_it_was(library: Library, nodes: Any) -> None:
    ct = nodes[0]
    register(nodes)
    markups = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    wanted = [-10.0, 40.0, 25.0]
    there = slicer_startup.transform_point(ct.GetParentTransformNode(), wanted)
    markups.AddControlPointWorld(*there)
    np.testing.assert_allclose(pointsInCt(markups, ct), [wanted], atol=0.1)


def test_the_truth_is_that_of_each_vertebra(nodes: Any) -> None:
    ct, segmentation, _ = nodes
    ids = {
        segmentation.GetSegmentation().GetSegment(id_).GetName(): id_
        for id_ in segmentIds(segmentation)
    }
    own, other = np.eye(4), np.eye(4)
    own[0, 3], other[0, 3] = 3.0, 5.0
    simulated._truthNode(simulated._Truth(own, {ids["L2"]: other}), ct, ids["L3"])
    logic = RadGSReg.RadGSRegLogic()
    errors = [logic.errorAgainstTruth(ct, segmentation, name) for name in ("L3", "L2", "L4")]
    assert errors == [pytest.approx(3.0), pytest.approx(5.0), None]


@pytest.mark.slow
def test_the_real_command_registers_two(tmp_path: Path) -> None:
    parameters = SimulationParameters.preset("realistic").with_field(250.0, 244)
    made = simulate_phantom_case(81700, parameters, spacing_mm=2.0, field="trunk")
    path = write_simulated_case(made, tmp_path / "case")
    content = json.loads(path.read_text())
    ct = slicer_startup.load_volume(path.parent / content["ct"])
    names = made.case.label_names
    segmentation = slicer_startup.load_segmentation(path.parent / content["segmentation"], names)
    logic = RadGSReg.RadGSRegLogic()
    xrays = logic.importXray(path.parent / "views.json")
    result = logic.register(ct, segmentation, ["L3", "L4"], xrays, device="cpu", effort="fast")
    assert list(result.levels) == ["L3", "L4"]
    assert ct.GetParentTransformNode() is result.transformNode
    truth = json.loads((path.parent / "truth.json").read_text())
    wanted = {"L3": truth["ct_to_world"], "L4": truth["neighbours"]["23"]}
    lps = np.array([-1.0, -1.0, 1.0])
    for name, level in result.levels.items():
        label = next(k for k, v in names.items() if v == name)
        k, j, i = np.argwhere(made.case.labels.array == label)[::400].T
        points = made.case.labels.physical_points(np.stack([i, j, k], axis=1))
        for node in (level.transformNode, result.transformNode):
            moved = [slicer_startup.transform_point(node, p * lps) for p in points]
            apart = np.array(moved) * lps - transform_points(np.array(wanted[name]), points)
            assert np.linalg.norm(apart, axis=1).mean() < 0.6, name
