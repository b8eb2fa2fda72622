# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""The tools after a reconstruction on real nodes: surface, box, axes, rendering, cuts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
vtk = pytest.importorskip("vtk")

import slicer_startup
from scipy.spatial.transform import Rotation

from RadGSRegLib.errors import InputError

slicer_startup.start()

import ball
import panel_scene
from RadGSRegSlicer.exchange import casefolder, results
from RadGSRegSlicer.review import rendering, views
from RadGSRegSlicer.scene import axes, bonesurface, box, frames, record
from vtk.util.numpy_support import vtk_to_numpy

import RadGSReg

RADII = np.array([14.0, 10.0, 7.0])  # of the bone: R, A, S, mm
CENTRE = np.array([12.0, -30.0, 45.0])  # RAS, mm
SIZE = 48  # voxels along an edge
SHARE = 100.0 * (1.0 - 4.0 / 3.0 * np.pi * RADII.prod() / SIZE**3)
"""The percentile above which there are as many voxels as are in the bone."""


@pytest.fixture(autouse=True)
def scene() -> Any:
    return slicer_startup.start()


def _volume(scene: Any, flip: bool = False, second: bool = False) -> Any:
    """An ellipsoid of bone in soft tissue, 1 mm voxels; ``second``: and a small piece of bone."""
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0])
    if flip:
        matrix[:3, :3] = np.diag([1.0, -1.0, 1.0])
    middle = np.full(3, (SIZE - 1) / 2.0)
    matrix[:3, 3] = CENTRE - matrix[:3, :3] @ middle
    ijk = np.indices((SIZE,) * 3).reshape(3, -1)[::-1].T
    ras = ijk @ matrix[:3, :3].T + matrix[:3, 3] - CENTRE
    radius = np.sqrt(((ras / RADII) ** 2).sum(axis=1))
    values = 0.02 + 0.03 / (1.0 + np.exp(12.0 * (radius - 1.0)))
    if second:
        values += 0.03 * (np.linalg.norm(ras - [-18.0, 18.0, 18.0], axis=1) < 2.5)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Volume")
    slicer.util.updateVolumeFromArray(node, values.reshape((SIZE,) * 3).astype(np.float32))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    node.CreateDefaultDisplayNodes()
    return node


def _mass(model: Any) -> Any:
    mass = vtk.vtkMassProperties()
    mass.SetInputData(model.GetPolyData())
    mass.Update()
    return mass


def _open_edges(model: Any) -> int:
    edges = vtk.vtkFeatureEdges()
    edges.SetInputData(model.GetPolyData())
    edges.FeatureEdgesOff()
    edges.ManifoldEdgesOff()
    edges.Update()
    return int(edges.GetOutput().GetNumberOfCells())


def _pieces(model: Any) -> int:
    pieces = vtk.vtkPolyDataConnectivityFilter()
    pieces.SetInputData(model.GetPolyData())
    pieces.SetExtractionModeToAllRegions()
    pieces.Update()
    return int(pieces.GetNumberOfExtractedRegions())


@pytest.mark.parametrize("flip", [False, True])
def test_the_surface_is_that_of_the_bone(scene: Any, flip: bool) -> None:
    volume = _volume(scene, flip)
    model = bonesurface.boneSurface(volume, SHARE)
    assert _mass(model).GetVolume() == pytest.approx(4.0 / 3.0 * np.pi * RADII.prod(), rel=0.03)
    assert _open_edges(model) == 0
    points = vtk_to_numpy(model.GetPolyData().GetPoints().GetData())
    np.testing.assert_allclose(points.mean(axis=0), CENTRE, atol=0.2)
    np.testing.assert_allclose(np.ptp(points, axis=0) / 2.0, RADII, atol=0.4)
    normals = vtk_to_numpy(model.GetPolyData().GetPointData().GetNormals())
    assert (((points - CENTRE) * normals).sum(axis=1) > 0.0).all()
    # The corners of the triangles say the same.
    cells = vtk_to_numpy(model.GetPolyData().GetPolys().GetConnectivityArray()).reshape(-1, 3)
    corners = points[cells]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((across * (corners.mean(axis=1) - CENTRE)).sum(axis=1) > -1e-6).all()


