"""A bone followed through a run of X-rays as a sequence of transforms, with its browser.

========================== =======================================================================
``RadGSReg.Track``         on the browser: the name of the bone
``RadGSReg.TrackCt``       the browser's reference to the CT that the poses are of
``RadGSReg.FrameStatuses`` on the sequence: the status of each frame, in order (JSON)
``RadGSReg.Frame``         on each frame: its number in the run
``RadGSReg.Status``        on each frame: ``ok``, ``uncertain`` or ``failed``
``RadGSReg.Reason``        on each frame: why, one sentence
========================== =======================================================================

The application copies a frame's attributes and description to the browser's transform, so that this
says of itself what the frame shown is worth.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import slicer
import vtk
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array

from .record import REASON, STATUS
from .xray import getGeometry, isXray, setGeometry

TRACK = "RadGSReg.Track"
TRACK_CT_ROLE = "RadGSReg.TrackCt"
FRAME_STATUSES = "RadGSReg.FrameStatuses"
FRAME = "RadGSReg.Frame"


@dataclass(frozen=True)
class FramePose:
    """The bone in one frame: ``ctToWorld`` (4, 4), RAS mm; ``time_s`` where that is known."""

    number: int
    time_s: float | None
    status: str
    reason: str
    ctToWorld: Array


@dataclass(frozen=True)
class SequenceIndex:
    """What the frames of a sequence are counted by: a value for each, as text."""

    name: str
    unit: str
    kind: int
    values: tuple[str, ...]


@dataclass(frozen=True)
class TrackNodes:
    """The nodes of one bone that was followed; ``transformNode`` is the browser's own."""

    sequenceNode: slicer.vtkMRMLSequenceNode
    browserNode: slicer.vtkMRMLSequenceBrowserNode
    transformNode: slicer.vtkMRMLLinearTransformNode


def knownTrack(ctNode: Any, bone: str) -> TrackNodes | None:
    """The nodes of a bone of a CT that was followed before, or None."""
    for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode", ctNode.GetScene()):
        sequence = browser.GetMasterSequenceNode()
        proxy = None if sequence is None else browser.GetProxyNode(sequence)
        ours = browser.GetAttribute(TRACK) == bone
        if ours and proxy is not None and browser.GetNodeReference(TRACK_CT_ROLE) is ctNode:
            return TrackNodes(sequence, browser, proxy)
    return None


def newTrack(ctNode: Any, bone: str) -> TrackNodes:
    """Nodes of a bone that is yet to be filled in by `fillTrack`."""
    scene = ctNode.GetScene()
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode")
    # A scene saved with the storage that transforms have by default would forget the statuses.
    storage = scene.AddNewNodeByClass("vtkMRMLSequenceStorageNode")
    sequence.SetAndObserveStorageNodeID(storage.GetID())
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAttribute(TRACK, bone)
    browser.SetNodeReferenceID(TRACK_CT_ROLE, ctNode.GetID())
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    name = scene.GenerateUniqueName(f"{bone} {ctNode.GetName()}-to-world of the frame shown")
    proxy = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    browser.AddProxyNode(proxy, sequence, False)
    return TrackNodes(sequence, browser, proxy)


def indexOf(frames: Sequence[FramePose], xraySequences: Sequence[Any]) -> SequenceIndex:
    """What frames are counted by: as the X-rays are, else by time, else by number.

    The browser shows together what has the same index. Raises InputError where the X-rays have
    another number of frames, or are counted differently among themselves.
    """
    for node in xraySequences:
        count = node.GetNumberOfDataNodes() if node.IsA("vtkMRMLSequenceNode") else 0
        if count != len(frames):
            raise InputError(
                node.GetName(),
                f"has {count} frames, but the track has {len(frames)}",
                "give the run that was followed",
            )
    if xraySequences:
        return checkRuns(xraySequences)
    numeric = slicer.vtkMRMLSequenceNode.NumericIndex
    times = [frame.time_s for frame in frames if frame.time_s is not None]
    if len(times) == len(frames):
        return SequenceIndex("time", "s", numeric, tuple(f"{time:.9g}" for time in times))
    return SequenceIndex("frame", "", numeric, tuple(str(frame.number) for frame in frames))


def checkRuns(xraySequences: Sequence[Any]) -> SequenceIndex:
    """What runs of X-rays, one or more, are all counted by. Raises InputError where they differ."""
    first = xraySequences[0]
    for node in xraySequences:
        if not node.IsA("vtkMRMLSequenceNode"):
            raise InputError(node.GetName(), "is no sequence of X-rays")
        count, other = node.GetNumberOfDataNodes(), first.GetNumberOfDataNodes()
        if count != other:
            raise InputError(
                node.GetName(),
                f"has {count} frames, but '{first.GetName()}' has {other}",
                "views of one run need a frame each at every time",
            )
        if _indexOfSequence(node).values != _indexOfSequence(first).values:
            raise InputError(
                node.GetName(),
                f"has other index values than '{first.GetName()}'",
                "frames taken together need the same",
            )
    return _indexOfSequence(first)


