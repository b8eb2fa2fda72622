"""Step 5, several vertebrae: their table, and going from one to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from ..scene.record import ACCEPTED, recordOf
from ..scene.registeredspine import Motion, RegisteredLevel, levelsOf, motionsOf, segmentOf
from ..scene.segments import segmentIds
from .step import Step, fillTable

_ROW_PX, _FRAME_PX = 24, 8
_MOST_ROWS = 6


class LevelControls:
    """Shows what came of each vertebra; ``go`` is called with the one to review."""

    def __init__(self, step: Step, go: Callable[[RegisteredLevel], object]) -> None:
        import qt

        self._step, self._ui, self._go, ui = step, step.ui, go, step.ui
        table = ui.reviewLevelsTable
        headers = [_("Vertebra"), _("Verdict"), _("Expected"), _("Moved"), _("Accepted")]
        table.setColumnCount(len(headers))
        table.setHorizontalHeaderLabels(headers)
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.verticalHeader().defaultSectionSize = _ROW_PX
        table.connect("currentCellChanged(int,int,int,int)", self._onSelected)
        ui.reviewPreviousLevelButton.connect("clicked(bool)", lambda *args: self._step_by(-1))
        ui.reviewNextLevelButton.connect("clicked(bool)", lambda *args: self._step_by(1))

    @property
    def levels(self) -> list[RegisteredLevel]:
        """The vertebrae of the result, in their order along the spine; none of a single one's."""
        parameters = self._step.parameters
        every = [] if parameters is None else levelsOf(parameters.spine)
        return every if self._place(every) is not None else []

    def accepted(self) -> tuple[int, int]:
        """How many of how many vertebrae are accepted."""
        every = self.levels
        return sum(_isAccepted(level) for level in every), len(every)

    def update(self) -> None:
        """Show the vertebrae; nothing where there is but one."""
        ui, every = self._ui, self.levels
        ui.reviewLevelsWidget.visible = bool(every)
        current = self._place(every)
        if current is None:
            return
        motions = {motion.upper: motion for motion in motionsOf(self._step.parameters.spine)}
        rows = [_row(level, motions.get(level.name)) for level in every]
        with self._step.updating():
            fillTable(ui.reviewLevelsTable, rows, current)
        height = _ROW_PX * (1 + min(len(rows), _MOST_ROWS)) + _FRAME_PX
        ui.reviewLevelsTable.minimumHeight = ui.reviewLevelsTable.maximumHeight = height
        text = _("{level}, {number} of {count}")
        ui.reviewLevelLabel.text = text.format(
            level=every[current].name, number=current + 1, count=len(every)
        )
        ui.reviewPreviousLevelButton.enabled = current > 0
        ui.reviewNextLevelButton.enabled = current < len(every) - 1

    def _place(self, every: list[RegisteredLevel]) -> int | None:
        """Which of the vertebrae is under review, or None where none of them is."""
        parameters = self._step.parameters
        shown = None if parameters is None else parameters.ctToWorld
        nodes = [level.transformNode for level in every]
        return nodes.index(shown) if shown in nodes else None

    def _step_by(self, count: int) -> None:
        every = self.levels
        place = self._place(every)
        if place is not None and 0 <= place + count < len(every):
            self._go(every[place + count])

    def _onSelected(self, row: int, *args: Any) -> None:
        every = self.levels
        if not self._step._updating and 0 <= row < len(every) and row != self._place(every):
            self._go(every[row])


def isSegmentGone(parameters: Any) -> bool:
    """Whether the segment of the vertebra under review is no longer in the segmentation."""
    segment = segmentOf(parameters.ctToWorld, parameters.segmentId)
    segmentation = parameters.segmentation
    return bool(segmentation and segment) and segment not in segmentIds(segmentation)


def _isAccepted(level: RegisteredLevel) -> bool:
    return bool(level.transformNode.GetAttribute(ACCEPTED) == "true")


def _row(level: RegisteredLevel, motion: Motion | None) -> tuple[str, ...]:
    record = recordOf(level.transformNode)
    words = {"ok": _("good"), "uncertain": _("uncertain"), "failed": _("failed")}
    verdict = "" if record is None else words.get(record.status, record.status)
    expected = None if record is None else record.quality.get("expected_error_mm")
    moved = ""
    if motion is not None:
        shift, turn = (float(np.linalg.norm(x)) for x in (motion.shift_mm, motion.turn_deg))
        moved = _("{shift:.1f} mm, {turn:.1f}°").format(shift=shift, turn=turn)
    error = "" if expected is None else _("{error:.2f} mm").format(error=float(expected))
    return level.name, verdict, error, moved, _("yes") if _isAccepted(level) else ""
