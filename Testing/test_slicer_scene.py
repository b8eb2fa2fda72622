# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""The Slicer logic in a real MRML scene (slicer-core): nodes to files and results to nodes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
vtk = pytest.importorskip("vtk")

import slicer_startup
from ball import ball_case

from RadGSRegLib.cases import (
    RegistrationRecord,
    read_case,
    read_views,
    read_views_with_axes,
    write_itk_transform,
    write_registration_json,
    write_views,
)
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import Camera, exp_se3, lps_to_ras, transform_points
from RadGSRegLib.vertebrae import SNOMED_CODES, vertebra_level

slicer_startup.start()

from RadGSRegSlicer.exchange import casefolder, results, xraysources
from RadGSRegSlicer.scene import frames, levels, segments, xray

import RadGSReg


@pytest.fixture(autouse=True)
def scene() -> Any:
    return slicer_startup.start()


@pytest.fixture
def logic() -> Any:
    return RadGSReg.RadGSRegLogic()


def _oblique() -> np.ndarray:
    """Index to LPS of a small volume with axes along no world axis."""
    pose = exp_se3([0.3, -0.2, 0.5, 12.0, -40.0, 77.0])
    return pose @ np.diag([0.8, 0.9, 2.0, 1.0])


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A small oblique CT with three blocks of labels 20, 22 and 23, as NIfTI files."""
    rng = np.random.default_rng(1)
    ct = rng.integers(-1000, 1500, (12, 14, 16)).astype(np.int16)
    labels = np.zeros(ct.shape, np.uint8)
    labels[1:4, 2:9, 3:12] = 20
    labels[5:8, 2:9, 3:12] = 22
    labels[9:11, 2:9, 3:12] = 23
    for name, array in (("ct", ct), ("seg", labels)):
        image = sitk.GetImageFromArray(array)
        matrix = _oblique()
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(matrix[:3, 3].tolist())
        image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    return tmp_path / "ct.nii.gz", tmp_path / "seg.nii.gz"


@pytest.fixture
def nodes(files: tuple[Path, Path]) -> tuple[Any, Any]:
    names = {20: "L4", 22: "L3", 23: "L2"}
    return slicer_startup.load_volume(files[0]), slicer_startup.load_segmentation(files[1], names)


def _camera(angle: float, columns: int = 40, rows: int = 30) -> Camera:
    turn = exp_se3([-np.pi / 2, 0, 0, 0, 0, 0]) @ exp_se3([0, 0, angle, 0, 0, 0])
    turn[:3, 3] = [3.0, -2.0, 740.0]
    intrinsic = np.array([[1800.0, 0, 21.3], [0, 1500.0, 14.1], [0, 0, 1]])
    return Camera(intrinsic, turn, columns, rows)


def _xrays(**more: Any) -> list[Any]:
    out = []
    for seed, (name, angle) in enumerate((("AP", 0.1), ("LA", 1.5))):
        camera = _camera(angle)
        pixels = np.random.default_rng(seed).random((30, 40)).astype(np.float32)
        geometry = xray.XrayGeometry(camera, (0.5, 0.6), centerPx=(20.5, 13.25), **more)
        out.append(xray.createXrayNode(name, pixels, geometry))
    return out


def _transform(matrix: np.ndarray, name: str = "moved") -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


# X-ray nodes


@pytest.mark.parametrize("mirrored", [False, True])
def test_every_pixel_of_an_xray_lies_on_its_own_ray(mirrored: bool) -> None:
    camera = _camera(0.7)
    if mirrored:
        camera = Camera(
            camera.intrinsic @ np.diag([-1.0, 1.0, 1.0]), camera.world_to_camera, 40, 30
        )
    node = xray.createXrayNode("X", np.zeros((30, 40)), xray.XrayGeometry(camera, (0.5, 0.6)))
    pixels = np.array([[0.0, 0.0], [39, 0], [0, 29], [21.3, 14.1], [7, 22]])
    places = transform_points(frames.ijkToLps(node), np.column_stack([pixels, np.zeros(5)]))
    np.testing.assert_allclose(camera.project(places), pixels, atol=1e-6)
    depths = transform_points(camera.world_to_camera, places)[:, 2]
    np.testing.assert_allclose(depths, 1800 * 0.5)
    np.testing.assert_allclose(node.GetSpacing(), [0.5, 0.6, 1.0])


@pytest.mark.parametrize("centre", [None, (1.5, 2.25)])
def test_geometry_survives_a_saved_scene(tmp_path: Path, centre: Any) -> None:
    geometry = xray.XrayGeometry(_camera(0.3), (0.5, 0.6), "transmission", centre, True)
    node = xray.createXrayNode("AP", np.zeros((30, 40), np.uint16), geometry)
    before = frames.ijkToLps(node)
    scene = slicer.mrmlScene
    scene.SetURL(str(tmp_path / "scene.mrml"))
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(tmp_path / "AP.nrrd"))
    scene.AddNode(storage)
    node.SetAndObserveStorageNodeID(storage.GetID())
    assert storage.WriteData(node)
    assert scene.Commit()

    again = slicer_startup.start()
    again.SetURL(str(tmp_path / "scene.mrml"))
    assert again.Connect()
    (node,) = xray.xrayNodes(again)
    kept = xray.getGeometry(node)
    np.testing.assert_array_equal(kept.camera.intrinsic, geometry.camera.intrinsic)
    np.testing.assert_array_equal(kept.camera.world_to_camera, geometry.camera.world_to_camera)
    assert (kept.pixelSpacing, kept.intensity) == ((0.5, 0.6), "transmission")
    assert (kept.centerPx, kept.nominal) == (centre, True)
    np.testing.assert_allclose(frames.ijkToLps(node), before, atol=1e-6)


def test_xrays_that_cannot_be_used(logic: Any, nodes: tuple[Any, Any], tmp_path: Path) -> None:
    ct, segmentation = nodes
    first, second = _xrays()

    def refused(xrays: list[Any], match: str) -> None:
        with pytest.raises(InputError, match=match):
            logic.exportCase(ct, segmentation, "L3", xrays, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused([first], "at least two")
    refused([first, first], "AP")
    refused([first, ct], "no X-ray geometry")
    second.SetAttribute(xray.INTRINSIC, "[[1, 2], [3")
    refused([first, second], "LA: has a geometry that cannot be read")
    first, second = _xrays()
    second.SetAndObserveTransformNodeID(_transform(np.eye(4)).GetID())
    refused([first, second], "under the transform 'moved'")
    first, second = _xrays()
    skewed = np.diag([1.0, 1.0, -1.0, 1.0])
    second.SetAttribute(xray.WORLD_TO_CAMERA, json.dumps(skewed.tolist()))
    refused([first, second], "right-handed")
    with pytest.raises(InputError, match="40 x 30"):
        xray.setGeometry(ct, xray.XrayGeometry(_camera(0.1), (0.5, 0.6)))


def test_what_a_calibration_says_comes_through_the_scene() -> None:
    covariance = np.diag([1e-6] * 3 + [0.1] * 3 + [4.0] * 3)
    metal = ((12.0, 20.5, 3.25), (30.0, 4.0, 2.0))
    views = [
        replace(v, metal_px=metal, camera_covariance=covariance, bone_alone=True, room_nominal=True)
        for v in ball_case().views
    ]
    joint = {views[1].name: 0.5 * covariance}
    views[0] = replace(views[0], camera_covariance_with=joint)
    nodes = [xray.nodeFromView(view, slicer.mrmlScene) for view in views]
    for view in casefolder.viewsFromXrays(nodes):
        assert view.metal_px == metal
        assert view.bone_alone
        assert view.camera_covariance is not None
        np.testing.assert_array_equal(view.camera_covariance, covariance)
        assert view.room_nominal
    shown = casefolder.viewsFromXrays(nodes)
    assert list(shown[0].camera_covariance_with) == [views[1].name]
    np.testing.assert_array_equal(shown[0].camera_covariance_with[views[1].name], 0.5 * covariance)
    assert dict(shown[1].camera_covariance_with) == {}
    xray.clearGeometry(nodes[0])
    assert not [n for n in nodes[0].GetAttributeNames() if n.startswith("RadGSReg.")]
    # Where nothing is known, nothing is said.
    plain = xray.nodeFromView(ball_case().views[0], slicer.mrmlScene)
    assert plain.GetAttribute(xray.CAMERA_COVARIANCE) is None


@pytest.mark.parametrize("axes", [None, exp_se3([0.3, -1.2, 2.0, 0, 0, 0])[:3, :3], np.eye(3)])
def test_patient_axes_and_devices_survive_the_scene(tmp_path: Path, axes: Any) -> None:
    """views.json, nodes, a saved scene's attributes, views.json again."""
    views = [replace(v, device=f"arm {v.name}", nominal=True) for v in ball_case().views]
    path = write_views(tmp_path, views, axes)
    nodes = casefolder.importViews(path)
    again = casefolder.writeViews(nodes, tmp_path / "again")
    read, back = read_views_with_axes(again)
    assert [view.device for view in read] == ["arm AP", "arm LA"]
    # A geometry that is loaded onto another X-ray brings the world's axes with it.
    pixels = xray.getPixels(nodes[0])
    plain = xray.XrayGeometry(read[1].camera, (0.61, 0.61))
    other = xray.createXrayNode("LA", pixels, plain)
    geometry = xraysources.geometryFromFile(path, other, 1)
    assert geometry.nominal
    for got in (back, geometry.patientAxes):
        if axes is None:
            assert got is None
        else:
            np.testing.assert_allclose(got, axes, atol=1e-12)
    if axes is None:
        with pytest.raises(InputError, match="other patient axes than the other X-rays"):
            casefolder.patientAxes([nodes[0], other])
    xray.clearGeometry(nodes[0])
    assert not [n for n in nodes[0].GetAttributeNames() if n.startswith("RadGSReg.")]


