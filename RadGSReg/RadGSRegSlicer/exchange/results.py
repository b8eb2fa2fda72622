"""From a folder of results to nodes in the scene."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import Array, lps_to_ras

from ..scene.record import STATUS, TISSUE, ResultRecord, keepRecord
from ..scene.registeredspine import LEVEL, SEGMENT
from .casefolder import ctFrameNote
from .gaussians import CLOUD, placeGaussians, readGaussians
from .volumes import BONE, VOLUME, judge, placeVolume, readVolume

if TYPE_CHECKING:
    from .spineresults import SpineResult


@dataclass
class ReconstructionResult:
    """The reconstructed volume (1/mm) and the Gaussians, both in the world.

    ``status`` is the program's own judgement of a volume from X-rays alone, ``ok`` or
    ``uncertain``, and ``reason`` says why; both are empty where nothing was judged. ``quality`` is
    that of reconstruction.json. ``boneNode``: by how much bone exceeds soft tissue (1/mm), 0
    elsewhere, where bone was told from it.
    """

    reconstructionNode: slicer.vtkMRMLScalarVolumeNode | None
    gaussiansNode: slicer.vtkMRMLModelNode | None
    outputFolder: Path | None = None
    status: str = ""
    reason: str = ""
    quality: dict[str, Any] = field(default_factory=dict)
    boneNode: slicer.vtkMRMLScalarVolumeNode | None = None

    @property
    def oddViews(self) -> list[str]:
        """The X-rays that contradict the rest and were left out."""
        return [str(name) for name in self.quality.get("odd_views", ())]


@dataclass
class RegistrationResult:
    """What a registration gave.

    ``status`` is the program's own judgement: ``ok``, ``uncertain`` or ``failed``. ``ctToWorld``
    (4, 4) moves a point of the CT's own frame to the world, RAS mm; ``covariance`` (6, 6) as in
    registration.json. ``transformNode`` holds the same and is set on the CT, unless the
    registration failed. ``outputFolder`` is None where the files were temporary.
    """

    status: str
    ctToWorld: Array
    transformNode: slicer.vtkMRMLLinearTransformNode
    reconstructionNode: slicer.vtkMRMLScalarVolumeNode | None
    gaussiansNode: slicer.vtkMRMLModelNode | None
    quality: dict[str, Any]
    covariance: Array | None = None
    outputFolder: Path | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class OutputNodes:
    """Nodes to put results into; where one is None or no longer in a scene, a new node is made.

    ``spineNode``: the transform of several vertebrae, with which the nodes of each are kept.
    """

    transformNode: slicer.vtkMRMLLinearTransformNode | None = None
    reconstructionNode: slicer.vtkMRMLScalarVolumeNode | None = None
    gaussiansNode: slicer.vtkMRMLModelNode | None = None
    boneNode: slicer.vtkMRMLScalarVolumeNode | None = None
    spineNode: slicer.vtkMRMLTransformNode | None = None

    def present(self) -> OutputNodes:
        """Those of them that are still in a scene: a computation takes long enough to lose one."""
        return OutputNodes(*(presentNode(node) for node in vars(self).values()))


@dataclass(frozen=True)
class Loaded:
    """A result that has come into the scene, and what it is of, as far as that is known.

    ``segments``: all of them where they are several, ``segment`` the first.
    """

    result: RegistrationResult | SpineResult
    ctNode: slicer.vtkMRMLScalarVolumeNode
    segmentationNode: slicer.vtkMRMLSegmentationNode | None = None
    segment: str = ""
    xrayNodes: Sequence[slicer.vtkMRMLScalarVolumeNode] = ()
    segments: Sequence[str] = ()


listeners: list[Callable[[Loaded], object]] = []
"""Whom to tell of a result: a panel that is open, which did not start it, shows it."""


def tell(loaded: Loaded) -> None:
    """Tell all who listen."""
    for listener in list(listeners):
        listener(loaded)


def loadRegistration(
    folder: str | os.PathLike[str],
    ctNode: slicer.vtkMRMLScalarVolumeNode,
    outputs: OutputNodes | None = None,
    segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
) -> RegistrationResult:
    """Bring a result folder into the CT's scene and set the transform on the CT.

    A segmentation that was under the same transform as the CT (or both under none) goes along. A
    transform that the CT is under is replaced (and named in the notes). The result of a failed
    registration is loaded, but moves nothing: where something is under the transform of
    ``outputs``, a new one takes the result. Raises InputError where the folder is unusable, and
    Cancelled where the CT is no longer in a scene.
    """
    from RadGSRegLib.cases import read_registration_json

    folder = Path(folder)
    scene = sceneOfCt(ctNode)
    outputs = (outputs or OutputNodes()).present()
    record = read_registration_json(folder / "registration.json")
    # Read before anything is added: an unreadable file leaves the scene as it was.
    cloud = readGaussians(folder / CLOUD)
    read = readVolume(folder / VOLUME)

    reconstructionNode = read and placeVolume(read, scene, outputs.reconstructionNode)
    gaussiansNode = None if cloud is None else placeGaussians(cloud, scene, outputs.gaussiansNode)
    ctToWorld, status = lps_to_ras(record.ct_to_world), record.status
    target = outputs.transformNode
    if status == "failed" and target is not None and carriesNodes(target):
        target = None
    kept = ResultRecord(status, ctToWorld, record.covariance, record.quality, str(folder))
    transformNode, notes = _place(kept, target, ctNode, segmentationNode)
    keepRecord(transformNode, kept, folder / "report.html")
    return RegistrationResult(
        status=status,
        ctToWorld=ctToWorld,
        transformNode=transformNode,
        reconstructionNode=reconstructionNode,
        gaussiansNode=gaussiansNode,
        quality=record.quality,
        covariance=record.covariance,
        outputFolder=folder,
        notes=notes,
    )


def keepPose(
    ctToWorld: Array,
    ctNode: slicer.vtkMRMLScalarVolumeNode,
    outputs: OutputNodes | None = None,
    segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
) -> RegistrationResult:
    """Set a pose (4, 4), RAS, that nothing has checked on the CT, as an uncertain result.

    What there is of a reconstruction in ``outputs`` stays: it comes from the X-rays alone.

    Raises Cancelled where the CT is no longer in a scene.
    """
    sceneOfCt(ctNode)
    outputs = (outputs or OutputNodes()).present()
    reason = "the registration was cancelled; this was its best pose until then, unchecked"
    quality: dict[str, Any] = {"reason": reason}
    kept = ResultRecord("uncertain", ctToWorld, None, quality, "")
    transformNode, notes = _place(kept, outputs.transformNode, ctNode, segmentationNode)
    keepRecord(transformNode, kept)
    return RegistrationResult(
        "uncertain",
        ctToWorld,
        transformNode,
        outputs.reconstructionNode,
        outputs.gaussiansNode,
        quality,
        notes=[reason, *notes],
    )


def presentNode(node: Any) -> Any:
    """The node, or None where it has been removed from its scene."""
    return None if node is None or node.GetScene() is None else node


def sceneOfCt(ctNode: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLScene:
    """The CT's scene. Raises Cancelled where it is in none any more."""
    scene = ctNode.GetScene()
    if scene is None:
        raise Cancelled("the CT is no longer in the scene")
    return scene


