"""From a folder of ``radgsreg track`` to a sequence of transforms in the scene."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import slicer
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import lps_to_ras

from ..process.environment import requirePackages
from ..scene.tracksequence import (
    FramePose,
    fillTrack,
    indexOf,
    knownTrack,
    newTrack,
    showItem,
    synchronize,
)
from .casefolder import ctFrameNote
from .results import carriesNodes, sceneOfCt, setOnCt

if TYPE_CHECKING:
    from RadGSRegLib.cases import TrackRecord


@dataclass
class TrackResult:
    """A bone followed through a run of X-rays.

    ``status`` is the worst of the frames with a picture, ``reason`` says which frames are not
    `ok`. ``statuses``: of each frame by its number in the run. ``sequenceNode`` holds the smoothed
    poses, CT to world, with the status of each on it as the attribute ``RadGSReg.Status``;
    ``transformNode`` is that of the frame which ``browserNode`` shows, and is set on the CT unless
    no frame is `ok`.
    """

    status: str
    reason: str
    sequenceNode: slicer.vtkMRMLSequenceNode
    browserNode: slicer.vtkMRMLSequenceBrowserNode
    transformNode: slicer.vtkMRMLLinearTransformNode
    statuses: dict[int, str]
    outputFolder: Path | None = None
    notes: list[str] = field(default_factory=list)


def loadTrack(
    folder: str | os.PathLike[str],
    ctNode: slicer.vtkMRMLScalarVolumeNode,
    segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
    xraySequences: Sequence[slicer.vtkMRMLSequenceNode] = (),
) -> TrackResult:
    """Bring a folder of ``radgsreg track`` into the CT's scene, and let the CT follow it.

    The CT, and a segmentation that was under the same transform as it, come under the transform of
    the frame shown, at first the first that is `ok`; where none is, nothing is moved. Runs of
    X-rays (``xraySequences``) are shown along, frame by frame; poses are then counted as they are,
    else by time (s) or by number. The same bone of the same CT takes its nodes again. Raises
    InputError where the folder is unusable or a run has another number of frames, and Cancelled
    where the CT is no longer in a scene; the scene is then as it was.
    """
    requirePackages()
    from RadGSRegLib.cases import read_track_json

    folder = Path(folder)
    sceneOfCt(ctNode)
    file = folder / "track.json"
    record = read_track_json(file)
    frames = _posesOf(record, file)
    index = indexOf(frames, xraySequences)

    trusted = [n for n, frame in enumerate(frames) if frame.status == "ok"]
    nodes = knownTrack(ctNode, record.name)
    if nodes is not None and not trusted and carriesNodes(nodes.transformNode):
        nodes = None
    again = nodes is not None and ctNode.GetTransformNodeID() == nodes.transformNode.GetID()
    nodes = nodes or newTrack(ctNode, record.name)
    title = f"{record.name} track of {ctNode.GetName()} ({record.status})"
    fillTrack(nodes, title, f"{record.status}: {record.reason}", frames, index)
    synchronize(nodes, xraySequences)
    nodes.transformNode.SetAndObserveTransformNodeID(None)
    showItem(nodes, trusted[0] if trusted else 0)
    if trusted:
        notes = [note for note in [ctFrameNote(ctNode)] if note is not None and not again]
        setOnCt(nodes.transformNode, ctNode, segmentationNode)
    else:
        notes = [f"no frame is ok; the transform is not set on '{ctNode.GetName()}'"]
    return TrackResult(
        status=record.status,
        reason=record.reason,
        sequenceNode=nodes.sequenceNode,
        browserNode=nodes.browserNode,
        transformNode=nodes.transformNode,
        statuses={frame.number: frame.status for frame in frames},
        outputFolder=folder,
        notes=notes,
    )


def _posesOf(record: TrackRecord, file: Path) -> list[FramePose]:
    """The smoothed pose of each frame, RAS; InputError where they cannot be put in order."""
    frames = [
        FramePose(f.index, f.time_s, f.status, f.reason, lps_to_ras(f.smoothed_ct_to_world))
        for f in record.frames
    ]
    if not frames:
        raise InputError(file, "holds no frame")
    times = [frame.time_s for frame in frames if frame.time_s is not None]
    for what, values in (("numbers", [float(f.number) for f in frames]), ("times", times)):
        if any(a >= b for a, b in itertools.pairwise(values)):
            raise InputError(file, f"has frames whose {what} do not rise", "follow the run again")
    return frames
