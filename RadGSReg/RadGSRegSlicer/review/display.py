"""What the review draws: outlines on the X-rays, the vertebra before and after, the volume."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from RadGSRegLib.errors import InputError
from slicer import vtkMRMLModelNode, vtkMRMLScalarVolumeNode
from vtk.util.numpy_support import vtk_to_numpy

from ..scene import xray
from ..scene.drawing import helperNode, lineModel, pixelsToRas, removeHelper
from ..scene.meshes import moved, polyLines
from ..scene.record import TISSUE
from .outline import Outline
from .views import SLICE_VIEWS, THREE_D_VIEW, XRAY_VIEWS, sliceNode, viewByName

if TYPE_CHECKING:
    from .session import ReviewSession


OUTLINE_COLOR = (0.13, 0.83, 0.93)
FOLDS_COLOR = (0.98, 0.75, 0.14)
AFTER_COLOR = (0.93, 0.86, 0.71)
BEFORE_COLOR = (0.62, 0.65, 0.7)
_CLEAR = 0.4
"""How far below the faintest bone, as a share of its range, a rendering is clear."""
_BRIGHT_BONE = 98.0
"""Of a volume of bone alone, the percentile of what is not 0 that is rendered brightest."""


class ReviewDisplay:
    """Draws one `ReviewSession` and follows it until `close`."""

    def __init__(self, session: ReviewSession, xrayNodes: list[vtkMRMLScalarVolumeNode]) -> None:
        self.session = session
        self.xrayNodes = list(xrayNodes)
        self._scene = session.ctNode.GetScene()
        self._before: vtkMRMLModelNode | None = None
        self._after: vtkMRMLModelNode | None = None
        self._outlines: dict[str, tuple[vtkMRMLModelNode, vtkMRMLModelNode]] = {}
        self.showFolds = True
        self._surface: Any = None
        self._makeSurfaces()
        for node in self.xrayNodes:
            name = node.GetName()
            self._outlines[node.GetID()] = (
                lineModel(self._scene, "outline", f"{name} outline", node, OUTLINE_COLOR, 3),
                lineModel(self._scene, "folds", f"{name} inner edges", node, FOLDS_COLOR, 1),
            )
        session.changed.append(self.update)
        self._observations = [
            (
                node,
                node.AddObserver(
                    vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._drawOutline(caller)
                ),
            )
            for node in self.xrayNodes
        ]
        segmentation = session.segmentationNode
        event = slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent
        tag = segmentation.AddObserver(event, self._avoidSecond)
        self._observations.append((segmentation, tag))
        self.update()

    def close(self) -> None:
        """Take everything that was drawn out of the scene."""
        if self.update in self.session.changed:
            self.session.changed.remove(self.update)
        for node, tag in self._observations:
            node.RemoveObserver(tag)
        self._observations = []
        for model in (self._before, self._after, *itertools.chain(*self._outlines.values())):
            removeHelper(model)
        self._outlines = {}
        self._before = self._after = None

    def update(self) -> None:
        """Draw the present pose."""
        if self._surface is not self.session.surface:
            self._takeSurface()
        for node in self.xrayNodes:
            self._drawOutline(node)
        self._avoidSecond()

    def placeOutlines(self, shown: dict[str, vtkMRMLScalarVolumeNode]) -> None:
        """Say which X-ray each slice view shows (view name to node), so that each gets its own."""
        threeD = viewByName(self._scene, "vtkMRMLViewNode", THREE_D_VIEW)
        for id_, models in self._outlines.items():
            views = [
                sliceNode(self._scene, name)
                for name in XRAY_VIEWS
                if name in shown and shown[name].GetID() == id_
            ]
            views = [view for view in (*views, threeD) if view is not None]
            for model in models:
                display = model.GetDisplayNode()
                # Without a view of its own, a line would be drawn in every slice view.
                display.SetVisibility2D(any(view.IsA("vtkMRMLSliceNode") for view in views))
                display.RemoveAllViewNodeIDs()
                for view in views:
                    display.AddViewNodeID(view.GetID())

    def showSurfaces(self, before: bool, after: bool) -> None:
        """Show or hide the vertebra before and after the registration.

        Where the segment itself is seen in 3-D it is not drawn a second time: two surfaces at one
        place are mottled.
        """
        for model, visible in ((self._before, before), (self._after, after)):
            if model is not None:
                model.GetDisplayNode().SetVisibility(visible)
        self._avoidSecond()

    def _avoidSecond(self, *args: Any) -> None:
        if self._after is not None:
            self._after.GetDisplayNode().SetVisibility3D(not self._isSegmentShown())

    def _isSegmentShown(self) -> bool:
        """Whether the segment's own surface is seen in 3-D where "after" would be drawn."""
        session = self.session
        node, ct = session.segmentationNode, session.ctNode
        display = node.GetDisplayNode()
        name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
        if display is None or not node.GetSegmentation().ContainsRepresentation(name):
            return False
        id_ = session.segmentId
        parent = node.GetParentTransformNode()
        isBent = parent is not None and not parent.IsLinear()
        if isBent and not np.allclose(session.pose, session.registeredPose, atol=1e-3):
            return False  # a bent CT does not follow a correction of one vertebra
        return bool(
            node.GetTransformNodeID() == ct.GetTransformNodeID()
            and display.GetVisibility()
            and display.GetVisibility3D()
            and display.GetSegmentVisibility(id_)
            and display.GetSegmentVisibility3D(id_)
        )

    def setBeforePose(self, pose: np.ndarray) -> None:
        """Draw "before" at this pose (4, 4), RAS: where the search began."""
        if self._before is not None:
            self._before.SetAndObservePolyData(moved(self.session.surface.polyData, pose))

    def _makeSurfaces(self) -> None:
        name = self.session.name
        self._before = helperNode(self._scene, "before", f"{name} before")
        self._after = helperNode(self._scene, "after", f"{name} after")
        for model, color, opacity in (
            (self._before, BEFORE_COLOR, 0.45),
            (self._after, AFTER_COLOR, 1.0),
        ):
            display = model.GetDisplayNode()
            display.SetColor(color)
            display.SetOpacity(opacity)
            display.SetVisibility2D(False)
        display.SetVisibility2D(True)  # its cut in the slice views
        display.SetSliceIntersectionThickness(2)
        threeD = viewByName(self._scene, "vtkMRMLViewNode", THREE_D_VIEW)
        for view in (*(sliceNode(self._scene, name) for name in SLICE_VIEWS), threeD):
            if view is not None:
                display.AddViewNodeID(view.GetID())
        self._takeSurface()
        self._before.SetAndObservePolyData(self.session.surface.polyData)

    def _takeSurface(self) -> None:
        self._surface = self.session.surface
        if self._after is not None:
            self._after.SetAndObservePolyData(self._surface.polyData)
            under = None if self.session.isHardened else self.session.transformNode.GetID()
            self._after.SetAndObserveTransformNodeID(under)

    def _onXray(self, caller: Any, event: str) -> None:
        self._drawOutline(caller)

    def _drawOutline(self, node: vtkMRMLScalarVolumeNode) -> None:
        silhouette, folds = self._outlines[node.GetID()]
        try:
            outline = self.session.outline(node, self.showFolds)
            silhouette.SetAndObservePolyData(_lines(node, outline.silhouette))
            folds.SetAndObservePolyData(_lines(node, outline.folds))
        except InputError:  # while a geometry is being edited it may be unusable for a moment
            for model in (silhouette, folds):
                model.SetAndObservePolyData(vtk.vtkPolyData())


