"""The bone of a volume as a surface: above a percentile, in one piece, within a box, to a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import transform_points
from slicer import vtkMRMLMarkupsROINode, vtkMRMLModelNode, vtkMRMLScalarVolumeNode
from slicer.util import vtkMatrixFromArray
from vtk.util.numpy_support import numpy_to_vtk

from .box import boxBlock
from .frames import LPS_RAS, ijkToLps

PERCENTILE = 80.0
"""Bone is what is brighter than so many of a hundred voxels: the library's default (`bones`), which
cannot be asked in a Slicer with nothing installed."""
FORMATS = (".stl", ".ply", ".obj")
COLOR = (0.93, 0.86, 0.71)


def boneThreshold(volumeNode: vtkMRMLScalarVolumeNode, percentile: float = PERCENTILE) -> float:
    """The value (the volume's unit) that a share of its voxels is below.

    Raises InputError where there is no image, or the percentile is none.
    """
    if not 0.0 <= percentile <= 100.0:
        raise InputError("percentile", f"is {percentile:g}", "give one from 0 to 100")
    return float(np.percentile(voxels(volumeNode), percentile))


def voxels(volumeNode: vtkMRMLScalarVolumeNode | None) -> NDArray[Any]:
    """The voxels (K, J, I) of a volume. Raises InputError where there are none."""
    if volumeNode is None:
        raise InputError("volume", "none is chosen")
    if volumeNode.GetImageData() is None or not volumeNode.GetImageData().GetNumberOfPoints():
        raise InputError(volumeNode.GetName(), "holds no image")
    return slicer.util.arrayFromVolume(volumeNode)


def boneSurface(
    volumeNode: vtkMRMLScalarVolumeNode,
    percentile: float = PERCENTILE,
    *,
    threshold: float | None = None,
    largest: bool = True,
    roiNode: vtkMRMLMarkupsROINode | None = None,
    modelNode: vtkMRMLModelNode | None = None,
) -> vtkMRMLModelNode:
    """The bone of a volume as a model node: ``modelNode``, or a new one.

    ``percentile``: the threshold, as one of all values of the volume. ``threshold``: the threshold
    itself, where that is known already. ``largest``: only the largest
    piece. ``roiNode``: only what lies in this box. The surface is closed also where the volume or
    the box ends, its normals point outwards, and it is where the volume is (under the same
    transform). Raises InputError where nothing is above the threshold.
    """
    if threshold is None:
        threshold = boneThreshold(volumeNode, percentile)
    values, inside, first = np.asarray(voxels(volumeNode)), True, (0, 0, 0)
    if roiNode is not None:
        block, inside = boxBlock(volumeNode, roiNode)
        values, first = values[block], tuple(part.start for part in reversed(block))
    values = values.astype(np.float32)
    # A frame of voxels below the threshold closes what would be open at the volume's end.
    low = np.float32(min(float(values.min(initial=threshold)), threshold))
    framed = np.pad(np.where(inside, values, low), 1, constant_values=low)
    if not (framed > threshold).any():
        raise InputError(
            volumeNode.GetName(),
            f"has nothing above the threshold of {threshold:.4g}",
            "choose a lower percentile or a larger box",
        )
    surface = _contour(framed, threshold, largest)
    ijkToRas = LPS_RAS @ ijkToLps(volumeNode)
    ijkToRas[:3, 3] = transform_points(ijkToRas, [first])[0]
    polyData = _placed(surface, ijkToRas)
    if modelNode is None or modelNode.GetScene() is None:
        scene = volumeNode.GetScene()
        modelNode = scene.AddNewNodeByClass(
            "vtkMRMLModelNode", scene.GenerateUniqueName(f"{volumeNode.GetName()} surface")
        )
    modelNode.SetAndObservePolyData(polyData)
    modelNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    if modelNode.GetDisplayNode() is None:
        modelNode.CreateDefaultDisplayNodes()
        display = modelNode.GetDisplayNode()
        if display is not None:
            display.SetColor(COLOR)
            display.SetVisibility2D(True)
    return modelNode


def saveSurface(modelNode: vtkMRMLModelNode, path: str | os.PathLike[str]) -> Path:
    """Write a surface as STL, PLY or OBJ, as the ending says (LPS mm); returns the path.

    With an OBJ goes a file of materials (.mtl). A transform above the model is left out. Raises
    InputError where there is nothing to write, or for a file that is there already or cannot be
    written.
    """
    target = Path(path)
    if target.suffix.lower() not in FORMATS:
        raise InputError(target, f"ends in none of {', '.join(FORMATS)}", "choose such a file")
    target = target.with_suffix(target.suffix.lower())  # Slicer knows no other
    polyData = None if modelNode is None else modelNode.GetPolyData()
    if polyData is None or not polyData.GetNumberOfPoints():
        raise InputError("surface", "is empty", "make it first")
    for file in [target] + [target.with_suffix(".mtl")] * (target.suffix == ".obj"):
        if file.exists():
            raise InputError(file, "is there already", "name another file")
    if not target.parent.is_dir():
        raise InputError(target.parent, "is no folder")
    # Outside the scene: the model must not point to the file, or Slicer would ask to save it there.
    storage = slicer.vtkMRMLModelStorageNode()
    storage.SetFileName(str(target))
    if not storage.WriteData(modelNode):
        target.unlink(missing_ok=True)
        raise InputError(target, "cannot be written to")
    return target


def _contour(framed: NDArray[np.float32], threshold: float, largest: bool) -> vtk.vtkPolyData:
    """The surface (indices of the volume without the frame) at a threshold."""
    image = vtk.vtkImageData()
    image.SetDimensions(*framed.shape[::-1])
    image.SetOrigin(-1.0, -1.0, -1.0)
    image.GetPointData().SetScalars(numpy_to_vtk(framed.ravel(), deep=True))
    edges = vtk.vtkFlyingEdges3D()
    edges.SetInputData(image)
    # Voxels at the threshold are not above it: many may have one value, as 0 outside of a body.
    edges.SetValue(0, float(np.nextafter(np.float32(threshold), np.float32(np.inf))))
    edges.ComputeNormalsOff()
    edges.ComputeGradientsOff()
    edges.ComputeScalarsOff()
    edges.Update()
    if not largest:
        return edges.GetOutput()
    pieces = vtk.vtkPolyDataConnectivityFilter()
    pieces.SetInputConnection(edges.GetOutputPort())
    pieces.SetExtractionModeToLargestRegion()
    clean = vtk.vtkCleanPolyData()  # the points of the other pieces
    clean.SetInputConnection(pieces.GetOutputPort())
    clean.PointMergingOff()
    clean.Update()
    return clean.GetOutput()


def _placed(surface: vtk.vtkPolyData, ijkToRas: Any) -> vtk.vtkPolyData:
    """A surface in RAS, with normals that point outwards."""
    transform = vtk.vtkTransform()
    transform.SetMatrix(vtkMatrixFromArray(ijkToRas))
    move = vtk.vtkTransformPolyDataFilter()
    move.SetTransform(transform)
    move.SetInputData(surface)
    last: Any = move
    if np.linalg.det(ijkToRas[:3, :3]) < 0.0:
        last = vtk.vtkReverseSense()
        last.SetInputConnection(move.GetOutputPort())
        last.ReverseCellsOn()
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(last.GetOutputPort())
    normals.SplittingOff()
    normals.ConsistencyOff()
    normals.Update()
    return normals.GetOutput()
