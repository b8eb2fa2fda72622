# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""Nominal cameras refined with the vertebrae: onto the X-rays, from the panel too, and back.

A quick program is in the library's place (see `panel_scene`): it moves nominal cameras by 3 mm.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import panel_scene
import slicer_startup
from panel_scene import Library, wait_until

from RadGSRegLib.cases import read_views
from RadGSRegLib.errors import InputError
from RadGSRegLib.selfcalibration.bounds import FEWEST_VERTEBRAE

slicer_startup.start()

from RadGSRegSlicer.exchange import casefolder, refinedviews
from RadGSRegSlicer.operations import registration
from RadGSRegSlicer.operations.registration import LEAST_VERTEBRAE
from RadGSRegSlicer.panel import xray_step
from RadGSRegSlicer.scene import refinedcameras, xray

import RadGSReg


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return panel_scene.write_files(tmp_path / "case")


@pytest.fixture
def case(folder: Path) -> tuple[Any, Any, list[Any]]:
    """A CT, the segmentation of three vertebrae and two nominal X-rays, in a new scene."""
    slicer_startup.start()
    return *_spine(folder), _nominal(casefolder.importViews(folder / "views.json"))


def _spine(folder: Path, names: tuple[str, ...] = ("L2", "L4")) -> tuple[Any, Any]:
    ct, segmentation = panel_scene.load_nodes(folder)
    for name in names:
        segmentation.GetSegmentation().AddEmptySegment(f"vertebrae_{name}", name)
    return ct, segmentation


def _nominal(nodes: list[Any]) -> list[Any]:
    for node in nodes:
        xray.setGeometry(node, dataclasses.replace(xray.getGeometry(node), nominal=True))
    return nodes


def _pose(node: Any) -> np.ndarray:
    return np.array(xray.getGeometry(node).camera.world_to_camera)


def _poses(nodes: list[Any]) -> np.ndarray:
    return np.array([_pose(node) for node in nodes])


def _moved(poses: np.ndarray, mm: float = 3.0) -> np.ndarray:
    shift = np.zeros((4, 4))
    shift[0, 3] = mm
    return poses + shift


def _given(library: Library) -> np.ndarray:
    """The cameras that the program was given."""
    return np.array([view["extrinsic"] for view in json.loads(library.read("views"))["views"]])


def _register(case: Any, **options: Any) -> Any:
    ct, segmentation, nodes = case
    return RadGSReg.RadGSRegLogic().register(ct, segmentation, "L3", nodes, **options)


# The console


def test_refined_cameras_go_on_the_xrays_and_back(case: Any, library: Library) -> None:
    nodes = case[2]
    nominal = _poses(nodes)
    places = [node.GetOrigin() for node in nodes]
    result = _register(case, refineCameras=True)
    assert "--refine-cameras" in json.loads(library.read("arguments"))
    assert "the cameras of AP, LA are refined; step 2 can undo that" in result.notes
    for node, before, place in zip(nodes, nominal, places, strict=True):
        geometry = xray.getGeometry(node)
        np.testing.assert_allclose(geometry.camera.world_to_camera, _moved(before))
        np.testing.assert_allclose(geometry.cameraCovariance, np.eye(9) * 0.01)
        assert not geometry.nominal
        assert geometry.centerPx == (164.0, 147.0)  # whatever else is known stays
        assert np.linalg.norm(np.subtract(node.GetOrigin(), place)) == pytest.approx(3.0)
        assert refinedcameras.nominalGeometry(node).nominal
        assert geometry.roomNominal
        assert not refinedcameras.nominalGeometry(node).roomNominal
    # What is registered without refinement uses the refined cameras; with it, the nominal ones.
    _register(case)
    np.testing.assert_allclose(_given(library), _moved(nominal))
    assert "nominal" not in json.loads(library.read("views"))["views"][0]
    assert [view["room"] for view in json.loads(library.read("views"))["views"]] == ["nominal"] * 2
    _register(case, refineCameras=True)
    np.testing.assert_allclose(_given(library), nominal)
    assert all(view["nominal"] for view in json.loads(library.read("views"))["views"])
    np.testing.assert_allclose(_poses(nodes), _moved(nominal))

    logic = RadGSReg.RadGSRegLogic()
    assert logic.restoreNominalCameras(nodes) == nodes
    np.testing.assert_array_equal(_poses(nodes), nominal)
    for node, place in zip(nodes, places, strict=True):
        geometry = xray.getGeometry(node)
        assert geometry.nominal
        assert geometry.cameraCovariance is None
        assert node.GetOrigin() == pytest.approx(place)
    assert logic.restoreNominalCameras(nodes) == []


