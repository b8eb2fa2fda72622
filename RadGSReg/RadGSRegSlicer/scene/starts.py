"""Where the search for the pose begins: clicks in the X-rays, or pairs of landmarks.

A click is kept as the X-ray's ``center_px`` (see `xray`); a markups point on the detector shows it
and can be dragged.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array, triangulate
from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLScalarVolumeNode, vtkMRMLScene
from slicer.util import arrayFromVTKMatrix

from .drawing import COLORS, lineModel, pixelsToRas, removeHelper, showBesideXray
from .frames import LPS_RAS
from .meshes import polyLines
from .xray import XrayGeometry, detectorIjkToLps, getGeometry, isXray, setCenterPx

CLICK_ROLE = "RadGSReg.Click"
LANDMARKS_ROLE = "RadGSReg.Landmarks"


def rasToPixel(geometry: XrayGeometry, pointRas: Sequence[float]) -> tuple[float, float]:
    """The pixel (column, row) that a point (3,) of the scene, RAS mm, is seen at."""
    point = np.asarray(pointRas, dtype=float) * [-1.0, -1.0, 1.0]
    column, row = geometry.camera.project(point[None])[0]
    return float(column), float(row)


def markupsOf(xrayNode: vtkMRMLScalarVolumeNode, role: str, name: str = "") -> Any:
    """The points that belong to an X-ray in a role, or None; made anew if a name is given."""
    node = xrayNode.GetNodeReference(role)
    if node is None and name:
        scene = xrayNode.GetScene()
        node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", scene.GenerateUniqueName(name))
        node.CreateDefaultDisplayNodes()
        node.SetControlPointLabelFormat("%N" if role == CLICK_ROLE else "%d")
        xrayNode.SetNodeReferenceID(role, node.GetID())
    return node


def takeClick(xrayNode: vtkMRMLScalarVolumeNode) -> None:
    """Make the last point of an X-ray's click node its centre. Raises InputError outside it."""
    node = markupsOf(xrayNode, CLICK_ROLE)
    points = [] if node is None else definedPoints(node)
    if not points:
        setCenterPx(xrayNode, None)
        return
    while node.GetNumberOfControlPoints() > 1:
        node.RemoveNthControlPoint(0)
    try:
        pixel = pixelInPicture(xrayNode, points[-1])
    except InputError:
        node.RemoveAllControlPoints()
        setCenterPx(xrayNode, None)
        raise
    setCenterPx(xrayNode, pixel)


def pixelInPicture(
    xrayNode: vtkMRMLScalarVolumeNode, pointRas: Sequence[float]
) -> tuple[float, float]:
    """The pixel (column, row) of a point (3,), RAS mm, that was clicked in an X-ray's picture.

    Raises InputError where the point is not in the picture.
    """
    geometry = getGeometry(xrayNode)
    column, row = rasToPixel(geometry, pointRas)
    camera = geometry.camera
    if not (-0.5 <= column <= camera.columns - 0.5 and -0.5 <= row <= camera.rows - 0.5):
        raise InputError(xrayNode.GetName(), "the point is not in this X-ray", "click in its view")
    if besidePicture(xrayNode, pointRas):
        raise InputError(
            xrayNode.GetName(),
            "no picture of this X-ray is under the point",
            "press the button again and click in its view while it shows the X-ray",
        )
    return column, row


def besidePicture(xrayNode: vtkMRMLScalarVolumeNode, pointRas: Sequence[float]) -> bool:
    """Whether a point (3,), RAS mm, lies before or behind an X-ray's picture, not in it.

    A slice view that is elsewhere shows nothing of the X-ray, and a click there means nothing.
    """
    geometry = getGeometry(xrayNode)
    place = LPS_RAS @ detectorIjkToLps(geometry.camera, geometry.pixelSpacing)
    # The picture is one slice, 1 mm thick.
    return bool(abs((np.linalg.inv(place) @ [*pointRas, 1.0])[2]) > 0.5 + 1e-3)


