# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""``RadGSRegLogic.loadTrack``: poses of a run as a sequence, with what each frame is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer_startup

from RadGSRegLib.cases import TrackedFrame, TrackRecord, read_track_json, write_track_json
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Camera, Rigid, transform_points

slicer_startup.start()

from RadGSRegSlicer.scene.frames import transformMatrix
from RadGSRegSlicer.scene.record import REASON, STATUS
from RadGSRegSlicer.scene.tracksequence import FRAME, frameStatuses
from RadGSRegSlicer.scene.xray import XrayGeometry, createXrayNode, getGeometry, isXray, setGeometry

import RadGSReg

STATUSES = ("uncertain", "ok", "ok", "failed", "ok")


def write_track(
    folder: Path, statuses: tuple[str, ...] = STATUSES, times: bool = True, name: str = "L3"
) -> Path:
    """A track with a pose of its own in each frame, of which the third has no picture."""
    frames = []
    for n, status in enumerate(statuses):
        turn = Rotation.from_rotvec([2.0 * n, 1.0, -3.0 * n], degrees=True)
        pose = Rigid.from_parts(turn.as_matrix(), [5.0 * n, 20.0 - n, 3.0])
        frames.append(
            TrackedFrame(
                index=n + 4,
                time_s=0.04 * n if times else None,
                status=status,  # type: ignore[arg-type]
                reason=f"why {n} is {status}",
                found="not found" if status == "failed" else "forwards",
                ct_to_world=None if status == "failed" else np.eye(4),
                covariance=None if status == "failed" else np.eye(6),
                smoothed_ct_to_world=pose.matrix,
                smoothed_covariance=np.eye(6),
                smoothed_error_mm=0.3,
            )
        )
    folder.mkdir(exist_ok=True)
    record = TrackRecord(2, name, np.zeros(3), 5, frames)
    write_track_json(record, folder / "track.json")
    return folder


@pytest.fixture(autouse=True)
def scene() -> Any:
    return slicer_startup.start()


@pytest.fixture
def nodes(scene: Any) -> tuple[Any, Any]:
    """A CT and a segmentation."""
    ct = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "ct")
    slicer.util.updateVolumeFromArray(ct, np.zeros((4, 4, 4), np.int16))
    return ct, scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "segmentation")


def load(folder: Path, nodes: Any, xrays: Any = ()) -> Any:
    return RadGSReg.RadGSRegLogic().loadTrack(folder, *nodes, xrays)


def show(browser: Any, item: int) -> None:
    """Choose a frame, as the application does when its slider is moved."""
    browser.SetSelectedItemNumber(item)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)


def xray_run(scene: Any, name: str, count: int, step: float = 1.0) -> Any:
    """A run of X-rays: every pixel of a frame is its number."""
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequence.SetIndexName("picture")
    sequence.SetIndexType(sequence.NumericIndex)
    for n in range(count):
        node = slicer.vtkMRMLScalarVolumeNode()
        slicer.util.updateVolumeFromArray(node, np.full((1, 6, 8), n, np.int16))
        sequence.SetDataNodeAtValue(node, str(n * step))
    return sequence


def in_scene(scene: Any) -> list[str]:
    nodes = slicer.util.getNodesByClass("vtkMRMLNode", scene)
    return sorted(f"{node.GetID()} {node.GetName()} {node.GetMTime()}" for node in nodes)


def test_every_frame_moves_the_ct_by_its_smoothed_pose(tmp_path: Path, nodes: Any) -> None:
    folder = write_track(tmp_path / "track")
    record = read_track_json(folder / "track.json")
    result = load(folder, nodes)
    assert all(node.GetParentTransformNode() is result.transformNode for node in nodes)
    assert (result.status, result.reason) == (record.status, record.reason)
    assert result.statuses == {n + 4: status for n, status in enumerate(STATUSES)}
    sequence = result.sequenceNode
    assert (sequence.GetIndexName(), sequence.GetIndexUnit()) == ("time", "s")
    assert [float(sequence.GetNthIndexValue(n)) for n in range(5)] == pytest.approx(
        [0.0, 0.04, 0.08, 0.12, 0.16]
    )
    assert result.browserNode.GetSelectedItemNumber() == 1
    points = np.array([[0.0, 0.0, 0.0], [30.0, -20.0, 50.0]])
    for n in (4, 0, 3, 2):
        show(result.browserNode, n)
        frame = record.frames[n]
        wanted = transform_points(frame.smoothed_ct_to_world, points)
        got = [
            slicer_startup.transform_point(nodes[0].GetParentTransformNode(), point * [-1, -1, 1])
            for point in points
        ]
        np.testing.assert_allclose(np.array(got) * [-1, -1, 1], wanted, atol=1e-9)