def test_a_calibrated_camera_is_held(case: Any, library: Library) -> None:
    first, second = case[2]
    xray.setGeometry(first, dataclasses.replace(xray.getGeometry(first), nominal=False))
    before = _poses([first, second])
    result = _register(case, refineCameras=True)
    np.testing.assert_array_equal(_pose(first), before[0])
    assert xray.getGeometry(first).cameraCovariance is None
    assert not refinedcameras.isRefined(first)
    np.testing.assert_allclose(_pose(second), _moved(before)[1])
    assert "the cameras of LA are refined; step 2 can undo that" in result.notes


def test_of_a_failed_registration_no_camera_is_used(case: Any, library: Library) -> None:
    library.behave("failed")
    before = _poses(case[2])
    result = _register(case, refineCameras=True)
    np.testing.assert_array_equal(_poses(case[2]), before)
    assert xray.getGeometry(case[2][0]).nominal
    assert "no refined camera is used: the X-rays stay as they are" in result.notes


def test_where_nothing_could_be_refined_the_nominal_cameras_are_back(
    case: Any, library: Library, tmp_path: Path
) -> None:
    nodes, out = case[2], tmp_path / "out"
    nominal = _poses(nodes)
    _register(case, refineCameras=True, outputFolder=out)
    np.testing.assert_allclose(_poses(nodes), _moved(nominal))
    # The result is then of the nominal cameras, whatever an earlier one has left in its folder.
    (library.folder / "few").touch()
    result = _register(case, refineCameras=True, outputFolder=out)
    np.testing.assert_array_equal(_poses(nodes), nominal)
    assert xray.getGeometry(nodes[0]).nominal
    assert "no camera was refined: the X-rays have their nominal ones" in result.notes
    assert not (out / refinedviews.REFINED_VIEWS).exists()
    assert not (out / "case").exists()


def test_kept_results_hold_the_pictures_of_their_cameras(
    case: Any, library: Library, tmp_path: Path
) -> None:
    out, nodes = tmp_path / "out", case[2]
    for _ in range(2):  # a folder that already holds such a result is used again
        _register(case, refineCameras=True, outputFolder=out)
        views = read_views(out / "refined_views.json")
        for view, node in zip(views, nodes, strict=True):
            np.testing.assert_array_equal(view.pixels, xray.getPixels(node))
            np.testing.assert_allclose(view.camera.world_to_camera, _pose(node))
            assert not view.nominal
    assert all(view.nominal for view in read_views(out / "case" / "views.json"))