# Segments


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("L3", "L3"),
        ("l3", "L3"),
        ("vertebrae_L3", "L3"),
        ("L3 vertebra", "L3"),
        ("T12", "T12"),
        ("disc L3", None),
        ("L3 L4", None),
        ("liver", None),
        ("", None),
    ],
)
def test_vertebra_level(text: str, level: str | None) -> None:
    assert vertebra_level(text) == level


CODE = "list~SCT^123037004^Anatomical Structure~SCT^{}^x~^^~list~^^~^^"


def _segmentation(*told: tuple[str, str, str]) -> Any:
    """A segmentation of segments with level of the code (or ""), id and name."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "seg")
    for level, id_, name in told:
        segment = slicer.vtkSegment()
        segment.SetName(name)
        if level:
            tag = slicer.vtkSegment.GetTerminologyEntryTagName()
            segment.SetTag(tag, CODE.format(SNOMED_CODES[level]))
        node.GetSegmentation().AddSegment(segment, id_)
    return node


def test_find_segment_by_code_id_or_name() -> None:
    node = _segmentation(("", "a", "disc L3"), ("", "vertebrae_L3", "x"), ("", "d", "y"))
    assert segments.findSegment(node, "d") == "d"
    assert segments.findSegment(node, "DISC l3") == "a"
    assert segments.findSegment(node, "L3") == "vertebrae_L3"
    assert segments.findSegment(_segmentation(("L3", "d", "y"), ("L2", "e", "z")), "L3") == "d"
    assert segments.findSegment(_segmentation(("", "d", "L3 vertebra")), "L3") == "d"
    with pytest.raises(InputError, match="no segment 'L4'; its segments are: 'disc L3'"):
        segments.findSegment(node, "L4")
    node = _segmentation(("L3", "d", "y"), ("", "vertebrae_L3", "x"))
    with pytest.raises(InputError, match='more than one segment for "L3"'):
        segments.findSegment(node, "L3")


@pytest.mark.parametrize(
    "told",
    [
        ("L4", "s3", "L3"),
        ("L3", "s3", "L4"),
        ("", "vertebrae_L3", "L4"),
        ("L3", "vertebrae_L4", "x"),
    ],
)
def test_a_segment_that_contradicts_itself_is_refused(told: tuple[str, str, str]) -> None:
    node = _segmentation(("L2", "s2", "L2"), told)
    assert levels.segmentLevel(node, told[1]) is None
    for wanted in ("L3", told[1]):
        with pytest.raises(InputError, match="says different vertebrae of one segment") as caught:
            segments.findSegment(node, wanted)
        code = SNOMED_CODES.get(told[0], "")
        for part in (f"code {code}", f'id "{told[1]}"', f'name "{told[2]}"'):
            assert part in str(caught.value)
    # What a person says settles it, also where the identifier keeps saying something else.
    levels.setSegmentLevel(node, told[1], "L4")
    assert levels.segmentLevel(node, told[1]) == ("L4", "hand")
    assert segments.findSegment(node, "L4") == told[1]
    with pytest.raises(InputError, match="no segment 'L3'"):
        segments.findSegment(node, "L3")


def test_numbers_are_named_by_a_scheme_that_is_confirmed() -> None:
    node = _segmentation(("", "Segment_21", "Segment_21"), ("", "Segment_22", "Segment_22"))
    for id_ in segments.segmentIds(node):
        node.GetSegmentation().GetSegment(id_).SetLabelValue(int(id_[-2:]))
    with pytest.raises(InputError, match=r"'Segment_22'; .* logic\.nameLevels\(node, 'verse'\)"):
        segments.findSegment(node, "L3")
    with pytest.raises(InputError, match="no scheme of labels"):
        levels.nameLevels(node, "mine")
    assert RadGSReg.RadGSRegLogic().nameLevels(node, "verse") == ["L2", "L3"]
    assert segments.findSegment(node, "L3") == "Segment_22"
    assert levels.neighbours(node, "Segment_22") == ["L2"]
    # Said twice is not wrong; another scheme is, and changes nothing.
    assert levels.nameLevels(node, "verse") == ["L2", "L3"]
    with pytest.raises(InputError, match="L2 of label 21, which in the scheme has no vertebra"):
        levels.nameLevels(node, "totalsegmentator")
    assert segments.findSegment(node, "L3") == "Segment_22"


def test_transitional_vertebrae_are_neighbours() -> None:
    node = _segmentation(*(("", level, level) for level in ("T12", "T13", "L1", "L5", "S1")))
    assert levels.neighbours(node, "T13") == ["T12", "L1"]
    assert levels.neighbours(node, "L5") == ["S1"]
    node.GetSegmentation().RemoveSegment("T13")
    assert levels.neighbours(node, "L1") == ["T12"]


def test_overlapping_segments_leave_the_chosen_one_whole(nodes: tuple[Any, Any]) -> None:
    ct, segmentation = nodes
    l3 = segments.findSegment(segmentation, "L3")
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, l3, ct)
    extra = segmentation.GetSegmentation().AddEmptySegment("all", "all")
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.ones_like(array), segmentation, extra, ct)
    labels = segments.labelsOnCt(segmentation, l3, ct)
    np.testing.assert_array_equal(labels.array == labels.label, array > 0)
    assert labels.names[labels.label] == "L3"
    assert (labels.array > 0).all()


# Case folders


def test_export_gives_the_files_back(
    logic: Any, nodes: tuple[Any, Any], files: tuple[Path, Path], tmp_path: Path
) -> None:
    ct, segmentation = nodes
    xrays = _xrays(intensity="attenuation")
    count = slicer.mrmlScene.GetNumberOfNodes()
    path = logic.exportCase(ct, segmentation, "L3", xrays, tmp_path / "out")
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    case = read_case(path)
    wanted = sitk.ReadImage(str(files[0]))
    np.testing.assert_array_equal(case.ct.array, sitk.GetArrayFromImage(wanted))
    np.testing.assert_allclose(case.ct.index_to_physical, _oblique(), atol=1e-4)
    np.testing.assert_array_equal(
        case.labels.array, sitk.GetArrayFromImage(sitk.ReadImage(str(files[1])))
    )
    assert (case.label, case.label_name) == (22, "L3")
    for view, node in zip(case.views, xrays, strict=True):
        geometry = xray.getGeometry(node)
        projection = geometry.camera.projection
        np.testing.assert_allclose(view.camera.projection, projection, rtol=1e-7, atol=1e-9)
        np.testing.assert_array_equal(view.pixels, xray.getPixels(node))
        assert view.center_px == (20.5, 13.25)
        assert view.intensity == "attenuation"


def test_a_transform_above_the_ct_is_left_out(
    logic: Any, nodes: tuple[Any, Any], tmp_path: Path
) -> None:
    ct, segmentation = nodes
    plain = read_case(logic.exportCase(ct, segmentation, "L3", _xrays(), tmp_path / "plain"))
    moved = _transform(exp_se3([0.2, 0.1, -0.3, 30, 20, 10]))
    ct.SetAndObserveTransformNodeID(moved.GetID())
    for above in (None, moved.GetID()):
        segmentation.SetAndObserveTransformNodeID(above)
        folder = tmp_path / f"under {above}"
        case = read_case(logic.exportCase(ct, segmentation, "L3", _xrays(), folder))
        np.testing.assert_allclose(case.ct.index_to_physical, plain.ct.index_to_physical, atol=1e-9)
        np.testing.assert_array_equal(case.labels.array, plain.labels.array)


def test_a_segmentation_under_its_own_transform_is_taken_where_it_is_seen(
    nodes: tuple[Any, Any],
) -> None:
    ct, segmentation = nodes
    l3 = segments.findSegment(segmentation, "L3")
    before = segments.labelsOnCt(segmentation, l3, ct)
    matrix = np.eye(4)
    step = lps_to_ras(_oblique())[:3, 0]  # one voxel along i; LPS to RAS turns i as well
    matrix[:3, 3] = -step * [1, 1, 1]
    segmentation.SetAndObserveTransformNodeID(_transform(matrix).GetID())
    after = segments.labelsOnCt(segmentation, l3, ct)
    shift = np.linalg.inv(frames.ijkToLps(ct)) @ lps_to_ras(matrix) @ frames.ijkToLps(ct)
    offset = round(shift[0, 3])
    assert abs(offset) == 1
    np.testing.assert_array_equal(after.array, np.roll(before.array, offset, axis=2))


def test_what_cannot_be_a_case(logic: Any, nodes: tuple[Any, Any], tmp_path: Path) -> None:
    ct, segmentation = nodes

    def refused(match: str, ct: Any = ct, segmentation: Any = segmentation, to: str = "L3") -> None:
        with pytest.raises(InputError, match=match):
            logic.exportCase(ct, segmentation, to, _xrays(), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused("CT: no volume is chosen", ct=None)
    refused("segmentation: none is chosen", segmentation=None)
    refused("has no segment 'L9'", to="L9")
    segmentation.GetSegmentation().AddEmptySegment("T12", "T12")
    refused("segment 'T12' is empty", to="T12")
    sheared = frames.ijkToLps(ct)
    sheared[:3, 2] += 0.2 * sheared[:3, 1]
    frames.setIjkToLps(ct, sheared)
    refused("not at right angles")
    refused("3-D image", ct=slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"))


def test_export_equals_the_shared_case(logic: Any, shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "cases" / "l3-clean-1"
    ct = slicer_startup.load_volume(source / "ct.nii.gz")
    segmentation = slicer_startup.load_segmentation(
        source / "seg.nii.gz", {21: "L2", 22: "L3", 23: "L4"}
    )
    xrays = logic.importXray(source / "views.json")
    assert [node.GetName() for node in xrays] == ["AP", "LA"]
    case = read_case(logic.exportCase(ct, segmentation, "L3", xrays, tmp_path / "out"))
    wanted = read_case(source / "case.json")
    np.testing.assert_array_equal(case.ct.array, wanted.ct.array)
    np.testing.assert_allclose(case.ct.index_to_physical, wanted.ct.index_to_physical, atol=1e-4)
    np.testing.assert_array_equal(case.labels.array, wanted.labels.array)
    assert case.label == wanted.label
    for view, other in zip(case.views, wanted.views, strict=True):
        assert view.name == other.name
        np.testing.assert_array_equal(view.pixels, other.pixels)
        np.testing.assert_allclose(view.camera.projection, other.camera.projection)
        assert (view.center_px, view.intensity) == (other.center_px, other.intensity)


def test_import_of_one_image_needs_a_geometry(logic: Any, tmp_path: Path) -> None:
    path = casefolder.writeViews(_xrays(), tmp_path / "views")
    with pytest.raises(InputError, match="says nothing of its geometry"):
        logic.importXray(path.with_name("ap.tif"))
    geometry = xray.XrayGeometry(_camera(0.1), (0.5, 0.6))
    (node,) = logic.importXray(path.with_name("ap.tif"), geometry)
    assert xray.getGeometry(node).camera.size == (40, 30)
    assert [view.name for view in read_views(path)] == ["AP", "LA"]


# Results


def _write_ply(path: Path, points: np.ndarray, scales: np.ndarray, density: np.ndarray) -> None:
    names = ["x", "y", "z", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    names.append("density")
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property float {name}" for name in names] + ["end_header"]
    turns = np.tile([1.0, 0, 0, 0], (len(points), 1))
    rows = np.column_stack([points, scales, turns, density]).astype("<f4")
    path.write_bytes("\n".join(header).encode() + b"\n" + rows.tobytes())


@pytest.fixture
def result_folder(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A folder of results as the command line writes it, and its ct_to_world (LPS)."""
    folder = tmp_path / "results"
    folder.mkdir()
    ct_to_world = exp_se3([0.2, -0.1, 0.3, 15.0, -160.0, 35.0])
    record = RegistrationRecord("ok", ct_to_world, np.eye(6) * 0.01, {"score": 0.9})
    write_registration_json(record, folder / "registration.json")
    write_itk_transform(ct_to_world, folder / "ct_to_world.tfm", [5.0, 6.0, 7.0])
    image = sitk.GetImageFromArray(np.random.default_rng(0).random((5, 6, 7)).astype(np.float32))
    image.SetOrigin([-10.0, 20.0, 30.0])
    image.SetSpacing([1.5, 1.5, 1.5])
    sitk.WriteImage(image, str(folder / "reconstruction.nii.gz"))
    points = np.array([[1.0, 2.0, 3.0], [-4.0, 5.0, 6.0]])
    _write_ply(folder / "gaussians.ply", points, np.array([[1, 2, 4], [3, 3, 3]]), [0.01, 0.05])
    return folder, ct_to_world


