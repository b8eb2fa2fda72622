"""Step 2: the X-rays and their geometry."""

import contextlib
from typing import Any

import numpy as np
import slicer
import vtk
from RadGSRegLib.errors import InputError
from slicer.i18n import tr as _

from ..exchange import casefolder, patients, xraysources
from ..review import views
from ..scene import carm, refinedcameras, xray
from ..scene.carm import CArm
from ..scene.drawing import XrayDrawings
from .calibrate_tools import CalibrateControls
from .geometry_form import GeometryForm
from .step import Following, PanelContext, Step, fillChoices, fillTable, onPath

_LEAST_DEG = 5.0


class XrayStep(Step):
    """Brings X-rays into the scene and says where each was taken from."""

    name = "xray"

    def __init__(self, ui: Any, logic: Any, context: PanelContext) -> None:
        import qt

        super().__init__(ui, logic, context)
        self._selectedId = ""
        self._series: list[xraysources.DicomSeries] = []
        # Their geometry may be changed elsewhere, as from the console.
        self._changed = Following(context, self._onChanged, [vtk.vtkCommand.ModifiedEvent])
        self._drawings: XrayDrawings | None = None
        self._isDrawn = self._isOwed = False
        headers = [_("X-ray"), _("Pixels"), _("Angles"), _("Geometry")]
        ui.xrayTable.setColumnCount(len(headers))
        ui.xrayTable.setHorizontalHeaderLabels(headers)
        ui.xrayTable.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        self._form = GeometryForm(ui, self.onEdited)
        self._calibration = CalibrateControls(self)
        ui.volumeSelector.setMRMLScene(slicer.mrmlScene)
        ui.importButton.connect("clicked(bool)", self.onImport)
        ui.addVolumeButton.connect("clicked(bool)", self.onAddVolume)
        ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._updateButtons)
        for line in (ui.viewsPathLineEdit, ui.geometryPathLineEdit, ui.exportPathLineEdit):
            onPath(line, self._updateButtons)
        ui.refreshDicomButton.connect("clicked(bool)", self.onRefreshDicom)
        ui.addDicomButton.connect("clicked(bool)", self.onAddDicom)
        ui.removeXrayButton.connect("clicked(bool)", self.onRemove)
        ui.restoreNominalButton.connect("clicked(bool)", self.onRestoreNominal)
        ui.loadGeometryButton.connect("clicked(bool)", self.onLoadGeometry)
        ui.exportButton.connect("clicked(bool)", self.onExport)
        ui.xrayTable.connect("itemChanged(QTableWidgetItem*)", self.onTicked)
        ui.xrayTable.connect("currentCellChanged(int,int,int,int)", self.onSelected)

    @property
    def selected(self) -> Any:
        """The X-ray that is selected in the table, or None."""
        node = slicer.mrmlScene.GetNodeByID(self._selectedId) if self._selectedId else None
        return node if xray.isXray(node) else None

    @property
    def calibrating(self) -> Any:
        """What calibrates the X-rays at present, or None."""
        return self._run

    @calibrating.setter
    def calibrating(self, run: Any) -> None:
        self._run = self.context.run = run

    @property
    def used(self) -> list[Any]:
        """The X-rays in use."""
        return [node for node in self.parameters.xrays if node is not None]

    def setParameterNode(self, parameters: Any) -> None:
        super().setParameterNode(parameters)
        if parameters is None:
            self._changed.follow()
            self._calibration.forget()
            self._isOwed = False
            if self._drawings is not None:
                self._drawings.clear()
            return
        self._calibration.lookForCarms()
        nodes = xray.xrayNodes(slicer.mrmlScene)
        if nodes and not self.used:
            self.parameters.xrays = nodes
            self._isOwed = True

    def takeUp(self, nodes: list[Any]) -> None:
        """Use X-rays that have arrived and show them, unless two are in use already."""
        arrived = [node for node in nodes if xray.isXray(node) and node not in self.used]
        if arrived and len(self.used) < 2:
            self.parameters.xrays = [*self.used, *arrived]
            self._show()

    def _show(self) -> None:
        """Show the X-rays in use side by side; later, where another module is open now."""
        self._isOwed = not self.context.isShown()
        if not self._isOwed:
            views.showXrays(slicer.mrmlScene, self.used[:2])

    def showOwed(self) -> None:
        """The panel is opened: show X-rays that have been taken up and not been seen yet."""
        if self._isOwed and self.parameters is not None and self.used:
            self._show()

    def cleanup(self) -> None:
        super().cleanup()
        self._changed.follow()
        if self._drawings is not None:
            self._drawings.close()
            self._drawings = None

    def update(self) -> None:
        nodes = xray.xrayNodes(slicer.mrmlScene)
        self._changed.follow(*nodes)
        if self.selected is None:
            self._selectedId = nodes[0].GetID() if nodes else ""
        with self.updating():
            self._fillTable(nodes)
            self._fillNumbers()
        self._updateButtons()
        self.showChoices()
        self._calibration.update(self.used)
        if self.parameters.showGeometry and self._drawings is None:
            self._drawings = XrayDrawings()
        if self._drawings is not None:
            self._drawings.show(self.used if self.parameters.showGeometry else [])
        isDrawn = bool(self.parameters.showGeometry and self.used)
        if isDrawn and not self._isDrawn:
            with contextlib.suppress(InputError):
                views.lookAtGeometry(slicer.mrmlScene, self.used)
        self._isDrawn = isDrawn

    def missing(self) -> str:
        nodes = self.used
        if not nodes:
            return _("Add X-rays, best two or more from different directions")
        try:
            directions = [xray.getGeometry(node).camera.view_direction_world for node in nodes]
        except InputError as error:
            return str(error)
        names = [node.GetName().lower() for node in nodes]
        if len(set(names)) < len(names):
            return _("Two X-rays have the same name; rename one")
        sines = [np.linalg.norm(np.cross(directions[0], other)) for other in directions[1:]]
        if sines and max(sines) < np.sin(np.radians(_LEAST_DEG)):
            return _("All X-rays look along one line, so they do not show depth")
        return ""

    def ready(self) -> str:
        nodes = self.used
        others = patients.otherPatients(self.parameters.ctVolume, nodes)
        if others:
            return _("Look: {others}").format(others="; ".join(others))
        if len(nodes) == 1:
            return _("One X-ray: the pose gets good sideways, its depth stays uncertain")
        nominal = [node.GetName() for node in nodes if node.GetAttribute(xray.NOMINAL) == "true"]
        if nominal:
            text = _("{count} X-rays; the geometry of {names} is only nominal")
            return text.format(count=len(nodes), names=", ".join(nominal))
        refined = [node.GetName() for node in nodes if refinedcameras.isRefined(node)]
        if refined:
            text = _("{count} X-rays; the geometry of {names} is refined with vertebrae")
            return text.format(count=len(nodes), names=", ".join(refined))
        return _("{count} X-rays with geometry").format(count=len(nodes))

    def isDoubtful(self) -> bool:
        return len(self.used) == 1

    # Bringing X-rays in

    def onImport(self, *args: Any) -> None:
        with self.attempt():
            path = self.ui.viewsPathLineEdit.currentPath
            self._take(xraysources.fromFile(path, self._frame()))

    def onAddVolume(self, *args: Any) -> None:
        with self.attempt():
            node = self.ui.volumeSelector.currentNode()
            self._take(xraysources.fromVolume(node, self._frame()))

    def onRefreshDicom(self, *args: Any) -> None:
        with self.attempt():
            self._series = []
            self._series = xraysources.dicomSeries()
            if not self._series:
                raise InputError(_("DICOM database"), _("has no XA, RF, DX or CR series"))
        choices = {series.uid: series.text for series in self._series}
        fillChoices(self.ui.dicomComboBox, choices, next(iter(choices), ""))
        self._updateButtons()

    def onAddDicom(self, *args: Any) -> None:
        with self.attempt():
            chosen = str(self.ui.dicomComboBox.currentData)
            (series,) = [series for series in self._series if series.uid == chosen]
            self._take(xraysources.fromDicom(series, self._frame()))

    def onRemove(self, *args: Any) -> None:
        node = self.selected
        if node is None:
            return
        with self.attempt():
            self.parameters.xrays = [n for n in self.parameters.xrays if n is not node]
            xray.clearGeometry(node)
            node.RemoveAttribute(carm.ISOCENTRE)

    def onRestoreNominal(self, *args: Any) -> None:
        with self.attempt():
            self.logic.restoreNominalCameras(self.used)
            self.context.steps["review"].renew()
            self._show()

    def _frame(self) -> int | None:
        return self.ui.frameSpinBox.value - 1 if self.ui.frameSpinBox.value else None

    def _take(self, imported: xraysources.Imported) -> None:
        added = [node for node in imported.nodes if node not in self.used]
        self.parameters.xrays = [*self.used, *added]
        if imported.nodes:
            self._selectedId = imported.nodes[-1].GetID()
            self._show()
        if any(node.GetAttribute(xray.NOMINAL) == "true" for node in imported.nodes):
            self.ui.geometryGroupBox.collapsed = False
        self.problem = "\n".join(imported.notes)

    # The table

    def onTicked(self, item: Any) -> None:
        if self._updating or self.parameters is None:
            return
        nodes = xray.xrayNodes(slicer.mrmlScene)
        self.parameters.xrays = [
            node for row, node in enumerate(nodes) if _ticked(self.ui.xrayTable.item(row, 0))
        ]

    def onSelected(self, row: int, *args: Any) -> None:
        nodes = xray.xrayNodes(slicer.mrmlScene)
        if self._updating or not 0 <= row < len(nodes):
            return
        self._selectedId = nodes[row].GetID()
        self.context.update()

    def _fillTable(self, nodes: list[Any]) -> None:
        import qt

        table, ids = self.ui.xrayTable, [node.GetID() for node in nodes]
        current = ids.index(self._selectedId) if self._selectedId in ids else None
        fillTable(table, [(node.GetName(), *_describe(node)) for node in nodes], current)
        used = [node.GetID() for node in self.used]
        for row, id_ in enumerate(ids):
            state = qt.Qt.Checked if id_ in used else qt.Qt.Unchecked
            table.item(row, 0).setCheckState(state)

    # The geometry of the selected X-ray

    def onEdited(self, *args: Any) -> None:
        node = self.selected
        if self._updating or node is None:
            return
        with self.attempt():
            geometry = xray.getGeometry(node)
            arm, changed = self._form.read(self._carm(node, geometry), geometry)
            with slicer.util.NodeModify(node):
                carm.setIsocentre(node, arm.isocentre)
                refinedcameras.setEdited(node, changed)

    def onLoadGeometry(self, *args: Any) -> None:
        node = self.selected
        with self.attempt():
            place = self.used.index(node) if node in self.used else None
            path = self.ui.geometryPathLineEdit.currentPath
            xray.setGeometry(node, xraysources.geometryFromFile(path, node, place))
            node.RemoveAttribute(carm.ISOCENTRE)

    def onExport(self, *args: Any) -> None:
        with self.attempt():
            casefolder.writeViews(self.used, self.ui.exportPathLineEdit.currentPath)

    def _carm(self, node: Any, geometry: xray.XrayGeometry) -> CArm:
        point = carm.isocentre(node)
        if point is None:
            point = carm.commonIsocentre([xray.getGeometry(other) for other in self.used])
        return CArm.of(geometry, point)

    def _fillNumbers(self) -> None:
        node, ui = self.selected, self.ui
        ui.geometryGroupBox.enabled = node is not None
        if node is None:
            ui.geometryLabel.text = ""
            return
        try:
            geometry = xray.getGeometry(node)
            arm = self._carm(node, geometry)
        except InputError as error:
            ui.geometryLabel.text = str(error)
            return
        text = _("{name}: whatever is edited here moves the X-ray in the scene")
        skew = abs(float(geometry.camera.intrinsic[0, 1]))
        if skew > 0.01:
            text = _("{name}: its pixels are skewed; editing a number makes them straight")
        ui.geometryLabel.text = text.format(name=node.GetName())
        self._form.show(arm, geometry)

    def _updateButtons(self, *args: Any) -> None:
        ui = self.ui
        ui.importButton.enabled = bool(ui.viewsPathLineEdit.currentPath)
        ui.addVolumeButton.enabled = ui.volumeSelector.currentNode() is not None
        ui.addDicomButton.enabled = bool(self._series)
        ui.removeXrayButton.enabled = self.selected is not None
        used = self.used if self.parameters else []
        ui.restoreNominalButton.visible = any(refinedcameras.isRefined(node) for node in used)
        ui.restoreNominalButton.enabled = not self.context.busy
        ui.loadGeometryButton.enabled = bool(
            ui.geometryPathLineEdit.currentPath and self.selected is not None
        )
        ui.exportButton.enabled = bool(
            ui.exportPathLineEdit.currentPath and self.parameters and self.parameters.xrays
        )

    def _onChanged(self, caller: Any, event: Any) -> None:
        self.context.update()


def _ticked(item: Any) -> bool:
    import qt

    return item is not None and item.checkState() == qt.Qt.Checked


def _describe(node: Any) -> list[str]:
    """Size, angles and kind of an X-ray's geometry, for the table."""
    try:
        geometry = xray.getGeometry(node)
    except InputError:
        return ["", "", _("unusable")]
    arm = CArm.of(geometry)
    size = "{} \N{MULTIPLICATION SIGN} {}".format(*geometry.camera.size)
    angles = f"{arm.primary:.1f}\N{DEGREE SIGN}, {arm.secondary:.1f}\N{DEGREE SIGN}"
    if refinedcameras.isRefined(node):
        return [size, angles, _("refined with vertebrae")]
    return [size, angles, _("nominal") if geometry.nominal else _("calibrated")]
