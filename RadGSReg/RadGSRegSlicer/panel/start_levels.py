"""Step 3, the levels: names over the X-rays, corrected by a click, and taken for the clicks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer
from RadGSRegLib.errors import Cancelled
from RadGSRegLib.spine import LEVELS
from slicer.i18n import tr as _

from ..scene import levels, spinelevels, starts, xray
from .placing import Placing
from .step import fillChoices

if TYPE_CHECKING:
    from .start_step import StartStep


class LevelControls:
    """Names the vertebrae in the X-rays of a step; a person's word counts more than the network's.

    A run of the step is the naming: its button cancels it.
    """

    def __init__(self, step: StartStep) -> None:
        self._step, self._ui, ui = step, step.ui, step.ui
        fillChoices(ui.correctLevelComboBox, {level: level for level in LEVELS}, "L3")
        ui.nameLevelsButton.connect("clicked(bool)", self.onName)
        ui.clickLevelButton.connect("clicked(bool)", self.onClickLevel)
        ui.forgetLevelsButton.connect("clicked(bool)", self.onForget)
        self.placing = Placing(ui.correctLevelButton, self._correctionNode, step.context)

    def markups(self, nodes: list[Any]) -> list[Any]:
        """The points that corrections are placed with."""
        return [starts.markupsOf(node, spinelevels.CORRECTION_ROLE) for node in nodes]

    def update(self, nodes: list[Any]) -> None:
        """Show what is known of the levels, and what can be done."""
        ui, step = self._ui, self._step
        spine = spinelevels.levelsOf(nodes)
        problem = "" if len(nodes) > 1 else _("Add at least two X-rays first")
        start = _("Name the levels"), _("Find the vertebrae in the X-rays and say which is which")
        step.showRunButton(ui.nameLevelsButton, problem, start, _("Stop looking"))
        there = spine is not None and bool(spine.vertebrae)
        ui.correctLevelButton.enabled = there
        ui.correctLevelComboBox.enabled = there
        ui.forgetLevelsButton.enabled = bool(spinelevels.namesIn(slicer.mrmlScene))
        level = self._wanted()
        place = None if spine is None or level is None else _placeOf(spine, level)
        ui.clickLevelButton.enabled = place is not None
        ui.clickLevelButton.text = _("Click {level}").format(level=level or _("the level"))
        ui.levelsLabel.text = _text(spine)

    def onName(self, *args: Any) -> None:
        step = self._step
        if step.levelsRun is not None:
            step.levelsRun.cancel()
            return
        with step.attempt():
            step.installMissing()
            step.levelsRun = step.logic.levelsInXrays(
                step.nodes, waitForCompletion=False, completedCallback=self._onNamed
            )

    def onForget(self, *args: Any) -> None:
        with self._step.attempt():
            spinelevels.forgetLevels(slicer.mrmlScene)

    def onClickLevel(self, *args: Any) -> None:
        """Take the place of the chosen vertebra's level for the clicks."""
        step = self._step
        with step.attempt():
            spine, level = spinelevels.levelsOf(step.nodes), self._wanted()
            place = None if spine is None or level is None else _placeOf(spine, level)
            if place is None:
                return
            there = spinelevels.placesInXrays(step.nodes, place)
            for node in step.nodes:
                # Where the level is not to be seen, the user's click stands.
                if node.GetID() in there:
                    xray.setCenterPx(node, there[node.GetID()])

    def onPlaced(self, node: Any, markups: Any) -> None:
        """A person has clicked on a vertebra in an X-ray: it has the level that is chosen."""
        points = starts.definedPoints(markups)
        if not points:
            return
        spine = spinelevels.levelsOf(self._step.nodes)
        markups.RemoveAllControlPoints()
        if spine is None:
            return
        index = spinelevels.nearestVertebra(node, points[-1], spine)
        level = str(self._ui.correctLevelComboBox.currentData)
        spinelevels.showLevels(self._step.nodes, spine.corrected(index, level))

    def _onNamed(self, run: Any) -> None:
        step = self._step
        step.levelsRun = None
        with step.attempt():
            if run.error is not None and not isinstance(run.error, Cancelled):
                raise run.error

    def _correctionNode(self) -> Any:
        """The point to place in the selected X-ray; that X-ray is brought into view."""
        name = _("Correction in {name}")
        return self._step.markupsInSelected(spinelevels.CORRECTION_ROLE, name)

    def _wanted(self) -> str | None:
        """The level of the vertebra that is chosen in step 1, if it is one that can be named."""
        parameters = self._step.parameters
        if not parameters.segmentation or not parameters.segmentId:
            return None
        known = levels.vertebrae(parameters.segmentation).get(parameters.segmentId)
        return known if known in LEVELS else None


def _placeOf(spine: Any, level: str) -> Any:
    """Where the vertebra of a level is, if one is named so."""
    return next((v.place_world for v in spine.vertebrae if v.level == level), None)


def _text(spine: Any) -> str:
    """What is known of the levels, in words."""
    if spine is None:
        return ""
    if not spine.vertebrae:
        return _("No vertebra is to be seen in two X-rays")
    anchor = spine.anchor
    if anchor is None:
        text = _(
            "{count} vertebrae; levels unknown: neither the sacrum nor the last rib is seen for "
            "sure. If you know one, choose its level and click on it"
        )
        return text.format(count=len(spine.vertebrae))
    words = {
        "a person": _("counted from what you said"),
        "sacrum": _("counted from the sacrum"),
        "last rib": _("counted from the last rib"),
    }
    names = " ".join(v.level or spinelevels.UNKNOWN for v in spine.vertebrae)
    return f"{names}, {words[anchor]}"
