# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""``RadGSRegLogic.reconstruct`` from many X-rays alone: it grows, is judged, and can be kept."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import panel_scene
import slicer_startup
from panel_scene import Library

from RadGSRegLib.errors import Cancelled, InputError

slicer_startup.start()

from RadGSRegSlicer.exchange import casefolder, results, staging
from RadGSRegSlicer.exchange.early import UNFINISHED
from RadGSRegSlicer.exchange.results import OutputNodes
from RadGSRegSlicer.process import environment
from RadGSRegSlicer.process.driver import TaskError
from RadGSRegSlicer.process.environment import MissingPackagesError
from RadGSRegSlicer.review import rendering
from RadGSRegSlicer.scene import xray
from RadGSRegSlicer.scene.record import REASON, RECONSTRUCTION, STATUS, TISSUE

import RadGSReg

SIZES = [(10, 9, 8), (11, 10, 9)]  # of the library's volumes so far, as numpy says them


@pytest.fixture(autouse=True)
def scene() -> Any:
    return slicer_startup.start()


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(slicer.util.arrayFromVolume(node).shape)


def _volumes() -> int:
    return int(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"))


def test_thirty_x_rays_become_a_judged_volume(library: Library) -> None:
    xrays = panel_scene.xray_nodes(30)
    told: list[tuple[Any, tuple[int, ...], str]] = []

    def grown(result: Any) -> None:
        node = result.reconstructionNode
        told.append((node, _shape(node), node.GetAttribute(STATUS)))

    result = RadGSReg.RadGSRegLogic().reconstruct(
        xrays, minutes=2.5, boxMm=90.0, spacingMm=1.5, holdOut=3, previewCallback=grown
    )
    assert [(shape, status) for _, shape, status in told] == [(s, "uncertain") for s in SIZES]
    assert {node.GetID() for node, _, _ in told} == {result.reconstructionNode.GetID()}
    assert _shape(result.reconstructionNode) == (14, 13, 12)
    assert (result.status, result.reason) == ("ok", "as the test wants it")
    assert result.reconstructionNode.GetAttribute(STATUS) == "ok"
    assert result.quality["held_out_psnr_db"] == 31.5
    assert result.oddViews == []
    assert result.gaussiansNode is not None
    assert _volumes() == 31
    arguments = json.loads(library.read("arguments"))
    for option, value in (("minutes", "2.5"), ("box-mm", "90"), ("spacing", "1.5")):
        assert arguments[arguments.index(f"--{option}") + 1] == value
    assert arguments[arguments.index("--hold-out") + 1] == "3"
    views = json.loads(library.read("views"))["views"]
    assert [view["name"] for view in views] == [node.GetName() for node in xrays]


def test_bone_is_a_volume_of_its_own(library: Library) -> None:
    xrays, logic = panel_scene.xray_nodes(4), RadGSReg.RadGSRegLogic()
    result = logic.reconstruct(xrays, standardize=True)
    node, bone = result.reconstructionNode, result.boneNode
    assert json.loads(library.read("arguments")).count("--standardize") == 1
    assert bone.GetName() == "RadGSReg bone"
    assert _shape(bone) == _shape(node) == (14, 13, 12)
    values = slicer.util.arrayFromVolume(bone)
    assert values.max() == pytest.approx(slicer.util.arrayFromVolume(node).max() - 0.01)
    assert _marks(bone) == ["true", "ok", "as the test wants it"]
    assert (bone.GetAttribute(TISSUE), node.GetAttribute(TISSUE)) == ("0.02", None)
    assert result.quality["bone"]["agreement"] == 0.6
    # Again into the same nodes; without it there is none, and nothing is asked for.
    outputs = OutputNodes(None, node, result.gaussiansNode, bone)
    again = logic.reconstruct(xrays, standardize=True, outputs=outputs)
    assert (again.reconstructionNode, again.boneNode) == (node, bone)
    assert _volumes() == 6
    plain = logic.reconstruct(xrays, outputs=OutputNodes(None, bone))
    assert plain.boneNode is None
    assert bone.GetAttribute(TISSUE) is None  # it has become one of all tissue
    assert "--standardize" not in json.loads(library.read("arguments"))


def test_a_failure_leaves_the_bone_of_a_former_run(library: Library) -> None:
    xrays, logic = panel_scene.xray_nodes(3), RadGSReg.RadGSRegLogic()
    made = logic.reconstruct(xrays, standardize=True)
    before = slicer.util.arrayFromVolume(made.boneNode).copy()
    library.behave("bad")
    outputs = OutputNodes(None, made.reconstructionNode, made.gaussiansNode, made.boneNode)
    with pytest.raises(TaskError):
        logic.reconstruct(xrays, standardize=True, outputs=outputs)
    assert np.array_equal(slicer.util.arrayFromVolume(made.boneNode), before)
    assert made.boneNode.GetAttribute(TISSUE) == "0.02"
    assert _volumes() == 5


def test_a_folder_that_is_not_whole_leaves_the_scene(library: Library, tmp_path: Path) -> None:
    out = tmp_path / "out"
    xrays = panel_scene.xray_nodes(3)
    RadGSReg.RadGSRegLogic().reconstruct(xrays, standardize=True, outputFolder=out)
    count = slicer.mrmlScene.GetNumberOfNodes()
    assert results.loadReconstruction(out, slicer.mrmlScene).boneNode is not None
    assert slicer.mrmlScene.GetNumberOfNodes() > count
    count = slicer.mrmlScene.GetNumberOfNodes()
    record = json.loads((out / "reconstruction.json").read_text())
    del record["quality"]["bone"]
    (out / "reconstruction.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="does not say how dense soft tissue is"):
        results.loadReconstruction(out, slicer.mrmlScene)
    (out / "bone_density.nii.gz").write_bytes(b"no volume")
    with pytest.raises(InputError, match="cannot be read as a volume"):
        results.loadReconstruction(out, slicer.mrmlScene)
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def test_without_monai_it_says_what_to_install(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = environment.importlib.util.find_spec
    monkeypatch.setattr(
        environment.importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "monai" else look(name, *rest),
    )
    with pytest.raises(MissingPackagesError, match="not installed: monai; press 'Install what"):
        RadGSReg.RadGSRegLogic().reconstruct(panel_scene.xray_nodes(3), standardize=True)


def test_odd_x_rays_are_named(library: Library) -> None:
    library.behave("uncertain")
    result = RadGSReg.RadGSRegLogic().reconstruct(panel_scene.xray_nodes(4))
    assert result.status == "uncertain"
    assert result.oddViews == ["V01"]
    assert result.reconstructionNode.GetAttribute(REASON) == "as the test wants it"


def test_cancel_keeps_the_last_volume(library: Library, tmp_path: Path) -> None:
    library.behave("hang")
    xrays, told = panel_scene.xray_nodes(5), []
    task = RadGSReg.RadGSRegLogic().reconstruct(
        xrays,
        previewCallback=told.append,
        outputFolder=tmp_path / "out",
        waitForCompletion=False,
    )
    deadline = time.monotonic() + 30.0
    while len(told) < 2 and time.monotonic() < deadline:
        task.poll()
        time.sleep(0.02)
    task.cancel()
    result = task.wait()
    assert task.error is None
    assert (result.status, result.reason) == ("uncertain", UNFINISHED)
    assert _shape(result.reconstructionNode) == SIZES[1]
    assert result.reconstructionNode.GetAttribute(STATUS) == "uncertain"
    assert result.gaussiansNode is None
    assert result.outputFolder is None
    assert not (tmp_path / "out").exists()
    assert list(Path(tempfile.gettempdir()).glob("radgsreg-*")) == []


def test_cancel_before_there_is_a_volume_leaves_the_scene(library: Library) -> None:
    library.behave("mute")
    xrays = panel_scene.xray_nodes(3)

    def stop(share: float, message: str) -> bool:
        return share < 0.3

    with pytest.raises(Cancelled):
        RadGSReg.RadGSRegLogic().reconstruct(xrays, progressCallback=stop)
    assert _volumes() == 3


def test_a_failure_takes_the_volumes_so_far_back(library: Library) -> None:
    library.behave("bad")
    xrays = panel_scene.xray_nodes(3)
    logic = RadGSReg.RadGSRegLogic()
    with pytest.raises(TaskError, match="show nothing"):
        logic.reconstruct(xrays)
    assert _volumes() == 3
    before = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "mine")
    slicer.util.updateVolumeFromArray(before, np.full((2, 3, 4), 7.0))
    with pytest.raises(TaskError):
        logic.reconstruct(xrays, outputs=OutputNodes(reconstructionNode=before))
    assert _shape(before) == (2, 3, 4)
    assert _marks(before) == [None, None, None]


def _marks(node: Any) -> list[str | None]:
    return [node.GetAttribute(name) for name in (RECONSTRUCTION, STATUS, REASON)]


def test_a_failed_second_run_leaves_the_scene_as_it_was(library: Library) -> None:
    xrays, logic = panel_scene.xray_nodes(3), RadGSReg.RadGSRegLogic()

    def show(result: Any) -> None:
        node = result.reconstructionNode
        rendering.plain(node)
        assert rendering.render(node) is not None

    node = logic.reconstruct(xrays).reconstructionNode
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(0.5, 0.25)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeIron")
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetAndObserveTransformNodeID(transform.GetID())
    count, marks = slicer.mrmlScene.GetNumberOfNodes(), _marks(node)
    assert marks == ["true", "ok", "as the test wants it"]
    library.behave("bad")
    for outputs in (OutputNodes(reconstructionNode=node), None):
        with pytest.raises(TaskError):
            logic.reconstruct(xrays, outputs=outputs, previewCallback=show)
        assert slicer.mrmlScene.GetNumberOfNodes() == count
        assert _marks(node) == marks
        assert _shape(node) == (14, 13, 12)
        assert node.GetParentTransformNode() is transform
        assert (display.GetWindow(), display.GetLevel()) == (0.5, 0.25)
        assert display.GetColorNodeID() == "vtkMRMLColorTableNodeIron"


def test_a_discarded_run_keeps_nothing(library: Library) -> None:
    library.behave("hang")
    task = RadGSReg.RadGSRegLogic().reconstruct(panel_scene.xray_nodes(3), waitForCompletion=False)
    deadline = time.monotonic() + 30.0
    while task.progress < 0.6 and time.monotonic() < deadline:
        task.poll()
        time.sleep(0.02)
    task.discard()
    with pytest.raises(Cancelled):
        task.wait()
    assert task.result is None


def _started(**options: Any) -> Any:
    """A run whose child is at work."""
    task = RadGSReg.RadGSRegLogic().reconstruct(
        panel_scene.xray_nodes(3), waitForCompletion=False, **options
    )
    deadline = time.monotonic() + 30.0
    while task.job.processId is None and time.monotonic() < deadline:
        task.poll()
    return task


def test_x_rays_are_written_while_a_window_lives(library: Library, tmp_path: Path) -> None:
    xrays, folder = panel_scene.xray_nodes(6), tmp_path / "case"
    folder.mkdir()
    with pytest.raises(InputError):
        staging.stageViews([*xrays, xrays[0]], folder)  # looked at before the first step
    assert list(folder.iterdir()) == []
    steps = staging.stageViews(xrays, folder)
    assert list(folder.iterdir()) == []
    for _ in steps:
        pass
    assert len(list(folder.glob("*.tif"))) == 6
    # Stopped before the end: what is not written yet is left out.
    many = staging._UntilStopped(casefolder.viewsFromXrays(xrays))
    many.isStopped = True
    with pytest.raises(Cancelled):
        list(many)
    with pytest.raises(OSError, match=r"v01\.tif"):
        list(staging.stageViews(xrays, tmp_path / "none"))


def test_the_click_handler_writes_no_x_ray(library: Library) -> None:
    task = RadGSReg.RadGSRegLogic().reconstruct(panel_scene.xray_nodes(4), waitForCompletion=False)
    assert list(task.folder.inputs.iterdir()) == []
    assert task.wait().status == "ok"


def test_clicks_can_be_left_out(library: Library) -> None:
    xrays = panel_scene.xray_nodes(4)
    for node in xrays:
        xray.setCenterPx(node, (7.0, 8.0))
    for clicks in (True, False):
        RadGSReg.RadGSRegLogic().reconstruct(xrays, clicks=clicks)
        views = json.loads(library.read("views"))["views"]
        assert all(("center_px" in view) == clicks for view in views)


@pytest.mark.parametrize("status", ["ok", "uncertain"])
def test_a_cancel_at_the_end_loses_nothing(library: Library, status: str) -> None:
    library.behave(status)
    task = _started()
    task.job._process.wait(30.0)  # it has ended, and nothing has looked yet
    task.cancel()
    result = task.wait()
    assert (result.status, result.reason) == (status, "as the test wants it")
    assert _shape(result.reconstructionNode) == (14, 13, 12)


def test_a_run_that_is_ended_leaves_the_scene_as_it_was(library: Library) -> None:
    library.behave("hang")
    task = _started()
    count = slicer.mrmlScene.GetNumberOfNodes()
    deadline = time.monotonic() + 30.0
    while task.progress < 0.6 and time.monotonic() < deadline:
        task.poll()
        time.sleep(0.02)
    assert _volumes() == 4
    task.end()
    assert _volumes() == 3
    assert slicer.mrmlScene.GetNumberOfNodes() == count


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"holdOut": 2}, "holdOut: leaves 2 X-rays to fit; hold out fewer"),
        ({"holdOut": -1}, "holdOut: is -1; give a number above 0"),
        ({"minutes": 0}, "minutes: is 0; give a number above 0"),
        ({"boxMm": float("nan")}, "boxMm: is nan; give a number above 0"),
        (
            {"minutes": 3, "method": "learned", "model": "m"},
            "minutes: is of use only with X-rays alone; leave it out",
        ),
        (
            {"standardize": True, "method": "learned", "model": "m"},
            "standardize: is of use only with X-rays alone; leave it out",
        ),
    ],
)
def test_sizes_that_cannot_be_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        RadGSReg.RadGSRegLogic().reconstruct(panel_scene.xray_nodes(4), **options)
    assert str(caught.value) == sentence


def test_bone_is_told_from_soft_tissue_in_x_rays_alone_and_in_three() -> None:
    xrays, ct = (
        panel_scene.xray_nodes(3),
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT"),
    )
    logic = RadGSReg.RadGSRegLogic()
    with pytest.raises(InputError, match=r"^standardize: is of use only with X-rays alone"):
        logic.reconstruct(xrays, ctNode=ct, standardize=True)
    with pytest.raises(InputError, match=r"^standardize: needs three X-rays or more; leave it out"):
        logic.reconstruct(xrays[:2], standardize=True)
