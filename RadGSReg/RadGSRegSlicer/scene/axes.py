"""A vertebra's own axes as a transform node, and slice views along them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array, Volume, lps_to_ras
from slicer import (
    vtkMRMLLinearTransformNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLScene,
    vtkMRMLSegmentationNode,
)
from slicer.util import arrayFromVTKMatrix, updateTransformMatrixFromArray, vtkMatrixFromArray

from .bonesurface import PERCENTILE, boneThreshold, voxels
from .box import insideBox
from .frames import ijkToLps, transformMatrix
from .segments import findSegment, labelsOnCt

REMARK = "RadGSReg.Remark"
"""The attribute of axes that are doubtful: why."""
ORIENTATIONS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}
"""What the slice views show unless they are turned."""


def axesOfVolume(
    volumeNode: vtkMRMLScalarVolumeNode,
    percentile: float = PERCENTILE,
    roiNode: Any = None,
    patientAxes: ArrayLike | None = None,
    transformNode: vtkMRMLLinearTransformNode | None = None,
) -> vtkMRMLLinearTransformNode:
    """The own axes of the bone in a volume: of its largest piece above a percentile, in a box.

    ``patientAxes`` (3, 3): the patient's in the world (LPS), None for parallel ones. The
    transform's origin is the bone's middle, R, A and S are the bone's own right, front and top.
    Where these are no vertebra's axes, `remarkOn` says so. Raises InputError where there is no
    bone.
    """
    from RadGSRegLib.bones import bone_axes, bone_mask

    values = voxels(volumeNode)
    threshold = boneThreshold(volumeNode, percentile)
    if roiNode is not None:
        # The threshold is of the whole volume, as it is for the surface.
        values = np.where(insideBox(volumeNode, roiNode), values, values.min())
    volume = Volume(np.asarray(values), ijkToLps(volumeNode))
    bone = bone_mask(volume, threshold=threshold)
    node = _node(volumeNode, bone_axes(bone.mask, patientAxes), transformNode)
    if not bone.is_one_vertebra:
        remark = (
            f"the bone of {bone.volume_ml:.0f} ml is more than one vertebra, so that its axes are "
            "no vertebra's; put a box around one"
        )
        node.SetAttribute(REMARK, remark)
        logging.warning("RadGSReg: %s", remark)
    return node


def remarkOn(transformNode: vtkMRMLLinearTransformNode) -> str:
    """What to know of axes that were found; empty where there is nothing."""
    return transformNode.GetAttribute(REMARK) or ""


def axesOfSegment(
    segmentationNode: vtkMRMLSegmentationNode,
    segment: str,
    ctNode: vtkMRMLScalarVolumeNode,
    transformNode: vtkMRMLLinearTransformNode | None = None,
) -> vtkMRMLLinearTransformNode:
    """The axes of a segment (ID, name or level) of a CT; they move with the CT's transform.

    Raises InputError where the segment is not there or empty.
    """
    from RadGSRegLib.bones import bone_axes

    if ctNode is None or segmentationNode is None:
        raise InputError("segment", "none is chosen", "choose CT and vertebra, or the volume")
    labels = labelsOnCt(segmentationNode, findSegment(segmentationNode, segment), ctNode)
    mask = Volume((labels.array == labels.label).astype(np.uint8), ijkToLps(ctNode))
    return _node(ctNode, bone_axes(mask), transformNode)


def sliceAlong(scene: vtkMRMLScene, transformNode: vtkMRMLLinearTransformNode) -> list[Any]:
    """Turn the slice views along a vertebra's axes, through its middle; returns those turned."""
    axes_to_world = transformMatrix(transformNode)
    turned = []
    for view, name in _views(scene):
        if not view.HasSliceOrientationPreset(name):
            continue
        matrix = axes_to_world.copy()
        upright = arrayFromVTKMatrix(view.GetSliceOrientationPreset(name))
        matrix[:3, :3] = axes_to_world[:3, :3] @ upright
        view.GetSliceToRAS().DeepCopy(vtkMatrixFromArray(matrix))
        view.UpdateMatrices()
        turned.append(view)
    return turned


def sliceUpright(scene: vtkMRMLScene) -> None:
    """Turn the slice views back to axial, sagittal and coronal ones of the scene."""
    for view, name in _views(scene):
        view.SetOrientation(name)


def _views(scene: vtkMRMLScene) -> Sequence[tuple[Any, str]]:
    nodes = [
        scene.GetNthNodeByClass(n, "vtkMRMLSliceNode")
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceNode"))
    ]
    return [
        (n, ORIENTATIONS[n.GetLayoutName()]) for n in nodes if n.GetLayoutName() in ORIENTATIONS
    ]


def _node(
    imageNode: Any, axes_to_lps: Array, node: vtkMRMLLinearTransformNode | None
) -> vtkMRMLLinearTransformNode:
    scene = imageNode.GetScene()
    if node is None or node.GetScene() is None:
        node = scene.AddNewNodeByClass(
            "vtkMRMLLinearTransformNode",
            scene.GenerateUniqueName(f"{imageNode.GetName()} bone axes-to-world"),
        )
    node.SetAttribute(REMARK, None)
    node.SetAndObserveTransformNodeID(imageNode.GetTransformNodeID())
    updateTransformMatrixFromArray(node, lps_to_ras(axes_to_lps))
    return node