def test_only_the_largest_piece_and_the_same_model_again(scene: Any) -> None:
    volume = _volume(scene, second=True)
    model = bonesurface.boneSurface(volume, 95.0, largest=False)
    assert _pieces(model) == 2
    small = model.GetPolyData().GetNumberOfCells()
    again = bonesurface.boneSurface(volume, 95.0, modelNode=model)
    assert again is model
    assert _pieces(model) == 1
    assert model.GetPolyData().GetNumberOfCells() < small
    before = _mass(model).GetVolume()
    bonesurface.boneSurface(volume, 98.0, modelNode=model)
    assert _mass(model).GetVolume() < before


def test_a_surface_is_closed_where_the_volume_ends(scene: Any) -> None:
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Full")
    values = np.full((20, 20, 20), 0.05, np.float32)
    values[0, 0, 0] = 0.0
    slicer.util.updateVolumeFromArray(volume, values)
    model = bonesurface.boneSurface(volume, 0.0)
    assert _open_edges(model) == 0
    assert 19.0**3 < _mass(model).GetVolume() < 21.1**3


def test_voxels_at_the_threshold_are_not_above_it(scene: Any) -> None:
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Steps")
    values = np.zeros((20, 20, 20), np.float32)
    values[5:15, 5:15, 5:15] = 0.05
    slicer.util.updateVolumeFromArray(volume, values)
    model = bonesurface.boneSurface(volume, 80.0)
    assert bonesurface.boneThreshold(volume, 80.0) == 0.0
    assert _open_edges(model) == 0
    assert 1000.0 < _mass(model).GetVolume() < 12.0**3


def test_a_surface_goes_with_the_transform_of_its_volume(scene: Any) -> None:
    volume = _volume(scene)
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    volume.SetAndObserveTransformNodeID(node.GetID())
    model = bonesurface.boneSurface(volume, SHARE)
    assert model.GetParentTransformNode() is node


def test_what_cannot_be_a_surface_is_refused(scene: Any) -> None:
    volume = _volume(scene)
    with pytest.raises(InputError, match="percentile: is 101"):
        bonesurface.boneSurface(volume, 101.0)
    with pytest.raises(InputError, match="nothing above the threshold"):
        bonesurface.boneSurface(volume, 100.0)
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    with pytest.raises(InputError, match="Empty: holds no image"):
        bonesurface.boneSurface(empty)
    assert scene.GetNumberOfNodesByClass("vtkMRMLModelNode") == 0


@pytest.mark.parametrize("ending", [".stl", ".ply", ".OBJ"])
def test_a_surface_is_saved_and_read_back(scene: Any, tmp_path: Path, ending: str) -> None:
    model = bonesurface.boneSurface(_volume(scene), SHARE)
    path = bonesurface.saveSurface(model, tmp_path / f"bone{ending}")
    assert model.GetStorageNode() is None
    read = scene.AddNewNodeByClass("vtkMRMLModelNode")
    storage = slicer.vtkMRMLModelStorageNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(read)
    bounds = np.zeros((2, 6))
    model.GetRASBounds(bounds[0])
    read.GetRASBounds(bounds[1])
    np.testing.assert_allclose(bounds[0], bounds[1], atol=1e-3)
    with pytest.raises(InputError, match="is there already"):
        bonesurface.saveSurface(model, path)


def test_materials_are_not_written_over(scene: Any, tmp_path: Path) -> None:
    model = bonesurface.boneSurface(_volume(scene), SHARE)
    (tmp_path / "bone.mtl").write_text("mine")
    with pytest.raises(InputError, match=r"bone\.mtl: is there already"):
        bonesurface.saveSurface(model, tmp_path / "bone.obj")
    assert [file.name for file in tmp_path.iterdir()] == ["bone.mtl"]


def test_what_cannot_be_saved_is_refused(scene: Any, tmp_path: Path) -> None:
    model = bonesurface.boneSurface(_volume(scene), SHARE)
    with pytest.raises(InputError, match="ends in none of"):
        bonesurface.saveSurface(model, tmp_path / "bone.doc")
    with pytest.raises(InputError, match="is no folder"):
        bonesurface.saveSurface(model, tmp_path / "no" / "bone.stl")
    empty = scene.AddNewNodeByClass("vtkMRMLModelNode")
    with pytest.raises(InputError, match="make it first"):
        bonesurface.saveSurface(empty, tmp_path / "bone.stl")
    assert list(tmp_path.iterdir()) == []


