"""Step 2, calibration: cameras from beads in the X-rays, corrected by clicks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from RadGSRegLib.choices import BEAD_LAYOUTS
from RadGSRegLib.errors import Cancelled, InputError
from slicer.i18n import tr as _

from ..operations.calibration import CalibrateRequest, CalibrationResult, knownCarms
from ..review import views
from ..scene import starts
from ..scene.beadcircles import CLICK_RADII, BeadCircle, BeadCircles
from .paths import FolderButton, keepPath
from .placing import Placing
from .step import Following, fillChoices, fillTable
from .timing import ProgressDisplay

if TYPE_CHECKING:
    from RadGSRegLib.calibration import Editing

    from .xray_step import XrayStep

CLICK_ROLE = "RadGSReg.BeadClick"
FILE = "file"
_PATHS = {
    "calibrateBeadsPathLineEdit": "calibrateBeadsPath",
    "calibrateGridPathLineEdit": "calibrateGridPath",
}


class CalibrateControls:
    """Calibrates the X-rays of a step; what was found is drawn, corrected, and then used."""

    def __init__(self, step: XrayStep) -> None:
        self._step, self._ui, ui = step, step.ui, step.ui
        self._result: CalibrationResult | None = None
        self._corrections: list[Editing] = []
        self._request: CalibrateRequest | None = None
        self._view = 0
        self._first: int | None = None
        self._carms: dict[str, str] = {}
        self._presets: dict[str, str] = {}
        self._circles = BeadCircles()
        self._progress = ProgressDisplay(ui.calibrateProgressBar, ui.calibrateLabel)
        event = slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent
        self._clicked = Following(step.context, self._onPoint, [event])
        beads = {name: name for name in BEAD_LAYOUTS} | {FILE: _("of a file")}
        step.offer(ui.calibrateBeadsComboBox, "calibrateBeads", beads, BEAD_LAYOUTS[0])
        step.offer(ui.calibratePresetComboBox, "calibratePreset", {"": _("none")}, "")
        modes = {
            "add": _("Add the shadow there"),
            "remove": _("Remove the nearest shadow"),
            "swap": _("Swap two beads"),
        }
        fillChoices(ui.calibrateModeComboBox, modes, "add")
        headers = [_("Bead"), _("X-ray"), _("Residual, px")]
        ui.calibrateTable.setColumnCount(len(headers))
        ui.calibrateTable.setHorizontalHeaderLabels(headers)
        for widget, name in _PATHS.items():
            keepPath(step, getattr(ui, widget), name)
        title = _("Folder with a picture of the grid for each X-ray")
        self._grids = FolderButton(ui.calibrateGridButton, ui.calibrateGridPathLineEdit, title)
        ui.calibrateModeComboBox.connect("currentIndexChanged(int)", self._onMode)
        ui.calibrateTable.connect("currentCellChanged(int,int,int,int)", self._onSelected)
        ui.calibrateGroupBox.connect("toggled(bool)", self._onFolded)
        ui.calibrateButton.connect("clicked(bool)", self.onCalibrate)
        ui.calibrateUndoButton.connect("clicked(bool)", self.onUndo)
        ui.calibrateUseButton.connect("clicked(bool)", self.onUse)
        self.placing = Placing(ui.calibrateClickButton, self._clickNode, step.context, several=True)

    @property
    def editing(self) -> Editing | None:
        """The calibration as it is corrected so far; None where there is none."""
        return self._corrections[-1] if self._corrections else None

    def forget(self) -> None:
        """Nothing is calibrated: no circles, no table."""
        self.placing.stop()
        self._clicked.follow()
        for node in [] if self._result is None else self._result.xrayNodes:
            markups = None if node.GetScene() is None else starts.markupsOf(node, CLICK_ROLE)
            if markups is not None:
                markups.GetScene().RemoveNode(markups)
        self._result, self._corrections, self._first, self._view = None, [], None, 0
        self._circles.clear()

    def lookForCarms(self) -> None:
        """See which C-arms are known; takes too long to be done at every update."""
        self._carms = {str(file): file.stem for file in knownCarms()}

    def update(self, nodes: list[Any]) -> None:
        """Show what is chosen, and what was found."""
        ui, step = self._ui, self._step
        if self._result and any(node.GetScene() is None for node in self._result.xrayNodes):
            self.forget()
        self._showChoices()
        running = step.calibrating is not None
        ui.calibrateProgressBar.visible = running
        step.showRunButton(
            ui.calibrateButton,
            self._makeRequest(nodes).problem(),
            (_("Calibrate"), _("Find the beads in the X-rays in use, and the cameras by them")),
            _("Stop calibrating"),
        )
        there = self.editing is not None and not running
        for widget in (ui.calibrateModeComboBox, ui.calibrateClickButton):
            widget.enabled = there
        ui.calibrateUndoButton.enabled = there and len(self._corrections) > 1
        ui.calibrateUseButton.enabled = there and not step.context.busy
        with step.updating():
            self._fillTable()
        self._draw()
        if self.editing is not None and not running:
            ui.calibrateLabel.text = self._text()

    # Handlers

    def onCalibrate(self, *args: Any) -> None:
        step = self._step
        if step.calibrating is not None:
            step.calibrating.cancel()
            return
        with step.attempt():
            step.installMissing()
            self.placing.stop()
            self._start(self._makeRequest(step.used, use=False))

    def onUse(self, *args: Any) -> None:
        """Calibrate by the pairs as they are now; the cameras go on the X-rays."""
        step, request, editing = self._step, self._request, self.editing
        if request is None or editing is None:
            return
        with step.attempt():
            self.placing.stop()
            self._start(replace(request, pairs=editing.pairs(), use=True))

    def onUndo(self, *args: Any) -> None:
        if len(self._corrections) > 1:
            self._corrections.pop()
            self._first = None
            self._step.context.update()

    def _start(self, request: CalibrateRequest) -> None:
        def completed(run: Any) -> None:
            self._onCompleted(run, request)

        started = replace(request, completedCallback=completed)
        self._step.calibrating = started.run()
        self._progress.begin(_("preparing the files"))

    def _onCompleted(self, run: Any, request: CalibrateRequest) -> None:
        step = self._step
        step.calibrating = None
        self._progress.end()
        with step.attempt():
            if run.isDiscarded:
                pass  # the scene that it belonged to is gone
            elif isinstance(run.error, Cancelled):
                self._ui.calibrateLabel.text = _("Cancelled")
            elif run.error is not None:
                raise run.error
            else:
                self._take(run.result, request)

    def _take(self, result: CalibrationResult, request: CalibrateRequest) -> None:
        editing = None if request.use else result.editing()
        self.forget()
        if editing is None:
            self._step.context.steps["review"].renew()
            words = _("Cameras taken, {status}: {reason}.")
            self._ui.calibrateLabel.text = words.format(status=result.status, reason=result.reason)
            if self._step.context.isShown():
                views.showXrays(slicer.mrmlScene, result.xrayNodes[:2])
            return
        self._request, self._result, self._corrections = request, result, [editing]

    def _onFolded(self, *args: Any) -> None:
        if self._step.parameters is not None:
            self.lookForCarms()
            self._step.context.update()

    def _onMode(self, *args: Any) -> None:
        self._first = None
        if self._step.parameters is not None:
            self._step.context.update()

    def _onSelected(self, row: int, *args: Any) -> None:
        rows = self._rows()
        if not self._step._updating and 0 <= row < len(rows):
            self._view = rows[row][0]
            self.placing.stop()
            self._step.context.update()

    # Clicks

    def _clickNode(self) -> Any:
        """The point to place in the X-ray that is corrected; only that one is shown."""
        if self._result is None:
            return None
        node = self._result.xrayNodes[self._view]
        # X-rays of which nothing is known yet may stand at one place: a click is to be of this one.
        views.showXrays(slicer.mrmlScene, [node, node])
        markups = starts.markupsOf(
            node, CLICK_ROLE, _("Beads in {name}").format(name=node.GetName())
        )
        markups.SetSaveWithScene(False)
        markups.RemoveAllControlPoints()
        display = markups.GetDisplayNode()
        if display is not None:
            display.SetTextScale(0.0)
            display.SetGlyphScale(1.0)
        self._clicked.follow(markups)
        return markups

    def _onPoint(self, caller: Any, event: Any) -> None:
        step, result = self._step, self._result
        if result is None or step.parameters is None or step.calibrating is not None:
            return
        node = result.xrayNodes[self._view]
        points = starts.definedPoints(caller)
        if starts.markupsOf(node, CLICK_ROLE) is not caller or not points:
            return
        with step.attempt():
            self._correct(starts.pixelInPicture(node, points[-1]))

    def _correct(self, pixel: tuple[float, float]) -> None:
        """What a click at a pixel of the selected X-ray does."""
        editing, view = self.editing, self._view
        assert editing is not None
        mode = str(self._ui.calibrateModeComboBox.currentData)
        if mode == "add":
            editing = editing.added(view, pixel)
        elif mode == "remove":
            editing = editing.removed(view, editing.nearest_spot(view, pixel, CLICK_RADII))
        else:
            bead = editing.nearest(view, pixel, within_radii=CLICK_RADII)
            if self._first is None:
                self._first = bead
                return
            first, self._first = self._first, None
            editing = editing.swapped(view, first, bead)
        self._corrections.append(editing)

    # What is shown

    def _showChoices(self) -> None:
        ui, parameters = self._ui, self._step.parameters
        for widget, name in _PATHS.items():
            line = getattr(ui, widget)
            if str(line.currentPath or "") != getattr(parameters, name):
                line.currentPath = getattr(parameters, name)
        ui.calibrateBeadsPathLineEdit.enabled = parameters.calibrateBeads == FILE
        presets = {"": _("none")} | self._carms
        if parameters.calibratePreset not in presets:
            presets[parameters.calibratePreset] = Path(parameters.calibratePreset).stem
        if presets != self._presets:
            self._presets = presets
            fillChoices(ui.calibratePresetComboBox, presets, parameters.calibratePreset)

    def _rows(self) -> list[tuple[int, int]]:
        """View and bead of each row of the table."""
        editing = self.editing
        if editing is None:
            return []
        return [
            (view, bead)
            for view in range(len(editing.views))
            for bead in sorted({*editing.shown(view).tolist(), *editing.residuals_px(view)})
        ]

    def _fillTable(self) -> None:
        editing, rows, texts = self.editing, self._rows(), []
        lengths: dict[tuple[int, int], float] = {}
        if editing is not None:
            for view in range(len(editing.views)):
                for bead, left in editing.residuals_px(view).items():
                    lengths[view, bead] = float(np.hypot(*left))
        for row in rows:
            left = f"{lengths[row]:.2f}" if row in lengths else _("no shadow")
            texts.append((str(row[1]), self._name(row[0]), left))
        table = self._ui.calibrateTable
        at = int(table.currentRow())
        of = [number for number, (view, _bead) in enumerate(rows) if view == self._view]
        current = at if at in of else next(iter(of), None)
        fillTable(table, texts, current)

    def _draw(self) -> None:
        editing, result = self.editing, self._result
        drawn = []
        if editing is not None and result is not None:
            for view, node in enumerate(result.xrayNodes):
                shadows = editing.shadows_px(view)
                of = [bead for number, bead in self._rows() if number == view]
                spots = {bead: editing.spot_of(view, bead) for bead in of}
                drawn.append((node, [BeadCircle.of(shadows[b], spots[b]) for b in of]))
        try:
            self._circles.show(drawn)
        except InputError as error:
            self._step.problem = str(error)

    def _name(self, view: int) -> str:
        assert self._result is not None
        return str(self._result.xrayNodes[view].GetName())

    def _text(self) -> str:
        """How far all fits, in words."""
        editing, result = self.editing, self._result
        assert editing is not None
        assert result is not None
        lines = []
        if len(self._corrections) == 1:
            lines.append(f"{result.status}: {result.reason}")
        for view in range(len(editing.views)):
            text = _("{name}: {count} beads, {rms:.2f} px")
            count = len(editing.residuals_px(view))
            lines.append(text.format(name=self._name(view), count=count, rms=editing.rms_px(view)))
        if self._first is not None:
            lines.append(_("Bead {bead}: now click the other").format(bead=self._first))
        return "\n".join(lines)

    def _makeRequest(self, nodes: list[Any], use: bool = True) -> CalibrateRequest:
        """What is chosen, as a request."""
        parameters = self._step.parameters
        layout = parameters.calibrateBeads
        return CalibrateRequest(
            list(nodes),
            parameters.calibrateBeadsPath if layout == FILE else layout,
            pixelMm=parameters.calibratePixelMm or None,
            sourceDetectorMm=parameters.calibrateDistanceMm or None,
            sharedIntrinsics=parameters.calibrateShared,
            fitDistortion=parameters.calibrateFit,
            grid=parameters.calibrateGridPath or None,
            preset=parameters.calibratePreset or None,
            use=use,
            waitForCompletion=False,
            progressCallback=self._progress.show,
        )