def showClick(xrayNode: vtkMRMLScalarVolumeNode) -> vtkMRMLMarkupsFiducialNode | None:
    """Put an X-ray's point where its centre is said to be; returns it (None without a centre)."""
    geometry = getGeometry(xrayNode)
    node = markupsOf(xrayNode, CLICK_ROLE)
    if geometry.centerPx is None:
        if node is not None and node.GetNumberOfControlPoints() and definedPoints(node):
            node.RemoveAllControlPoints()
        return node
    place = pixelsToRas(xrayNode, [geometry.centerPx])[0]
    node = markupsOf(xrayNode, CLICK_ROLE, f"Vertebra in {xrayNode.GetName()}")
    points = definedPoints(node)
    if not points:
        node.RemoveAllControlPoints()
        node.AddControlPointWorld(vtk.vtkVector3d(*place))
    elif np.abs(np.subtract(points[0], place)).max() > 1e-3:
        node.SetNthControlPointPositionWorld(0, *(float(x) for x in place))
    return node


def clickDistance(geometries: Sequence[XrayGeometry]) -> float | None:
    """How far (mm, root mean square) the clicks' rays pass their common point; None without two."""
    clicked = [(g.camera, g.centerPx) for g in geometries if g.centerPx is not None]
    if len(clicked) < 2:
        return None
    try:
        return triangulate([camera for camera, _ in clicked], [px for _, px in clicked])[1]
    except ValueError:
        return None


class EpipolarLines:
    """Draws, on every X-ray, where the centre may lie by the click in each other X-ray."""

    def __init__(self, scene: vtkMRMLScene | None = None) -> None:
        self._scene = slicer.mrmlScene if scene is None else scene
        self._models: dict[tuple[str, str], Any] = {}

    def show(self, xrayNodes: Sequence[vtkMRMLScalarVolumeNode]) -> None:
        """Draw the lines between these X-rays and no others."""
        wanted: dict[tuple[str, str], Array] = {}
        usable = [node for node in xrayNodes if isXray(node)]
        colors = {n.GetID(): COLORS[k % len(COLORS)] for k, n in enumerate(usable)}
        for source in usable:
            for target in usable:
                line = None if source is target else epipolarLine(source, target)
                if line is not None:
                    wanted[source.GetID(), target.GetID()] = line
        for key in [key for key in self._models if key not in wanted]:
            removeHelper(self._models.pop(key))
        for key, line in wanted.items():
            target = self._scene.GetNodeByID(key[1])
            model = self._models.get(key)
            if model is None or model.GetScene() is None:
                name = f"{self._scene.GetNodeByID(key[0]).GetName()} in {target.GetName()}"
                model = lineModel(self._scene, "epipolar", name, target, colors[key[0]], 2)
                self._models[key] = model
            model.SetAndObservePolyData(polyLines([line]))
            model.GetDisplayNode().SetColor(colors[key[0]])
            showBesideXray(model.GetDisplayNode(), target)


def epipolarLine(source: vtkMRMLScalarVolumeNode, target: vtkMRMLScalarVolumeNode) -> Array | None:
    """Where in ``target`` the point clicked in ``source`` may lie: the line's ends (2, 3), RAS mm.

    None where there is no click, or the line does not meet the image.
    """
    there, here = getGeometry(source), getGeometry(target)
    if there.centerPx is None:
        return None
    detector = abs(there.camera.intrinsic[0, 0]) * there.pixelSpacing[0]
    ray = there.camera.ray_directions([there.centerPx])[0]
    depths = np.linspace(0.2, 1.1, 400) * detector
    points = there.camera.source_world + depths[:, None] * ray
    depth = points @ here.camera.world_to_camera[2, :3] + here.camera.world_to_camera[2, 3]
    pixels = here.camera.project(points[depth > 1.0])
    inside = (pixels >= -0.5).all(axis=1) & (pixels <= np.array(here.camera.size) - 0.5).all(axis=1)
    if inside.sum() < 2:
        return None
    ends = pixels[inside][[0, -1]]
    return pixelsToRas(target, ends)