def _turned(node: Any, degrees: float) -> None:
    """Turn a box about its own middle."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    middle = np.array(node.GetCenter())
    matrix[:3, 3] = middle
    node.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(matrix))


def test_a_box_holds_voxels_however_it_is_turned(scene: Any) -> None:
    volume = _volume(scene)
    node = box.boxAround(volume)
    assert box.insideBox(volume, node).all()
    np.testing.assert_allclose(node.GetCenter(), CENTRE)
    node.SetSize(20.0, 20.0, 10.0)
    assert box.insideBox(volume, node).sum() == 20 * 20 * 10
    _turned(node, 45.0)
    inside = box.insideBox(volume, node)
    assert inside.sum() == pytest.approx(20 * 20 * 10, rel=0.1)
    k, j, i = np.argwhere(inside).T
    assert np.ptp(i) > 25  # along its diagonal now
    cropped = box.croppedVolume(volume, node)
    assert cropped.GetImageData().GetDimensions() == (np.ptp(i) + 1, np.ptp(j) + 1, np.ptp(k) + 1)
    whole = slicer.util.arrayFromVolume(volume)[k.min() : k.max() + 1]
    whole = whole[:, j.min() : j.max() + 1, i.min() : i.max() + 1]
    assert np.array_equal(slicer.util.arrayFromVolume(cropped), whole)
    first = [int(i.min()), int(j.min()), int(k.min()), 1]
    np.testing.assert_allclose(
        (frames.ijkToLps(cropped) @ [0, 0, 0, 1]), frames.ijkToLps(volume) @ first
    )


def test_a_block_holds_all_that_is_in_a_box(scene: Any) -> None:
    volume = _volume(scene)
    node = box.boxAround(volume)
    matrix = frames.LPS_RAS @ frames.ijkToLps(volume)
    ijk = np.indices((SIZE,) * 3).reshape(3, -1)[::-1].T
    ras = ijk @ matrix[:3, :3].T + matrix[:3, 3]
    for offset, degrees in (((0.0, 0.0, 0.0), 30.0), ((20.0, -18.0, 9.0), 70.0)):
        node.SetCenter(*(CENTRE + offset))
        node.SetSize(20.0, 30.0, 10.0)
        _turned(node, degrees)
        toBox = np.linalg.inv(slicer.util.arrayFromVTKMatrix(node.GetObjectToWorldMatrix()))
        place = np.abs(ras @ toBox[:3, :3].T + toBox[:3, 3])
        wanted = (place <= [10.0, 15.0, 5.0]).all(axis=1).reshape((SIZE,) * 3)
        assert wanted.any()
        assert np.array_equal(box.insideBox(volume, node), wanted)
        block, inside = box.boxBlock(volume, node)
        assert inside.size < SIZE**3 / 3
        assert np.array_equal(inside, wanted[block])
    node.SetCenter(500.0, 0.0, 0.0)
    assert box.boxBlock(volume, node)[1].size == 0
    with pytest.raises(InputError, match="nothing above"):
        bonesurface.boneSurface(volume, SHARE, roiNode=node)


def test_a_crop_is_as_doubtful_as_its_volume(scene: Any) -> None:
    volume = _volume(scene)
    node = box.boxAround(volume)
    results.judge(volume, "uncertain", "it was not finished")
    volume.SetAttribute(record.RECONSTRUCTION, "true")
    cropped = box.croppedVolume(volume, node)
    assert cropped.GetAttribute(record.RECONSTRUCTION) == "true"
    assert cropped.GetAttribute(record.STATUS) == "uncertain"
    assert cropped.GetAttribute(record.REASON) == "cut from 'Volume': it was not finished"
    plain = box.croppedVolume(_volume(scene), node)
    assert plain.GetAttribute(record.RECONSTRUCTION) is None
    assert plain.GetAttribute(record.STATUS) is None


def test_a_box_moves_with_the_transforms(scene: Any) -> None:
    volume = _volume(scene)
    node = box.boxAround(volume)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[0, 3] = 500.0
    slicer.util.updateTransformMatrixFromArray(transform, matrix)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    assert not box.insideBox(volume, node).any()
    with pytest.raises(InputError, match="holds no voxel"):
        box.croppedVolume(volume, node)
    node.SetAndObserveTransformNodeID(transform.GetID())
    assert box.insideBox(volume, node).all()


def test_the_surface_in_a_box_is_closed(scene: Any) -> None:
    volume = _volume(scene, second=True)
    node = box.boxAround(volume)
    node.SetCenter(*(CENTRE + [14.0, 0.0, 0.0]))
    node.SetSize(28.0, 40.0, 40.0)
    model = bonesurface.boneSurface(volume, SHARE, roiNode=node)
    assert _open_edges(model) == 0
    half = 2.0 / 3.0 * np.pi * RADII.prod()
    assert _mass(model).GetVolume() == pytest.approx(half, rel=0.08)


def _slice_views(scene: Any) -> dict[str, Any]:
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    nodes = {}
    for name, orientation in axes.ORIENTATIONS.items():
        nodes[name] = scene.AddNewNodeByClass("vtkMRMLSliceNode", name)
        nodes[name].SetLayoutName(name)
        nodes[name].SetOrientation(orientation)
    return nodes


def test_slices_go_along_the_bone(scene: Any) -> None:
    """A phantom's vertebra, turned: the views turn with it, and back."""
    files = panel_scene.write_files(Path(slicer_startup._cacheFolder()) / "axes")
    ct, segmentation = panel_scene.load_nodes(files)
    shown = _slice_views(scene)
    upright = {n: slicer.util.arrayFromVTKMatrix(v.GetSliceToRAS()) for n, v in shown.items()}
    still = axes.axesOfSegment(segmentation, "L3", ct)
    before = frames.transformMatrix(still)
    np.testing.assert_allclose(before[:3, 3], ball.CENTRE_CT * [-1, -1, 1], atol=1.5)
    moved = np.eye(4)
    moved[:3, :3] = Rotation.from_euler("xyz", [20.0, -10.0, 5.0], degrees=True).as_matrix()
    moved[:3, 3] = [3.0, 4.0, 5.0]
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    slicer.util.updateTransformMatrixFromArray(transform, moved)
    ct.SetAndObserveTransformNodeID(transform.GetID())
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    again = axes.axesOfSegment(segmentation, "L3", ct, still)
    assert again is still
    np.testing.assert_allclose(frames.transformMatrix(again), moved @ before, atol=1e-6)
    assert set(axes.sliceAlong(scene, again)) == set(shown.values())
    for name, view in shown.items():
        matrix = slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS())
        wanted = (moved @ before)[:3, :3] @ upright[name][:3, :3]
        np.testing.assert_allclose(matrix[:3, :3], wanted, atol=1e-6)
        np.testing.assert_allclose(matrix[:3, 3], (moved @ before)[:3, 3], atol=1e-6)
    axes.sliceUpright(scene)
    for name, view in shown.items():
        matrix = slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS())
        np.testing.assert_allclose(matrix[:3, :3], upright[name][:3, :3], atol=1e-6)


