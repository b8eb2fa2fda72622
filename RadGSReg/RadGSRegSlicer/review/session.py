"""One result under review: its pose, corrections that can be taken back, acceptance, hardening."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import ArrayLike
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import (
    Array,
    invert_rigid,
    is_rigid,
    ras_to_lps,
    rotation_angle_deg,
    transform_points,
)

from ..scene import xray
from ..scene.frames import LPS_RAS
from ..scene.record import ACCEPTED, HARDENED, ResultRecord, recordOf
from ..scene.segments import findSegment, moveSegments
from .nudge import Nudge, nudged, pictureAxes
from .outline import Outline, SilhouetteProjector
from .surface import VertebraSurface, vertebraSurface

_GESTURE_S = 0.8


@dataclass
class _Step:
    """Something that was done, and how to take it back and do it again."""

    what: str
    undo: Callable[[], None]
    redo: Callable[[], None]
    at: float


class ReviewSession:
    """The nodes of one result, and everything that can be done with its pose by hand.

    ``changed`` is called (without arguments) after every change of the pose, of acceptance and of
    hardening, also where the transform was changed elsewhere in Slicer.
    """

    def __init__(
        self,
        ctNode: slicer.vtkMRMLScalarVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        segment: str,
        transformNode: slicer.vtkMRMLLinearTransformNode,
    ) -> None:
        """Raises InputError where the segment is not there, or the transform is not rigid."""
        self.ctNode = ctNode
        self.segmentationNode = segmentationNode
        self.segment = segment
        self.transformNode = transformNode
        self.changed: list[Callable[[], object]] = []
        self._done: list[_Step] = []
        self._undone: list[_Step] = []
        self._quiet = False
        if not is_rigid(self.pose):
            raise InputError(transformNode.GetName(), "is no rigid transform")
        self._takeSurface(vertebraSurface(segmentationNode, segment, ctNode))
        self._startPose = self.pose
        event = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
        self._tag = transformNode.AddObserver(event, self._onTransform)

    def close(self) -> None:
        """Observe nothing any more."""
        if self._tag is not None:
            self.transformNode.RemoveObserver(self._tag)
            self._tag = None
        self.changed = []

    # What there is

    @property
    def pose(self) -> Array:
        """Where the CT's vertebra is: CT to world (4, 4), RAS mm. The identity once hardened."""
        if self.isHardened:
            return np.eye(4)
        return slicer.util.arrayFromTransformMatrix(self.transformNode)

    @property
    def poseLps(self) -> Array:
        """The same in LPS, as files hold it."""
        return ras_to_lps(self.pose)

    @property
    def record(self) -> ResultRecord | None:
        """What the registration said, or None for a transform from elsewhere."""
        return recordOf(self.transformNode)

    @property
    def registeredPose(self) -> Array:
        """The pose that the registration found; for a transform from elsewhere, the first seen."""
        record = self.record
        return self._startPose if record is None else record.ctToWorld

    def registeredLps(self) -> dict[str, Any] | None:
        """Where the registration left everything, in the CT's present frame (LPS): its
        ``ct_to_world``, ``shifts_ct`` of all beside the vertebra, and whether ``bone`` is bright or
        dark in each view. None for a transform from elsewhere.
        """
        record = self.record
        if record is None:
            return None
        # Once hardened, the CT's own frame has moved by the transform's matrix.
        hardened = slicer.util.arrayFromTransformMatrix(self.transformNode)
        there = ras_to_lps(hardened) if self.isHardened else np.eye(4)
        back = invert_rigid(there)
        views = record.quality.get("views", {})
        return {
            "ct_to_world": (ras_to_lps(record.ctToWorld) @ back).tolist(),
            "shifts_ct": [
                (there @ np.array(shift) @ back).tolist()
                for shift in record.quality.get("shifts_ct", [])
            ],
            "bone": {name: of.get("bone") for name, of in views.items()},
        }

    @property
    def isAccepted(self) -> bool:
        """Whether somebody has accepted the pose as it is."""
        return self.transformNode.GetAttribute(ACCEPTED) == "true"

    @property
    def isHardened(self) -> bool:
        """Whether the CT itself was moved, so that it is under no transform any more."""
        return self.transformNode.GetAttribute(HARDENED) == "true"

    @property
    def segmentId(self) -> str:
        """The identifier of the vertebra's segment."""
        return findSegment(self.segmentationNode, self.segment)

    @property
    def name(self) -> str:
        """What the vertebra is called: its segment's name."""
        segmentation = self.segmentationNode.GetSegmentation()
        segment = segmentation.GetSegment(self.segmentId)
        return str(segment.GetName() or self.segment)

    @property
    def centreRas(self) -> Array:
        """Where the vertebra's centre is in the scene (3,), RAS mm."""
        return transform_points(self.pose, self.surface.centre[None])[0]

    def movedByHand(self) -> tuple[float, float]:
        """How far the pose is from the registered one: mm (mean over the surface) and degrees."""
        if self.isHardened:
            return 0.0, 0.0
        was, now = self.registeredPose, self.pose
        points = self.surface.points[:: max(len(self.surface.points) // 1000, 1)]
        apart = np.linalg.norm(
            transform_points(now, points) - transform_points(was, points), axis=1
        )
        angle = rotation_angle_deg(invert_rigid(was) @ now) if not np.allclose(was, now) else 0.0
        return float(apart.mean()), angle

    def outline(self, xrayNode: slicer.vtkMRMLScalarVolumeNode, folds: bool = True) -> Outline:
        """The vertebra's outline on an X-ray, in its pixels, at the present pose."""
        camera = xray.getGeometry(xrayNode).camera
        return self._projector.outline(camera.projection @ LPS_RAS @ self.pose, folds)

    # What can be done

    def setPose(self, pose: ArrayLike, what: str = "move", gesture: str = "") -> None:
        """Move the vertebra to a pose (4, 4), RAS. Acceptance, if there was any, is withdrawn.

        Changes of one ``gesture`` (a slider that is being dragged) shortly after one another are
        one step of `undo`. Raises InputError for what is not rigid, or once hardened.
        """
        if self.isHardened:
            raise InputError(
                self.ctNode.GetName(), "is hardened and cannot be moved", "undo the hardening first"
            )
        new = np.asarray(pose, dtype=float)
        if not is_rigid(new):
            raise InputError("pose", "is no rigid 4 x 4 transform")
        old, accepted = self.pose, self.isAccepted
        if np.array_equal(old, new):
            return
        now = time.monotonic()
        last = self._done[-1] if self._done else None

        def apply(matrix: Array, isAccepted: bool) -> None:
            self._mark(ACCEPTED, isAccepted)
            self._quiet = True
            try:
                slicer.util.updateTransformMatrixFromArray(self.transformNode, matrix)
            finally:
                self._quiet = False

        step = _Step(gesture or what, lambda: apply(old, accepted), lambda: apply(new, False), now)
        if gesture and last and last.what == gesture and now - last.at < _GESTURE_S:
            step.undo = self._done.pop().undo
        self._do(step)

    def nudge(self, axis: str, amount: float, xrayNode: slicer.vtkMRMLScalarVolumeNode) -> None:
        """Move by ``amount`` (mm or degrees) along or about an axis of an X-ray's picture."""
        self.nudgeFrom(self.pose, Nudge().plus(axis, amount), xrayNode, f"nudge {axis}")

    def nudgeFrom(
        self,
        base: ArrayLike,
        nudge: Nudge,
        xrayNode: slicer.vtkMRMLScalarVolumeNode,
        gesture: str = "",
    ) -> None:
        """Move to ``base`` (4, 4) with a whole nudge on top, as sliders say it."""
        moved = nudged(base, nudge, pictureAxes(xrayNode), self.surface.centre)
        self.setPose(moved, "nudge", gesture)

    def reset(self) -> None:
        """Back to the registered pose (which can itself be undone)."""
        self.setPose(self.registeredPose, "reset")

    def accept(self) -> None:
        """Say that the pose is right. The transform stays on the CT; it can be taken back."""
        if not self.isAccepted:
            self._do(self._step("accept", lambda on: self._mark(ACCEPTED, on)))

    def withdraw(self) -> None:
        """Take the acceptance back."""
        if self.isAccepted:
            self._do(self._step("withdraw", lambda on: self._mark(ACCEPTED, not on)))

    def harden(self) -> None:
        """Move the CT and the segmentation themselves, and take them out of the transform.

        Raises InputError unless the CT is directly under the result's transform.
        """
        if self.isHardened:
            return
        if self.ctNode.GetTransformNodeID() != self.transformNode.GetID():
            name = self.transformNode.GetName()
            raise InputError(self.ctNode.GetName(), f"is not under the transform '{name}'")
        place = vtk.vtkMatrix4x4()
        self.ctNode.GetIJKToRASMatrix(place)
        segmentation, before = self.segmentationNode, self.segmentationNode.GetTransformNodeID()
        there, back = self.pose, invert_rigid(self.pose)
        surfaces = {False: self.surface, True: self.surface.movedBy(there)}
        # Drawn in the CT's own frame, so it goes with the CT, under the transform or not.
        along = before in (None, "", self.transformNode.GetID())

        def switch(on: bool) -> None:
            if on:
                self.ctNode.HardenTransform()
            else:
                # The very matrix that was there: undoing leaves no rounding behind.
                self.ctNode.SetIJKToRASMatrix(place)
                self.ctNode.SetAndObserveTransformNodeID(self.transformNode.GetID())
            if along:
                with slicer.util.NodeModify(segmentation):
                    moveSegments(segmentation, there if on else back)
                    segmentation.SetAndObserveTransformNodeID(None if on else before)
            self._mark(HARDENED, on)
            self._takeSurface(surfaces[on])

        self._do(self._step("harden", switch))

    @property
    def canUndo(self) -> str:
        """What `undo` would take back; empty if nothing."""
        return self._done[-1].what if self._done else ""

    @property
    def canRedo(self) -> str:
        """What `redo` would do again; empty if nothing."""
        return self._undone[-1].what if self._undone else ""

    def undo(self) -> None:
        """Take the last step back: a move, an acceptance, a hardening."""
        if self._done:
            step = self._done.pop()
            step.undo()
            step.at = 0.0
            self._undone.append(step)
            self._tell()

    def redo(self) -> None:
        """Do again what was taken back."""
        if self._undone:
            step = self._undone.pop()
            step.redo()
            self._done.append(step)
            self._tell()

    # Inside

    def _step(self, what: str, switch: Callable[[bool], None]) -> _Step:
        return _Step(what, lambda: switch(False), lambda: switch(True), time.monotonic())

    def _do(self, step: _Step) -> None:
        step.redo()
        self._done.append(step)
        self._undone.clear()
        self._tell()

    def _mark(self, name: str, on: bool) -> None:
        if on:
            self.transformNode.SetAttribute(name, "true")
        else:
            self.transformNode.RemoveAttribute(name)

    def _takeSurface(self, surface: VertebraSurface) -> None:
        self.surface = surface
        self._projector = SilhouetteProjector(self.surface.points, self.surface.triangles)

    def _onTransform(self, caller: Any, event: str) -> None:
        if not self._quiet:
            # Moved elsewhere: what was accepted is not what is there now.
            self._mark(ACCEPTED, False)
            self._tell()

    def _tell(self) -> None:
        for function in list(self.changed):
            function()
