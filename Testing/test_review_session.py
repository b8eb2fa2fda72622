# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""Correcting a pose by hand, taking it back, accepting and hardening it; verdict and report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given
from hypothesis import strategies as st

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("vtk")

import ball
import slicer_startup

slicer_startup.start()

from RadGSRegSlicer.review import nudge
from RadGSRegSlicer.review.nudge import AXES, Nudge, nudged, pictureAxes
from RadGSRegSlicer.review.quality import AMBER, GREEN, GREY, RED, qualityCard
from RadGSRegSlicer.review.report import saveReport
from RadGSRegSlicer.review.session import ReviewSession
from RadGSRegSlicer.scene import frames
from RadGSRegSlicer.scene.record import REPORT_ROLE, ResultRecord, keepRecord, recordOf, reportOf
from review_scene import ball_nodes, camera, mirrored, new_scene, transform_node, xray_node

from RadGSRegLib.cases import refuse_strangers
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import (
    exp_se3,
    is_rigid,
    lps_to_ras,
    ras_to_lps,
    rotation_angle_deg,
    transform_points,
)


@pytest.fixture(autouse=True)
def scene() -> Any:
    return new_scene()


@pytest.fixture
def nodes() -> dict[str, Any]:
    return ball_nodes()


def _session(nodes: dict[str, Any]) -> ReviewSession:
    return ReviewSession(nodes["ct"], nodes["segmentation"], "L3", nodes["transform"])


# Nudging

_amounts = st.tuples(*[st.floats(-20.0, 20.0)] * 6)


@given(amounts=_amounts, angle=st.floats(-3.0, 3.0), flip=st.booleans())
def test_nudges_move_the_centre_as_the_picture_says(
    amounts: tuple[float, ...], angle: float, flip: bool
) -> None:
    new_scene()
    view = mirrored(camera(angle)) if flip else camera(angle)
    node = xray_node("AP", view)
    axes = pictureAxes(node)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-6)
    base = lps_to_ras(exp_se3([0.2, -0.4, 0.1, 5.0, 8.0, -4.0]))
    centre = np.array([3.0, -2.0, 6.0])
    moved = nudged(base, Nudge(*amounts), axes, centre)
    assert is_rigid(moved, 1e-9)
    shift = transform_points(moved, centre[None])[0] - transform_points(base, centre[None])[0]
    np.testing.assert_allclose(axes @ shift, amounts[:3], atol=1e-6)
    turn = moved[:3, :3] @ base[:3, :3].T
    whole = np.eye(4)
    whole[:3, :3] = turn
    assert rotation_angle_deg(whole) == pytest.approx(np.linalg.norm(amounts[3:]), abs=1e-5)


@pytest.mark.parametrize("flip", [False, True])
def test_right_is_right_and_clockwise_is_clockwise_on_the_picture(flip: bool) -> None:
    view = mirrored(camera(0.8)) if flip else camera(0.8)
    node = xray_node("AP", view)
    axes, flat = pictureAxes(node), frames.LPS_RAS
    centre = np.zeros(3)

    def seen(pose: np.ndarray, point: np.ndarray) -> np.ndarray:
        return view.project(transform_points(flat @ pose, point[None]))[0]

    rest = seen(np.eye(4), centre)
    right = seen(nudged(np.eye(4), Nudge(right=5.0), axes, centre), centre) - rest
    up = seen(nudged(np.eye(4), Nudge(up=5.0), axes, centre), centre) - rest
    assert right[0] > 3.0
    assert abs(right[1]) < 0.3
    assert up[1] < -3.0  # rows run downwards
    assert abs(up[0]) < 0.3
    away = nudged(np.eye(4), Nudge(away=5.0), axes, centre)
    depth = transform_points(view.world_to_camera @ flat @ away, centre[None])[0, 2]
    was = transform_points(view.world_to_camera @ flat, centre[None])[0, 2]
    assert depth - was == pytest.approx(5.0, abs=1e-6)
    above = axes[1] * 10.0
    turned = seen(nudged(np.eye(4), Nudge(roll=20.0), axes, centre), above) - seen(np.eye(4), above)
    assert turned[0] > 1.0  # what is above goes to the right


