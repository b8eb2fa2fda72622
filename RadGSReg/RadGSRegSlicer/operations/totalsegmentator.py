"""The TotalSegmentator extension, where it is installed: all vertebrae with one button."""

from typing import Any

import slicer
from RadGSRegLib.vertebrae import SNOMED_CODES

_STRUCTURES = [f"vertebrae_{level}" for level in SNOMED_CODES]


def isInstalled() -> bool:
    """Whether the extension is there."""
    return hasattr(slicer.modules, "totalsegmentator")


def segmentVertebrae(ctNode: Any) -> Any:
    """A new segmentation node with the vertebrae of a CT; blocks as the extension itself does."""
    from TotalSegmentator import TotalSegmentatorLogic

    logic = TotalSegmentatorLogic()
    logic.setupPythonRequirements()
    scene = ctNode.GetScene()
    name = scene.GenerateUniqueName(f"{ctNode.GetName()} vertebrae")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    try:
        # The third argument asks for full quality; its name is not the same in all versions.
        logic.process(ctNode, node, False, task="total", subset=_STRUCTURES)
    except Exception:
        scene.RemoveNode(node)
        raise
    return node
