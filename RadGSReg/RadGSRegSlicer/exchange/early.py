"""A reconstruction that is there before the computation has ended."""

from __future__ import annotations

import os
from typing import Any

import slicer
import vtk

from .results import OutputNodes, ReconstructionResult, judge, loadReconstruction

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
        contents = _volumeContent(given.reconstructionNode), _modelContent(given.gaussiansNode)
        result = loadReconstruction(folder, self._scene, given)
        nodes = result.reconstructionNode, result.gaussiansNode
        known = [node for node, _ in self._before]
        self._before += [
            (node, content)
            for node, content in zip(nodes, contents, strict=True)
            if node is not None and node not in known
        ]
        self.outputs = OutputNodes(given.transformNode, nodes[0], nodes[1] or given.gaussiansNode)
        return result

    def loadUnfinished(self, folder: str | os.PathLike[str]) -> ReconstructionResult:
        """`load` what is still growing; its volume is marked as uncertain."""
        result = self.load(folder)
        result.status, result.reason, result.outputFolder = "uncertain", UNFINISHED, None
        judge(result.reconstructionNode, result.status, result.reason)
        return result

    def takeBack(self) -> None:
        """Leave the scene as it was."""
        for node, content in self._before:
            if node is None or node.GetScene() is None:
                continue
            if content is None:
                _remove(node)
            elif node.IsA("vtkMRMLVolumeNode"):
                image, ijkToRas = content
                with slicer.util.NodeModify(node):
                    node.SetAndObserveImageData(image)
                    node.SetIJKToRASMatrix(ijkToRas)
            else:
                node.SetAndObservePolyData(content)
        self._before = []
        self.outputs = self._given


def _volumeContent(node: Any) -> tuple[Any, vtk.vtkMatrix4x4] | None:
    if node is None:
        return None
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return node.GetImageData(), matrix


def _modelContent(node: Any) -> Any:
    return None if node is None else node.GetPolyData() or vtk.vtkPolyData()


def _remove(node: Any) -> None:
    """Remove a node with what displays it."""
    scene = node.GetScene()
    displays = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    for each in (node, *displays):
        if each is not None and each.GetScene() is not None:
            scene.RemoveNode(each)
