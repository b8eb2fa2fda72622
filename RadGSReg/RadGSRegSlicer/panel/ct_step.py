"""Step 1: the CT and the vertebra in it."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from .step import PanelContext, Step, modify


class CtStep(Step):
    """Chooses the CT, its segmentation and the segment of the vertebra."""

    name = "ct"

    def __init__(self, ui: Any, logic: Any, context: PanelContext) -> None:
        super().__init__(ui, logic, context)
        self._updating = False
        ui.segmentSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onSegmentChanged)
        ui.segmentSelector.connect("currentSegmentChanged(QString)", self.onSegmentChanged)

    def update(self) -> None:
        selector = self.ui.segmentSelector
        self._updating = True
        try:
            if selector.currentNode() != self.parameters.segmentation:
                selector.setCurrentNode(self.parameters.segmentation)
            if (selector.currentSegmentID() or "") != self.parameters.segmentId:
                selector.setCurrentSegmentID(self.parameters.segmentId)
        finally:
            self._updating = False

    def missing(self) -> str:
        if not self.parameters.ctVolume:
            return _("Select the CT")
        if not self.parameters.segmentation or not self.parameters.segmentId:
            return _("Select the segment of the vertebra")
        return ""

    def onSegmentChanged(self, *args: Any) -> None:
        if self.parameters is None or self._updating:
            return
        selector = self.ui.segmentSelector
        segmentation = selector.currentNode()
        segmentId = selector.currentSegmentID()
        with modify(self.parameters):
            self.parameters.segmentation = segmentation
            self.parameters.segmentId = segmentId or ""