def test_axes_of_a_volume_follow_the_patient(scene: Any) -> None:
    volume = _volume(scene, second=True)
    node = axes.axesOfVolume(volume, SHARE)
    matrix = frames.transformMatrix(node)
    np.testing.assert_allclose(matrix[:3, 3], CENTRE, atol=0.5)
    assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1.0)
    assert np.degrees(np.arccos((np.trace(matrix[:3, :3]) - 1.0) / 2.0)) < 36.0
    # A patient who lies the other way round: his left is the world's right.
    around = np.diag([-1.0, -1.0, 1.0])
    turned = frames.transformMatrix(axes.axesOfVolume(volume, SHARE, None, around, node))
    assert turned[0, 0] < -0.5
    assert turned[1, 1] < -0.5
    inBox = box.boxAround(volume)
    inBox.SetCenter(*(CENTRE + [-18.0, 18.0, 18.0]))
    inBox.SetSize(8.0, 8.0, 8.0)
    small = frames.transformMatrix(axes.axesOfVolume(volume, SHARE, inBox))
    np.testing.assert_allclose(small[:3, 3], CENTRE + [-18.0, 18.0, 18.0], atol=0.5)
    with pytest.raises(InputError, match="none is chosen"):
        axes.axesOfSegment(None, "L3", volume)


class _Logic:
    """The real logic, with a preset: those of the application are not here."""

    def __init__(self, preset: Any) -> None:
        self.preset, self.logic = preset, slicer.modules.volumerendering.logic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.logic, name)

    def GetPresetByName(self, name: str) -> Any:  # noqa: N802
        return self.preset if name == "CT-Bone" else None


def _points(function: Any, size: int) -> list[list[float]]:
    rows = [[0.0] * size for _ in range(function.GetSize())]
    for n, row in enumerate(rows):
        function.GetNodeValue(n, row)
    return rows


