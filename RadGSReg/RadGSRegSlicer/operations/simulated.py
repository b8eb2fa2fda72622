"""Simulated X-rays in the scene, with their truth; how far a result is from that truth."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from numpy.typing import ArrayLike
from RadGSRegLib.choices import REALISMS
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import Array, is_rigid, lps_to_ras

from ..exchange import casefolder
from ..exchange.staging import CASE, writeNrrd
from ..process.environment import requirePackages
from ..process.jobs import Job
from ..process.runs import WorkFolder
from ..scene import levels, segments
from ..scene.frames import setIjkToLps, transformMatrix
from .requests import Argument, Request, choice

TRUTH = "RadGSReg.Truth"
"""Marks a transform node as the true CT to world."""
TRUTH_CT = "RadGSReg.TruthCt"
"""The role in which a truth refers to its CT."""
TRUTH_LEVELS = "RadGSReg.TruthLevels"
"""Whose truth it is, and those of the other vertebrae: JSON, by segment, RAS."""

_SURFACE_POINTS = 4000
# Another segment whose surface has its middle so near, mm, is the same vertebra: the next one's is
# twice as far away.
_SAME_MM = 15.0
_TRUNK_FIELD_MM = 250.0


@dataclass
class SimulatedNodes:
    """What a simulation put into the scene. ``truthNode`` is the true CT to world; nothing is
    under it."""

    ctNode: slicer.vtkMRMLScalarVolumeNode
    segmentationNode: slicer.vtkMRMLSegmentationNode
    segmentId: str
    xrayNodes: list[slicer.vtkMRMLScalarVolumeNode]
    truthNode: slicer.vtkMRMLLinearTransformNode


@dataclass
class SimulateRequest(Request):
    """Two X-rays of a moved spine with the truth beside, of a CT or of the built-in phantom.

    ``ctNode``: with a segmentation and a segment (ID, name or level) of it; without all three a
    phantom is made, and its CT and segmentation too. ``realism``: "clean", "realistic" or "hard".
    ``outputFolder``: keep the case here, in the form of ``radgsreg simulate``. ``trunk``: the
    phantom with the vertebrae around L3 whole, in X-rays that show them.
    """

    ctNode: Any = None
    segmentationNode: Any = None
    segment: str | None = None
    _: KW_ONLY
    realism: str = choice("realistic", REALISMS)
    seed: int = 0
    trunk: bool = False

    def check(self) -> None:
        super().check()
        if self.ctNode is not None and (self.segmentationNode is None or not self.segment):
            raise InputError("segmentation", "none is chosen, or no segment of it")
        if self.ctNode is None and (self.segmentationNode is not None or self.segment):
            raise InputError("CT", "no volume is chosen", "leave all three out for the phantom")
        if self.trunk and self.ctNode is not None:
            raise InputError("trunk", "is of the phantom", "leave it out")

    def toArguments(self, folder: WorkFolder) -> list[Argument]:
        arguments: list[Argument] = ["simulate", "--out", folder.outputs]
        arguments += ["--realism", self.realism, "--seed", str(self.seed)]
        arguments += ["--trunk", "--field-mm", f"{_TRUNK_FIELD_MM:g}"] if self.trunk else []
        return arguments if self.ctNode is None else [*arguments, "--case", folder.inputs / CASE]

    def _stage(self, folder: WorkFolder) -> Iterator[None] | None:
        if self.ctNode is None:
            return None
        ct = casefolder.volumeFromCt(self.ctNode)
        # By its ID from here on: its name may change while the computation runs.
        self.segment = segments.findSegment(self.segmentationNode, self.segment or "")
        labels = segments.labelsOnCt(self.segmentationNode, self.segment, self.ctNode)
        values = segments.labelValues(self.segmentationNode)
        self._segmentOf = {value: id_ for id_, value in values.items()}
        content = {"ct": "ct.nrrd", "segmentation": "seg.nrrd", "label": labels.label}

        def write() -> Iterator[None]:
            # Without the segments' names, which somebody typed.
            yield from writeNrrd(folder.inputs / "ct.nrrd", ct, np.float32)
            yield from writeNrrd(folder.inputs / "seg.nrrd", ct.with_array(labels.array), np.int16)
            (folder.inputs / CASE).write_text(json.dumps(content), encoding="utf-8")

        return write()

    def _load(self, path: Path, job: Job) -> SimulatedNodes:
        if self.ctNode is None:
            return _loadPhantom(path)
        if self.ctNode.GetScene() is None or self.segmentationNode.GetScene() is None:
            raise Cancelled("the CT is no longer in the scene")
        truth = _readTruth(path, self._segmentOf)
        xrays = casefolder.importViews(path / "views.json", self.ctNode.GetScene())
        nodes = self.ctNode, self.segmentationNode, self.segment or "", xrays
        return SimulatedNodes(*nodes, _truthNode(truth, self.ctNode, self.segment or ""))


def truthFor(
    ctNode: slicer.vtkMRMLScalarVolumeNode | None,
) -> slicer.vtkMRMLLinearTransformNode | None:
    """The transform node that holds the true CT to world of a CT, if the scene has one."""
    if ctNode is None or ctNode.GetScene() is None:
        return None
    nodes = slicer.util.getNodesByClass("vtkMRMLLinearTransformNode", ctNode.GetScene())
    truths = [node for node in nodes if node.GetAttribute(TRUTH) == "true"]
    own = (node for node in truths if node.GetNodeReferenceID(TRUTH_CT) == ctNode.GetID())
    return next(own, None)


def errorAgainstTruth(
    ctNode: slicer.vtkMRMLScalarVolumeNode,
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    segment: str,
    transformNode: Any = None,
) -> float | None:
    """How far the vertebra's surface is from where it truly is, mean in mm (mTRE).

    ``transformNode`` is the CT to world to judge; without it, what the CT is under. None where the
    scene holds no truth for this CT. Raises InputError where the segment cannot be used.
    """
    if truthFor(ctNode) is None:
        return None
    requirePackages()
    from RadGSRegLib.measures import target_points

    node = ctNode.GetParentTransformNode() if transformNode is None else transformNode
    ctToWorld = np.eye(4) if node is None else transformMatrix(node)
    segmentId = segments.findSegment(segmentationNode, segment)
    labels = segments.labelsOnCt(segmentationNode, segmentId, ctNode)
    volume = casefolder.volumeFromCt(ctNode).with_array(labels.array)
    points = target_points(volume, labels.label, _SURFACE_POINTS) * [-1.0, -1.0, 1.0]
    return errorOfPose(ctNode, points, ctToWorld, segmentId)


def errorOfPose(
    ctNode: slicer.vtkMRMLScalarVolumeNode,
    pointsRas: ArrayLike,
    ctToWorldRas: ArrayLike,
    segmentId: str,
) -> float | None:
    """`errorAgainstTruth` of a pose (4, 4) over points (N, 3) of the CT's own frame; quick."""
    node = truthFor(ctNode)
    truth = None if node is None else _truthOf(node, segmentId, np.asarray(pointsRas))
    if truth is None:
        return None
    try:
        from RadGSRegLib.measures import mtre
    except ImportError:
        return None  # a saved scene in a Slicer that lacks packages still

    return float(mtre(pointsRas, ctToWorldRas, truth))