def timesOf(sequence: Any) -> list[float] | None:
    """When each frame was taken, seconds, where a sequence is counted by that; else None."""
    index = _indexOfSequence(sequence)
    per = {"s": 1.0, "ms": 1000.0}.get(index.unit)
    if per is None or index.kind != sequence.NumericIndex:
        return None
    return [float(value) / per for value in index.values]


def _indexOfSequence(node: Any) -> SequenceIndex:
    values = tuple(node.GetNthIndexValue(n) for n in range(node.GetNumberOfDataNodes()))
    return SequenceIndex(node.GetIndexName(), node.GetIndexUnit(), node.GetIndexType(), values)


def fillTrack(
    nodes: TrackNodes, title: str, said: str, frames: Sequence[FramePose], index: SequenceIndex
) -> None:
    """Put poses into a track in place of those that it held; ``said`` is of them all."""
    sequence = nodes.sequenceNode
    with slicer.util.NodeModify(sequence):
        sequence.RemoveAllDataNodes()
        sequence.SetIndexName(index.name)
        sequence.SetIndexUnit(index.unit)
        sequence.SetIndexType(index.kind)
        if index.kind == sequence.NumericIndex:
            values = [float(value) for value in index.values]
            steps = [b - a for a, b in itertools.pairwise(values)]
            # Frames closer than this count as one; a millisecond unless it is set.
            sequence.SetNumericIndexValueTolerance(min([1e-3, *(step / 10 for step in steps)]))
        for frame, value in zip(frames, index.values, strict=True):
            sequence.SetDataNodeAtValue(_transformOf(frame), value)
        sequence.SetAttribute(FRAME_STATUSES, json.dumps([frame.status for frame in frames]))
        sequence.SetName(title)
        sequence.SetDescription(said)
    nodes.browserNode.SetName(f"{title} browser")
    nodes.browserNode.SetDescription(said)


def _transformOf(frame: FramePose) -> Any:
    node = slicer.vtkMRMLLinearTransformNode()
    node.SetName(f"frame {frame.number}: {frame.status}")
    slicer.util.updateTransformMatrixFromArray(node, frame.ctToWorld)
    node.SetAttribute(FRAME, str(frame.number))
    node.SetAttribute(STATUS, frame.status)
    node.SetAttribute(REASON, frame.reason)
    said = f"frame {frame.number}, {frame.status}: {frame.reason}"
    if frame.status != "ok":
        said += "; the pose follows from the frames around it, do not rely on it"
    node.SetDescription(said)
    return node


def synchronize(nodes: TrackNodes, xraySequences: Sequence[Any]) -> None:
    """Let a track's browser show these runs of X-rays with it, and no others.

    A run that another browser shows already is shown by the same volume. The geometry of that is
    given to all its frames that have none: the application would take it off the volume.
    """
    browser, scene = nodes.browserNode, nodes.browserNode.GetScene()
    earlier = vtk.vtkCollection()
    browser.GetSynchronizedSequenceNodes(earlier, False)
    for node in [earlier.GetItemAsObject(n) for n in range(earlier.GetNumberOfItems())]:
        if node not in xraySequences:
            browser.RemoveSynchronizedSequenceNode(node.GetID())
    for sequence in xraySequences:
        shown = xrayShown(sequence, scene)
        if shown is not None:
            _spreadGeometry(shown, sequence)
        # As one change: the application makes a volume for a run that is added without one.
        with slicer.util.NodeModify(browser):
            browser.AddSynchronizedSequenceNode(sequence)
            if shown is not None and browser.GetProxyNode(sequence) is None:
                browser.AddProxyNode(shown, sequence, False)


def xrayShown(sequence: Any, scene: Any) -> Any:
    """The volume by which some browser of a scene shows a run of X-rays, or None.

    One that has an X-ray's geometry comes first.
    """
    browsers = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode", scene)
    shown = [node for b in browsers if (node := b.GetProxyNode(sequence)) is not None]
    return next(filter(isXray, shown), shown[0] if shown else None)


def _spreadGeometry(xrayNode: Any, sequence: Any) -> None:
    if not isXray(xrayNode):
        return
    # A geometry that does not fit is no X-ray's to keep, and the poses do not need it.
    with contextlib.suppress(InputError):
        geometry = getGeometry(xrayNode)
        for n in range(sequence.GetNumberOfDataNodes()):
            node = sequence.GetNthDataNode(n)
            if not isXray(node):
                setGeometry(node, geometry)


def showItem(nodes: TrackNodes, item: int) -> None:
    """Show one item of a track, counted from 0, and of all that goes with it."""
    nodes.browserNode.SetSelectedItemNumber(item)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(nodes.browserNode)


def frameStatuses(sequenceNode: Any) -> list[str]:
    """The status of each frame of a track's sequence, in order; none of another sequence."""
    return [str(said) for said in json.loads(sequenceNode.GetAttribute(FRAME_STATUSES) or "[]")]
