"""Step 2: the X-rays and their geometry."""

from __future__ import annotations

from typing import Any

from RadGSRegLib.errors import InputError
from slicer.i18n import tr as _

from .. import xray
from .step import PanelContext, Step


class XrayStep(Step):
    """Brings X-rays into the scene and says where each was taken from."""

    name = "xray"

    def __init__(self, ui: Any, logic: Any, context: PanelContext) -> None:
        super().__init__(ui, logic, context)
        ui.importButton.connect("clicked(bool)", self.onImport)

    def missing(self) -> str:
        nodes = self.parameters.xrays
        if len(nodes) < 2:
            return _("Add at least two X-rays, taken from different directions")
        try:
            for node in nodes:
                xray.getGeometry(node)
        except InputError as error:
            return str(error)
        return ""

    def onImport(self, *args: Any) -> None:
        with self.attempt():
            nodes = self.logic.importXray(self.ui.viewsPathLineEdit.currentPath)
            self.parameters.xrays = [*self.parameters.xrays, *nodes]
