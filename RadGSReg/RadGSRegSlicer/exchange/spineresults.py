"""From a folder with the results of several vertebrae to nodes in the scene."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import lps_to_ras

from ..scene.record import STATUS, ResultRecord, keepRecord
from ..scene.registeredspine import Motion, RegisteredLevel, isOfAnotherCt, keepSpine, levelsOf
from ..scene.segments import labelValues, segmentIds
from .casefolder import ctFrameNote
from .gaussians import CLOUD, placeGaussians, readGaussians
from .results import (
    OutputNodes,
    RegistrationResult,
    carriesNodes,
    loadRegistration,
    presentNode,
    sceneOfCt,
    setOnCt,
)
from .volumes import VOLUME, placeVolume, readVolume

if TYPE_CHECKING:
    from RadGSRegLib.cases import LevelRecord, RegistrationRecord

BENT = "spine_ct_to_world.h5"


@dataclass
class SpineResult:
    """What a registration of several vertebrae gave.

    ``status`` is the worst of theirs. ``levels``: by name, in their order along the spine, what
    `loadRegistration` gives of one, with a transform of its own each, which nothing is under.
    ``transformNode`` bends the whole CT so that every vertebra is at its place; it is set on the
    CT, unless one of them failed. ``begunWith``: the name of the vertebra that was looked for
    first; ``motions``: how neighbours have moved against each other since the CT. ``outputFolder``
    is None where the files were temporary.
    """

    status: str
    levels: dict[str, RegistrationResult]
    transformNode: slicer.vtkMRMLTransformNode
    begunWith: str
    motions: list[Motion] = field(default_factory=list)
    outputFolder: Path | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def first(self) -> RegistrationResult:
        """What came of the vertebra that was looked for first."""
        return self.levels[self.begunWith]

    @property
    def quality(self) -> dict[str, Any]:
        """The evidence of the vertebra that was looked for first."""
        return self.first.quality


def isSpineFolder(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds the results of several vertebrae."""
    return (Path(folder) / "spine.json").is_file()


def loadAny(
    folder: str | os.PathLike[str],
    ctNode: slicer.vtkMRMLScalarVolumeNode,
    outputs: OutputNodes | None = None,
    segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
) -> RegistrationResult | SpineResult:
    """`loadRegistration` or `loadSpine`, as the folder is of one vertebra or of several."""
    load = loadSpine if isSpineFolder(folder) else loadRegistration
    return load(folder, ctNode, outputs, segmentationNode)


def loadSpine(
    folder: str | os.PathLike[str],
    ctNode: slicer.vtkMRMLScalarVolumeNode,
    outputs: OutputNodes | None = None,
    segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
) -> SpineResult:
    """Bring the results of several vertebrae into the CT's scene, and bend the CT by them.

    Every vertebra gets a linear transform of its own, named "L2 CT-to-world", with its verdict and
    its report. The CT, and a segmentation that was under the same transform as it, come under the
    transform that bends it, in place of what they were under; where a vertebra failed nothing is
    moved. Nodes are taken again where ``outputs.spineNode`` has them, unless of another CT.
    Raises InputError where the folder is unusable, and Cancelled where the CT is no longer in a
    scene.
    """
    from RadGSRegLib.cases import read_spine_json

    folder, scene = Path(folder), sceneOfCt(ctNode)
    spineNode = (outputs or OutputNodes()).present().spineNode
    record = read_spine_json(folder / "spine.json")
    # Read before anything is added: an unreadable file leaves the scene as it was.
    read = {name: _read(folder / level.folder) for name, level in record.levels.items()}
    bent = _readBent(folder / BENT)
    if spineNode is not None and isOfAnotherCt(spineNode, ctNode):
        spineNode = None
    if spineNode is not None and record.status == "failed" and carriesNodes(spineNode):
        spineNode = None
    known = {level.name: level for level in levelsOf(spineNode)}
    levels, results = [], {}
    for name, level in record.levels.items():
        segment = _segmentOf(segmentationNode, name, level.label)
        nodes = _place(name, segment, read[name], ctNode, known.get(name))
        results[name] = _result(folder, level, read[name], nodes)
        levels.append(nodes)
    _removeLeft(known, levels)
    name = ctNode.GetName()
    if spineNode is None:
        spineNode = scene.AddNewNodeByClass(
            "vtkMRMLTransformNode", scene.GenerateUniqueName(f"{name}-to-world of the spine")
        )
    spineNode.SetAndObserveTransformNodeID(None)
    spineNode.SetAndObserveTransformFromParent(bent.GetTransformFromParent())
    spineNode.SetAttribute(STATUS, record.status)
    motions = [
        Motion(
            *(next(n for n, level in record.levels.items() if level.label == of) for of in pair),
            tuple(motion.shift_mm.tolist()),
            tuple(motion.turn_deg.tolist()),
        )
        for motion in record.relative_motions
        for pair in [(motion.upper, motion.lower)]
    ]
    keepSpine(spineNode, ctNode, levels, record.begun_with, motions)
    notes = [str(note) for note in record.parameters.get("notes", [])]
    failed = [name for name, level in record.levels.items() if level.status == "failed"]
    if failed:
        notes.append(
            f"{', '.join(failed)} failed; the transform of the spine is not set on '{name}'"
        )
    else:
        notes = [note for note in [ctFrameNote(ctNode)] if note is not None] + notes
        setOnCt(spineNode, ctNode, segmentationNode)
    return SpineResult(record.status, results, spineNode, record.begun_with, motions, folder, notes)


