"""What a registration said of itself, kept on its transform: a saved scene brings it back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from RadGSRegLib.geometry import Array

RECONSTRUCTION = "RadGSReg.Reconstruction"
"""The attribute of a volume made of X-rays: it is no CT."""
STATUS = "RadGSReg.Status"
"""The attribute of a result: what the program thinks of it."""
REASON = "RadGSReg.Reason"
"""The attribute that says why the status is what it is."""
TISSUE = "RadGSReg.TissuePerMm"
"""The attribute of a volume of bone alone: the attenuation of soft tissue, on top of which its
values come (1/mm)."""
RESULT = "RadGSReg.Result"
REPORT_ROLE = "RadGSReg.Report"
ACCEPTED = "RadGSReg.Accepted"
HARDENED = "RadGSReg.Hardened"

_MOST_REPORT_BYTES = 20_000_000


@dataclass(frozen=True)
class ResultRecord:
    """A registration's result: ``ctToWorld`` (4, 4) RAS as it was found, before any correction.

    ``covariance`` (6, 6) as in registration.json (rad and mm, about the vertebra's centre, along
    the CT's axes in LPS), or None.
    """

    status: str
    ctToWorld: Array
    covariance: Array | None = None
    quality: dict[str, Any] = field(default_factory=dict)
    folder: str = ""

    @property
    def reason(self) -> str:
        """Why the status is what it is, one sentence."""
        return str(self.quality.get("reason", ""))

    @property
    def viewScores(self) -> dict[str, float]:
        """The score in each view, by the view's name."""
        views = self.quality.get("views")
        if not isinstance(views, Mapping):
            return {}
        return {str(name): float(of["score"]) for name, of in views.items() if "score" in of}


def keepRecord(transformNode: Any, record: ResultRecord, reportPath: Path | None = None) -> None:
    """Put a result on the transform that it gave, in place of an earlier one and its report."""
    from RadGSRegLib.cases import to_json_value

    content = {
        "status": record.status,
        "ctToWorld": record.ctToWorld,
        "covariance": record.covariance,
        "quality": record.quality,
        "folder": record.folder,
    }
    transformNode.SetAttribute(RESULT, json.dumps(to_json_value(content)))
    for stale in (ACCEPTED, HARDENED):
        transformNode.RemoveAttribute(stale)
    if (
        reportPath is not None
        and reportPath.is_file()
        and reportPath.stat().st_size < _MOST_REPORT_BYTES
    ):
        _keepReport(transformNode, reportPath.read_text(encoding="utf-8"))
    else:
        _dropReport(transformNode)


def recordOf(transformNode: Any) -> ResultRecord | None:
    """The result that a transform came with, or None where it came from elsewhere."""
    text = None if transformNode is None else transformNode.GetAttribute(RESULT)
    if not text:
        return None
    try:
        content = json.loads(text)
        return ResultRecord(
            str(content["status"]),
            _matrix(content["ctToWorld"], (4, 4)),
            None if content["covariance"] is None else _matrix(content["covariance"], (6, 6)),
            dict(content["quality"]),
            str(content.get("folder", "")),
        )
    except (KeyError, TypeError, ValueError):
        return None


def reportOf(transformNode: Any) -> str | None:
    """The text of the result's report.html, or None."""
    node = transformNode.GetNodeReference(REPORT_ROLE)
    return None if node is None else node.GetText()


def _keepReport(transformNode: Any, text: str) -> None:
    scene = transformNode.GetScene()
    node = transformNode.GetNodeReference(REPORT_ROLE)
    if node is None:
        node = scene.AddNewNodeByClass(
            "vtkMRMLTextNode", scene.GenerateUniqueName(f"{transformNode.GetName()} report")
        )
        node.SetHideFromEditors(True)
        transformNode.SetNodeReferenceID(REPORT_ROLE, node.GetID())
    node.SetText(text)


def _dropReport(transformNode: Any) -> None:
    """An earlier result's report must not stand beside a pose that it says nothing of."""
    node = transformNode.GetNodeReference(REPORT_ROLE)
    transformNode.RemoveNodeReferenceIDs(REPORT_ROLE)
    if node is not None:
        transformNode.GetScene().RemoveNode(node)


def _matrix(values: ArrayLike, shape: tuple[int, int]) -> Array:
    array = np.asarray(values, dtype=float)
    if array.shape != shape:
        raise ValueError(f"{array.shape} instead of {shape}")
    return array