def landmarkPose(ct: Array, world: Array) -> tuple[Array, float]:
    """The rigid pose (4, 4) that brings points (N, 3) of the CT to the world, and its RMS in mm.

    Raises InputError for fewer than three pairs, or where they lie on one line.
    """
    if len(ct) != len(world):
        raise InputError(
            "landmarks", f"{len(ct)} in the CT and {len(world)} outside", "give pairs in one order"
        )
    if len(ct) < 3:
        raise InputError("landmarks", f"there are {len(ct)} pairs, but three are needed")
    for points in (ct, world):
        if np.linalg.svd(points - points.mean(axis=0))[1][1] < 1.0:
            raise InputError("landmarks", "lie on one line", "add one beside it")
    sets = []
    for points in (ct, world):
        vtkSet = vtk.vtkPoints()
        for point in points:
            vtkSet.InsertNextPoint(*(float(x) for x in point))
        sets.append(vtkSet)
    transform = vtk.vtkLandmarkTransform()
    transform.SetModeToRigidBody()
    transform.SetSourceLandmarks(sets[0])
    transform.SetTargetLandmarks(sets[1])
    transform.Update()
    matrix = arrayFromVTKMatrix(transform.GetMatrix())
    moved = ct @ matrix[:3, :3].T + matrix[:3, 3]
    return matrix, float(np.sqrt(np.mean(np.sum((moved - world) ** 2, axis=1))))


def landmarksInXrays(xrayNodes: Sequence[vtkMRMLScalarVolumeNode], count: int) -> Array:
    """Landmarks (count, 3), RAS mm, from their clicks in the X-rays, in the order of placing.

    Raises InputError where one is not placed in at least two X-rays.
    """
    out = []
    clicks = []
    for node in xrayNodes:
        markups = markupsOf(node, LANDMARKS_ROLE)
        points = [] if markups is None else definedPoints(markups)
        geometry = getGeometry(node)
        beside = [number for number, p in enumerate(points, 1) if besidePicture(node, p)]
        if beside:
            raise InputError(
                f"landmark {beside[0]}",
                f"no picture of '{node.GetName()}' is under its point",
                "remove it and place it again, in the view that shows the X-ray",
            )
        clicks.append((geometry.camera, [rasToPixel(geometry, point) for point in points]))
    for index in range(count):
        pairs = [(camera, pixels[index]) for camera, pixels in clicks if index < len(pixels)]
        if len(pairs) < 2:
            raise InputError(
                f"landmark {index + 1}", "is placed in fewer than two X-rays", "place it in two"
            )
        try:
            point, _ = triangulate([camera for camera, _ in pairs], [px for _, px in pairs])
        except ValueError as error:
            raise InputError(f"landmark {index + 1}", str(error)) from error
        out.append(LPS_RAS[:3, :3] @ point)
    return np.array(out).reshape(-1, 3)


def pointsInCt(markups: vtkMRMLMarkupsFiducialNode, ctNode: vtkMRMLScalarVolumeNode) -> Array:
    """Points (N, 3), RAS mm, in the CT's own frame, of markups placed on the CT as it is seen."""
    points = np.array(definedPoints(markups)).reshape(-1, 3)
    parent = ctNode.GetParentTransformNode()
    if parent is None:
        return points
    # What bends a CT by several vertebrae is not linear.
    back = vtk.vtkGeneralTransform()
    parent.GetTransformFromWorld(back)
    moved = [back.TransformPoint(*(float(x) for x in point)) for point in points]
    return np.array(moved, dtype=float).reshape(-1, 3)


def definedPoints(node: vtkMRMLMarkupsFiducialNode) -> list[list[float]]:
    """The points of a markups node that have been placed, in the world (RAS mm)."""
    points = []
    for index in range(node.GetNumberOfControlPoints()):
        if node.GetNthControlPointPositionStatus(index) == node.PositionDefined:
            point = [0.0, 0.0, 0.0]
            node.GetNthControlPointPositionWorld(index, point)
            points.append(point)
    return points
