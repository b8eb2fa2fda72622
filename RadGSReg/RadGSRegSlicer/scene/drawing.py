"""X-ray source, beam and detector in the 3-D views, redrawn while the geometry is edited.

Made from the X-ray's node alone, and anew when a scene is opened: scenes keep no textures.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import ArrayLike
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array, transform_points
from slicer import vtkMRMLModelNode, vtkMRMLScalarVolumeNode, vtkMRMLScene
from vtk.util.numpy_support import numpy_to_vtk

from . import xray
from .frames import LPS_RAS
from .meshes import polyLines

DRAWING = "RadGSReg.Drawing"
"""The attribute that marks what this package draws, with what it is: beam, plane, outline, ..."""
XRAY_ROLE = "RadGSReg.Xray"

COLORS = ((0.98, 0.75, 0.14), (0.66, 0.55, 0.98), (0.29, 0.87, 0.5), (0.98, 0.45, 0.52))
_SOURCE_RADIUS_MM = 9.0


def pixelsToRas(node: vtkMRMLScalarVolumeNode, pixels: ArrayLike) -> Array:
    """Where on the detector pixels (N, 2) of an X-ray node stand in the scene (N, 3), RAS mm."""
    geometry = xray.getGeometry(node)
    place = LPS_RAS @ xray.detectorIjkToLps(geometry.camera, geometry.pixelSpacing)
    flat = np.asarray(pixels, dtype=float).reshape(-1, 2)
    return transform_points(place, np.column_stack([flat, np.zeros(len(flat))]))


def detectorCornersRas(node: vtkMRMLScalarVolumeNode) -> Array:
    """The outer corners (4, 3) of the first, last-column, last and last-row pixel, RAS mm."""
    camera = xray.getGeometry(node).camera
    right, bottom = camera.columns - 0.5, camera.rows - 0.5
    return pixelsToRas(node, [[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom]])


class XrayDrawings:
    """Draws X-rays in a scene, and keeps the drawing right until `clear`."""

    def __init__(self, scene: vtkMRMLScene | None = None) -> None:
        self._scene = slicer.mrmlScene if scene is None else scene
        self._drawn: dict[str, _Drawing] = {}
        handlers = {
            slicer.vtkMRMLScene.EndImportEvent: self._again,
            slicer.vtkMRMLScene.StartCloseEvent: lambda *args: self.clear(),
        }
        self._tags = [self._scene.AddObserver(event, slot) for event, slot in handlers.items()]

    def show(self, xrayNodes: Iterable[vtkMRMLScalarVolumeNode]) -> None:
        """Draw these X-rays and no others."""
        wanted = {node.GetID(): node for node in xrayNodes if node is not None}
        for id_ in [id_ for id_ in self._drawn if id_ not in wanted]:
            self._drawn.pop(id_).remove()
        for number, (id_, node) in enumerate(wanted.items()):
            color = COLORS[number % len(COLORS)]
            if id_ not in self._drawn:
                self._drawn[id_] = _Drawing(self._scene, node)
            self._drawn[id_].look(color)

    def clear(self) -> None:
        """Take the drawings out of the scene."""
        self.show([])

    def close(self) -> None:
        """Take the drawings out of the scene and observe it no more."""
        self.clear()
        for tag in self._tags:
            self._scene.RemoveObserver(tag)

    def _again(self, caller: Any, event: str) -> None:
        # A scene that is opened brings X-rays of the same identifiers; the old models are gone.
        nodes = [self._scene.GetNodeByID(id_) for id_ in self._drawn]
        self.clear()
        kept = [node for node in nodes if xray.isXray(node)]
        self.show(kept or xray.xrayNodes(self._scene))


class _Drawing:
    """One X-ray's models and the observers that keep them right."""

    def __init__(self, scene: vtkMRMLScene, node: vtkMRMLScalarVolumeNode) -> None:
        self._node = node
        name = node.GetName()
        self.beam = helperNode(scene, "beam", f"{name} beam", node)
        self.plane = helperNode(scene, "plane", f"{name} picture", node)
        for model in (self.beam, self.plane):
            display = model.GetDisplayNode()
            display.SetBackfaceCulling(False)
            display.SetAmbient(1.0)
            display.SetDiffuse(0.0)
            display.SetVisibility2D(False)
        self.beam.GetDisplayNode().SetLineWidth(1)
        self.update()
        handlers = {
            vtk.vtkCommand.ModifiedEvent: self.update,
            slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent: self.update,
            slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent: self._retouch,
        }
        self._tags = [node.AddObserver(event, slot) for event, slot in handlers.items()]

    def update(self, caller: Any = None, event: str = "") -> None:
        """Draw the geometry that the node has now; nothing where that makes no sense."""
        try:
            geometry = xray.getGeometry(self._node)
            corners = detectorCornersRas(self._node)
        except InputError:
            self._show(False)
            return
        source = xray.sourcePositionRas(geometry)
        self.beam.SetName(f"{self._node.GetName()} beam")
        self.plane.SetName(f"{self._node.GetName()} picture")
        self.beam.SetAndObservePolyData(_beam(source, corners))
        self.plane.SetAndObservePolyData(_plane(corners))
        self._texture()
        self._show(True)

    def look(self, color: tuple[float, float, float]) -> None:
        display = self.beam.GetDisplayNode()
        if display is not None:
            display.SetColor(color)

    def remove(self) -> None:
        for tag in self._tags:
            self._node.RemoveObserver(tag)
        for model in (self.beam, self.plane):
            removeHelper(model)

    def _show(self, visible: bool) -> None:
        for model in (self.beam, self.plane):
            if model.GetDisplayNode() is not None:
                model.GetDisplayNode().SetVisibility(visible)

    def _texture(self) -> None:
        shown = self._node.GetDisplayNode()
        display = self.plane.GetDisplayNode()
        connection = None if shown is None else shown.GetImageDataConnection()
        display.SetTextureImageDataConnection(connection)
        display.SetInterpolateTexture(True)

    def _retouch(self, caller: Any, event: str) -> None:
        """The grey levels were changed: the texture is theirs, but the view must hear of it."""
        display = self.plane.GetDisplayNode()
        if display is not None:
            self._texture()
            display.Modified()


