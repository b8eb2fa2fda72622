"""From a file of a reconstruction to a volume node, with what the program thinks of it."""

from __future__ import annotations

from pathlib import Path

import slicer
from RadGSRegLib.errors import InputError

from ..scene.record import REASON, RECONSTRUCTION, STATUS, TISSUE

VOLUME, BONE = "reconstruction.nii.gz", "bone_density.nii.gz"


def readVolume(path: Path) -> slicer.vtkMRMLScalarVolumeNode | None:
    """A volume's file as a node outside of any scene; None where there is no file.

    Raises InputError where it cannot be read.
    """
    if not path.is_file():
        return None
    # The storage node stays outside the scene: the node must not point to a temporary file, or
    # Slicer would believe that it is saved already.
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    # Read into a node of its own: while it reads, a node has no image, and a view that shows it
    # would have nothing to reslice.
    read = slicer.vtkMRMLScalarVolumeNode()
    if not storage.ReadData(read):
        raise InputError(path, "cannot be read as a volume")
    return read


def placeVolume(
    read: slicer.vtkMRMLScalarVolumeNode,
    scene: slicer.vtkMRMLScene,
    node: slicer.vtkMRMLScalarVolumeNode | None,
    name: str = "RadGSReg reconstruction",
) -> slicer.vtkMRMLScalarVolumeNode:
    """Put what `readVolume` has read into ``node``, or into a new one of a scene."""
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    with slicer.util.NodeModify(node):
        node.SetAndObserveImageData(read.GetImageData())
        node.CopyOrientation(read)
        node.SetAndObserveTransformNodeID(None)  # it is in the world
    judge(node, "", "")  # what was there before is another volume
    node.SetAttribute(TISSUE, None)
    node.SetAttribute(RECONSTRUCTION, "true")
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    return node


def judge(node: slicer.vtkMRMLScalarVolumeNode | None, status: str, reason: str) -> None:
    """Keep with a volume what the program thinks of it; empty texts: nothing."""
    if node is not None:
        for name, text in ((STATUS, status), (REASON, reason)):
            node.SetAttribute(name, text or None)