def test_a_frame_that_is_not_ok_says_so(tmp_path: Path, nodes: Any) -> None:
    result = load(write_track(tmp_path / "track"), nodes)
    assert frameStatuses(result.sequenceNode) == list(STATUSES)
    assert "failed: 7" in result.sequenceNode.GetDescription()
    assert "(failed)" in result.sequenceNode.GetName()
    shown = result.transformNode
    for n, status in enumerate(STATUSES):
        data = result.sequenceNode.GetNthDataNode(n)
        show(result.browserNode, n)
        for node in (data, shown):
            assert node.GetAttribute(STATUS) == status
            assert node.GetAttribute(REASON) == f"why {n} is {status}"
            assert node.GetAttribute(FRAME) == str(n + 4)
            assert ("do not rely" in node.GetDescription()) == (status != "ok")
        assert data.GetName() == f"frame {n + 4}: {status}"


def test_without_times_frames_count(tmp_path: Path, nodes: Any) -> None:
    sequence = load(write_track(tmp_path / "track", times=False), nodes).sequenceNode
    assert (sequence.GetIndexName(), sequence.GetIndexUnit()) == ("frame", "")
    assert [float(sequence.GetNthIndexValue(n)) for n in range(5)] == [4, 5, 6, 7, 8]


def test_the_same_bone_takes_its_nodes_again(tmp_path: Path, nodes: Any, scene: Any) -> None:
    first = load(write_track(tmp_path / "track"), nodes)
    count = scene.GetNumberOfNodes()
    again = load(write_track(tmp_path / "again", ("ok", "ok", "uncertain")), nodes)
    assert scene.GetNumberOfNodes() == count
    for name in ("sequenceNode", "browserNode", "transformNode"):
        assert getattr(again, name) is getattr(first, name)
    assert again.sequenceNode.GetNumberOfDataNodes() == 3
    assert again.notes == []
    assert again.transformNode.GetAttribute(STATUS) == "ok"
    other = load(write_track(tmp_path / "other", name="L4"), nodes)
    assert other.sequenceNode is not first.sequenceNode
    assert nodes[0].GetParentTransformNode() is other.transformNode
    assert nodes[1].GetParentTransformNode() is other.transformNode
    assert "is under the transform" in other.notes[0]


def test_where_no_frame_is_ok_nothing_moves(tmp_path: Path, nodes: Any) -> None:
    bad = write_track(tmp_path / "bad", ("uncertain", "failed"))
    result = load(bad, nodes)
    assert nodes[0].GetParentTransformNode() is None
    assert result.notes == ["no frame is ok; the transform is not set on 'ct'"]
    assert result.transformNode.GetAttribute(STATUS) == "uncertain"

    good = load(write_track(tmp_path / "good"), nodes)
    assert nodes[0].GetParentTransformNode() is good.transformNode
    before = transformMatrix(good.transformNode)
    worse = load(bad, nodes)
    assert worse.transformNode is not good.transformNode
    assert nodes[0].GetParentTransformNode() is good.transformNode
    np.testing.assert_array_equal(transformMatrix(good.transformNode), before)