def _truthOf(truthNode: Any, segmentId: str, pointsRas: Array) -> Array | None:
    """Where a vertebra with a surface (N, 3) truly is (4, 4), RAS; None where only that of others
    is known. A segment that was made later is told by where it is."""
    try:
        known = json.loads(truthNode.GetAttribute(TRUTH_LEVELS) or "{}")
        if known and known["segment"] != segmentId:
            other = known["others"].get(segmentId)
            if other is not None:
                return np.array(other, dtype=float).reshape(4, 4)
            centre = np.array(known.get("centre") or [np.inf] * 3, dtype=float)
            if not np.linalg.norm(pointsRas.mean(axis=0) - centre) < _SAME_MM:
                return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return transformMatrix(truthNode)


@dataclass(frozen=True)
class _Truth:
    """The true CT to world (4, 4), RAS, of a vertebra, and by segment of ``others``; the middle of
    its surface in the CT (3,), RAS, where that is known."""

    ctToWorld: Array
    others: dict[str, Array]
    centre: list[float] | None = None


def _readTruth(path: Path, segmentOf: Mapping[int, str]) -> _Truth:
    """What a case folder holds; ``segmentOf`` each label value."""
    try:
        content = json.loads((path / "truth.json").read_text(encoding="utf-8"))
        own, beside = content["ct_to_world"], content.get("neighbours", {})
        labels = [int(label) for label in beside]
        poses = [np.array(pose, dtype=float) for pose in (own, *beside.values())]
        surface = np.array(content.get("points_ct", []), dtype=float).reshape(-1, 3)
        if not all(is_rigid(pose) for pose in poses):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path / "truth.json", "holds no true pose") from error
    first, *others = (np.asarray(lps_to_ras(pose)) for pose in poses)
    named = zip(labels, others, strict=True)
    return _Truth(
        first,
        {segmentOf[label]: pose for label, pose in named if label in segmentOf},
        (surface.mean(axis=0) * [-1.0, -1.0, 1.0]).tolist() if len(surface) else None,
    )


