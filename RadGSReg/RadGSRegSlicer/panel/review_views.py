"""Step 5, looking: which X-rays, what they are held against, and what the 3-D view shows."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import slicer
from RadGSRegLib.errors import InputError
from slicer.i18n import tr as _

from ..process.timers import makeTimer
from ..scene.frames import transformMatrix
from .step import Step, fillChoices

if TYPE_CHECKING:
    from ..review.review import Review

_FLICKER_MS = 600


class ViewControls:
    """The controls of the X-ray views and of the 3-D view."""

    def __init__(self, step: Step) -> None:
        self._step, self._ui, ui = step, step.ui, step.ui
        self._review: Review | None = None
        self._shown3d: tuple[Any, ...] = ()
        self._flicker = makeTimer(_FLICKER_MS, self._onFlicker)
        modes = {
            "xray": _("the X-ray alone"),
            "blend": _("X-ray and rendering blended"),
            "checkerboard": _("checkerboard of both"),
            "flicker": _("one after the other"),
            "rendering": _("the rendering alone"),
        }
        contents = {"bones": _("all bone of the CT"), "vertebra": _("the vertebra alone")}
        step.offer(ui.reviewModeComboBox, "reviewMode", modes, "xray")
        step.offer(ui.reviewContentComboBox, "reviewContent", contents, "bones")
        for box in (ui.reviewFirstComboBox, ui.reviewSecondComboBox):
            box.connect("currentIndexChanged(int)", self._onViews)
        ui.reviewOpacitySlider.connect("valueChanged(int)", self._onOpacity)
        ui.reviewOverviewButton.connect("clicked(bool)", self._onOverview)
        ui.reviewAlongFirstButton.connect("clicked(bool)", lambda *args: self._onAlong(0))
        ui.reviewAlongSecondButton.connect("clicked(bool)", lambda *args: self._onAlong(1))

    @property
    def chosen(self) -> list[Any]:
        """The X-rays of the two views, left and right."""
        boxes = (self._ui.reviewFirstComboBox, self._ui.reviewSecondComboBox)
        nodes = [slicer.mrmlScene.GetNodeByID(box.currentData or "") for box in boxes]
        return [node for node in nodes if node is not None]

    def setReview(self, review: Review | None) -> None:
        """Show this review."""
        self._flicker.stop()
        self._review = review
        self._shown3d = ()
        if review is not None:
            nodes = {node.GetID(): node.GetName() for node in review.xrayNodes}
            first, second = (list(nodes) * 2)[:2]
            fillChoices(self._ui.reviewFirstComboBox, nodes, first)
            fillChoices(self._ui.reviewSecondComboBox, nodes, second)

    def update(self) -> None:
        """Show what the parameter node says."""
        ui, parameters, review = self._ui, self._step.parameters, self._review
        if parameters is None:
            self._flicker.stop()
            return
        self._step.showChoices()
        blocked = ui.reviewOpacitySlider.blockSignals(True)
        ui.reviewOpacitySlider.value = round(100 * parameters.reviewOpacity)
        ui.reviewOpacitySlider.blockSignals(blocked)
        ui.reviewOpacitySlider.enabled = parameters.reviewMode == "blend"
        ui.reviewContentComboBox.enabled = parameters.reviewMode != "xray"
        if review is None:
            self._flicker.stop()
            return
        self._compare(review, parameters)
        self._show3d(review, parameters)

    def _compare(self, review: Review, parameters: Any) -> None:
        wanted = (
            parameters.reviewMode,
            parameters.reviewOpacity,
            parameters.reviewContent,
            parameters.reviewEnhance,
        )
        if wanted != (review.mode, review.opacity, review.content, review.enhance):
            review.setComparison(*wanted)
        if parameters.reviewWhole != review.layout.whole:
            review.layout.fit(parameters.reviewWhole)
        if parameters.reviewMode != "flicker":
            self._flicker.stop()
        elif not self._flicker.active:
            self._flicker.start()

    def _show3d(self, review: Review, parameters: Any) -> None:
        wanted = (
            parameters.reviewBefore,
            parameters.reviewAfter,
            parameters.reviewVolume,
            parameters.reviewGaussians,
        )
        if wanted == self._shown3d:
            return
        self._shown3d = wanted
        if parameters.startTransform:
            with contextlib.suppress(InputError):
                review.display.setBeforePose(transformMatrix(parameters.startTransform))
        review.show3d(*wanted)

    def _onViews(self, *args: Any) -> None:
        if self._review is not None and self._review.layout.isShown:
            with self._step.attempt():
                self._review.showLayout(self.chosen)

    def _onOpacity(self, *args: Any) -> None:
        if self._step.parameters is not None:
            self._step.parameters.reviewOpacity = self._ui.reviewOpacitySlider.value / 100.0

    def _onOverview(self, *args: Any) -> None:
        with self._step.attempt():
            if self._review is not None:
                self._review.layout.overview()

    def _onAlong(self, index: int) -> None:
        with self._step.attempt():
            chosen = self.chosen
            if self._review is not None and chosen:
                self._review.layout.lookAlong(chosen[min(index, len(chosen) - 1)])

    def _onFlicker(self) -> None:
        if self._review is not None:
            self._review.flick()