def test_runs_of_xrays_go_along(tmp_path: Path, nodes: Any, scene: Any) -> None:
    ap, lateral = (xray_run(scene, name, 5) for name in ("AP", "lateral"))
    own = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "AP browser")
    own.SetAndObserveMasterSequenceNodeID(ap.GetID())
    camera = Camera(np.array([[500.0, 0, 4], [0, 500, 3], [0, 0, 1]]), np.eye(4), 8, 6)
    geometry = XrayGeometry(camera, (0.3, 0.3))
    xray = createXrayNode("AP picture", np.zeros((6, 8), np.int16), geometry, scene)
    own.AddProxyNode(xray, ap, False)
    setGeometry(xray, geometry)
    volumes = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")

    result = load(write_track(tmp_path / "track"), nodes, [ap, lateral])
    browser = result.browserNode
    assert browser.GetProxyNode(ap) is xray
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == volumes + 1
    assert result.sequenceNode.GetIndexName() == "picture"
    record = read_track_json(tmp_path / "track" / "track.json")
    for n in (0, 3, 4):
        show(browser, n)
        for run in (ap, lateral):
            pixels = slicer.util.arrayFromVolume(browser.GetProxyNode(run))
            assert np.unique(pixels).tolist() == [n]
        moved = transformMatrix(result.transformNode)[:3, 3] * [-1, -1, 1]
        np.testing.assert_allclose(moved, record.frames[n].smoothed_ct_to_world[:3, 3])
        assert isXray(xray)
        np.testing.assert_array_equal(getGeometry(xray).camera.intrinsic, camera.intrinsic)

    load(tmp_path / "track", nodes, [lateral])
    assert not browser.IsSynchronizedSequenceNode(ap)
    assert browser.IsSynchronizedSequenceNode(lateral)
    assert xray.GetScene() is scene


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        ((4, 1.0), "lateral: has 4 frames, but the track has 5; give the run that was followed"),
        (
            (5, 2.0),
            "lateral: has other index values than 'AP'; frames taken together need the same",
        ),
    ],
)
def test_runs_that_do_not_fit_are_refused(
    second: tuple[int, float], problem: str, tmp_path: Path, nodes: Any, scene: Any
) -> None:
    folder = write_track(tmp_path / "track")
    runs = [xray_run(scene, "AP", 5), xray_run(scene, "lateral", *second)]
    before = in_scene(scene)
    with pytest.raises(InputError) as refused:
        load(folder, nodes, runs)
    assert str(refused.value) == problem
    assert in_scene(scene) == before


@pytest.mark.parametrize("edit", ["absent", "cut", "empty", "order"])
def test_a_bad_file_leaves_the_scene_as_it_was(
    edit: str, tmp_path: Path, nodes: Any, scene: Any
) -> None:
    file = write_track(tmp_path / "track") / "track.json"
    text = file.read_text()
    if edit == "absent":
        file.unlink()
    elif edit == "cut":
        file.write_text(text[: len(text) // 2])
    elif edit == "order":
        changed = text.replace('"index": 5', '"index": 3')
        assert changed != text
        file.write_text(changed)
    else:
        write_track(tmp_path / "track", ())
    before = in_scene(scene)
    with pytest.raises(InputError, match=r"track\.json"):
        load(file.parent, nodes)
    assert in_scene(scene) == before


def test_a_saved_scene_keeps_poses_and_statuses(tmp_path: Path, nodes: Any, scene: Any) -> None:
    result = load(write_track(tmp_path / "track"), nodes)
    wanted = read_track_json(tmp_path / "track" / "track.json").frames
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"))
    name = result.sequenceNode.GetName()

    scene = slicer_startup.start()
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"))
    sequence = scene.GetFirstNodeByName(name)
    browser = scene.GetFirstNodeByName(f"{name} browser")
    shown, ct = browser.GetProxyNode(sequence), scene.GetFirstNodeByName("ct")
    assert ct.GetParentTransformNode() is shown
    for n, status in enumerate(STATUSES):
        show(browser, n)
        assert shown.GetAttribute(STATUS) == status
        moved = transformMatrix(shown)[:3, 3] * [-1, -1, 1]
        np.testing.assert_allclose(moved, wanted[n].smoothed_ct_to_world[:3, 3], atol=1e-6)
    again = load(tmp_path / "track", (ct, scene.GetFirstNodeByName("segmentation")))
    assert again.sequenceNode is sequence
