"""A reconstruction as a volume in 3-D: Slicer's presets in its own unit, cropped and clipped."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode

from ..scene.parameters import PRESETS
from ..scene.record import TISSUE
from .display import boneTransfer

OWN = PRESETS[0]


def renderingLogic() -> Any:
    """Slicer's volume rendering logic; None where the module is not there."""
    module = getattr(slicer.modules, "volumerendering", None)
    return None if module is None else module.logic()


def renderingOf(node: vtkMRMLScalarVolumeNode | None, logic: Any = None) -> Any:
    """The display node by which a volume is rendered; None where there is none."""
    logic = logic or renderingLogic()
    return None if node is None or logic is None else logic.GetFirstVolumeRenderingDisplayNode(node)


def render(node: vtkMRMLScalarVolumeNode, preset: str = OWN, logic: Any = None) -> Any:
    """Show a volume (1/mm) in 3-D with a preset; returns its display node.

    A preset of Slicer's, which this installation may lack, is read in the volume's own unit
    (`inUnitOf`). Returns None where Slicer cannot render volumes.
    """
    logic = logic or renderingLogic()
    if logic is None:
        return None
    display = renderingOf(node, logic) or logic.CreateDefaultVolumeRenderingNodes(node)
    properties = display.GetVolumePropertyNode()
    wanted = None if preset == OWN else logic.GetPresetByName(preset)
    with slicer.util.NodeModify(properties):
        if wanted is None:
            boneTransfer(node, properties)
        else:
            properties.Copy(wanted)
            inUnitOf(node, properties.GetVolumeProperty())
            properties.CalculateEffectiveRange()  # the preset's own is in its unit
    display.SetVisibility(True)
    return display


def hideRendering(node: vtkMRMLScalarVolumeNode | None, logic: Any = None) -> None:
    """Hide what `render` shows."""
    display = renderingOf(node, logic)
    if display is not None:
        display.SetVisibility(False)


def inUnitOf(node: vtkMRMLScalarVolumeNode, volumeProperty: Any) -> None:
    """Move a property's functions from Hounsfield units to a volume's attenuation.

    Air is 0 in both; water, at 0 HU, is taken to be as bright as the middle voxel of those that are
    not air, for most of a body is soft tissue. Of a volume of bone alone 0 is soft tissue (0 HU)
    and all that is no bone, and stays clear whatever the preset shows of it.
    """
    tissue = float(node.GetAttribute(TISSUE) or 0.0)
    array = slicer.util.arrayFromVolume(node)
    inside = array[array > 0]
    water = tissue or (float(np.median(inside)) if inside.size else 1.0)
    zero = 0.0 if tissue else water  # of what is at 0 HU
    for function, offset, size in (
        (volumeProperty.GetScalarOpacity(), zero, 4),
        (volumeProperty.GetRGBTransferFunction(), zero, 6),
        (volumeProperty.GetGradientOpacity(), 0.0, 4),
    ):
        values = _rows(function, size)
        # Anew: a point that is moved past its neighbour would change places with it.
        function.RemoveAllPoints()
        for row in values:
            place = offset + row[0] * water / 1000.0
            if size == 4:
                function.AddPoint(place, *row[1:])
            else:
                function.AddRGBPoint(place, *row[1:])
    if tissue:
        opacity = volumeProperty.GetScalarOpacity()
        bone = [row for row in _rows(opacity, 4) if row[0] > 0.0]
        opacity.RemoveAllPoints()
        for row in ([0.0, 0.0, 0.5, 0.0], *bone):
            opacity.AddPoint(*row)


def _rows(function: Any, size: int) -> list[list[float]]:
    """The points of a transfer function, ``size`` numbers each."""
    values = [[0.0] * size for _ in range(function.GetSize())]
    for n, row in enumerate(values):
        function.GetNodeValue(n, row)
    return values


def cropRendering(
    node: vtkMRMLScalarVolumeNode, roiNode: vtkMRMLMarkupsROINode | None, logic: Any = None
) -> None:
    """Render only what lies in a box; None: everything."""
    display = renderingOf(node, logic)
    if display is not None:
        display.SetAndObserveROINodeID(None if roiNode is None else roiNode.GetID())
        display.SetCroppingEnabled(roiNode is not None)


CLIP = "RadGSReg.Clip"
"""The attribute of the node that cuts volume and surface open."""


def clip(displays: list[Any], cutters: list[Any]) -> Any:
    """Cut what is displayed open at slice views, and keep only what lies in a box.

    ``displays``: of a surface or a rendering. ``cutters``: slice nodes, of which what lies where
    their normal points is cut away (above an axial one, to the patient's left of a sagittal one, in
    front of a coronal one, as Slicer turns them), and boxes; empty: nothing is cut. Returns the
    node that holds the cuts, one for a scene; None where this Slicer cannot clip.
    """
    shown = [display for display in displays if display is not None]
    if not hasattr(slicer, "vtkMRMLClipNode") or not shown:
        return None
    scene = shown[0].GetScene()
    nodes = slicer.util.getNodesByClass("vtkMRMLClipNode", scene)
    node = next((node for node in nodes if node.GetAttribute(CLIP)), None)
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLClipNode", "RadGSReg cuts")
        node.SetAttribute(CLIP, "true")
    node.RemoveAllClippingNodeIDs()
    # What any of them cuts away is gone: of the parts cut away the union.
    node.SetClipType(slicer.vtkMRMLClipNode.ClipUnion)
    for cutter in cutters:
        node.AddAndObserveClippingNodeID(cutter.GetID())
        # What is kept: inside of a box, and where a slice's normal does not point.
        node.SetClippingNodeState(cutter, slicer.vtkMRMLClipNode.ClipNegativeSpace)
    for display in shown:
        display.SetAndObserveClipNodeID(node.GetID() if cutters else None)
        display.SetClipping(bool(cutters))
        if hasattr(display, "SetClippingCapSurface"):
            display.SetClippingCapSurface(bool(cutters))
    return node


def plain(node: vtkMRMLScalarVolumeNode) -> None:
    """Show a volume in grey in slices: all of it, at a window of its own."""
    display = node.GetDisplayNode()
    if display is not None:
        display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
        display.ApplyThresholdOff()
        display.SetAutoWindowLevel(True)