def test_every_axis_can_be_stepped_and_stepped_back(nodes: dict[str, Any]) -> None:
    session = _session(nodes)
    start = session.pose
    for axis in AXES:
        session.nudge(axis, 3.0, nodes["xrays"][0])
        shift, angle = session.movedByHand()
        assert (angle > 2.9) is (axis not in nudge.SHIFTS)
        assert shift > 0.1
        session.nudge(axis, -3.0, nodes["xrays"][0])
        np.testing.assert_allclose(session.pose, start, atol=1e-9)
    assert session.movedByHand() == pytest.approx((0.0, 0.0), abs=1e-5)


def test_the_outline_follows_a_nudge(nodes: dict[str, Any]) -> None:
    session = _session(nodes)
    first, second = nodes["xrays"]
    before = session.outline(first).bounds
    session.nudge("right", 4.0, first)
    after = session.outline(first).bounds
    per_mm = ball.FOCAL / ball.DISTANCE
    np.testing.assert_allclose(np.subtract(after, before), [4 * per_mm, 4 * per_mm, 0, 0], atol=0.3)
    # Seen from the side, it has gone away or come nearer, and hardly moved.
    assert np.abs(session.outline(second).bounds[2] - session.outline(first).bounds[2]) < 3.0


# Undo


def test_steps_are_undone_and_done_again(nodes: dict[str, Any]) -> None:
    session = _session(nodes)
    poses = [session.pose]
    told: list[int] = []
    session.changed.append(lambda: told.append(1))
    for axis in ("right", "roll", "away"):
        session.nudge(axis, 2.0, nodes["xrays"][0])
        poses.append(session.pose)
    assert len(told) == 3
    for pose in reversed(poses[:-1]):
        session.undo()
        np.testing.assert_array_equal(session.pose, pose)
    assert session.canUndo == ""
    session.undo()  # nothing more to undo: nothing happens
    session.redo()
    np.testing.assert_array_equal(session.pose, poses[1])
    assert session.canRedo
    session.nudge("up", 1.0, nodes["xrays"][0])
    assert session.canRedo == ""
    session.reset()
    np.testing.assert_allclose(session.pose, poses[0], atol=1e-12)
    session.undo()
    assert session.movedByHand()[0] > 1.0


def test_a_dragged_slider_is_one_step(nodes: dict[str, Any]) -> None:
    session = _session(nodes)
    base = session.pose
    for value in np.linspace(0.1, 6.0, 20):
        session.nudgeFrom(base, Nudge(right=value), nodes["xrays"][0], "drag right")
    assert session.movedByHand()[0] == pytest.approx(6.0, abs=1e-6)
    session.undo()
    np.testing.assert_array_equal(session.pose, base)
    session.redo()
    assert session.movedByHand()[0] == pytest.approx(6.0, abs=1e-6)


def test_a_move_elsewhere_is_noticed_and_withdraws_acceptance(nodes: dict[str, Any]) -> None:
    session = _session(nodes)
    session.accept()
    told: list[int] = []
    session.changed.append(lambda: told.append(1))
    matrix = session.pose
    matrix[:3, 3] += 5.0
    nodes["transform"].SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    assert told
    assert not session.isAccepted
    assert session.movedByHand()[0] == pytest.approx(np.sqrt(75.0), abs=1e-4)
    session.close()
    told.clear()
    nodes["transform"].SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.eye(4)))
    assert told == []


def test_what_is_no_pose_is_refused(nodes: dict[str, Any]) -> None:
    session = _session(nodes)
    with pytest.raises(InputError, match="rigid"):
        session.setPose(np.diag([1.0, 1.0, 2.0, 1.0]))
    nodes["transform"].SetMatrixTransformToParent(
        slicer.util.vtkMatrixFromArray(np.diag([2.0, 1, 1, 1]))
    )
    with pytest.raises(InputError, match="no rigid transform"):
        _session(nodes)


# Acceptance and hardening