def carriesNodes(transformNode: slicer.vtkMRMLTransformNode) -> bool:
    """Whether any node is directly under a transform, and would move with it."""
    scene, id_ = transformNode.GetScene(), transformNode.GetID()
    nodes = slicer.util.getNodesByClass("vtkMRMLTransformableNode", scene)
    return any(node.GetTransformNodeID() == id_ for node in nodes)


def _place(
    record: ResultRecord, node: Any, ctNode: Any, segmentationNode: Any
) -> tuple[slicer.vtkMRMLLinearTransformNode, list[str]]:
    """The transform of a result (``node``, or a new one), set on the CT unless it failed; notes."""
    scene, name = ctNode.GetScene(), ctNode.GetName()
    notes = [note for note in [ctFrameNote(ctNode)] if note is not None]
    node = node or scene.AddNewNodeByClass(
        "vtkMRMLLinearTransformNode", scene.GenerateUniqueName(f"{name}-to-world")
    )
    if node.GetParentTransformNode() is not None:
        notes.append(f"'{node.GetName()}' was taken out of its parent transform")
        node.SetAndObserveTransformNodeID(None)
    if record.status == "failed":
        notes = [f"the registration failed; its transform is not set on '{name}'"]
    else:
        setOnCt(node, ctNode, segmentationNode)
    slicer.util.updateTransformMatrixFromArray(node, record.ctToWorld)
    node.SetAttribute(STATUS, record.status)
    for name in (LEVEL, SEGMENT):
        node.SetAttribute(name, None)  # it may have been that of a vertebra among several
    return node, notes


def setOnCt(transformNode: Any, ctNode: Any, segmentationNode: Any) -> None:
    """Put a CT under a transform, and with it a segmentation that was under what the CT was."""
    before, segmentationNode = ctNode.GetTransformNodeID(), presentNode(segmentationNode)
    ctNode.SetAndObserveTransformNodeID(transformNode.GetID())
    if segmentationNode is not None and segmentationNode.GetTransformNodeID() == before:
        segmentationNode.SetAndObserveTransformNodeID(transformNode.GetID())


def loadReconstruction(
    folder: str | os.PathLike[str],
    scene: slicer.vtkMRMLScene,
    outputs: OutputNodes | None = None,
) -> ReconstructionResult:
    """Bring the volumes and the Gaussians of a result folder into a scene.

    What the program thinks of a volume stays with its node, as attributes. Raises InputError
    where nothing is there or something cannot be read; the scene is then as it was.
    """
    from RadGSRegLib.cases import read_json_object

    folder = Path(folder)
    outputs = (outputs or OutputNodes()).present()
    cloud = readGaussians(folder / CLOUD)
    volume, bone = readVolume(folder / VOLUME), readVolume(folder / BONE)
    if cloud is None and volume is None:
        raise InputError(folder, "holds no reconstruction")
    file = folder / "reconstruction.json"
    record = read_json_object(file) if file.is_file() else {}
    quality = record.get("quality") or {}
    tissue = None if bone is None else _tissue(quality, file)
    result = ReconstructionResult(
        volume and placeVolume(volume, scene, outputs.reconstructionNode),
        None if cloud is None else placeGaussians(cloud, scene, outputs.gaussiansNode),
        folder,
        record.get("status") or "",
        record.get("reason") or "",
        quality,
        bone and placeVolume(bone, scene, outputs.boneNode, "RadGSReg bone"),
    )
    for node in (result.reconstructionNode, result.boneNode):
        judge(node, result.status, result.reason)
    if result.boneNode is not None:
        result.boneNode.SetAttribute(TISSUE, f"{tissue:g}")
    return result


def _tissue(quality: dict[str, Any], file: Path) -> float:
    """How dense soft tissue is (1/mm) beside a volume of bone."""
    try:
        return float(quality["bone"]["tissue_per_mm"])
    except (KeyError, TypeError, ValueError):
        raise InputError(file, "does not say how dense soft tissue is") from None
