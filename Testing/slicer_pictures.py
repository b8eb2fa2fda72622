"""Pictures of MRML views without the application: 3-D views and slice views, off screen.

The displayable managers are Slicer's own (slicer-core); the window around them is VTK's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy


class Stage:
    """Views as Slicer's layout manager makes them: nodes, slice logics and cameras, no window."""

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self.layout = slicer.vtkMRMLLayoutLogic()
        self.layout.SetMRMLScene(scene)
        self.sliceLogics: dict[str, Any] = {}

    def build(self, sizes: dict[str, tuple[int, int]]) -> None:
        """Make what belongs to the views of the present layout, with these sizes in pixels."""
        for node in slicer.util.getNodesByClass("vtkMRMLSliceNode", self.scene):
            name = node.GetLayoutName()
            if name not in self.sliceLogics:
                logic = slicer.vtkMRMLSliceLogic()
                logic.SetMRMLApplicationLogic(slicer.modules.kept[0])
                logic.SetMRMLScene(self.scene)
                logic.SetSliceNode(node)
                self.sliceLogics[name] = logic
            if name in sizes:
                node.SetDimensions(*sizes[name], 1)
                field = node.GetFieldOfView()
                columns, rows = sizes[name]
                node.SetFieldOfView(field[0], field[0] * rows / columns, field[2])
        for node in slicer.util.getNodesByClass("vtkMRMLViewNode", self.scene):
            cameras = slicer.util.getNodesByClass("vtkMRMLCameraNode", self.scene)
            if node.GetLayoutName() not in [camera.GetLayoutName() for camera in cameras]:
                camera = self.scene.AddNewNodeByClass("vtkMRMLCameraNode", "Camera")
                camera.SetLayoutName(node.GetLayoutName())


def _pixels(window: Any) -> np.ndarray:
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    image = grab.GetOutput()
    columns, rows, _ = image.GetDimensions()
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)
    return np.ascontiguousarray(array[::-1, :, :3])


def _window(size: tuple[int, int]) -> tuple[Any, Any]:
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetMultiSamples(0)
    window.SetSize(*size)
    renderer = vtk.vtkRenderer()
    window.AddRenderer(renderer)
    interactor = vtk.vtkGenericRenderWindowInteractor()
    window.SetInteractor(interactor)
    return window, renderer


def _group(managers: list[str], renderer: Any, node: Any, application: Any) -> Any:
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.SetRenderer(renderer)
    for name in managers:
        manager = getattr(slicer, name)()
        manager.SetMRMLApplicationLogic(application)
        group.AddDisplayableManager(manager)
    group.SetMRMLDisplayableNode(node)
    return group


def view_3d(view: Any, size: tuple[int, int] = (800, 600), camera: Any = None) -> np.ndarray:
    """The picture (rows, columns, 3) of a 3-D view; of ``camera`` (a camera node) where given."""
    window, renderer = _window(size)
    renderer.SetBackground(view.GetBackgroundColor())
    renderer.SetBackground2(view.GetBackgroundColor2())
    renderer.GradientBackgroundOn()
    application = slicer.modules.kept[0]
    names = ["vtkMRMLModelDisplayableManager", "vtkMRMLVolumeRenderingDisplayableManager"]
    group = _group(names, renderer, view, application)
    group.RequestRender()
    if camera is not None:
        renderer.SetActiveCamera(camera.GetCamera())
        renderer.ResetCameraClippingRange()
    else:
        renderer.ResetCamera()
    window.Render()
    picture = _pixels(window)
    group.SetMRMLDisplayableNode(None)
    window.Finalize()
    return picture


def view_slice(logic: Any, size: tuple[int, int] = (488, 488)) -> np.ndarray:
    """The picture (rows, columns, 3) of a slice view, from its slice logic; sets its size."""
    node = logic.GetSliceNode()
    window, renderer = _window(size)
    logic.UpdatePipeline()
    connection = logic.GetImageDataConnection()
    if connection is not None:
        mapper = vtk.vtkImageMapper()
        mapper.SetInputConnection(connection)
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        actor = vtk.vtkActor2D()
        actor.SetMapper(mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        renderer.AddActor2D(actor)
    group = _group(["vtkMRMLModelSliceDisplayableManager"], renderer, node, slicer.modules.kept[0])
    group.RequestRender()
    window.Render()
    picture = _pixels(window)
    group.SetMRMLDisplayableNode(None)
    window.Finalize()
    return picture