def test_acceptance_can_be_taken_back_and_does_not_survive_a_move(nodes: dict[str, Any]) -> None:
    session = _session(nodes)
    session.accept()
    assert session.isAccepted
    assert nodes["ct"].GetTransformNodeID() == nodes["transform"].GetID()
    session.undo()
    assert not session.isAccepted
    session.redo()
    session.nudge("up", 1.0, nodes["xrays"][0])
    assert not session.isAccepted
    session.undo()
    assert session.isAccepted  # and comes back with the pose that was accepted
    session.withdraw()
    assert not session.isAccepted


@pytest.mark.parametrize("along", [True, False])
def test_hardening_moves_the_ct_and_its_segmentation_and_can_be_undone(
    nodes: dict[str, Any], along: bool
) -> None:
    ct, segmentation = nodes["ct"], nodes["segmentation"]
    if not along:
        segmentation.SetAndObserveTransformNodeID(None)
    session = _session(nodes)
    place, centre = frames.ijkToLps(ct), session.centreRas
    bounds = session.outline(nodes["xrays"][0]).bounds
    session.harden()
    assert session.isHardened
    assert ct.GetParentTransformNode() is None
    assert segmentation.GetParentTransformNode() is None
    np.testing.assert_allclose(frames.ijkToLps(ct), ball.POSE @ place, atol=1e-6)
    np.testing.assert_allclose(session.centreRas, centre, atol=1e-3)
    np.testing.assert_allclose(session.outline(nodes["xrays"][0]).bounds, bounds, atol=1.0)
    np.testing.assert_array_equal(session.pose, np.eye(4))
    with pytest.raises(InputError, match="undo the hardening"):
        session.nudge("up", 1.0, nodes["xrays"][0])
    session.undo()
    assert not session.isHardened
    np.testing.assert_array_equal(frames.ijkToLps(ct), place)
    assert ct.GetTransformNodeID() == nodes["transform"].GetID()
    assert (segmentation.GetTransformNodeID() is not None) is along
    np.testing.assert_allclose(session.centreRas, centre, atol=1e-3)
    np.testing.assert_allclose(session.outline(nodes["xrays"][0]).bounds, bounds, atol=1.0)
    session.redo()
    np.testing.assert_allclose(frames.ijkToLps(ct), ball.POSE @ place, atol=1e-6)


def test_hardened_the_registration_is_told_in_the_ct_s_new_frame(nodes: dict[str, Any]) -> None:
    session, transform = _session(nodes), nodes["transform"]
    record = recordOf(transform)
    assert record is not None
    shift = exp_se3([0.1, 0.0, 0.0, 2.0, 0.0, 5.0])
    quality = {"shifts_ct": [shift.tolist()], "views": {"AP": {"score": 0.9, "bone": "dark"}}}
    keepRecord(transform, replace(record, quality=quality))
    before = session.registeredLps()
    assert before is not None
    np.testing.assert_array_equal(before["ct_to_world"], ras_to_lps(record.ctToWorld))
    np.testing.assert_array_equal(before["shifts_ct"], [shift])
    assert before["bone"] == {"AP": "dark"}
    moved = transform_points(session.pose, session.surface.centre[None])
    pose = session.poseLps
    session.harden()
    after = session.registeredLps()
    assert after is not None
    np.testing.assert_allclose(after["ct_to_world"], np.eye(4), atol=1e-9)
    # A neighbour's point is where it was in the world, by the CT's old frame and by its new one.
    point = np.array([[10.0, 20.0, 30.0]])
    was = transform_points(np.array(before["ct_to_world"]) @ shift, point)
    now = transform_points(
        np.array(after["ct_to_world"]) @ after["shifts_ct"][0], transform_points(pose, point)
    )
    np.testing.assert_allclose(now, was, atol=1e-9)
    np.testing.assert_allclose(session.centreRas[None], moved, atol=1e-6)


def test_only_a_ct_under_the_transform_is_hardened(nodes: dict[str, Any]) -> None:
    session = _session(nodes)
    nodes["ct"].SetAndObserveTransformNodeID(transform_node(np.eye(4), "other").GetID())
    with pytest.raises(InputError, match="not under the transform"):
        session.harden()
    assert not session.isHardened


# The record


