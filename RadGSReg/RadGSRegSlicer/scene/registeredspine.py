"""Several vertebrae registered together, kept on the transform that bends the CT.

That transform refers to the transform of every vertebra, and each of these says which segment it is
of and refers to what was reconstructed of it: a saved scene brings all back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import slicer

SPINE = "RadGSReg.Spine"
CT_ROLE = "RadGSReg.SpineCt"
LEVEL_ROLE = "RadGSReg.Level"
LEVEL = "RadGSReg.LevelName"
SEGMENT = "RadGSReg.Segment"
VOLUME_ROLE = "RadGSReg.LevelVolume"
GAUSSIANS_ROLE = "RadGSReg.LevelGaussians"


@dataclass(frozen=True)
class RegisteredLevel:
    """One vertebra of several: its ``name``, its segment's identifier ("" where that is not known)
    and its nodes. ``transformNode`` is its own CT to world."""

    name: str
    segment: str
    transformNode: slicer.vtkMRMLLinearTransformNode
    reconstructionNode: slicer.vtkMRMLScalarVolumeNode | None = None
    gaussiansNode: slicer.vtkMRMLModelNode | None = None


@dataclass(frozen=True)
class Motion:
    """How ``upper`` has moved since the CT as it is seen from ``lower``, the vertebra below it.

    ``shift_mm`` of its centre along the CT's L, P, S; ``turn_deg`` about them.
    """

    upper: str
    lower: str
    shift_mm: tuple[float, ...]
    turn_deg: tuple[float, ...]


def keepSpine(
    spineNode: Any,
    ctNode: Any,
    levels: Sequence[RegisteredLevel],
    begunWith: str,
    motions: Sequence[Motion] = (),
) -> None:
    """Keep a CT and its vertebrae, in their order along the spine, with what bends that CT.

    ``begunWith``: the name of the one that was looked for first.
    """
    spineNode.SetNodeReferenceID(CT_ROLE, ctNode.GetID())
    spineNode.RemoveNodeReferenceIDs(LEVEL_ROLE)
    for level in levels:
        node = level.transformNode
        spineNode.AddNodeReferenceID(LEVEL_ROLE, node.GetID())
        node.SetAttribute(LEVEL, level.name)
        node.SetAttribute(SEGMENT, level.segment)
        for role, other in (
            (VOLUME_ROLE, level.reconstructionNode),
            (GAUSSIANS_ROLE, level.gaussiansNode),
        ):
            node.SetNodeReferenceID(role, None if other is None else other.GetID())
    content = {"begun_with": begunWith, "motions": [vars(motion) for motion in motions]}
    spineNode.SetAttribute(SPINE, json.dumps(content))


def levelsOf(spineNode: Any) -> list[RegisteredLevel]:
    """The vertebrae of a transform of several, in their order along the spine; none of another."""
    if spineNode is None or not spineNode.GetAttribute(SPINE):
        return []
    count = spineNode.GetNumberOfNodeReferences(LEVEL_ROLE)
    nodes = [spineNode.GetNthNodeReference(LEVEL_ROLE, n) for n in range(count)]
    return [
        RegisteredLevel(
            str(node.GetAttribute(LEVEL) or node.GetName()),
            str(node.GetAttribute(SEGMENT) or ""),
            node,
            node.GetNodeReference(VOLUME_ROLE),
            node.GetNodeReference(GAUSSIANS_ROLE),
        )
        for node in nodes
        if node is not None
    ]


def isOfAnotherCt(spineNode: Any, ctNode: Any) -> bool:
    """Whether a transform holds the vertebrae of a CT other than this one."""
    return bool(levelsOf(spineNode)) and spineNode.GetNodeReference(CT_ROLE) is not ctNode


def begunWith(spineNode: Any) -> str:
    """The name of the vertebra that was looked for first; "" where that is not known."""
    return str(_content(spineNode).get("begun_with", ""))


def motionsOf(spineNode: Any) -> list[Motion]:
    """How the neighbours of a transform of several vertebrae have moved against each other."""
    try:
        return [
            Motion(
                str(motion["upper"]),
                str(motion["lower"]),
                tuple(float(x) for x in motion["shift_mm"]),
                tuple(float(x) for x in motion["turn_deg"]),
            )
            for motion in _content(spineNode).get("motions", [])
        ]
    except (KeyError, TypeError, ValueError):
        return []


def isLevel(transformNode: Any) -> bool:
    """Whether a transform is of one vertebra of several."""
    return transformNode is not None and transformNode.GetAttribute(LEVEL) is not None


def segmentOf(transformNode: Any, otherwise: str = "") -> str:
    """The segment that a vertebra's transform is of, "" where that is not known; ``otherwise`` for
    one that is not of several."""
    if not isLevel(transformNode):
        return otherwise
    return str(transformNode.GetAttribute(SEGMENT) or "")


def _content(spineNode: Any) -> Mapping[str, Any]:
    try:
        content = json.loads((spineNode and spineNode.GetAttribute(SPINE)) or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
