"""Step 1: the CT and the vertebra in it."""

from typing import Any

import slicer
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.vertebrae import LEVELS
from slicer.i18n import tr as _

from ..exchange.casefolder import volumeFromCt
from ..operations import totalsegmentator
from ..operations.clicked import clickInfo
from ..scene import levels
from ..scene.record import RECONSTRUCTION
from ..scene.segments import findSegment, segmentIds
from ..scene.starts import definedPoints, pointsInCt
from ..scene.xray import isXray
from .ct_several import SeveralControls
from .placing import Placing
from .step import Following, PanelContext, Step, fillChoices, selectChoice

# A choice of its own: who does not know the level can say so.
_UNKNOWN = "unknown"


class CtStep(Step):
    """Chooses the CT, its segmentation and the segment of the vertebra, or makes one."""

    name = "ct"

    def __init__(self, ui: Any, logic: Any, context: PanelContext) -> None:
        super().__init__(ui, logic, context)
        markups, segmentation = slicer.vtkMRMLMarkupsNode, slicer.vtkSegmentation
        events = [markups.PointPositionDefinedEvent, markups.PointRemovedEvent]
        self._points = Following(context, self._onChanged, events)
        # What the parameter node knows nothing of.
        events = [segmentation.SegmentAdded, segmentation.SegmentRemoved]
        self._segments = Following(
            context, self._onChanged, [*events, segmentation.SegmentModified]
        )
        self._unfolded = False
        fillChoices(ui.levelComboBox, {"": "", **{level: level for level in LEVELS}}, "")
        new = {"": _("choose"), **{level: level for level in LEVELS}, _UNKNOWN: _("not known")}
        self.offer(ui.newLevelComboBox, "newLevel", new, "")
        ui.segmentSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onSegmentChanged)
        ui.segmentSelector.connect("currentSegmentChanged(QString)", self.onSegmentChanged)
        ui.levelComboBox.connect("currentIndexChanged(int)", self.onLevel)
        ui.segmentFromClickButton.connect("clicked(bool)", self.onSegmentFromClick)
        ui.totalSegmentatorButton.connect("clicked(bool)", self.onTotalSegmentator)
        self._several = SeveralControls(self)
        self._placing = Placing(ui.placeSegmentPointButton, self._pointNode, context)

    def setParameterNode(self, parameters: Any) -> None:
        super().setParameterNode(parameters)
        if parameters is None:
            self._placing.stop()
            self._segments.follow()
            self._points.follow()
            return
        self._unfolded = False
        self.takeUp(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))

    def takeUp(self, nodes: list[Any]) -> None:
        """Choose the CT among nodes that are there, and a sole segmentation, if none is chosen."""
        parameters = self.parameters
        if not parameters.ctVolume:
            volumes = [node for node in nodes if node.IsA("vtkMRMLScalarVolumeNode")]
            parameters.ctVolume = next(filter(_mayBeCt, volumes), None)
        segmentations = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        if not parameters.segmentation and len(segmentations) == 1:
            only = list(levels.vertebrae(segmentations[0]))
            self._take(segmentations[0], only[0] if len(only) == 1 else "")

    def update(self) -> None:
        parameters, ui = self.parameters, self.ui
        segmentation = parameters.segmentation
        self._segments.follow(segmentation.GetSegmentation() if segmentation else None)
        self._points.follow(parameters.segmentPoint)
        with self.updating():
            selector = ui.segmentSelector
            if selector.currentNode() != parameters.segmentation:
                selector.setCurrentNode(parameters.segmentation)
            if (selector.currentSegmentID() or "") != parameters.segmentId:
                selector.setCurrentSegmentID(parameters.segmentId)
        level = self._level()
        chosen = bool(parameters.segmentation and parameters.segmentId)
        ui.levelComboBox.enabled = chosen
        selectChoice(ui.levelComboBox, "" if level is None else level.level)
        ui.neighboursLabel.text = ""
        if chosen:
            near = levels.neighbours(segmentation, parameters.segmentId)
            text = _("neighbours: {levels}") if near else _("no neighbours segmented")
            ui.neighboursLabel.text = text.format(levels=", ".join(near))
        with self.updating():
            self._several.update()
        self.showChoices()
        self._updateSegmenting()

    def missing(self) -> str:
        parameters = self.parameters
        if not parameters.ctVolume:
            return _("Select the CT")
        try:
            volumeFromCt(parameters.ctVolume)
        except InputError as error:
            return str(error)
        if not parameters.segmentation:
            return _("Select the segmentation of the CT, or segment the vertebra from a point")
        if not parameters.segmentId:
            return _("Select the segment of the vertebra")
        if parameters.segmentId not in segmentIds(parameters.segmentation):
            return _("The segment is gone; select the vertebra again")
        try:
            findSegment(parameters.segmentation, parameters.segmentId)
        except InputError as error:
            # Its code, identifier and name mean different vertebrae.
            return str(error)
        return ""

    def ready(self) -> str:
        level = self._level()
        if level is None:
            return _("Ready; say which level the vertebra is, if you know")
        sources = {
            "hand": _("as you said"),
            "terminology": _("by its terminology"),
            "id": _("by the segment's identifier"),
            "name": _("by the segment's name"),
        }
        return _("{level}, {source}").format(level=level.level, source=sources[level.source])

    def onSegmentChanged(self, *args: Any) -> None:
        if self.parameters is None or self._updating:
            return
        segmentation = self.ui.segmentSelector.currentNode()
        segmentId = self._chosenSegment(segmentation)
        with slicer.util.NodeModify(self.parameters):
            self.parameters.segmentation = segmentation
            self.parameters.segmentId = segmentId

    def _chosenSegment(self, segmentation: Any) -> str:
        """The segment that the user has chosen in the selector; "" for one that was not chosen.

        The selector takes the first segment by itself when another segmentation is chosen or the
        present segment is removed, and keeps the last one when there is no segmentation.
        """
        if segmentation is None:
            return ""
        there, before = segmentIds(segmentation), self.parameters.segmentId
        shown = self.ui.segmentSelector.currentSegmentID() or ""
        if shown not in there:
            shown = ""
        if segmentation != self.parameters.segmentation:
            if shown and shown == before:
                return str(shown)
            # Where there is but one vertebra, that is the one.
            only = list(levels.vertebrae(segmentation))
            return only[0] if len(only) == 1 else ""
        isGone = before and before not in there
        return "" if isGone and shown == there[0] else str(shown)

    def onLevel(self, *args: Any) -> None:
        level = self.ui.levelComboBox.currentData
        if self.parameters is None or not level or not self.parameters.segmentId:
            return
        with self.attempt():
            levels.setSegmentLevel(
                self.parameters.segmentation, self.parameters.segmentId, str(level)
            )

    def onSegmentFromClick(self, *args: Any) -> None:
        if self._run is not None:
            self._run.cancel()
            return
        with self.attempt():
            self._placing.stop()
            parameters = self.parameters
            point = pointsInCt(parameters.segmentPoint, parameters.ctVolume)[-1]
            self._run = self.context.run = self.logic.segmentFromClick(
                parameters.ctVolume,
                [float(x) for x in point],
                level=None if parameters.newLevel == _UNKNOWN else parameters.newLevel,
                segmentationNode=parameters.segmentation,
                waitForCompletion=False,
                progressCallback=self._onProgress,
                completedCallback=self._onSegmented,
            )

    def onTotalSegmentator(self, *args: Any) -> None:
        with self.attempt():
            node = totalsegmentator.segmentVertebrae(self.parameters.ctVolume)
            self._take(node, "")

    def _onProgress(self, fraction: float, message: str) -> None:
        self.ui.segmentProgressBar.value = round(100 * fraction)

    def _onSegmented(self, run: Any) -> None:
        self._run = self.context.run = None
        with self.attempt():
            if run.error is None:
                self._take(*run.result)
                info = clickInfo(*run.result) or {}
                if info.get("status") == "uncertain":
                    text = _("The segment is uncertain, look at it: {notes}")
                    self.problem = text.format(notes=info.get("notes", ""))
            elif not isinstance(run.error, Cancelled):
                raise run.error

    def _take(self, segmentation: Any, segmentId: str) -> None:
        parameters = self.parameters or self.logic.getParameterNode()
        with slicer.util.NodeModify(parameters):
            parameters.segmentation = segmentation
            parameters.segmentId = segmentId

    def _updateSegmenting(self) -> None:
        parameters, ui = self.parameters, self.ui
        if parameters.ctVolume and not self._unfolded:
            # Opened once where it is needed; from then on it is the user's.
            self._unfolded = True
            ui.segmentGroupBox.collapsed = bool(
                slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
            )
        running = self._run is not None
        placed = parameters.segmentPoint and definedPoints(parameters.segmentPoint)
        problem = ""
        if not parameters.ctVolume:
            problem = _("Select the CT first")
        elif self.context.busy and not running:
            problem = _("Wait until the present computation is done")
        ui.totalSegmentatorButton.enabled = totalsegmentator.isInstalled() and not problem
        ui.totalSegmentatorButton.toolTip = problem or (
            _("Segment all vertebrae with the TotalSegmentator extension")
            if totalsegmentator.isInstalled()
            else _("The TotalSegmentator extension is not installed")
        )
        if not problem and not placed:
            problem = _("Place a point inside the vertebra first")
        if not problem and not parameters.newLevel:
            problem = _('Choose which vertebra the point is in, or "not known"')
        self.showRunButton(
            ui.segmentFromClickButton,
            problem,
            (_("Segment from the point"), _("Segment the vertebra around the point")),
            _("Stop segmenting"),
        )
        ui.segmentProgressBar.visible = running

    def _level(self) -> levels.SegmentLevel | None:
        parameters = self.parameters
        if not parameters.segmentation or not parameters.segmentId:
            return None
        return levels.segmentLevel(parameters.segmentation, parameters.segmentId)

    def _pointNode(self) -> Any:
        node = self.parameters.segmentPoint
        if not node:
            scene = slicer.mrmlScene
            node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Vertebra")
            node.CreateDefaultDisplayNodes()
            self.parameters.segmentPoint = node
        self._points.follow(node)
        return node

    def _onChanged(self, caller: Any, event: Any) -> None:
        if self.context.isShown():
            self.context.update()
        else:
            # A brush in the Segment Editor tells of every stroke.
            self.context.updates.later()


def _mayBeCt(node: Any) -> bool:
    if isXray(node) or node.IsA("vtkMRMLLabelMapVolumeNode") or node.GetAttribute(RECONSTRUCTION):
        return False
    try:
        volumeFromCt(node)
    except InputError:
        return False
    return True
