"""Lines and meshes from arrays, and moved by a matrix; nothing of the scene."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import vtk
from numpy.typing import ArrayLike
from slicer.util import vtkMatrixFromArray
from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray


def polyLines(lines: Sequence[Any]) -> vtk.vtkPolyData:
    """Lines of points (N, 3)."""
    out = vtk.vtkPolyData()
    if not lines:
        return out
    places = np.ascontiguousarray(np.concatenate(lines), dtype=float)
    offsets = np.cumsum([0, *(len(line) for line in lines)], dtype=np.int64)
    points, cells = vtk.vtkPoints(), vtk.vtkCellArray()
    points.SetData(numpy_to_vtk(places, deep=True))
    cells.SetData(
        numpy_to_vtkIdTypeArray(offsets, deep=True),
        numpy_to_vtkIdTypeArray(np.arange(len(places), dtype=np.int64), deep=True),
    )
    out.SetPoints(points)
    out.SetLines(cells)
    return out


def moved(polyData: vtk.vtkPolyData, matrix: ArrayLike) -> vtk.vtkPolyData:
    """A mesh moved by a matrix (4, 4)."""
    transform = vtk.vtkTransform()
    transform.SetMatrix(vtkMatrixFromArray(matrix))
    move = vtk.vtkTransformPolyDataFilter()
    move.SetTransform(transform)
    move.SetInputData(polyData)
    move.Update()
    return move.GetOutput()