def _lines(node: vtkMRMLScalarVolumeNode, lines: tuple[np.ndarray, ...]) -> vtk.vtkPolyData:
    """Closed pixel lines as lines in the scene, a hair before the detector, towards the source."""
    if not lines:
        return vtk.vtkPolyData()
    places = pixelsToRas(node, np.concatenate(lines))
    source = xray.sourcePositionRas(xray.getGeometry(node))
    towards = source - places.mean(axis=0)
    places = places + 0.2 * towards / np.linalg.norm(towards)
    return polyLines(np.split(places, np.cumsum([len(line) for line in lines])[:-1]))


def framed(outline: Outline) -> tuple[float, float, float, float] | None:
    """The part (left, right, top, bottom) of an X-ray to look at; None without an outline."""
    if outline.bounds is None:
        return None
    left, right, top, bottom = outline.bounds
    margin = 0.25 * max(right - left, bottom - top)
    return left - margin, right + margin, top - margin, bottom + margin


def setContrast(node: vtkMRMLScalarVolumeNode, outline: Outline) -> None:
    """Set an X-ray's window to the grey values about the vertebra, where bone is to be seen."""
    pixels = xray.getPixels(node)
    rows, columns = pixels.shape
    part = pixels[outline.inside(columns, rows)]
    if part.size < 100:
        part = pixels.ravel()
    low, high = (float(x) for x in np.percentile(part, [3.0, 99.5]))
    spare = 0.35 * (high - low)  # for what surrounds the bone
    low, high = low - spare, high + 0.15 * spare
    display = node.GetDisplayNode()
    if display is not None and high > low:
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(low, high)