def test_load_result(
    logic: Any, nodes: tuple[Any, Any], result_folder: tuple[Path, np.ndarray]
) -> None:
    ct, segmentation = nodes
    folder, ct_to_world = result_folder
    result = logic.loadResult(folder, ct, segmentation)
    assert result.status == "ok"
    assert result.quality == {"score": 0.9}
    assert ct.GetParentTransformNode() is result.transformNode
    assert segmentation.GetParentTransformNode() is result.transformNode
    np.testing.assert_allclose(result.ctToWorld, lps_to_ras(ct_to_world))
    assert result.outputFolder == folder
    assert result.notes == []

    # A point of the CT, moved by the scene, is where ct_to_world takes it.
    point_ct = np.array([12.0, -30.0, 55.0])
    moved = slicer_startup.transform_point(result.transformNode, point_ct * [-1, -1, 1])
    wanted = transform_points(ct_to_world, point_ct[None])[0]
    np.testing.assert_allclose(np.array(moved) * [-1, -1, 1], wanted, atol=1e-9)

    volume = result.reconstructionNode
    assert volume.GetStorageNode() is None
    np.testing.assert_allclose(frames.ijkToLps(volume)[:3, 3], [-10, 20, 30], atol=1e-4)
    assert slicer.util.arrayFromVolume(volume).shape == (5, 6, 7)

    model = result.gaussiansNode
    points = slicer.util.arrayFromModelPoints(model)
    np.testing.assert_allclose(points, [[-1, -2, 3], [4, -5, 6]])
    np.testing.assert_allclose(
        slicer.util.arrayFromModelPointData(model, "density"), [0.01, 0.05], rtol=1e-6
    )
    np.testing.assert_allclose(
        slicer.util.arrayFromModelPointData(model, "scale"), [2.0, 3.0], rtol=1e-6
    )
    assert model.GetPolyData().GetNumberOfVerts() == 2