def test_what_others_have_beside_the_pictures_stays(
    case: Any, library: Library, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    _register(case, outputFolder=out)
    (out / "case").mkdir()
    (out / "case" / "views.json").write_text("{}")  # of a person: nothing was refined here
    _register(case, outputFolder=out)
    assert (out / "case" / "views.json").read_text() == "{}"


@pytest.mark.parametrize("problem", ["the disk is full", "an X-ray is gone"])
def test_pictures_that_cannot_be_kept_cost_no_registration(
    case: Any, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    out, (first, second) = tmp_path / "out", case[2]
    nominal = _poses([first, second])

    def keep(folder: Path, nodes: list[Any]) -> None:
        if problem == "the disk is full":
            raise InputError(folder, problem)
        slicer.mrmlScene.RemoveNode(first)
        keepPictures(folder, nodes)

    keepPictures = registration.keepPictures
    monkeypatch.setattr(registration, "keepPictures", keep)
    result = _register(case, refineCameras=True, outputFolder=out)
    assert result.transformNode.GetScene() is not None
    assert any(problem in note or "no longer in the scene" in note for note in result.notes)
    # It would name pictures that are gone.
    assert not (out / refinedviews.REFINED_VIEWS).exists()
    np.testing.assert_allclose(_pose(second), _moved(nominal)[1])


def test_cameras_in_doubt_stay_nominal(case: Any, library: Library, tmp_path: Path) -> None:
    nodes, out = case[2], tmp_path / "out"
    nominal = _poses(nodes)
    (library.folder / "doubt").touch()
    result = _register(case, refineCameras=True, outputFolder=out)
    np.testing.assert_allclose(_poses(nodes), _moved(nominal))
    for node in nodes:
        geometry = xray.getGeometry(node)
        assert geometry.nominal
        assert refinedcameras.isRefined(node)
        assert xray_step._describe(node)[2] == "refined with vertebrae"
        # A number that is edited is no new statement that it is nominal.
        refinedcameras.setEdited(node, dataclasses.replace(geometry, intensity="attenuation"))
        assert refinedcameras.isRefined(node)
    assert any("count as nominal: they lie too far from" in note for note in result.notes)
    assert all(view.nominal for view in read_views(out / "refined_views.json"))
    refinedcameras.restoreNominal(nodes)
    np.testing.assert_array_equal(_poses(nodes), nominal)


def test_what_cameras_had_together_is_of_the_nominal_ones(case: Any, library: Library) -> None:
    nodes, joint = case[2], np.eye(9) * 0.3
    first, second = nodes
    for node, other in ((first, "LA"), (second, "AP")):
        geometry = xray.getGeometry(node)
        own = {"cameraCovariance": np.eye(9), "cameraCovarianceWith": {other: joint}}
        xray.setGeometry(node, dataclasses.replace(geometry, **own))
    held = xray.getGeometry(first)
    xray.setGeometry(first, dataclasses.replace(held, nominal=False))
    _register(case, refineCameras=True)
    # The refined camera is another: neither says how it goes wrong together with the held one.
    assert xray.getGeometry(first).cameraCovarianceWith == {}
    assert xray.getGeometry(second).cameraCovarianceWith == {}
    np.testing.assert_array_equal(xray.getGeometry(first).cameraCovariance, np.eye(9))
    _register(case)  # is not refused
    refinedcameras.restoreNominal(nodes)
    restored = xray.getGeometry(second)
    np.testing.assert_array_equal(restored.cameraCovarianceWith["AP"], joint)
    np.testing.assert_array_equal(restored.cameraCovariance, np.eye(9))


def test_what_cannot_be_refined_is_said(case: Any, library: Library) -> None:
    assert LEAST_VERTEBRAE == FEWEST_VERTEBRAE
    ct, segmentation, nodes = case
    with pytest.raises(InputError, match="only with the method 'ours'"):
        _register(case, refineCameras=True, method="published")
    segmentation.GetSegmentation().RemoveSegment("vertebrae_L4")
    segmentation.GetSegmentation().AddEmptySegment("sacrum", "sacrum")  # is no vertebra
    with pytest.raises(InputError, match=r"3 vertebrae or more in the .*, and there are 2"):
        _register(case, refineCameras=True)
    # The chosen segment counts whatever it is called.
    segmentation.GetSegmentation().AddEmptySegment("other", "something")
    options = {"refineCameras": True, "effort": "utmost"}
    with pytest.raises(InputError, match="utmost"):
        RadGSReg.RadGSRegLogic().register(ct, segmentation, "other", nodes, **options)
    for node in nodes:
        xray.setGeometry(node, dataclasses.replace(xray.getGeometry(node), nominal=False))
    with pytest.raises(InputError, match="no X-ray in use is nominal"):
        _register(case, refineCameras=True)


def test_cameras_that_cannot_be_read_change_nothing(case: Any, tmp_path: Path) -> None:
    pose = np.eye(4).tolist()
    record = {
        "schema": "radgsreg/registration",
        "version": 1,
        "status": "ok",
        "ct_to_world": pose,
        "covariance": np.eye(6).tolist(),
        "quality": {"cameras": {"views": {"AP": {"refined": True}, "LA": {"refined": True}}}},
    }
    (tmp_path / "registration.json").write_text(json.dumps(record))

    def write(*poses: Any) -> None:
        entries = zip(("AP", "LA"), poses, strict=False)
        views = [{"name": name, "extrinsic": pose} for name, pose in entries]
        (tmp_path / refinedviews.REFINED_VIEWS).write_text(json.dumps({"views": views}))

    write(pose, pose)
    cameras = refinedviews.readCameras(tmp_path, 2)
    assert [camera.covariance for camera in cameras] == [None, None]
    assert refinedviews.useCameras(cameras, case[2]) == ["AP", "LA"]
    np.testing.assert_array_equal(_poses(case[2]), [pose, pose])
    write(pose)
    with pytest.raises(InputError, match="holds 1 cameras for 2 X-rays"):
        refinedviews.readCameras(tmp_path, 2)
    write(pose, (2.0 * np.eye(4)).tolist())
    with pytest.raises(InputError, match="cannot be read"):
        refinedviews.readCameras(tmp_path, 2)


def test_the_nominal_camera_is_kept_until_there_is_another(case: Any, tmp_path: Path) -> None:
    node = case[2][0]
    nominal = _pose(node)
    refinedcameras.setRefined(node, _moved(nominal), None)
    geometry = xray.getGeometry(node)
    refinedcameras.setEdited(node, dataclasses.replace(geometry, intensity="attenuation"))
    assert refinedcameras.isRefined(node)
    # A scene that is saved and opened has both.
    scene = slicer.mrmlScene
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Commit()
    again = slicer_startup.start()
    again.SetURL(str(tmp_path / "scene.mrml"))
    again.Import()
    node = again.GetFirstNodeByName("AP")
    said = node.GetAttribute(xray.BEFORE_REFINED)
    np.testing.assert_allclose(json.loads(said)["world_to_camera"], nominal)


@pytest.mark.parametrize("what", ["another", "said to be nominal", "removed"])
def test_another_geometry_is_not_refined(case: Any, what: str) -> None:
    node = case[2][0]
    refinedcameras.setRefined(node, _moved(_pose(node)), None)
    geometry = xray.getGeometry(node)
    if what == "another":
        xray.setGeometry(node, geometry)
    elif what == "removed":
        xray.clearGeometry(node)
    else:
        refinedcameras.setEdited(node, dataclasses.replace(geometry, nominal=True))
    assert not refinedcameras.isRefined(node)


def test_a_nominal_camera_that_cannot_be_read_is_said(case: Any) -> None:
    first, second = case[2]
    refinedcameras.setRefined(second, _moved(_pose(second)), None)
    refinedcameras.setRefined(first, _moved(_pose(first)), None)
    first.SetAttribute(xray.BEFORE_REFINED, "{}")
    before = _poses([first, second])
    with pytest.raises(InputError, match="nominal camera that cannot be read"):
        refinedcameras.restoreNominal([second, first])
    np.testing.assert_array_equal(_poses([first, second]), before)


# The panel


@pytest.fixture
def filled(widget: Any, folder: Path, library: Library) -> Any:
    """The widget with a CT, three vertebrae and two nominal X-rays."""
    ct, segmentation = _spine(folder)
    widget.ui.ctSelector.setCurrentNode(ct)
    widget.ui.segmentSelector.setCurrentNode(segmentation)
    widget._parameterNode.segmentId = segmentation.GetSegmentation().GetSegmentIdBySegmentName("L3")
    widget.ui.viewsPathLineEdit.currentPath = str(folder / "views.json")
    widget.ui.importButton.click()
    _nominal(list(widget._parameterNode.xrays))
    return widget


def _run(widget: Any) -> None:
    assert widget.ui.applyButton.enabled, widget.ui.applyButton.toolTip
    widget.ui.applyButton.click()
    wait_until(lambda: widget.ui.applyButton.text == "Apply")


def _kinds(widget: Any) -> list[str]:
    table = widget.ui.xrayTable
    return [table.item(row, 3).text() for row in range(table.rowCount)]


def test_the_panel_refines_cameras_and_takes_them_back(filled: Any, library: Library) -> None:
    ui, parameters = filled.ui, filled._parameterNode
    nodes = list(parameters.xrays)
    nominal = _poses(nodes)
    assert ui.refineCamerasCheckBox.enabled
    assert not ui.refineCamerasCheckBox.checked
    assert ui.restoreNominalButton.isHidden()
    assert _kinds(filled) == ["nominal", "nominal"]
    ui.refineCamerasCheckBox.click()
    assert parameters.refineCameras
    _run(filled)
    assert "--refine-cameras" in json.loads(library.read("arguments"))
    np.testing.assert_allclose(_poses(nodes), _moved(nominal))
    assert "the cameras of AP, LA are refined" in ui.progressLabel.text
    assert _kinds(filled) == ["refined with vertebrae"] * 2
    assert "the geometry of AP, LA is refined with vertebrae" in ui.xrayStatusLabel.text
    assert "As the test wants it." in ui.reviewCardLabel.text
    assert not ui.nominalCheckBox.checked
    # The outline is that of the refined camera.
    session = filled.steps["review"].review.session
    seen = np.concatenate(session.outline(nodes[0]).silhouette).mean(axis=0)
    centre = session.centreRas * [-1.0, -1.0, 1.0]
    there = xray.getGeometry(nodes[0]).camera.project(centre[None])[0]
    assert np.linalg.norm(seen - there) < 3.0

    # It can be done again, from the nominal cameras, and a number may be edited by hand.
    assert ui.refineCamerasCheckBox.enabled
    _run(filled)
    np.testing.assert_allclose(_given(library), nominal)
    ui.intensityComboBox.setCurrentIndex(ui.intensityComboBox.findData("attenuation"))
    assert _kinds(filled) == ["refined with vertebrae"] * 2
    ui.xrayCollapsibleButton.collapsed = False
    assert not ui.restoreNominalButton.isHidden()
    assert ui.restoreNominalButton.enabled
    ui.restoreNominalButton.click()
    np.testing.assert_allclose(_poses(nodes), nominal, atol=1e-9)
    assert ui.restoreNominalButton.isHidden()
    assert _kinds(filled) == ["nominal", "nominal"]
    assert "is only nominal" in ui.xrayStatusLabel.text
    review = filled.steps["review"].review
    assert review is not None
    assert review.session is not session


def test_the_box_says_why_it_is_disabled(filled: Any, library: Library) -> None:
    ui, parameters = filled.ui, filled._parameterNode
    box, segmentation = ui.refineCamerasCheckBox, parameters.segmentation.GetSegmentation()
    box.click()
    assert "step 2 can take the cameras back" in box.toolTip
    ui.methodComboBox.setCurrentIndex(ui.methodComboBox.findData("published"))
    assert not box.enabled
    assert "as published" in box.toolTip
    ui.methodComboBox.setCurrentIndex(ui.methodComboBox.findData("optimize"))
    segmentation.RemoveSegment("vertebrae_L4")
    filled.update()
    assert not box.enabled
    assert "and there are 2" in box.toolTip
    # What was chosen stays, and is not asked for.
    assert parameters.refineCameras
    _run(filled)
    assert "--refine-cameras" not in json.loads(library.read("arguments"))
    segmentation.AddEmptySegment("vertebrae_L4", "L4")
    filled.update()
    assert box.enabled
    assert box.checked
    for node in parameters.xrays:
        xray.setGeometry(node, dataclasses.replace(xray.getGeometry(node), nominal=False))
    assert not box.enabled
    assert "nothing to refine" in box.toolTip


def test_no_pose_is_kept_of_cameras_that_are_not_known(filled: Any, library: Library) -> None:
    library.behave("hang")
    filled.ui.refineCamerasCheckBox.click()
    before = _poses(list(filled._parameterNode.xrays))
    filled.ui.applyButton.click()
    wait_until(lambda: filled.steps["register"]._run.bestPose is not None)
    filled.ui.applyButton.click()
    wait_until(lambda: filled.ui.applyButton.text == "Apply")
    assert filled.ui.keepBestButton.isHidden()
    filled.steps["register"].onKeepBest()
    assert filled._parameterNode.ctToWorld is None
    np.testing.assert_array_equal(_poses(list(filled._parameterNode.xrays)), before)
