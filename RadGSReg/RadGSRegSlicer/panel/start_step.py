"""Step 3: where the search for the pose begins."""

from typing import Any

import numpy as np
import slicer
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array
from slicer.i18n import tr as _

from ..review import views
from ..scene import starts, xray
from ..scene.frames import transformMatrix
from .placing import Placing
from .start_levels import LevelControls
from .step import Following, PanelContext, Step, fillChoices, fillTable

_FAR_MM = 8.0


class StartStep(Step):
    """Clicks in the X-rays, a transform, or pairs of landmarks."""

    name = "start"

    def __init__(self, ui: Any, logic: Any, context: PanelContext) -> None:
        super().__init__(ui, logic, context)
        self._selectedId = ""
        markups = slicer.vtkMRMLMarkupsNode
        events = [markups.PointPositionDefinedEvent, markups.PointModifiedEvent]
        self._moved = Following(context, self._onPoints, [*events, markups.PointRemovedEvent])
        events = [slicer.vtkMRMLTransformableNode.TransformModifiedEvent]
        self._ctMoved = Following(context, lambda *args: context.update(), events)
        self._lines = starts.EpipolarLines()
        headers = [_("X-ray"), _("Centre of the vertebra")]
        ui.clickTable.setColumnCount(len(headers))
        ui.clickTable.setHorizontalHeaderLabels(headers)
        modes = {
            "clicks": _("clicks in the X-rays"),
            "transform": _("a transform"),
            "landmarks": _("pairs of landmarks"),
        }
        sources = {"world": _("points in the world"), "xrays": _("clicks in the X-rays")}
        self.offer(ui.startModeComboBox, "startMode", modes, "clicks")
        self.offer(ui.landmarkSourceComboBox, "landmarkSource", sources, "world")
        ui.clickTable.connect("currentCellChanged(int,int,int,int)", self.onSelected)
        ui.clearClickButton.connect("clicked(bool)", self.onClear)
        ui.computeStartButton.connect("clicked(bool)", self.onCompute)
        self._levels = LevelControls(self)
        self._placings = [
            self._levels.placing,
            Placing(ui.placeClickButton, self._clickNode, context),
            Placing(ui.placeLandmarksButton, self._landmarksNode, context, several=True),
            Placing(ui.placeCtLandmarksButton, self._ctLandmarks, context, several=True),
            Placing(ui.placeWorldLandmarksButton, self._worldLandmarks, context, several=True),
        ]

    @property
    def nodes(self) -> list[Any]:
        """The X-rays in use."""
        return [node for node in self.parameters.xrays if xray.isXray(node)]

    @property
    def levelsRun(self) -> Any:
        """What names the levels at present, or None."""
        return self._run

    @levelsRun.setter
    def levelsRun(self, run: Any) -> None:
        self._run = self.context.run = run

    @property
    def usesClicks(self) -> bool:
        """Whether the search begins at the clicks."""
        return bool(self.parameters.startMode == "clicks")

    def startMatrix(self) -> Array | None:
        """The approximate pose (4, 4), RAS, to begin with; None where the clicks say it all.

        Raises InputError where what is chosen cannot be used.
        """
        mode = self.parameters.startMode
        if mode == "transform":
            return transformMatrix(self._transform)
        if mode == "landmarks":
            return self._landmarkPose()[0]
        return None

    @property
    def _transform(self) -> Any:
        """The transform to begin with: the one chosen, else the one that the CT is under."""
        parameters = self.parameters
        if parameters.startTransform or not parameters.ctVolume:
            return parameters.startTransform
        return parameters.ctVolume.GetParentTransformNode()

    def setParameterNode(self, parameters: Any) -> None:
        super().setParameterNode(parameters)
        if parameters is None:
            for placing in self._placings:
                placing.stop()
            self._moved.follow()
            self._ctMoved.follow()
            self._lines.show([])

    def update(self) -> None:
        ui, parameters = self.ui, self.parameters
        self.showChoices()
        ui.clicksWidget.visible = parameters.startMode == "clicks"
        ui.transformWidget.visible = parameters.startMode == "transform"
        ui.landmarksWidget.visible = parameters.startMode == "landmarks"
        inXrays = parameters.landmarkSource == "xrays"
        world = (ui.worldLandmarksLabel, ui.worldLandmarksSelector, ui.placeWorldLandmarksButton)
        for widget in world:
            widget.visible = not inXrays
        for widget in (ui.xrayLandmarksLabel, ui.landmarkViewComboBox, ui.placeLandmarksButton):
            widget.visible = inXrays
        nodes = self.nodes
        if self._selected is None:
            self._selectedId = nodes[0].GetID() if nodes else ""
        with self.updating():
            for node in nodes:
                try:
                    starts.showClick(node)
                except InputError as error:
                    self.problem = str(error)
            self._fillTable(nodes)
        ids = {node.GetID(): node.GetName() for node in nodes}
        current = str(ui.landmarkViewComboBox.currentData or "")
        fillChoices(
            ui.landmarkViewComboBox, ids, current if current in ids else next(iter(ids), "")
        )
        ui.placeClickButton.enabled = bool(nodes)
        ui.placeLandmarksButton.enabled = bool(nodes)
        ui.clearClickButton.enabled = self._selected is not None
        problem = self._landmarksProblem()
        ui.computeStartButton.enabled = not problem
        ui.computeStartButton.toolTip = problem or _("Put the pose of the landmarks in a transform")
        self._levels.update(nodes)
        self._moved.follow(*self._markups(nodes))
        isStart = parameters.startMode == "transform" and not parameters.startTransform
        self._ctMoved.follow(parameters.ctVolume if isStart else None)
        self._drawLines(nodes)

    def missing(self) -> str:
        parameters = self.parameters
        if parameters.startMode == "transform":
            if not self._transform:
                return _("Select a transform that brings the CT about to its place")
            try:
                transformMatrix(self._transform)
            except InputError as error:
                return str(error)
            return ""
        if parameters.startMode == "landmarks":
            return self._landmarksProblem()
        lacking = [node.GetName() for node in self.nodes if not _center(node)]
        if len(self.nodes) - len(lacking) < 2:
            if not self.nodes:
                return _("Add X-rays first")
            if len(self.nodes) == 1:
                return _(
                    "One X-ray needs a start: a click in it does not say how far away the bone is; "
                    "move the CT about to its place, and start from a transform"
                )
            if parameters.method in ("learned", "published"):
                return ""  # the trained weights find the vertebra alone
            return _("Click the vertebra's centre in {names}").format(names=", ".join(lacking))
        return ""

    def ready(self) -> str:
        mode = self.parameters.startMode
        if mode == "transform":
            text = _("Starts from '{name}'")
            if not self.parameters.startTransform:
                text = _("Starts from where the CT is, under '{name}'")
            return text.format(name=self._transform.GetName())
        if mode == "landmarks":
            text = _("The landmarks fit within {rms:.1f} mm (root mean square)")
            return text.format(rms=self._landmarkPose()[1])
        distance = starts.clickDistance([xray.getGeometry(node) for node in self.nodes])
        if len([node for node in self.nodes if _center(node)]) < 2:
            return _("Without clicks: the trained weights look for the vertebra")
        if distance is None:
            return _("Clicked")
        text = _("The clicks' rays pass each other at {distance:.1f} mm")
        if distance > _FAR_MM:
            text = _("The clicks' rays pass each other at {distance:.1f} mm: check the clicks")
        return text.format(distance=distance)

    # Handlers

    def onSelected(self, row: int, *args: Any) -> None:
        if not self._updating and 0 <= row < len(self.nodes):
            self._selectedId = self.nodes[row].GetID()
            self.context.update()

    def onClear(self, *args: Any) -> None:
        node = self._selected
        if node is not None:
            with self.attempt():
                xray.setCenterPx(node, None)

    def onCompute(self, *args: Any) -> None:
        with self.attempt():
            matrix = self._landmarkPose()[0]
            node = self.parameters.startTransform
            if not node:
                name = slicer.mrmlScene.GenerateUniqueName("Start from landmarks")
                node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
            slicer.util.updateTransformMatrixFromArray(node, matrix)
            self.parameters.startTransform = node

    # Clicks

    @property
    def _selected(self) -> Any:
        return next((node for node in self.nodes if node.GetID() == self._selectedId), None)

    def _clickNode(self) -> Any:
        """The point to place in the selected X-ray."""
        return self.markupsInSelected(starts.CLICK_ROLE, _("Vertebra in {name}"))

    def markupsInSelected(self, role: str, name: str) -> Any:
        """The points of a role in the selected X-ray, which is brought into view."""
        node = self._selected
        if node is None:
            return None
        self._bringIntoView(node)
        markups = starts.markupsOf(node, role, name.format(name=node.GetName()))
        self._moved.follow(*self._markups(self.nodes), markups)
        return markups

    def _bringIntoView(self, node: Any) -> None:
        """Show an X-ray in one of the two slice views that are for X-rays."""
        # The others stay, so that their lines can be seen: the first in the left view.
        shown = self.nodes[:2]
        views.showXrays(slicer.mrmlScene, shown if node in shown else [shown[0], node])

    def _fillTable(self, nodes: list[Any]) -> None:
        rows = []
        for node in nodes:
            center = _center(node)
            where = _("column {:.0f}, row {:.0f}").format(*center) if center else _("not yet")
            rows.append((node.GetName(), where))
        ids = [node.GetID() for node in nodes]
        current = ids.index(self._selectedId) if self._selectedId in ids else None
        fillTable(self.ui.clickTable, rows, current)

    def _drawLines(self, nodes: list[Any]) -> None:
        wanted = self.usesClicks and self.parameters.showEpipolarLines
        try:
            self._lines.show(nodes if wanted else [])
        except InputError as error:
            self.problem = str(error)

    # Landmarks

    def _landmarksNode(self) -> Any:
        node = slicer.mrmlScene.GetNodeByID(str(self.ui.landmarkViewComboBox.currentData or ""))
        if node is None:
            return None
        self._bringIntoView(node)
        name = _("Landmarks in {name}").format(name=node.GetName())
        markups = starts.markupsOf(node, starts.LANDMARKS_ROLE, name)
        self._moved.follow(*self._markups(self.nodes), markups)
        return markups

    def _ctLandmarks(self) -> Any:
        return self._chosenPoints("ctLandmarks", _("Landmarks in the CT"))

    def _worldLandmarks(self) -> Any:
        return self._chosenPoints("worldLandmarks", _("Landmarks in the world"))

    def _chosenPoints(self, parameter: str, name: str) -> Any:
        """The points chosen for a parameter, or new ones of that name."""
        node = getattr(self.parameters, parameter)
        if not node:
            scene = slicer.mrmlScene
            name = scene.GenerateUniqueName(name)
            node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
            node.CreateDefaultDisplayNodes()
            node.SetControlPointLabelFormat("%d")
            setattr(self.parameters, parameter, node)
        self._moved.follow(*self._markups(self.nodes), node)
        return node

    def _landmarkPose(self) -> tuple[Array, float]:
        parameters = self.parameters
        if not parameters.ctLandmarks:
            raise InputError(
                _("landmarks"), _("the CT has none yet"), _("press Place beside 'In the CT'")
            )
        if not parameters.ctVolume:
            raise InputError(_("landmarks"), _("there is no CT"), _("choose it in step 1"))
        inCt = starts.pointsInCt(parameters.ctLandmarks, parameters.ctVolume)
        if parameters.landmarkSource == "xrays":
            outside = starts.landmarksInXrays(self.nodes, len(inCt))
        elif not parameters.worldLandmarks:
            raise InputError(
                _("landmarks"), _("the world has none yet"), _("press Place beside 'In the world'")
            )
        else:
            outside = np.array(starts.definedPoints(parameters.worldLandmarks)).reshape(-1, 3)
        return starts.landmarkPose(inCt, outside)

    def _landmarksProblem(self) -> str:
        try:
            self._landmarkPose()
        except InputError as error:
            return str(error)
        return ""

    # Points that are moved in the views

    def _markups(self, nodes: list[Any]) -> list[Any]:
        roles = (starts.CLICK_ROLE, starts.LANDMARKS_ROLE)
        every = [starts.markupsOf(node, role) for node in nodes for role in roles]
        every += self._levels.markups(nodes)
        every += [self.parameters.ctLandmarks, self.parameters.worldLandmarks]
        return every

    def _onPoints(self, caller: Any, event: Any) -> None:
        if self._updating or self.parameters is None:
            return
        for node in self.nodes:
            if starts.markupsOf(node, starts.CLICK_ROLE) is caller:
                if not starts.definedPoints(caller) and _center(node) is None:
                    continue  # nothing new; what was said of the last click still holds
                with self.updating(), self.attempt():
                    starts.takeClick(node)
            elif caller in self._levels.markups([node]):
                with self.updating(), self.attempt():
                    self._levels.onPlaced(node, caller)
        self.context.update()


def _center(node: Any) -> tuple[float, float] | None:
    try:
        return xray.getGeometry(node).centerPx
    except InputError:
        return None