def test_tfm_through_slicers_storage_node_is_the_same_transform(
    logic: Any, nodes: tuple[Any, Any], result_folder: tuple[Path, np.ndarray]
) -> None:
    folder, _ = result_folder
    result = logic.loadResult(folder, nodes[0])
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(folder / "ct_to_world.tfm"))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "from tfm")
    assert storage.ReadData(node)
    matrix = vtk.vtkMatrix4x4()
    node.GetMatrixTransformToParent(matrix)
    np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(matrix), result.ctToWorld, atol=1e-9)


def test_a_result_replaces_a_transform_and_says_so(
    logic: Any, nodes: tuple[Any, Any], result_folder: tuple[Path, np.ndarray]
) -> None:
    ct, segmentation = nodes
    ct.SetAndObserveTransformNodeID(_transform(exp_se3([0, 0, 1, 2, 3, 4])).GetID())
    result = logic.loadResult(result_folder[0], ct, segmentation)
    assert ct.GetParentTransformNode() is result.transformNode
    assert segmentation.GetParentTransformNode() is None
    assert "under the transform 'moved'" in result.notes[0]
    np.testing.assert_allclose(frames.transformMatrix(result.transformNode), result.ctToWorld)
    # A second result can go into the same nodes.
    count = slicer.mrmlScene.GetNumberOfNodes()
    outputs = results.OutputNodes(
        result.transformNode, result.reconstructionNode, result.gaussiansNode
    )
    again = logic.loadResult(result_folder[0], ct, None, outputs)
    assert again.transformNode is result.transformNode
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def test_a_failed_result_is_not_set_on_the_ct(
    logic: Any, nodes: tuple[Any, Any], result_folder: tuple[Path, np.ndarray]
) -> None:
    folder, ct_to_world = result_folder
    record = RegistrationRecord("failed", ct_to_world, None)
    write_registration_json(record, folder / "registration.json")
    result = logic.loadResult(folder, nodes[0])
    assert result.status == "failed"
    assert result.covariance is None
    assert nodes[0].GetParentTransformNode() is None
    np.testing.assert_allclose(frames.transformMatrix(result.transformNode), result.ctToWorld)
    assert "failed" in result.notes[0]


