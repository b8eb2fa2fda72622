"""How the views were, to go back to where nothing came of what they were turned to."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from slicer import vtkMRMLScene
from slicer.util import getNodesByClass

from .views import cameraNode, sliceNode


class ViewsBefore:
    """What the slice views and the 3-D view of a scene show now."""

    def __init__(self, scene: vtkMRMLScene) -> None:
        self._slices: list[tuple[Any, Any, tuple[Any, ...], Any]] = []
        for layers in getNodesByClass("vtkMRMLSliceCompositeNode", scene):
            view = sliceNode(scene, layers.GetLayoutName())
            if view is not None:
                shown = (
                    layers.GetBackgroundVolumeID(),
                    layers.GetForegroundVolumeID(),
                    layers.GetLabelVolumeID(),
                )
                matrix = vtk.vtkMatrix4x4()
                matrix.DeepCopy(view.GetSliceToRAS())
                self._slices.append((layers, view, shown, (matrix, view.GetFieldOfView())))
        self._camera = cameraNode(scene)
        if self._camera is not None:
            self._look = vtk.vtkCamera()
            self._look.DeepCopy(self._camera.GetCamera())

    def restore(self, volumeId: str) -> None:
        """Go back where a volume, or what is left where it is gone, is still what is shown.

        Whoever has chosen something else to look at meanwhile keeps it.
        """
        left = [entry for entry in self._slices if entry[0].GetScene() is not None]
        left = [entry for entry in left if entry[0].GetBackgroundVolumeID() in (volumeId, None)]
        for layers, view, (background, foreground, label), (matrix, size) in left:
            with slicer.util.NodeModify(layers):
                layers.SetBackgroundVolumeID(background)
                layers.SetForegroundVolumeID(foreground)
                layers.SetLabelVolumeID(label)
            with slicer.util.NodeModify(view):
                view.GetSliceToRAS().DeepCopy(matrix)
                view.SetFieldOfView(*size)
                view.UpdateMatrices()
        if left and self._camera is not None and self._camera.GetScene() is not None:
            with slicer.util.NodeModify(self._camera):
                self._camera.SetPosition(*self._look.GetPosition())
                self._camera.SetFocalPoint(*self._look.GetFocalPoint())
                self._camera.SetViewUp(*self._look.GetViewUp())
                self._camera.SetViewAngle(self._look.GetViewAngle())
            self._camera.ResetClippingRange()
