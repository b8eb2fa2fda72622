"""From a file of Gaussians to a model node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray

CLOUD = "gaussians.ply"


def readGaussians(path: Path) -> vtk.vtkPolyData | None:
    """The Gaussians' centres as vertices in RAS, with ``density`` (1/mm) and ``scale`` (mm).

    None where there is no file; InputError where it cannot be read.
    """
    if not path.is_file():
        return None
    from RadGSRegLib.cases import read_vertices

    names = ("x", "y", "z", "scale_0", "scale_1", "scale_2", "density")
    columns = {name: c.astype(float) for name, c in read_vertices(path, names).items()}
    points_ras = np.column_stack([-columns["x"], -columns["y"], columns["z"]])
    scales = np.column_stack([columns[f"scale_{axis}"] for axis in range(3)])
    count = len(points_ras)
    points = vtk.vtkPoints()
    points.SetData(numpy_to_vtk(points_ras, deep=True))
    cells = vtk.vtkCellArray()
    cells.SetData(
        numpy_to_vtkIdTypeArray(np.arange(count + 1), deep=True),
        numpy_to_vtkIdTypeArray(np.arange(count), deep=True),
    )
    polyData = vtk.vtkPolyData()
    polyData.SetPoints(points)
    polyData.SetVerts(cells)
    # One size per Gaussian: the radius of the ball of its volume.
    sizes = np.exp(np.log(np.maximum(scales, 1e-9)).mean(axis=1))
    for name, values in (("density", columns["density"]), ("scale", sizes)):
        array = numpy_to_vtk(np.ascontiguousarray(values), deep=True)
        array.SetName(name)
        polyData.GetPointData().AddArray(array)
    polyData.GetPointData().SetActiveScalars("density")
    return polyData


def placeGaussians(
    polyData: vtk.vtkPolyData,
    scene: slicer.vtkMRMLScene,
    node: slicer.vtkMRMLModelNode | None,
    name: str = "RadGSReg Gaussians",
) -> slicer.vtkMRMLModelNode:
    """Put what `readGaussians` has read into ``node``, or into a new one of a scene."""
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLModelNode", scene.GenerateUniqueName(name))
    node.SetAndObservePolyData(polyData)
    node.SetAndObserveTransformNodeID(None)  # they are in the world
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    if display is not None:
        display.SetRepresentation(slicer.vtkMRMLDisplayNode.PointsRepresentation)
        display.SetPointSize(3.0)
        display.SetActiveScalarName("density")
        display.SetScalarVisibility(True)
        display.SetScalarRangeFlag(slicer.vtkMRMLDisplayNode.UseDataScalarRange)
    return node