def _truthNode(truth: _Truth, ctNode: slicer.vtkMRMLScalarVolumeNode, segmentId: str) -> Any:
    """A new node that holds the truth for a CT; an older one goes."""
    scene = ctNode.GetScene()
    for old in iter(lambda: truthFor(ctNode), None):
        scene.RemoveNode(old)
    name = scene.GenerateUniqueName(f"{ctNode.GetName()}-to-world truth")
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    slicer.util.updateTransformMatrixFromArray(node, truth.ctToWorld)
    others = {id_: pose.tolist() for id_, pose in truth.others.items()}
    known = {"segment": segmentId, "centre": truth.centre, "others": others}
    node.SetAttribute(TRUTH_LEVELS, json.dumps(known))
    node.SetAttribute(TRUTH, "true")
    node.SetNodeReferenceID(TRUTH_CT, ctNode.GetID())
    return node


def _loadPhantom(path: Path) -> SimulatedNodes:
    from RadGSRegLib.cases import read_case
    from RadGSRegLib.phantom import LABELS

    scene = slicer.mrmlScene
    case = read_case(path / "case.json")
    truth = _readTruth(path, {number: f"label_{number}" for number in LABELS.values()})
    ctNode = scene.AddNewNodeByClass(
        "vtkMRMLScalarVolumeNode", scene.GenerateUniqueName("RadGSReg phantom CT")
    )
    slicer.util.updateVolumeFromArray(ctNode, np.rint(case.ct.array).astype(np.int16))
    setIjkToLps(ctNode, case.ct.index_to_physical)
    ctNode.CreateDefaultDisplayNodes()
    display = ctNode.GetDisplayNode()
    if display is not None:
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(1400.0, 400.0)
    segmentationNode = segments.segmentationFromLabels(
        scene.GenerateUniqueName("RadGSReg phantom vertebrae"), case.labels, ctNode
    )
    chosen = ""
    for level, number in LABELS.items():
        segmentId = f"label_{number}"
        if segmentationNode.GetSegmentation().GetSegment(segmentId) is None:
            continue
        levels.setSegmentLevel(segmentationNode, segmentId, level, byHand=False)
        if number == case.label:
            chosen = segmentId
    segmentationNode.CreateClosedSurfaceRepresentation()
    xrays = casefolder.importViews(path / "views.json", scene)
    truthNode = _truthNode(truth, ctNode, chosen)
    return SimulatedNodes(ctNode, segmentationNode, chosen, xrays, truthNode)