@dataclass(frozen=True)
class _Files:
    """What the folder of one vertebra holds."""

    record: RegistrationRecord
    cloud: Any
    volume: Any


def _read(folder: Path) -> _Files:
    from RadGSRegLib.cases import read_registration_json

    record = read_registration_json(folder / "registration.json")
    return _Files(record, readGaussians(folder / CLOUD), readVolume(folder / VOLUME))


def _readBent(path: Path) -> Any:
    """The transform that bends the CT, by Slicer's own storage node, as a node in no scene."""
    if not path.is_file():
        raise InputError(path, "does not exist")
    storage, node = slicer.vtkMRMLTransformStorageNode(), slicer.vtkMRMLTransformNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        raise InputError(path, "cannot be read as a transform")
    return node


def _segmentOf(segmentationNode: Any, name: str, label: int) -> str:
    """The identifier of the segment that a level is of; "" where that is not clear."""
    if presentNode(segmentationNode) is None:
        return ""
    segmentation = segmentationNode.GetSegmentation()
    called = {
        id_: " ".join(str(segmentation.GetSegment(id_).GetName()).split())
        for id_ in segmentIds(segmentationNode)
    }
    fitting = [id_ for id_, own in called.items() if own == name]
    if not fitting:
        # Of a name that others have too, the label stands behind it.
        values = labelValues(segmentationNode)
        fitting = [
            i for i, own in called.items() if (f"{own} ({label})", label) == (name, values[i])
        ]
    return fitting[0] if len(fitting) == 1 else ""


def _place(
    name: str, segment: str, read: _Files, ctNode: Any, known: RegisteredLevel | None
) -> RegisteredLevel:
    """The nodes of one vertebra, those that are ``known`` taken again."""
    scene = ctNode.GetScene()
    node = None if known is None else known.transformNode
    if node is None:
        title = f"{name} {ctNode.GetName()}-to-world"
        node = scene.AddNewNodeByClass(
            "vtkMRMLLinearTransformNode", scene.GenerateUniqueName(title)
        )
    node.SetAndObserveTransformNodeID(None)
    volume = read.volume and placeVolume(
        read.volume, scene, known and known.reconstructionNode, f"RadGSReg {name}"
    )
    cloud = read.cloud and placeGaussians(
        read.cloud, scene, known and known.gaussiansNode, f"RadGSReg {name} Gaussians"
    )
    if cloud is not None and cloud.GetDisplayNode() is not None:
        # Those of the vertebra under review are shown; all at once would hide the bones.
        cloud.GetDisplayNode().SetVisibility(False)
    return RegisteredLevel(name, segment, node, volume, cloud)


def _result(
    folder: Path, level: LevelRecord, read: _Files, nodes: RegisteredLevel
) -> RegistrationResult:
    """Keep what was said of one vertebra with its transform, and tell of it."""
    own, said = folder / level.folder, read.record
    ctToWorld = lps_to_ras(level.ct_to_world)
    kept = ResultRecord(level.status, ctToWorld, level.covariance, said.quality, str(own))
    node = nodes.transformNode
    slicer.util.updateTransformMatrixFromArray(node, ctToWorld)
    node.SetAttribute(STATUS, level.status)
    keepRecord(node, kept, own / "report.html")
    return RegistrationResult(
        level.status,
        ctToWorld,
        node,
        nodes.reconstructionNode,
        nodes.gaussiansNode,
        said.quality,
        level.covariance,
        own,
    )


def _removeLeft(known: dict[str, RegisteredLevel], levels: list[RegisteredLevel]) -> None:
    """Remove the nodes of vertebrae as they were before that none took again."""
    kept = {id(node) for level in levels for node in _nodesOf(level)}
    for level in known.values():
        for node in _nodesOf(level):
            if id(node) not in kept and presentNode(node) is not None:
                node.GetScene().RemoveNode(node)


def _nodesOf(level: RegisteredLevel) -> tuple[Any, ...]:
    return level.transformNode, level.reconstructionNode, level.gaussiansNode
