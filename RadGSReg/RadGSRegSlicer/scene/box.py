"""A box that a person drags: what of a volume lies in it, and a volume of that alone."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import ArrayLike, NDArray
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import transform_points
from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode
from slicer.util import arrayFromVTKMatrix, vtkMatrixFromArray

from .frames import LPS_RAS, ijkToLps, transformMatrix
from .record import REASON, RECONSTRUCTION, STATUS, TISSUE

BOX = "RadGSReg.Box"
"""The attribute of a box that `boxAround` has made: the volume's ID."""


def boxAround(
    volumeNode: vtkMRMLScalarVolumeNode,
    boundsRas: ArrayLike | None = None,
    roiNode: vtkMRMLMarkupsROINode | None = None,
) -> vtkMRMLMarkupsROINode:
    """A box around a volume, or around bounds (6,), RAS mm of the scene.

    Its name says of which volume it is; it can be dragged in the views. ``roiNode``: the box of an
    earlier call, which is taken again; one that was made elsewhere is left as it is.
    """
    limits = np.zeros(6)
    if boundsRas is None:
        volumeNode.GetRASBounds(limits)
    else:
        limits[:] = np.asarray(boundsRas, dtype=float)
    low, high = limits[::2], limits[1::2]
    if not (high > low).all():
        raise InputError(volumeNode.GetName(), "holds no image")
    scene, name = volumeNode.GetScene(), f"{volumeNode.GetName()} box"
    if roiNode is not None and roiNode.GetScene() is scene and roiNode.GetAttribute(BOX):
        node = roiNode
        node.SetAndObserveTransformNodeID(None)
        node.SetAndObserveObjectToNodeMatrix(vtk.vtkMatrix4x4())  # it may have been turned
        if node.GetAttribute(BOX) != volumeNode.GetID():
            node.SetName(scene.GenerateUniqueName(name))
    else:
        node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", scene.GenerateUniqueName(name))
    node.SetAttribute(BOX, volumeNode.GetID())
    node.SetCenterWorld(*(float(x) for x in (low + high) / 2.0))
    node.SetSizeWorld(*(float(x) for x in high - low))
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    if display is not None:
        display.SetFillOpacity(0.05)
        display.SetHandlesInteractive(True)
    return node


def insideBox(
    volumeNode: vtkMRMLScalarVolumeNode, roiNode: vtkMRMLMarkupsROINode
) -> NDArray[np.bool_]:
    """Which voxels (K, J, I) of a volume have their centres in a box, however that is turned."""
    block, inside = boxBlock(volumeNode, roiNode)
    whole = np.zeros(volumeNode.GetImageData().GetDimensions()[::-1], dtype=bool)
    whole[block] = inside
    return whole


def boxBlock(
    volumeNode: vtkMRMLScalarVolumeNode, roiNode: vtkMRMLMarkupsROINode
) -> tuple[tuple[slice, slice, slice], NDArray[np.bool_]]:
    """The block of voxels (K, J, I) about a box, and which of these have their centres in it.

    The block is empty where the box holds none of the volume.
    """
    toBox, half = _ijkToBox(volumeNode, roiNode), np.array(roiNode.GetSize()) / 2.0
    corners = transform_points(
        np.linalg.inv(toBox), half * np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    )
    size = np.array(volumeNode.GetImageData().GetDimensions())
    low = np.clip(np.floor(corners.min(axis=0)), 0, size).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 1.0, low, size).astype(int)
    i, j, k = (np.arange(*ends) for ends in zip(low, high, strict=True))
    inside = np.ones((k.size, j.size, i.size), dtype=bool)
    for axis in range(3):
        # A sum of three rows, so that no array of all positions is made for each axis.
        place = (
            toBox[axis, 0] * i[None, None, :]
            + toBox[axis, 1] * j[None, :, None]
            + toBox[axis, 2] * k[:, None, None]
            + toBox[axis, 3]
        )
        inside &= np.abs(place) <= half[axis]
    first, second, third = (slice(*ends) for ends in zip(low, high, strict=True))
    return (third, second, first), inside


def croppedVolume(
    volumeNode: vtkMRMLScalarVolumeNode, roiNode: vtkMRMLMarkupsROINode
) -> vtkMRMLScalarVolumeNode:
    """A new volume of the voxels that a box holds, the voxels' own place kept.

    What the program thinks of the volume holds for it too, and it says what it was cut from.

    Of a box that is turned it is the smallest block of voxels about all that is inside. Raises
    InputError where the box holds none.
    """
    around, inside = boxBlock(volumeNode, roiNode)
    if not inside.any():
        raise InputError(roiNode.GetName(), "holds no voxel of the volume", "move it")
    spans = []
    for axis in range(3):
        others = tuple(n for n in range(3) if n != axis)
        held = np.flatnonzero(inside.any(axis=others)) + around[axis].start
        spans.append((int(held[0]), int(held[-1]) + 1))
    block = tuple(slice(*span) for span in spans)
    values = np.ascontiguousarray(slicer.util.arrayFromVolume(volumeNode)[block])
    first = [span[0] for span in reversed(spans)]
    matrix = LPS_RAS @ ijkToLps(volumeNode)
    matrix[:3, 3] = transform_points(matrix, [first])[0]
    scene = volumeNode.GetScene()
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(scene.GenerateUniqueName(f"{volumeNode.GetName()} cropped"))
    reason = f"cut from '{volumeNode.GetName()}'"
    if volumeNode.GetAttribute(REASON):
        reason = f"{reason}: {volumeNode.GetAttribute(REASON)}"
    for name in (RECONSTRUCTION, STATUS, TISSUE):
        node.SetAttribute(name, volumeNode.GetAttribute(name))
    node.SetAttribute(REASON, reason)
    scene.AddNode(node)
    slicer.util.updateVolumeFromArray(node, values)
    node.SetIJKToRASMatrix(vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    return node


def _ijkToBox(volumeNode: Any, roiNode: Any) -> NDArray[Any]:
    """From a volume's indices to a box's own axes (4, 4), whose middle is the origin."""
    toWorld = LPS_RAS @ ijkToLps(volumeNode)
    parent = volumeNode.GetParentTransformNode()
    if parent is not None:
        toWorld = transformMatrix(parent) @ toWorld
    boxToWorld = arrayFromVTKMatrix(roiNode.GetObjectToWorldMatrix())
    return np.asarray(np.linalg.inv(boxToWorld) @ toWorld)
