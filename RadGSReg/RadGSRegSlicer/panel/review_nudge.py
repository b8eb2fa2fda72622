"""Step 5, correcting by hand: sliders, numbers, buttons and arrow keys for six axes."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import slicer
from RadGSRegLib.errors import InputError

from ..review import views
from ..review.nudge import AXES, SHIFTS, Nudge
from .keys import ArrowKeys
from .step import Step, fillChoices, selectChoice

if TYPE_CHECKING:
    from ..review.review import Review

_PER_UNIT = 10.0  # positions of a slider in a millimetre or a degree


class NudgeControls:
    """What is set counts from a base pose, which is the present one after every other change."""

    def __init__(self, step: Step) -> None:
        self._step, self._ui, ui = step, step.ui, step.ui
        self._review: Review | None = None
        self._updating = False
        self._base: Any = None
        self._nudge = Nudge()
        self._keys = ArrowKeys(self.press)
        ui.reviewAxesComboBox.connect("currentIndexChanged(int)", lambda *args: self.rebase())
        for axis in AXES:
            slider, box, minus, plus = self._widgets(axis)
            slider.connect("valueChanged(int)", lambda *args, axis=axis: self._onSlider(axis))
            box.connect("valueChanged(double)", lambda *args, axis=axis: self._onBox(axis))
            minus.connect("clicked(bool)", lambda *args, axis=axis: self.press(axis, -1))
            plus.connect("clicked(bool)", lambda *args, axis=axis: self.press(axis, 1))

    def setReview(self, review: Review | None) -> None:
        """Correct this review's pose."""
        self._keys.remove()
        self._review = review
        if review is not None:
            nodes = {node.GetID(): node.GetName() for node in review.xrayNodes}
            fillChoices(self._ui.reviewAxesComboBox, nodes, next(iter(nodes)))
        self.rebase()

    def rebase(self) -> None:
        """The present pose is where the sliders' zero is."""
        self._base = None if self._review is None else self._review.session.pose
        self._nudge = Nudge()
        self.show()

    def press(self, axis: str, sign: int, viewName: str = "") -> None:
        """One step along or about an axis, of the X-ray in a view, or else of the one chosen."""
        parameters = self._step.parameters
        if self._review is None or parameters is None:
            return
        node = self._review.layout.shown.get(viewName)
        if node is not None and node.GetID() != self._axesNode().GetID():
            selectChoice(self._ui.reviewAxesComboBox, node.GetID())
            self.rebase()
        step = parameters.reviewStepMm if axis in SHIFTS else parameters.reviewStepDeg
        self._set(axis, getattr(self._nudge, axis) + sign * step)

    def updateKeys(self) -> None:
        """Listen to the arrow keys where that is wanted and the X-ray views are there."""
        parameters = self._step.parameters
        wanted = self._review is not None and self._review.layout.isShown
        if not (wanted and parameters is not None and parameters.reviewKeys):
            self._keys.remove()
        elif not self._keys.isInstalled:
            self._keys.install(views.XRAY_VIEWS)

    def show(self) -> None:
        """Show what is set."""
        self._updating = True
        try:
            for axis in AXES:
                value = getattr(self._nudge, axis)
                slider, box, _, _ = self._widgets(axis)
                slider.value = round(_PER_UNIT * value)
                if abs(box.value - value) > 0.01:
                    box.value = value
        finally:
            self._updating = False

    def _widgets(self, axis: str) -> list[Any]:
        kinds = ("Slider", "SpinBox", "MinusButton", "PlusButton")
        return [getattr(self._ui, f"review{axis.capitalize()}{kind}") for kind in kinds]

    def _axesNode(self) -> Any:
        node = slicer.mrmlScene.GetNodeByID(self._ui.reviewAxesComboBox.currentData or "")
        if node is None and self._review is not None:
            node = self._review.xrayNodes[0]
        return node

    def _set(self, axis: str, value: float, gesture: str = "") -> None:
        if self._review is None:
            return
        nudge = replace(self._nudge, **{axis: value})
        if nudge != self._nudge:
            # Once hardened it cannot be moved; the controls then stay where they were.
            with contextlib.suppress(InputError):
                self._review.session.nudgeFrom(self._base, nudge, self._axesNode(), gesture)
                self._nudge = nudge
        self.show()

    def _onSlider(self, axis: str) -> None:
        if not self._updating:
            self._set(axis, self._widgets(axis)[0].value / _PER_UNIT, f"drag {axis}")

    def _onBox(self, axis: str) -> None:
        if not self._updating:
            self._set(axis, self._widgets(axis)[1].value)