def test_a_preset_is_moved_to_the_volume_s_unit(scene: Any) -> None:
    volume = _volume(scene)
    preset = slicer.vtkMRMLVolumePropertyNode()
    bone = preset.GetVolumeProperty()
    opacity, edges = vtk.vtkPiecewiseFunction(), vtk.vtkPiecewiseFunction()
    color = vtk.vtkColorTransferFunction()
    for place, alpha in ((-1000.0, 0.0), (0.0, 0.1), (1000.0, 0.9)):
        opacity.AddPoint(place, alpha)
        color.AddRGBPoint(place, alpha, 0.5, 0.25)
    edges.AddPoint(0.0, 1.0)
    edges.AddPoint(500.0, 0.5)
    bone.SetScalarOpacity(opacity)
    bone.SetColor(color)
    bone.SetGradientOpacity(edges)
    display = rendering.render(volume, "CT-Bone", _Logic(preset))
    assert display.GetVisibility()
    water = 0.02  # what the soft tissue is
    shown = display.GetVolumePropertyNode().GetVolumeProperty()
    places = [row[0] for row in _points(shown.GetScalarOpacity(), 4)]
    np.testing.assert_allclose(places, [0.0, water, 2.0 * water], atol=1e-3)
    assert [row[1] for row in _points(shown.GetScalarOpacity(), 4)] == [0.0, 0.1, 0.9]
    colors = _points(shown.GetRGBTransferFunction(), 6)
    np.testing.assert_allclose([row[0] for row in colors], places, atol=1e-9)
    assert [row[1:4] for row in colors] == [[a, 0.5, 0.25] for a in (0.0, 0.1, 0.9)]
    np.testing.assert_allclose(
        [row[0] for row in _points(shown.GetGradientOpacity(), 4)], [0.0, 0.5 * water], atol=1e-3
    )
    assert _points(opacity, 4)[0][0] == -1000.0  # Slicer's own preset is as it was
    # Again from the start, not moved a second time; and one that is not there is our own.
    rendering.render(volume, "CT-Bone", _Logic(preset))
    again = display.GetVolumePropertyNode().GetVolumeProperty()
    np.testing.assert_allclose([row[0] for row in _points(again.GetScalarOpacity(), 4)], places)
    rendering.render(volume, "CT-Bones", _Logic(preset))
    assert _points(again.GetScalarOpacity(), 4)[-1][0] < 0.06
    rendering.hideRendering(volume)
    assert not display.GetVisibility()


def test_a_rendering_is_cropped_and_cut(scene: Any) -> None:
    volume = _volume(scene)
    display, inBox = rendering.render(volume), box.boxAround(volume)
    rendering.cropRendering(volume, inBox)
    assert display.GetCroppingEnabled()
    assert display.GetROINode() is inBox
    rendering.cropRendering(volume, None)
    assert not display.GetCroppingEnabled()
    red = _slice_views(scene)["Red"]
    red.SetSliceOffset(float(CENTRE[2]))
    surface = bonesurface.boneSurface(volume, SHARE).GetDisplayNode()
    inBox.SetSize(40.0, 40.0, 40.0)
    node = rendering.clip([surface, display, None], [red, inBox])
    for shown in (surface, display):
        assert shown.GetClipNode() is node
        assert shown.GetClipping()
    # Kept is where the function is positive: below the slice, and in the box.
    kept = node.GetImplicitFunctionWorld().FunctionValue
    assert kept(CENTRE + [0.0, 0.0, -5.0]) > 0.0
    assert kept(CENTRE + [0.0, 0.0, 5.0]) < 0.0
    assert kept(CENTRE + [0.0, 0.0, -30.0]) < 0.0
    assert rendering.clip([surface, display], []) is node
    assert not surface.GetClipping()
    assert scene.GetNumberOfNodesByClass("vtkMRMLClipNode") == 1


@pytest.mark.parametrize(
    ("name", "direction"),
    [("Red", (0.0, 0.0, 1.0)), ("Yellow", (-1.0, 0.0, 0.0)), ("Green", (0.0, 1.0, 0.0))],
)
def test_each_slice_cuts_away_what_its_tool_tip_says(
    scene: Any, name: str, direction: tuple[float, float, float]
) -> None:
    """Above, to the left, in front: RAS."""
    volume = _volume(scene)
    view = _slice_views(scene)[name]
    view.JumpSliceByCentering(*CENTRE)
    kept = rendering.clip([rendering.render(volume)], [view]).GetImplicitFunctionWorld()
    assert kept.FunctionValue(CENTRE - 5.0 * np.array(direction)) > 0.0
    assert kept.FunctionValue(CENTRE + 5.0 * np.array(direction)) < 0.0