@pytest.mark.parametrize("below", ["ct", "segmentation", "transform"])
def test_a_failed_second_result_moves_nothing(
    logic: Any, nodes: tuple[Any, Any], result_folder: tuple[Path, np.ndarray], below: str
) -> None:
    ct, segmentation = nodes
    folder, ct_to_world = result_folder
    first = _transform(exp_se3([0.3, 0, 0, 7.0, 8.0, 9.0]))
    first.SetAndObserveTransformNodeID(_transform(exp_se3([0, 0, 0, 1.0, 0, 0]), "above").GetID())
    between = _transform(np.eye(4), "between")
    for node, above in {
        "ct": [(ct, first)],
        "segmentation": [(segmentation, first)],
        "transform": [(ct, between), (between, first)],
    }[below]:
        node.SetAndObserveTransformNodeID(above.GetID())

    def places() -> list[np.ndarray]:
        corners = []
        for node in (ct, segmentation, first):
            to_world = vtk.vtkMatrix4x4()
            parent = node.GetParentTransformNode()
            if parent is not None:
                parent.GetMatrixTransformToWorld(to_world)
            corners.append(slicer.util.arrayFromVTKMatrix(to_world))
        own = vtk.vtkMatrix4x4()
        first.GetMatrixTransformToParent(own)
        return [*corners, slicer.util.arrayFromVTKMatrix(own)]

    before = places()
    write_registration_json(
        RegistrationRecord("failed", ct_to_world, None), folder / "registration.json"
    )
    outputs = results.OutputNodes(first)
    result = logic.loadResult(folder, ct, segmentation, outputs)
    np.testing.assert_allclose(places(), before, atol=1e-12)
    assert result.transformNode is not first
    assert first.GetAttribute(results.STATUS) is None
    np.testing.assert_allclose(frames.transformMatrix(result.transformNode), result.ctToWorld)
    # One that nothing is under takes the next failed result.
    again = logic.loadResult(folder, ct, None, results.OutputNodes(result.transformNode))
    assert again.transformNode is result.transformNode


