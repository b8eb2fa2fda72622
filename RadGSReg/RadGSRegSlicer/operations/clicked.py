"""Segment from a click: a point in the CT goes to a child process, a segment comes back."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import Array, Volume
from RadGSRegLib.system import ExitStatus
from RadGSRegLib.vertebrae import LEVELS
from slicer import vtkMRMLSegmentationNode

from ..exchange.casefolder import volumeFromCt
from ..exchange.staging import writeNrrd
from ..process.jobs import Job
from ..process.runs import WorkFolder
from ..scene import levels, segments
from .requests import Argument, Request

CLICK = "RadGSReg.Click"
"""The tag of a segment made here: JSON with the point, the status and notes on the result."""

_REACH_MM = 130.0  # what the computation may look at around the point
_CT = "ct.nrrd"
_MASK = "mask.nrrd"


class ClickedSegment(NamedTuple):
    """Where the segment is."""

    segmentationNode: vtkMRMLSegmentationNode
    segmentId: str


@dataclass
class ClickRequest(Request):
    """Segment the vertebra around a point.

    ``pointRas``: inside the vertebra's body, RAS mm, in the CT's own frame (without a transform
    that the CT is under). ``level``: which vertebra it is ("L3"), which no computation can know;
    None if it is not said. ``segmentationNode`` gets the new segment; else a new node is made. A
    segment of the same level that was made from an earlier click is replaced.
    """

    ctNode: Any
    pointRas: ArrayLike
    level: str | None = None
    segmentationNode: Any = None

    @property
    def pointLps(self) -> Array:
        """The point (3,), LPS mm. Raises InputError where it is none."""
        point = np.asarray(self.pointRas, dtype=float).ravel()
        if point.shape != (3,) or not np.isfinite(point).all():
            raise InputError("point", "is not three finite numbers", "give R, A, S in mm")
        return point * [-1.0, -1.0, 1.0]

    def check(self) -> None:
        super().check()
        _around(volumeFromCt(self.ctNode), self.pointLps)
        if self.level is not None and self.level not in LEVELS:
            raise InputError("level", f"'{self.level}' is no vertebra", f"use {', '.join(LEVELS)}")
        node = self.segmentationNode
        if node is not None and node.GetTransformNodeID() not in (
            None,
            self.ctNode.GetTransformNodeID(),
        ):
            raise InputError(
                node.GetName(), "is under another transform than the CT", "take it out"
            )

    def toArguments(self, folder: WorkFolder) -> list[Argument]:
        point = ",".join(f"{x:.4f}" for x in self.pointLps)
        files = folder.inputs / _CT, folder.outputs / _MASK
        return ["segment", files[0], "--point", point, "--out", files[1]]

    def _stage(self, folder: WorkFolder) -> Iterator[None]:
        folder.outputs.mkdir()
        part = _around(volumeFromCt(self.ctNode), self.pointLps)
        whole = np.can_cast(part.array.dtype, np.int16)
        return writeNrrd(folder.inputs / _CT, part, np.int16 if whole else np.float32)

    def _load(self, path: Path, job: Job) -> ClickedSegment:
        from RadGSRegLib.cases import read_itk, volume_from_itk

        mask, ctNode, level = volume_from_itk(read_itk(path / _MASK)), self.ctNode, self.level
        if ctNode.GetScene() is None:
            raise Cancelled("the CT is no longer in the scene")
        node = self.segmentationNode
        if node is None or node.GetScene() is None:
            name = ctNode.GetScene().GenerateUniqueName(f"{ctNode.GetName()} vertebrae")
            node = segments.newSegmentation(name, ctNode)
        if level is not None:
            # A second click for the same vertebra corrects the first.
            for id_, known in levels.vertebrae(node).items():
                if known == level and clickInfo(node, id_) is not None:
                    node.GetSegmentation().RemoveSegment(id_)
        isSecond = level is not None and level in levels.vertebrae(node).values()
        wanted = f"vertebrae_{level}" if level else "vertebra"
        segmentId = segments.addSegment(node, mask, level or wanted, wanted)
        if level is not None:
            levels.setSegmentLevel(node, segmentId, level)
            if isSecond:
                # Beside the one that was there: two of one name could not be told apart.
                node.GetSegmentation().GetSegment(segmentId).SetName(f"{level} (click)")
        else:
            levels.setVertebra(node, segmentId)
        said = {
            "point_lps": self.pointLps.tolist(),
            "status": "uncertain" if job.returnCode == ExitStatus.NOT_TRUSTED else "ok",
            "notes": job.message.partition("; ")[2],
        }
        node.GetSegmentation().GetSegment(segmentId).SetTag(CLICK, json.dumps(said))
        node.CreateClosedSurfaceRepresentation()
        return ClickedSegment(node, segmentId)


def clickInfo(segmentationNode: vtkMRMLSegmentationNode, segmentId: str) -> dict[str, Any] | None:
    """``point_lps``, ``status`` and ``notes`` of a segment made from a click, or None."""
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    try:
        said = json.loads("null" if segment is None else segments.tagOf(segment, CLICK))
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _around(ct: Volume, pointLps: Array) -> Volume:
    """The part of the CT that matters for a point; InputError where the point is outside."""
    index = ct.physical_to_index[:3, :3] @ pointLps + ct.physical_to_index[:3, 3]
    if (index < -0.5).any() or (index > np.array(ct.size) - 0.5).any():
        raise InputError("point", "lies outside the CT", "click inside the body of a vertebra")
    reach = _REACH_MM / ct.spacing
    return ct.crop(np.floor(index - reach), np.ceil(index + reach) + 1)