def helperNode(
    scene: vtkMRMLScene, kind: str, name: str, xrayNode: Any = None, data: str = "Model"
) -> Any:
    """A model, or a "ScalarVolume", only drawn: not saved with the scene, not in selectors."""
    model = scene.CreateNodeByClass(f"vtkMRML{data}Node")
    display = scene.CreateNodeByClass(f"vtkMRML{data}DisplayNode")
    for node in (model, display):
        node.UnRegister(None)
        node.SetSaveWithScene(False)
        node.SetHideFromEditors(True)
    model.SetName(name)
    model.SetSelectable(False)
    model.SetAttribute(DRAWING, kind)
    scene.AddNode(display)
    scene.AddNode(model)
    model.SetAndObserveDisplayNodeID(display.GetID())
    if xrayNode is not None:
        model.SetNodeReferenceID(XRAY_ROLE, xrayNode.GetID())
    return model


def removeHelper(model: Any) -> None:
    """Take what `helperNode` made out of its scene, if it is still there."""
    scene = None if model is None else model.GetScene()
    if scene is None:
        return
    display = model.GetDisplayNode()
    scene.RemoveNode(model)
    # The application takes a display node out with its model.
    if display is not None and display.GetScene() is not None:
        scene.RemoveNode(display)


def lineModel(
    scene: vtkMRMLScene, kind: str, name: str, xrayNode: Any, color: Sequence[float], width: int
) -> vtkMRMLModelNode:
    """A helper for lines in the plane of an X-ray."""
    model = helperNode(scene, kind, name, xrayNode)
    display = model.GetDisplayNode()
    display.SetColor(color)
    display.SetAmbient(1.0)
    display.SetDiffuse(0.0)
    display.SetLineWidth(width)
    display.SetSliceIntersectionThickness(width)
    # The line lies in the very plane of the slice, where nothing can be cut.
    display.SetSliceDisplayModeToProjection()
    # In no slice view until somebody says in which: it belongs to one picture.
    display.SetVisibility2D(False)
    return model