def test_a_ct_removed_meanwhile_ends_as_cancelled(
    nodes: tuple[Any, Any], result_folder: tuple[Path, np.ndarray]
) -> None:
    ct, segmentation = nodes
    slicer.mrmlScene.RemoveNode(ct)
    count = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(Cancelled, match="the CT is no longer in the scene"):
        results.loadRegistration(result_folder[0], ct, None, segmentation)
    with pytest.raises(Cancelled, match="the CT is no longer in the scene"):
        results.keepPose(np.eye(4), ct, None, segmentation)
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def test_nodes_removed_meanwhile_are_made_anew(
    logic: Any, nodes: tuple[Any, Any], result_folder: tuple[Path, np.ndarray]
) -> None:
    ct, segmentation = nodes
    folder = result_folder[0]
    first = logic.loadResult(folder, ct, segmentation)
    outputs = results.OutputNodes(
        first.transformNode, first.reconstructionNode, first.gaussiansNode
    )
    for node in (
        first.transformNode,
        first.reconstructionNode,
        first.gaussiansNode,
        segmentation,
    ):
        slicer.mrmlScene.RemoveNode(node)
    result = logic.loadResult(folder, ct, segmentation, outputs)
    made = (result.transformNode, result.reconstructionNode, result.gaussiansNode)
    assert all(node.GetScene() is slicer.mrmlScene for node in made)
    assert ct.GetParentTransformNode() is result.transformNode
    assert segmentation.GetTransformNodeID() is None
    slicer.mrmlScene.RemoveNode(result.transformNode)
    kept = results.keepPose(np.eye(4), ct, results.OutputNodes(result.transformNode), segmentation)
    assert ct.GetParentTransformNode() is kept.transformNode


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("registration.json", b"{"),
        ("registration.json", b'{"schema": "radgsreg/views", "version": 1}'),
        ("gaussians.ply", b"ply\nformat ascii 1.0\nelement vertex 0\nend_header\n"),
        ("gaussians.ply", None),
        ("reconstruction.nii.gz", b"nothing"),
    ],
)
def test_unreadable_results_leave_the_scene_as_it_was(
    logic: Any,
    nodes: tuple[Any, Any],
    result_folder: tuple[Path, np.ndarray],
    name: str,
    content: bytes | None,
) -> None:
    folder = result_folder[0]
    if content is None:
        content = (folder / name).read_bytes()[:-3]
    (folder / name).write_bytes(content)
    count = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(InputError, match=name):
        logic.loadResult(folder, nodes[0])
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert nodes[0].GetParentTransformNode() is None


def test_start_transform_must_be_rigid() -> None:
    with pytest.raises(InputError, match="rigid"):
        casefolder.startToLps(np.diag([1.0, 2.0, 1.0, 1.0]))
    pose = exp_se3([0.1, 0.2, 0.3, 1, 2, 3])
    np.testing.assert_allclose(casefolder.startToLps(lps_to_ras(pose)), pose)


def test_the_parameter_node_remembers(logic: Any, nodes: tuple[Any, Any]) -> None:
    parameters = logic.getParameterNode()
    assert parameters.device == "auto"
    assert parameters.xrays == []
    parameters.ctVolume, parameters.segmentation = nodes
    parameters.xrays = _xrays()
    again = logic.getParameterNode()
    assert again.ctVolume is nodes[0]
    assert [node.GetName() for node in again.xrays] == ["AP", "LA"]
