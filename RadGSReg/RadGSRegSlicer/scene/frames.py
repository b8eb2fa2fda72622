"""Between the scene (RAS) and files (LPS), and between MRML matrices and numpy."""

from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import ArrayLike
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array
from slicer import vtkMRMLTransformableNode, vtkMRMLTransformNode, vtkMRMLVolumeNode
from slicer.util import arrayFromVTKMatrix, vtkMatrixFromArray

LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Maps LPS points to RAS and back."""


def ijkToLps(volumeNode: vtkMRMLVolumeNode) -> Array:
    """Index (i, j, k, 1) to LPS mm (4, 4), in the volume's own frame (no parent)."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return np.asarray(LPS_RAS @ arrayFromVTKMatrix(matrix))


def setIjkToLps(volumeNode: vtkMRMLVolumeNode, ijk_to_lps: ArrayLike) -> None:
    """Place a volume by its index to LPS matrix (4, 4)."""
    volumeNode.SetIJKToRASMatrix(vtkMatrixFromArray(LPS_RAS @ np.asarray(ijk_to_lps, dtype=float)))


def transformMatrix(transformNode: vtkMRMLTransformNode) -> Array:
    """A transform node's matrix to the world, RAS (4, 4). Raises InputError if not linear."""
    if not transformNode.IsTransformToWorldLinear():
        raise InputError(transformNode.GetName(), "is not a linear transform")
    return slicer.util.arrayFromTransformMatrix(transformNode, toWorld=True)


def parentTransformName(node: vtkMRMLTransformableNode) -> str | None:
    """The name of the transform that a node is under, or None."""
    parent: Any = node.GetParentTransformNode()
    return None if parent is None else str(parent.GetName())
