"""A reconstruction that is there before the computation has ended."""

from __future__ import annotations

import os
from typing import Any

import slicer
import vtk

from ..scene.record import REASON, RECONSTRUCTION, STATUS, TISSUE
from .results import OutputNodes, ReconstructionResult, loadReconstruction
from .volumes import judge

UNFINISHED = "it was not finished: this is a coarse volume of what was reconstructed until then"


class EarlyReconstruction:
    """Brings a reconstruction into a scene, and takes it out again where nothing comes of the rest.

    ``outputs``: the nodes for the results, those of the reconstruction among them once it is
    there.
    """

    def __init__(self, scene: slicer.vtkMRMLScene, outputs: OutputNodes | None) -> None:
        self._scene = scene
        self._given = outputs
        self._before: list[tuple[Any, Any]] = []
        self.outputs = outputs

    def load(self, folder: str | os.PathLike[str]) -> ReconstructionResult:
        """Load it from a folder, into the same nodes each time.

        Raises InputError where there is nothing, or it is unreadable.
        """
        given = (self.outputs or OutputNodes()).present()
        places = given.reconstructionNode, given.gaussiansNode, given.boneNode
        known = [node for node, _ in self._before]
        states = [None if n is None or n in known else _Before(n) for n in places]
        result = loadReconstruction(folder, self._scene, given)
        nodes = result.reconstructionNode, result.gaussiansNode, result.boneNode
        self._before += [
            (node, state)
            for node, state in zip(nodes, states, strict=True)
            if node is not None and node not in known
        ]
        # Of what is still growing there is a volume alone.
        rest = nodes[1] or given.gaussiansNode, nodes[2] or given.boneNode
        self.outputs = OutputNodes(given.transformNode, nodes[0], *rest, given.spineNode)
        return result

    def loadUnfinished(self, folder: str | os.PathLike[str]) -> ReconstructionResult:
        """`load` what is still growing; its volume is marked as uncertain."""
        result = self.load(folder)
        result.status, result.reason, result.outputFolder = "uncertain", UNFINISHED, None
        judge(result.reconstructionNode, result.status, result.reason)
        return result

    def takeBack(self) -> None:
        """Leave the scene as it was."""
        for node, before in self._before:
            if node is None or node.GetScene() is None:
                continue
            if before is None:
                _remove(node)
            else:
                before.restore(node)
        self._before = []
        self.outputs = self._given


class _Before:
    """What a node was before: its content, its place, what is said of it, and how it looks."""

    def __init__(self, node: Any) -> None:
        self._matrix = vtk.vtkMatrix4x4()
        if node.IsA("vtkMRMLVolumeNode"):
            self._content = node.GetImageData()
            node.GetIJKToRASMatrix(self._matrix)
        else:
            self._content = node.GetPolyData() or vtk.vtkPolyData()
        self._transform = node.GetTransformNodeID()
        names = (RECONSTRUCTION, STATUS, REASON, TISSUE)
        self._marks = {name: node.GetAttribute(name) for name in names}
        self._looks = {display.GetID(): _copy(display) for display in _displays(node)}

    def restore(self, node: Any) -> None:
        with slicer.util.NodeModify(node):
            if node.IsA("vtkMRMLVolumeNode"):
                node.SetAndObserveImageData(self._content)
                node.SetIJKToRASMatrix(self._matrix)
            else:
                node.SetAndObservePolyData(self._content)
            node.SetAndObserveTransformNodeID(self._transform)
            for name, text in self._marks.items():
                node.SetAttribute(name, text)
        for display in _displays(node):
            if display.GetID() in self._looks:
                display.Copy(self._looks[display.GetID()])
            else:
                _removeDisplay(display)


def _copy(node: Any) -> Any:
    copy = node.CreateNodeInstance()
    copy.UnRegister(None)  # it is made with a reference of its own
    copy.Copy(node)
    return copy


def _displays(node: Any) -> list[Any]:
    every = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    return [display for display in every if display is not None]


def _remove(node: Any) -> None:
    """Remove a node with what displays it."""
    displays = _displays(node)
    node.GetScene().RemoveNode(node)
    for display in displays:
        _removeDisplay(display)


def _removeDisplay(display: Any) -> None:
    """Remove a display node, and how a volume is rendered where that is all it was for."""
    scene = display.GetScene()
    if scene is None:
        return
    isRendering = display.IsA("vtkMRMLVolumeRenderingDisplayNode")
    properties = display.GetVolumePropertyNode() if isRendering else None
    scene.RemoveNode(display)
    if properties is not None and properties.GetScene() is scene:
        others = slicer.util.getNodesByClass("vtkMRMLVolumeRenderingDisplayNode", scene)
        if all(other.GetVolumePropertyNode() is not properties for other in others):
            scene.RemoveNode(properties)