def test_a_rendering_s_range_is_that_of_its_functions(scene: Any) -> None:
    volume = _volume(scene)
    preset = slicer.vtkMRMLVolumePropertyNode()
    for place, alpha in ((-1000.0, 0.0), (1000.0, 0.9)):
        preset.GetVolumeProperty().GetScalarOpacity().AddPoint(place, alpha)
    preset.SetEffectiveRange(-1000.0, 1000.0)
    edges = preset.GetVolumeProperty().GetGradientOpacity()
    edges.RemoveAllPoints()
    edges.AddPoint(0.0, 0.25)
    for name, most in (("CT-Bone", 0.05), ("bone", 0.06)):
        node = rendering.render(volume, name, _Logic(preset)).GetVolumePropertyNode()
        low, high = node.GetEffectiveRange()
        assert -0.05 < low < high < most
    assert node.GetVolumeProperty().GetGradientOpacity().GetValue(0.01) == 1.0


def test_of_bone_alone_nothing_but_bone_is_rendered(scene: Any) -> None:
    volume = _volume(scene)
    values = slicer.util.arrayFromVolume(volume)
    values[:] = np.maximum(values - 0.0224, 0.0)
    values[values < 1e-4] = 0.0
    values[:, :, : SIZE // 2] += np.float32(2e-4)  # faint, as where hardly any bone was drawn
    volume.SetAttribute(record.TISSUE, "0.02")
    preset = slicer.vtkMRMLVolumePropertyNode()
    opacity = preset.GetVolumeProperty().GetScalarOpacity()
    opacity.RemoveAllPoints()
    for place, alpha in ((-1000.0, 0.0), (0.0, 0.2), (1000.0, 0.9)):
        opacity.AddPoint(place, alpha)
    for name in ("bone", "CT-Bone"):
        shown = rendering.render(volume, name, _Logic(preset)).GetVolumePropertyNode()
        shown = shown.GetVolumeProperty().GetScalarOpacity()
        assert shown.GetValue(0.0) == 0.0
        assert shown.GetValue(0.002) < 0.1
        assert shown.GetValue(0.0276) > 0.85  # the middle of the bone
    assert shown.GetValue(0.02) == pytest.approx(0.9)  # 1000 HU above soft tissue
    cropped = box.croppedVolume(volume, box.boxAround(volume))
    assert cropped.GetAttribute(record.TISSUE) == "0.02"


def test_without_the_module_nothing_is_rendered(scene: Any) -> None:
    volume = _volume(scene)
    del slicer.modules.volumerendering
    assert rendering.render(volume) is None
    rendering.cropRendering(volume, None)
    rendering.hideRendering(volume)


def test_a_volume_alone_is_shown_whole(scene: Any) -> None:
    volume, shown = _volume(scene), _slice_views(scene)
    for name in shown:
        layers = slicer.vtkMRMLSliceCompositeNode()
        layers.SetLayoutName(name)
        scene.AddNode(layers).SetForegroundVolumeID("vtkMRMLScalarVolumeNode9")
    rendering.plain(volume)
    views.showVolumeAlone(scene, volume)
    for name, view in shown.items():
        layers = views.compositeNode(scene, name)
        assert layers.GetBackgroundVolumeID() == volume.GetID()
        assert layers.GetForegroundVolumeID() is None
        assert min(view.GetFieldOfView()[:2]) > SIZE
        # Along the normals: up, to the left, to the front.
        offset = {"Red": CENTRE[2], "Yellow": -CENTRE[0], "Green": CENTRE[1]}[name]
        assert view.GetSliceOffset() == pytest.approx(offset)


def test_the_console_calls_give_the_same(scene: Any) -> None:
    volume, logic = _volume(scene), RadGSReg.RadGSRegLogic()
    model = logic.boneSurface(volume, SHARE)
    again = logic.boneSurface(volume, SHARE, largest=False, modelNode=model)
    assert again is model
    assert _mass(model).GetVolume() == pytest.approx(4.0 / 3.0 * np.pi * RADII.prod(), rel=0.03)
    node = logic.boneAxes(volume, SHARE)
    assert logic.boneAxes(volume, SHARE, transformNode=node) is node
    np.testing.assert_allclose(frames.transformMatrix(node)[:3, 3], CENTRE, atol=0.5)


def test_the_library_and_the_panel_mean_the_same_bone(scene: Any) -> None:
    from RadGSRegLib.bones import PERCENTILE, bone_mask

    assert bonesurface.PERCENTILE == PERCENTILE
    volume = _volume(scene)
    mask = bone_mask(casefolder.volumeFromCt(volume))
    assert mask.threshold == pytest.approx(bonesurface.boneThreshold(volume), rel=1e-6)
