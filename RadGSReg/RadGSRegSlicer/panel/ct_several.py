"""Step 1, several vertebrae: which others are registered together with the chosen one."""

from __future__ import annotations

from typing import Any

from RadGSRegLib.vertebrae import LEVELS
from slicer.i18n import tr as _

from ..scene import levels
from ..scene.segments import segmentIds
from .step import Step, fillTable

_ROW_PX = 24


def together(parameters: Any) -> list[str]:
    """The segments to register, the chosen one first; that alone unless others are ticked too."""
    if not parameters.segmentation or not parameters.segmentId:
        return []
    there = segmentIds(parameters.segmentation)
    others = [id_ for id_ in parameters.alsoSegmentIds if id_ in there]
    return list(dict.fromkeys([parameters.segmentId, *others]))


class SeveralControls:
    """A table of the segmentation's vertebrae, to be ticked."""

    def __init__(self, step: Step) -> None:
        import qt

        self._step, self._ui, ui = step, step.ui, step.ui
        self._title = str(ui.severalGroupBox.title)
        self._rows: list[str] = []
        table = ui.severalTable
        headers = [_("Vertebra"), _("Segment")]
        table.setColumnCount(len(headers))
        table.setHorizontalHeaderLabels(headers)
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        table.verticalHeader().defaultSectionSize = _ROW_PX
        table.connect("itemChanged(QTableWidgetItem*)", self._onTicked)
        ui.severalAllButton.connect("clicked(bool)", lambda *args: self._take(self._rows))
        ui.severalNoneButton.connect("clicked(bool)", lambda *args: self._take([]))

    def update(self) -> None:
        """Show what there is to tick, and what is ticked."""
        import qt

        parameters, ui = self._step.parameters, self._ui
        chosen = together(parameters)
        segmentation, known = parameters.segmentation, {}
        if chosen:
            known = {i: n for i, n in levels.vertebrae(segmentation).items() if n != "S1"}
            if chosen[0] in segmentIds(segmentation):  # it may have been removed
                known.setdefault(chosen[0], "")
        place = {level: number for number, level in enumerate(LEVELS)}
        self._rows = sorted(known, key=lambda id_: place.get(known[id_], len(place)))
        rows = [(self._level(known[i], i == chosen[0]), self._name(i)) for i in self._rows]
        fillTable(ui.severalTable, rows, None)
        for row, id_ in enumerate(self._rows):
            state = qt.Qt.Checked if id_ in chosen else qt.Qt.Unchecked
            ui.severalTable.item(row, 0).setCheckState(state)
        several = len(chosen) > 1
        count = _("{title}: {count}").format(title=self._title, count=len(chosen))
        ui.severalGroupBox.title = count if several else self._title
        ui.severalAllButton.enabled = len(self._rows) > len(chosen)
        ui.severalNoneButton.enabled = several

    def _level(self, level: str, isFirst: bool) -> str:
        level = level or _("not known")
        return _("{level} (first)").format(level=level) if isFirst else level

    def _name(self, segmentId: str) -> str:
        segmentation = self._step.parameters.segmentation.GetSegmentation()
        return str(segmentation.GetSegment(segmentId).GetName() or segmentId)

    def _onTicked(self, item: Any) -> None:
        if self._step.parameters is None or self._step._updating:
            return
        import qt

        table = self._ui.severalTable
        cells = [(id_, table.item(row, 0)) for row, id_ in enumerate(self._rows)]
        ticked = [i for i, cell in cells if cell and cell.checkState() == qt.Qt.Checked]
        self._take(ticked)
        # The first one's tick comes back.
        self._step.context.update()

    def _take(self, segments: list[str]) -> None:
        parameters = self._step.parameters
        if parameters is not None:
            parameters.alsoSegmentIds = [id_ for id_ in segments if id_ != parameters.segmentId]