def showBesideXray(display: Any, xrayNode: vtkMRMLScalarVolumeNode) -> None:
    """Show something in the 3-D views and in those slice views that show an X-ray now."""
    views, slices, layers = (
        slicer.util.getNodesByClass(f"vtkMRML{kind}Node", xrayNode.GetScene())
        for kind in ("View", "Slice", "SliceComposite")
    )
    names = [n.GetLayoutName() for n in layers if n.GetBackgroundVolumeID() == xrayNode.GetID()]
    shown = [view for view in slices if view.GetLayoutName() in names]
    display.SetVisibility2D(bool(shown))
    display.RemoveAllViewNodeIDs()
    for view in [*views, *shown]:
        display.AddViewNodeID(view.GetID())


def lookAlongBeam(cameraNode: Any, xrayNode: vtkMRMLScalarVolumeNode, aspect: float = 1.0) -> None:
    """Put a 3-D view's camera at the X-ray source, looking at the detector's centre.

    From there, whatever lies on one ray is seen at one place: the CT is projected onto the X-ray's
    picture exactly as by the beam. ``aspect`` is the view's width over its height; the whole
    detector is in view. Raises InputError for an X-ray that cannot be used.
    """
    geometry = xray.getGeometry(xrayNode)
    corners = detectorCornersRas(xrayNode)
    source = xray.sourcePositionRas(geometry)
    centre = corners.mean(axis=0)
    towards = (centre - source) / np.linalg.norm(centre - source)
    up = (corners[0] + corners[1]) / 2.0 - (corners[2] + corners[3]) / 2.0
    up -= (up @ towards) * towards
    up /= np.linalg.norm(up)
    right = np.cross(towards, up)
    rays = corners - source
    depth = rays @ towards
    half = max(
        float(np.abs(rays @ up / depth).max()), float(np.abs(rays @ right / depth).max()) / aspect
    )
    camera = cameraNode.GetCamera()
    camera.ParallelProjectionOff()
    camera.UseHorizontalViewAngleOff()
    with slicer.util.NodeModify(cameraNode):
        cameraNode.SetPosition(*source)
        cameraNode.SetFocalPoint(*centre)
        cameraNode.SetViewUp(*up)
        cameraNode.SetViewAngle(math.degrees(2.0 * math.atan(half)))
    cameraNode.ResetClippingRange()


def _beam(source: Array, corners: Array) -> vtk.vtkPolyData:
    """The tube as a ball behind the source, four edges to the detector, its frame."""
    ends = [(source, corner) for corner in corners]
    ends += list(zip(corners, np.roll(corners, -1, axis=0), strict=True))
    ball = vtk.vtkSphereSource()
    # Behind the source, so that a camera at the source looks past it.
    away = source - corners.mean(axis=0)
    ball.SetCenter(*(source + (_SOURCE_RADIUS_MM + 1.0) * away / np.linalg.norm(away)))
    ball.SetRadius(_SOURCE_RADIUS_MM)
    ball.SetThetaResolution(24)
    ball.SetPhiResolution(16)
    both = vtk.vtkAppendPolyData()
    both.AddInputData(polyLines(ends))
    both.AddInputConnection(ball.GetOutputPort())
    both.Update()
    out = vtk.vtkPolyData()
    out.ShallowCopy(both.GetOutput())
    return out


def _plane(corners: Array) -> vtk.vtkPolyData:
    points = vtk.vtkPoints()
    for corner in corners:
        points.InsertNextPoint(*corner)
    polygon = vtk.vtkCellArray()
    polygon.InsertNextCell(4)
    for index in range(4):
        polygon.InsertCellPoint(index)
    # The picture's first row is the texture's lowest.
    places = numpy_to_vtk(np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32), deep=True)
    places.SetName("TextureCoordinates")
    out = vtk.vtkPolyData()
    out.SetPoints(points)
    out.SetPolys(polygon)
    out.GetPointData().SetTCoords(places)
    return out
