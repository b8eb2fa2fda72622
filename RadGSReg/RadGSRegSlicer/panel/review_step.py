"""Step 5: looking at the result, correcting it, accepting it or not."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import slicer
from RadGSRegLib.errors import InputError
from slicer.i18n import tr as _

from .. import environment, xray
from ..results import RegistrationResult
from ..review import views
from ..review.nudge import AXES, SHIFTS, Nudge
from ..review.review import Review
from .keys import ArrowKeys
from .step import PanelContext, Step, fillChoices, selectChoice

_POLL_MS = 40
_FLICKER_MS = 600
_PER_UNIT = 10.0  # positions of a slider in a millimetre or a degree


class ReviewStep(Step):
    """What the registration gave; its widgets stand in ``ui.reviewContent``."""

    name = "review"

    def __init__(self, ui: Any, logic: Any, context: PanelContext) -> None:
        super().__init__(ui, logic, context)
        self.review: Review | None = None
        self._key: tuple[str, ...] = ()
        self._unusable = ""
        self._updating = False
        self._base: Any = None
        self._nudge = Nudge()
        self._choices: dict[str, str] = {}
        self._shown3d: tuple[Any, ...] = ()
        self._keys = ArrowKeys(self.onKey)
        self._poll = _timer(_POLL_MS, self.onPoll)
        self._flicker = _timer(_FLICKER_MS, self.onFlicker)
        self._fill()
        self._connect()
        # A scene may be opened that was saved in this layout.
        views.addLayout(slicer.mrmlScene)

    # Steps of the panel

    def setParameterNode(self, parameters: Any) -> None:
        super().setParameterNode(parameters)
        self._close()

    def setResult(self, result: RegistrationResult | None) -> None:
        """A registration has ended with this result (step 4 calls this)."""
        wasLaidOut = self.review is not None and self.review.isLaidOut
        self._close(keepLayout=wasLaidOut)
        self._ensure()
        if wasLaidOut and self.review is not None:
            self.review.showLayout()

    def missing(self) -> str:
        if not self.parameters.ctToWorld:
            return _("Register first")
        return self._unusable

    def ready(self) -> str:
        if self.review is None:
            return _("Ready")
        session = self.review.session
        if session.isHardened:
            return _("Hardened")
        return _("Accepted") if session.isAccepted else _("To be looked at and accepted")

    def cleanup(self) -> None:
        self._close()
        self._keys.remove()

    def update(self) -> None:
        if self.context.busy:
            # The computation needs the processor more than a score does.
            if self.review is not None:
                self.review.stopScoring()
        else:
            self._ensure()
        self._showControls()
        self._show3d()
        self._compare()

    # Handlers

    def onLayout(self, *args: Any) -> None:
        with self.attempt():
            if self.review is None:
                raise InputError(_("review"), self.missing() or _("there is nothing to look at"))
            self.review.showLayout(self._chosenXrays())
            self._startScoring()
            self._installKeys()

    def onLeave(self, *args: Any) -> None:
        with self.attempt():
            self._keys.remove()
            if self.review is not None:
                self.review.stopScoring()
                self.review.leaveLayout()

    def onViews(self, *args: Any) -> None:
        if not self._updating and self.review is not None and self.review.isLaidOut:
            with self.attempt():
                self.review.showLayout(self._chosenXrays())

    def onMode(self, *args: Any) -> None:
        if not self._updating and self.parameters is not None:
            self.parameters.reviewMode = self.ui.reviewModeComboBox.currentData

    def onContent(self, *args: Any) -> None:
        if not self._updating and self.parameters is not None:
            self.parameters.reviewContent = self.ui.reviewContentComboBox.currentData

    def onOpacity(self, *args: Any) -> None:
        if not self._updating and self.parameters is not None:
            self.parameters.reviewOpacity = self.ui.reviewOpacitySlider.value / 100.0

    def onOverview(self, *args: Any) -> None:
        with self.attempt():
            if self.review is not None:
                self.review.overview()

    def onAlong(self, index: int) -> None:
        with self.attempt():
            if self.review is not None:
                chosen = self._chosenXrays()
                self.review.lookAlong(chosen[min(index, len(chosen) - 1)])

    def onAxes(self, *args: Any) -> None:
        if not self._updating:
            self._rebase()
            self._showNudge()

    def onSlider(self, axis: str) -> None:
        if not self._updating:
            value = getattr(self.ui, f"review{axis.capitalize()}Slider").value / _PER_UNIT
            self._setNudge(axis, value, f"drag {axis}")

    def onSpin(self, axis: str) -> None:
        if not self._updating:
            self._setNudge(axis, getattr(self.ui, f"review{axis.capitalize()}SpinBox").value)

    def onStep(self, axis: str, sign: int) -> None:
        self.onKey(axis, sign, None)

    def onKey(self, axis: str, sign: int, viewName: str | None) -> None:
        """One step along or about an axis, of the X-ray in a view (or the one that is chosen)."""
        if self.review is None or self.parameters is None:
            return
        node = self.review.shown.get(viewName or "")
        if node is not None:
            chosen = self.ui.reviewAxesComboBox
            selectChoice(chosen, node.GetID())
            self._rebase()
        step = self.parameters.reviewStepMm if axis in SHIFTS else self.parameters.reviewStepDeg
        self._setNudge(axis, getattr(self._nudge, axis) + sign * step)

    def onUndo(self, *args: Any) -> None:
        self._act(lambda review: review.session.undo())

    def onRedo(self, *args: Any) -> None:
        self._act(lambda review: review.session.redo())

    def onReset(self, *args: Any) -> None:
        self._act(lambda review: review.session.reset())

    def onRefine(self, *args: Any) -> None:
        def refine(review: Review) -> None:
            self._startScoring()
            review.refine(self._rebased)

        self._act(refine)

    def onAccept(self, *args: Any) -> None:
        if self._updating:
            return

        def accept(review: Review) -> None:
            session = review.session
            (session.withdraw if session.isAccepted else session.accept)()

        self._act(accept)

    def onHarden(self, *args: Any) -> None:
        self._act(lambda review: review.session.harden())

    def onSave(self, *args: Any) -> None:
        folder = self.ui.reviewReportPathLineEdit.currentPath

        def save(review: Review) -> None:
            if not folder:
                raise InputError(_("report"), _("no folder is chosen"))
            self.ui.reviewScoreLabel.text = _("Saving the report...")
            review.saveReportLater(folder, self._saved)

        self._act(save)

    def onPoll(self) -> None:
        if self.review is None or self.review.client is None:
            self._poll.stop()
            return
        self.review.poll()

    def onFlicker(self) -> None:
        if self.review is not None:
            self.review.flick()

    # Inside

    def _fill(self) -> None:
        fillChoices(
            self.ui.reviewModeComboBox,
            {
                "xray": _("the X-ray alone"),
                "blend": _("X-ray and rendering blended"),
                "checkerboard": _("checkerboard of both"),
                "flicker": _("one after the other"),
                "rendering": _("the rendering alone"),
            },
            "xray",
        )
        fillChoices(
            self.ui.reviewContentComboBox,
            {"bones": _("all bone of the CT"), "vertebra": _("the vertebra alone")},
            "bones",
        )

    def _connect(self) -> None:
        ui = self.ui
        for name, handler in (
            ("Layout", self.onLayout),
            ("Leave", self.onLeave),
            ("Overview", self.onOverview),
            ("Undo", self.onUndo),
            ("Redo", self.onRedo),
            ("Reset", self.onReset),
            ("Refine", self.onRefine),
            ("Accept", self.onAccept),
            ("Harden", self.onHarden),
            ("Save", self.onSave),
        ):
            getattr(ui, f"review{name}Button").connect("clicked(bool)", handler)
        ui.reviewAlongFirstButton.connect("clicked(bool)", lambda *args: self.onAlong(0))
        ui.reviewAlongSecondButton.connect("clicked(bool)", lambda *args: self.onAlong(1))
        for name, handler in (
            ("First", self.onViews),
            ("Second", self.onViews),
            ("Mode", self.onMode),
            ("Content", self.onContent),
            ("Axes", self.onAxes),
        ):
            getattr(ui, f"review{name}ComboBox").connect("currentIndexChanged(int)", handler)
        ui.reviewOpacitySlider.connect("valueChanged(int)", self.onOpacity)
        ui.reviewReportPathLineEdit.connect(
            "currentPathChanged(QString)", lambda *args: self._showControls()
        )
        for axis in AXES:
            part = f"review{axis.capitalize()}"
            getattr(ui, f"{part}Slider").connect(
                "valueChanged(int)", lambda *args, axis=axis: self.onSlider(axis)
            )
            getattr(ui, f"{part}SpinBox").connect(
                "valueChanged(double)", lambda *args, axis=axis: self.onSpin(axis)
            )
            for sign, name in ((-1, "Minus"), (1, "Plus")):
                getattr(ui, f"{part}{name}Button").connect(
                    "clicked(bool)",
                    lambda *args, axis=axis, sign=sign: self.onStep(axis, sign),
                )

    def _wanted(self) -> tuple[Any, ...] | None:
        parameters = self.parameters
        if parameters is None or not parameters.ctToWorld or not parameters.ctVolume:
            return None
        if not parameters.segmentation or not parameters.segmentId:
            return None
        xrays = [node for node in parameters.xrays if xray.isXray(node)]
        if not xrays:
            return None
        return (
            parameters.ctVolume,
            parameters.segmentation,
            parameters.segmentId,
            xrays,
            parameters.ctToWorld,
            parameters.reconstruction,
            parameters.gaussians,
        )

    def _ensure(self) -> None:
        """Have a review of the very nodes that are chosen, or none."""
        wanted = self._wanted()
        key = () if wanted is None else tuple(_identify(part) for part in wanted)
        if key == self._key:
            return
        self._close()
        self._key = key
        if wanted is None:
            return
        try:
            self.review = Review(*wanted)
        except InputError as error:
            self._unusable = str(error)
            return
        self.review.updated.append(self._showVerdict)
        self._rebase()
        nodes = {node.GetID(): node.GetName() for node in self.review.xrayNodes}
        first, second = (list(nodes) * 2)[:2]
        fillChoices(self.ui.reviewFirstComboBox, nodes, first)
        fillChoices(self.ui.reviewSecondComboBox, nodes, second)
        fillChoices(self.ui.reviewAxesComboBox, nodes, first)
        self._shown3d = ()
        self._applied = ()
        if self.review.isLaidOut:  # a scene that was saved in this layout
            self.review.showLayout(self._chosenXrays())

    def _close(self, keepLayout: bool = False) -> None:
        self._poll.stop()
        self._flicker.stop()
        self._keys.remove()
        if self.review is not None:
            if keepLayout:
                self.review.forgetLayout()
            self.review.close()
        self.review = None
        self._key = ()
        self._unusable = ""
        self._base, self._nudge = None, Nudge()

    def _act(self, what: Any) -> None:
        with self.attempt():
            if self.review is not None:
                what(self.review)
                self._rebase()

    def _startScoring(self) -> None:
        if self.review is None or self.review.client is not None:
            return
        missing = environment.missingPackages()
        if missing:
            names = ", ".join(missing)
            self.review.problem = _("No scores: {names} must be installed").format(names=names)
            return
        self.review.startScoring()
        self._poll.start()

    def _installKeys(self) -> None:
        if self.parameters is not None and self.parameters.reviewKeys:
            self._keys.install(views.XRAY_VIEWS)
        else:
            self._keys.remove()

    def _chosenXrays(self) -> list[Any]:
        scene = slicer.mrmlScene
        chosen = (self.ui.reviewFirstComboBox.currentData, self.ui.reviewSecondComboBox.currentData)
        nodes = [scene.GetNodeByID(id_) for id_ in chosen if id_]
        return [node for node in nodes if node is not None]

    def _axesNode(self) -> Any:
        node = slicer.mrmlScene.GetNodeByID(self.ui.reviewAxesComboBox.currentData or "")
        if node is None and self.review is not None:
            node = self.review.xrayNodes[0]
        return node

    def _rebase(self) -> None:
        """The present pose is where the sliders' zero is."""
        self._base = None if self.review is None else self.review.session.pose
        self._nudge = Nudge()

    def _rebased(self) -> None:
        self._rebase()
        self._showVerdict()

    def _setNudge(self, axis: str, value: float, gesture: str = "") -> None:
        if self.review is None:
            return
        nudge = Nudge(**{**vars(self._nudge), axis: value})
        if nudge == self._nudge:
            return
        self._nudge = nudge
        with contextlib.suppress(InputError):
            self.review.session.nudgeFrom(self._base, nudge, self._axesNode(), gesture)
        self._showNudge()

    def _saved(self, outcome: Path | Exception) -> None:
        with self.attempt():
            if isinstance(outcome, Exception):
                raise outcome
        if not self.problem:
            self.ui.reviewScoreLabel.text = _("Saved: {folder}").format(folder=outcome)

    # Showing

    def _compare(self) -> None:
        review, parameters = self.review, self.parameters
        if review is None or parameters is None:
            self._flicker.stop()
            return
        wanted = (
            parameters.reviewMode,
            parameters.reviewOpacity,
            parameters.reviewContent,
            parameters.reviewEnhance,
        )
        if wanted != (review.mode, review.opacity, review.content, review.enhance):
            review.setComparison(*wanted)
        if parameters.reviewWhole != review.whole:
            review.fit(parameters.reviewWhole)
        if parameters.reviewMode == "flicker":
            if not self._flicker.active:
                self._flicker.start()
        else:
            self._flicker.stop()
        if not parameters.reviewKeys:
            self._keys.remove()
        elif review.isLaidOut and not self._keys.isInstalled:
            self._installKeys()

    def _show3d(self) -> None:
        review, parameters = self.review, self.parameters
        if review is None or parameters is None:
            return
        wanted = (
            parameters.reviewBefore,
            parameters.reviewAfter,
            parameters.reviewVolume,
            parameters.reviewGaussians,
        )
        if wanted != self._shown3d:
            self._shown3d = wanted
            if parameters.startTransform:
                from ..frames import transformMatrix

                with contextlib.suppress(InputError):
                    review.display.setBeforePose(transformMatrix(parameters.startTransform))
            review.show3d(*wanted)

    def _showControls(self) -> None:
        ui, parameters = self.ui, self.parameters
        self._updating = True
        try:
            if parameters is not None:
                selectChoice(ui.reviewModeComboBox, parameters.reviewMode)
                selectChoice(ui.reviewContentComboBox, parameters.reviewContent)
                ui.reviewOpacitySlider.value = round(100 * parameters.reviewOpacity)
                ui.reviewOpacitySlider.enabled = parameters.reviewMode == "blend"
                ui.reviewContentComboBox.enabled = parameters.reviewMode != "xray"
        finally:
            self._updating = False
        there = self.review is not None
        for name in ("Compare", "Nudge"):
            getattr(ui, f"review{name}GroupBox").enabled = there
        ui.review3dGroupBox.enabled = there
        ui.reviewLayoutButton.enabled = there
        ui.reviewLeaveButton.enabled = there and self.review.isLaidOut
        folder = str(ui.reviewReportPathLineEdit.currentPath or "")
        ui.reviewSaveButton.enabled = there and bool(folder)
        ui.reviewSaveButton.toolTip = (
            _("The report, the pose under review as a transform, and pictures of it.")
            if folder
            else _("Choose a folder first")
        )
        self._showVerdict()
        self._showNudge()

    def _showVerdict(self) -> None:
        ui, review = self.ui, self.review
        session = None if review is None else review.session
        ui.reviewCardLabel.text = "" if review is None else review.card().toHtml()
        self._updating = True
        try:
            movable = session is not None and not session.isHardened
            ui.reviewAcceptButton.enabled = movable
            ui.reviewAcceptButton.checked = session is not None and session.isAccepted
            ui.reviewAcceptButton.text = (
                _("Accepted") if session is not None and session.isAccepted else _("Accept")
            )
            ui.reviewHardenButton.enabled = movable
            ui.reviewResetButton.enabled = movable
            ui.reviewRefineButton.enabled = movable and not environment.missingPackages()
            ui.reviewUndoButton.enabled = session is not None and bool(session.canUndo)
            ui.reviewRedoButton.enabled = session is not None and bool(session.canRedo)
        finally:
            self._updating = False
        ui.reviewScoreLabel.text = self._scoreText()
        self.showStatus()

    def _scoreText(self) -> str:
        review = self.review
        if review is None:
            return ""
        if review.problem:
            return review.problem
        if review.client is None:
            return _("Scores: show the X-rays side by side")
        if not review.client.isReady:
            return _("Scores: getting ready ({what})").format(what=review.client.message or "...")
        if review.scores is None:
            return _("Scores: ...")
        found = [f"{name} {score:.3f}" for name, score in review.scores["views"].items()]
        return _("Score {all:.3f}: {views}").format(
            all=review.scores["score"], views=", ".join(found)
        )

    def _showNudge(self) -> None:
        self._updating = True
        try:
            for axis in AXES:
                value = getattr(self._nudge, axis)
                part = f"review{axis.capitalize()}"
                slider, box = getattr(self.ui, f"{part}Slider"), getattr(self.ui, f"{part}SpinBox")
                slider.value = round(_PER_UNIT * value)
                if abs(box.value - value) > 0.01:
                    box.value = value
        finally:
            self._updating = False


def _timer(milliseconds: int, slot: Any) -> Any:
    import qt

    timer = qt.QTimer()
    timer.setInterval(milliseconds)
    timer.connect("timeout()", slot)
    return timer


def _identify(part: Any) -> str:
    if isinstance(part, str) or part is None:
        return part or ""
    if isinstance(part, list):
        return ",".join(node.GetID() for node in part)
    return str(part.GetID())