def showVolumeRendering(
    node: vtkMRMLScalarVolumeNode | None, visible: bool, logic: Any = None
) -> Any:
    """Show or hide the reconstruction as a volume; returns its display node (None for no volume).

    The reconstruction is attenuation in 1/mm, so Slicer's presets for CT do not fit: bone is shown
    from the upper part of what the volume holds. ``logic`` is Slicer's volume rendering logic.
    """
    if node is None:
        return None
    logic = logic or slicer.modules.volumerendering.logic()
    display = logic.GetFirstVolumeRenderingDisplayNode(node)
    if display is None:
        if not visible:
            return None
        display = logic.CreateDefaultVolumeRenderingNodes(node)
        boneTransfer(node, display.GetVolumePropertyNode())
    display.SetVisibility(visible)
    return display


def boneTransfer(node: vtkMRMLScalarVolumeNode, properties: Any) -> None:
    """Let a volume property node show the bone of a reconstruction; nothing of an empty one."""
    bone = _boneRange(node)
    if bone is not None:
        _boneTransfer(properties, *bone)


def _boneRange(node: Any) -> tuple[float, float] | None:
    """Where bone begins and ends among the values of a reconstruction (1/mm); None of nothing."""
    array = slicer.util.arrayFromVolume(node)
    inside = array[array > 0]
    if not inside.size:
        return None
    if node.GetAttribute(TISSUE):
        # Of bone alone nothing else is to be hidden: what is not 0 begins to be seen.
        high = float(np.percentile(inside, _BRIGHT_BONE))
        return _CLEAR * high / (1.0 + _CLEAR), high
    middle, high = (float(x) for x in np.percentile(inside, [50.0, 99.8]))
    return middle + 0.12 * (high - middle), max(high, middle + 1e-9)


def _boneTransfer(properties: Any, low: float, high: float) -> None:
    high = max(high, low + 1e-6)
    opacity, color = vtk.vtkPiecewiseFunction(), vtk.vtkColorTransferFunction()
    for part, alpha, rgb in (
        (-_CLEAR, 0.0, (0.35, 0.15, 0.1)),
        (0.0, 0.05, (0.55, 0.3, 0.2)),
        (0.35, 0.45, (0.85, 0.68, 0.5)),
        (1.0, 0.95, (1.0, 0.97, 0.9)),
    ):
        value = low + part * (high - low)
        opacity.AddPoint(value, alpha)
        color.AddRGBPoint(value, *rgb)
    everywhere = vtk.vtkPiecewiseFunction()  # whatever a preset before had of edges
    everywhere.AddPoint(0.0, 1.0)
    everywhere.AddPoint(high, 1.0)
    # Of the node, not of what it holds: the node observes its functions.
    properties.SetScalarOpacity(opacity)
    properties.SetGradientOpacity(everywhere)
    properties.SetColor(color)
    properties.CalculateEffectiveRange()
    volumeProperty = properties.GetVolumeProperty()
    volumeProperty.ShadeOn()
    volumeProperty.SetAmbient(0.25)
    volumeProperty.SetDiffuse(0.8)
    volumeProperty.SetSpecular(0.15)
    volumeProperty.SetInterpolationTypeToLinear()


def tintReconstruction(node: vtkMRMLScalarVolumeNode | None) -> None:
    """Show the reconstruction's bone in warm colours and nothing of the rest, over a grey CT."""
    display = None if node is None else node.GetDisplayNode()
    if node is None or display is None:
        return
    bone = _boneRange(node)
    if bone is None:
        return
    low, high = bone
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeIron")
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(low - 0.3 * (high - low), high)
    display.AutoThresholdOff()
    display.SetThreshold(low, 1e9)
    display.ApplyThresholdOn()


def showGaussians(node: vtkMRMLModelNode | None, visible: bool) -> None:
    """Show or hide the Gaussians as points, coloured by their density."""
    display = None if node is None else node.GetDisplayNode()
    if display is None:
        return
    display.SetVisibility(visible)
    display.SetVisibility2D(False)
    display.SetPointSize(5.0)
    display.SetScalarVisibility(True)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeIron")
    values = node.GetPolyData().GetPointData().GetScalars() if node.GetPolyData() else None
    if values is not None:
        low, high = (float(x) for x in np.percentile(vtk_to_numpy(values), [2.0, 98.0]))
        display.SetScalarRangeFlag(slicer.vtkMRMLDisplayNode.UseManualScalarRange)
        display.SetScalarRange(low, max(high, low + 1e-9))
