"""What the tests of the review share: small scenes of real MRML nodes."""

from __future__ import annotations

from typing import Any

import ball
import numpy as np
import slicer
import slicer_startup
import vtk

from RadGSRegLib.geometry import Camera, exp_se3, lps_to_ras


def camera(angle: float, columns: int = 160, rows: int = 120, focal: float = 700.0) -> Camera:
    """A camera 740 mm from the world's origin, off centre and askew, turned about the patient."""
    turn = exp_se3([-np.pi / 2 + 0.1, 0, 0, 0, 0, 0]) @ exp_se3([0, 0, angle, 0, 0, 0])
    turn[:3, 3] = [3.0, -2.0, 740.0]
    intrinsic = np.array([[focal, 0, 71.3], [0, 0.9 * focal, 64.1], [0, 0, 1]])
    return Camera(intrinsic, turn, columns, rows)


def mirrored(one: Camera) -> Camera:
    """The same view seen from behind the picture: its first focal length is negative."""
    flip = np.array([[-1.0, 0, one.columns - 1], [0, 1, 0], [0, 0, 1]])
    return Camera(flip @ one.intrinsic, one.world_to_camera, one.columns, one.rows)


def xray_node(name: str, one: Camera, pixels: Any = None, spacing: Any = (1.5, 1.65)) -> Any:
    """An X-ray node; its pixels are a ramp unless given."""
    from RadGSRegSlicer.scene import xray

    if pixels is None:
        pixels = np.add.outer(np.arange(one.rows), np.arange(one.columns)).astype(np.float32)
    return xray.createXrayNode(name, pixels, xray.XrayGeometry(one, spacing))


def transform_node(matrix: Any, name: str = "ct-to-world") -> Any:
    """A linear transform node with a matrix (4, 4), RAS."""

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


def ball_nodes(result: bool = True) -> dict[str, Any]:
    """The ball of `ball` as nodes: ct, segmentation, xrays and transform (at the true pose).

    With ``result`` the transform carries a registration's record and is set on CT and segmentation.
    """
    from RadGSRegSlicer.scene import frames, xray
    from RadGSRegSlicer.scene.record import ResultRecord, keepRecord

    case = ball.ball_case()
    scene = slicer.mrmlScene
    ct = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    slicer.util.updateVolumeFromArray(ct, case.ct.array)
    frames.setIjkToLps(ct, case.ct.index_to_physical)
    ct.CreateDefaultDisplayNodes()
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    slicer.util.updateVolumeFromArray(labels, np.asarray(case.labels.array, np.uint8))
    frames.setIjkToLps(labels, case.ct.index_to_physical)
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "segmentation")
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.ImportLabelmapToSegmentationNode(labels, segmentation)
    scene.RemoveNode(labels)
    segmentation.GetSegmentation().GetNthSegment(0).SetName("L3")
    pose = lps_to_ras(ball.POSE)
    transform = transform_node(pose)
    if result:
        ct.SetAndObserveTransformNodeID(transform.GetID())
        segmentation.SetAndObserveTransformNodeID(transform.GetID())
        quality = {"reason": "as the test wants it", "score": 0.9}
        quality["views"] = {"AP": {"score": 0.91}, "LA": {"score": 0.89}}
        record = ResultRecord("ok", pose, np.diag([1e-4] * 3 + [0.04] * 3), quality)
        keepRecord(transform, record)
    return {
        "ct": ct,
        "segmentation": segmentation,
        "xrays": [xray.nodeFromView(view) for view in case.views],
        "transform": transform,
    }


def box_mesh(low: Any, high: Any, steps: int = 1) -> vtk.vtkPolyData:
    """A closed box of triangles, its normals outwards; each side has ``steps`` squared squares."""
    box = vtk.vtkTessellatedBoxSource()
    box.SetBounds(low[0], high[0], low[1], high[1], low[2], high[2])
    box.SetLevel(steps)
    box.QuadsOff()
    clean = vtk.vtkCleanPolyData()
    clean.SetInputConnection(box.GetOutputPort())
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(clean.GetOutputPort())
    normals.SplittingOff()
    normals.ConsistencyOn()
    normals.AutoOrientNormalsOn()
    normals.Update()
    return normals.GetOutput()


def new_scene() -> Any:
    """An empty scene."""
    return slicer_startup.start()
