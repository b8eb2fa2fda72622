"""The pose so far: the vertebra's surface in 3-D and its outline on the X-rays."""

from collections.abc import Sequence
from typing import Any

import slicer
import vtk
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array

from ..scene.drawing import helperNode, lineModel, pixelsToRas, removeHelper, showBesideXray
from ..scene.frames import LPS_RAS
from ..scene.meshes import moved, polyLines
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
        self._model = helperNode(scene, "preview", "Pose so far")
        display = self._model.GetDisplayNode()
        display.SetColor(_COLOR)
        display.SetOpacity(0.6)
        display.SetVisibility(False)
        self._lines = [self._line(scene, node) for node in self._xrays]

    def show(self, ctToWorld: Array) -> None:
        """Draw the vertebra at a pose (4, 4), RAS."""
        if self._model.GetScene() is None:
            return
        self._model.SetAndObservePolyData(moved(self._surface.polyData, ctToWorld))
        self._model.GetDisplayNode().SetVisibility(True)
        for node, line in zip(self._xrays, self._lines, strict=True):
            line.SetAndObservePolyData(self._outline(node, ctToWorld))

    def close(self) -> None:
        """Take everything out of the scene."""
        for model in (self._model, *self._lines):
            removeHelper(model)

    def _outline(self, node: Any, ctToWorld: Array) -> vtk.vtkPolyData:
        try:
            projection = getGeometry(node).camera.projection @ LPS_RAS @ ctToWorld
            outlines = self._silhouette.outline(projection, folds=False).silhouette
            places = [pixelsToRas(node, line) for line in outlines]
        except InputError:
            places = []
        return polyLines(places)

    def _line(self, scene: Any, node: Any) -> Any:
        name = f"Pose so far in {node.GetName()}"
        model = lineModel(scene, "preview", name, node, _COLOR, 2)
        showBesideXray(model.GetDisplayNode(), node)
        return model
