"""The pose that a registration has come to so far: the vertebra's surface in 3-D and its outline on
the X-rays. Only drawn, never saved; the CT itself stays where it is until there is a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array
from vtk.util.numpy_support import numpy_to_vtk

from ..scene.drawing import helperModel, pixelsToRas, removeHelper
from ..scene.frames import LPS_RAS, matrixFromArray
from ..scene.xray import getGeometry
from .outline import SilhouetteProjector
from .surface import VertebraSurface

_COLOR = (0.2, 0.75, 0.95)


class PosePreview:
    """Shows one vertebra at one pose after the other, until `close`."""

    def __init__(
        self,
        scene: slicer.vtkMRMLScene,
        surface: VertebraSurface,
        xrayNodes: Sequence[slicer.vtkMRMLScalarVolumeNode],
    ) -> None:
        self._surface = surface
        self._silhouette = SilhouetteProjector(surface.points, surface.triangles)
        self._xrays = list(xrayNodes)
        self._model = helperModel(scene, "preview", "Pose so far")
        display = self._model.GetDisplayNode()
        display.SetColor(_COLOR)
        display.SetOpacity(0.6)
        self._model.GetDisplayNode().SetVisibility(False)
        self._lines = [self._line(scene, node) for node in self._xrays]

    def show(self, ctToWorld: Array) -> None:
        """Draw the vertebra at a pose (4, 4), RAS."""
        if self._model.GetScene() is None:
            return
        matrix = vtk.vtkTransform()
        matrix.SetMatrix(matrixFromArray(ctToWorld))
        moved = vtk.vtkTransformPolyDataFilter()
        moved.SetTransform(matrix)
        moved.SetInputData(self._surface.polyData)
        moved.Update()
        self._model.SetAndObservePolyData(moved.GetOutput())
        self._model.GetDisplayNode().SetVisibility(True)
        for node, line in zip(self._xrays, self._lines, strict=True):
            line.SetAndObservePolyData(self._outline(node, ctToWorld))

    def close(self) -> None:
        """Take everything out of the scene."""
        for model in (self._model, *self._lines):
            removeHelper(model)

    def _outline(self, node: Any, ctToWorld: Array) -> vtk.vtkPolyData:
        out = vtk.vtkPolyData()
        try:
            projection = getGeometry(node).camera.projection @ LPS_RAS @ ctToWorld
            outlines = self._silhouette.outline(projection, folds=False).silhouette
            places = [pixelsToRas(node, line) for line in outlines]
        except InputError:
            return out
        points, cells = vtk.vtkPoints(), vtk.vtkCellArray()
        if places:
            points.SetData(numpy_to_vtk(np.ascontiguousarray(np.concatenate(places)), deep=True))
        first = 0
        for line in places:
            cells.InsertNextCell(len(line))
            for index in range(first, first + len(line)):
                cells.InsertCellPoint(index)
            first += len(line)
        out.SetPoints(points)
        out.SetLines(cells)
        return out

    def _line(self, scene: Any, node: Any) -> Any:
        model = helperModel(scene, "preview", f"Pose so far in {node.GetName()}", node)
        display = model.GetDisplayNode()
        display.SetColor(_COLOR)
        display.SetLineWidth(2)
        display.SetSliceIntersectionThickness(2)
        display.SetSliceDisplayMode(slicer.vtkMRMLModelDisplayNode.SliceDisplayProjection)
        shown = [
            layers.GetLayoutName()
            for layers in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", scene)
            if layers.GetBackgroundVolumeID() == node.GetID()
        ]
        views = [
            view.GetID()
            for view in slicer.util.getNodesByClass("vtkMRMLSliceNode", scene)
            if view.GetLayoutName() in shown
        ]
        views += [view.GetID() for view in slicer.util.getNodesByClass("vtkMRMLViewNode", scene)]
        for id_ in views:
            display.AddViewNodeID(id_)
        display.SetVisibility2D(bool(shown))
        return model