def test_the_verdict_and_the_report_come_back_with_the_scene(
    nodes: dict[str, Any], tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.write_text("<html>ünchanged & <b>whole</b></html>", encoding="utf-8")
    record = recordOf(nodes["transform"])
    assert record is not None
    keepRecord(nodes["transform"], record, page)
    _session(nodes).accept()
    scene = slicer.mrmlScene
    for node in (nodes["ct"], nodes["segmentation"], *nodes["xrays"]):
        scene.RemoveNode(node)
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Commit()
    scene = new_scene()
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Connect()
    (transform,) = slicer.util.getNodesByClass("vtkMRMLLinearTransformNode")
    again = recordOf(transform)
    assert again is not None
    assert (again.status, again.reason) == ("ok", "as the test wants it")
    assert again.viewScores == {"AP": 0.91, "LA": 0.89}
    np.testing.assert_allclose(again.ctToWorld, record.ctToWorld)
    np.testing.assert_allclose(again.covariance, record.covariance)
    assert reportOf(transform) == page.read_text(encoding="utf-8")
    assert transform.GetAttribute("RadGSReg.Accepted") == "true"


def test_a_new_result_takes_the_place_of_the_old(nodes: dict[str, Any], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("one")
    record = recordOf(nodes["transform"])
    assert record is not None
    keepRecord(nodes["transform"], record, page)
    first = nodes["transform"].GetNodeReference(REPORT_ROLE)
    _session(nodes).accept()
    page.write_text("two")
    keepRecord(nodes["transform"], ResultRecord("failed", np.eye(4)), page)
    assert nodes["transform"].GetNodeReference(REPORT_ROLE) is first
    assert reportOf(nodes["transform"]) == "two"
    session = _session(nodes)
    assert not session.isAccepted
    assert session.record.status == "failed"
    nodes["transform"].SetAttribute("RadGSReg.Result", "{broken")
    assert recordOf(nodes["transform"]) is None
    assert recordOf(None) is None


def test_a_result_without_a_report_drops_the_old_one(nodes: dict[str, Any], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("of the first pose")
    transform = nodes["transform"]
    keepRecord(transform, ResultRecord("ok", np.eye(4)), page)
    text = transform.GetNodeReference(REPORT_ROLE)
    keepRecord(transform, ResultRecord("uncertain", np.eye(4)))
    assert reportOf(transform) is None
    assert text.GetScene() is None
    out = saveReport(_session(nodes), tmp_path / "saved")
    assert not (out / "report.html").exists()
    keepRecord(transform, ResultRecord("ok", np.eye(4)), page)
    assert reportOf(transform) == "of the first pose"
    keepRecord(transform, ResultRecord("ok", np.eye(4)), tmp_path / "missing.html")
    assert reportOf(transform) is None


# The card


def test_the_card_says_in_colour_and_in_words(nodes: dict[str, Any]) -> None:
    session = _session(nodes)
    card = qualityCard(session)
    assert card.color == GREEN
    assert "2 mm" in card.verdict
    assert card.reason == "As the test wants it."
    assert card.views == [("AP", "0.91", ""), ("LA", "0.89", ""), ("All", "0.90", "")]
    assert [row[0] for row in card.spread] == ["left-right", "front-back", "up-down"]
    assert card.spread[0][1] == "± 0.20 mm, turn about it ± 0.57°"
    page = card.toHtml()
    assert GREEN in page
    assert "± 0.20 mm" in page


def test_the_card_says_how_far_away_the_networks_pose_lies(nodes: dict[str, Any]) -> None:
    quality = {"networks_distance_mm": 3.24, "networks_distance_deg": 1.46}
    for more, sentence in (
        ({}, "The networks' pose lies 3.2 mm and 1.5\N{DEGREE SIGN} from it."),
        ({"networks_held_out_mm": 5.51}, "Their error on held-out X-rays is 5.5 mm."),
    ):
        record = ResultRecord("ok", lps_to_ras(ball.POSE), None, {**quality, **more})
        keepRecord(nodes["transform"], record)
        card = qualityCard(_session(nodes))
        assert card.notes[-1].endswith(sentence)
        assert "3.2 mm and 1.5" in card.toHtml()


@pytest.mark.parametrize(("status", "color"), [("uncertain", AMBER), ("failed", RED)])
def test_the_card_warns(nodes: dict[str, Any], status: str, color: str) -> None:
    record = ResultRecord(status, lps_to_ras(ball.POSE), None, {"reason": "<b>not</b> sure"})
    keepRecord(nodes["transform"], record)
    card = qualityCard(_session(nodes))
    assert (card.color, card.spread) == (color, [])
    assert "<b>not" not in card.toHtml()


def test_a_correction_makes_green_amber(nodes: dict[str, Any]) -> None:
    session = _session(nodes)
    session.nudge("right", 3.0, nodes["xrays"][0])
    card = qualityCard(session, {"score": 0.5, "views": {"AP": 0.4, "LA": 0.6}})
    assert card.color == AMBER
    assert "3.0 mm" in card.notes[0]
    assert card.views[0] == ("AP", "0.91", "0.40")
    assert card.views[-1] == ("All", "0.90", "0.50")
    session.undo()
    assert qualityCard(session).color == GREEN


def test_a_transform_from_elsewhere_is_judged_by_nothing() -> None:
    nodes = ball_nodes(result=False)
    assert qualityCard(_session(nodes)).color == GREY


# The report


def test_the_report_is_written_whole(nodes: dict[str, Any], tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (results / "report.html").write_text("the page")
    (results / "gaussians.ply").write_text("a cloud")
    (results / "private.txt").write_text("not a result")
    picture = tmp_path / "overlay_AP.png"
    picture.write_bytes(b"png")
    record = recordOf(nodes["transform"])
    assert record is not None
    kept = ResultRecord("ok", record.ctToWorld, record.covariance, record.quality, str(results))
    keepRecord(nodes["transform"], kept, results / "report.html")
    session = _session(nodes)
    session.nudge("right", 2.0, nodes["xrays"][0])
    session.accept()
    out = saveReport(
        session,
        tmp_path / "out" / "report",
        {"id": 3, "score": 0.5, "views": {"AP": 0.5}},
        [picture],
    )
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    wanted = {"report.html", "gaussians.ply", "ct_to_world.tfm", "review.json"}
    assert names == {*wanted, "reviewed/overlay_AP.png"}
    content = json.loads((out / "review.json").read_text())
    assert content["accepted"] is True
    assert content["moved_by_hand"]["mm"] == pytest.approx(2.0, abs=1e-6)
    assert content["scores"] == {"score": 0.5, "views": {"AP": 0.5}}
    assert content["registered"]["status"] == "ok"
    pose = ras_to_lps(session.pose)
    np.testing.assert_allclose(content["ct_to_world"], pose, atol=1e-9)
    world_to_ct = sitk.ReadTransform(str(out / "ct_to_world.tfm")).TransformPoint
    for point in (*np.eye(3), np.zeros(3)):
        world = transform_points(pose, point)
        np.testing.assert_allclose(world_to_ct(world.tolist()), point, atol=1e-6)
    # Where a picture cannot be had, nothing is written.
    with pytest.raises(InputError, match="cannot be written"):
        saveReport(session, tmp_path / "other", None, [tmp_path / "missing.png"])
    assert not (tmp_path / "other").exists()


def test_a_report_is_not_saved_among_other_peoples_files(
    nodes: dict[str, Any], tmp_path: Path
) -> None:
    session = _session(nodes)
    folder = saveReport(session, tmp_path / "report")
    session.accept()
    saveReport(session, folder)  # a review replaces a review
    assert json.loads((folder / "review.json").read_text())["accepted"] is True
    with pytest.raises(InputError, match="no results of this program"):
        refuse_strangers(folder)  # but no registration does
    (folder / "letter.txt").write_text("mine")
    before = (folder / "review.json").read_bytes()
    with pytest.raises(InputError, match=r"holds files that are no results.*letter\.txt"):
        saveReport(session, folder)
    assert (folder / "review.json").read_bytes() == before
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "review.json").write_text("{}")
    with pytest.raises(InputError, match="name a new or an empty folder"):
        saveReport(session, tmp_path / "papers")
    assert [path.name for path in (tmp_path / "papers").iterdir()] == ["review.json"]
