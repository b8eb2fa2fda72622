"""Step 5: looking at the result, correcting it, accepting it or not."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import slicer
from RadGSRegLib.errors import InputError
from slicer.i18n import tr as _

from ..exchange.results import RegistrationResult
from ..exchange.spineresults import SpineResult
from ..process import environment
from ..process.timers import makeTimer, nextTurn
from ..review import views
from ..review.display import showGaussians, showVolumeRendering
from ..review.review import Review
from ..scene import xray
from ..scene.registeredspine import RegisteredLevel, isLevel, segmentOf
from .review_levels import LevelControls, isSegmentGone
from .review_nudge import NudgeControls
from .review_views import ViewControls
from .review_words import hardenTip, scoreText
from .step import PanelContext, Step, onPath

_POLL_MS = 40


class ReviewStep(Step):
    """What the registration gave; its widgets stand in ``ui.reviewContent``.

    The review follows the chosen nodes: it is made as soon as there is a result, and anew when
    another CT, segment, X-ray or transform is chosen.
    """

    name = "review"

    def __init__(self, ui: Any, logic: Any, context: PanelContext) -> None:
        super().__init__(ui, logic, context)
        self.review: Review | None = None
        self._key: tuple[str, ...] = ()
        self._unusable = ""
        self._said = ""
        self.nudge = NudgeControls(self)
        self.views = ViewControls(self)
        self.levels = LevelControls(self, self.showLevel)
        self._timer = makeTimer(_POLL_MS, self.onPoll)
        actions: dict[str, Callable[[Review], object]] = {
            "Layout": self._showLayout,
            "Leave": self._leave,
            "Undo": lambda review: review.session.undo(),
            "Redo": lambda review: review.session.redo(),
            "Reset": lambda review: review.session.reset(),
            "Refine": self._refine,
            "Accept": self._accept,
            "Harden": lambda review: review.session.harden(),
            "Save": self._save,
        }
        for name, action in actions.items():
            button = getattr(ui, f"review{name}Button")
            button.connect("clicked(bool)", lambda *args, action=action: self._act(action))
        onPath(ui.reviewReportPathLineEdit, self.onFolder)
        # A scene may be opened that was saved in this layout.
        views.addLayout(slicer.mrmlScene)

    # As a step of the panel

    def setParameterNode(self, parameters: Any) -> None:
        super().setParameterNode(parameters)
        # Back from another module, the review of the same nodes goes on, and can still be undone.
        if parameters is None:
            self._close()
            self._showControls()  # no verdict may stay of a scene that is gone

    def showResult(self, result: RegistrationResult | SpineResult) -> Iterator[None]:
        """A registration has ended with this result: show it, a part at each step."""
        before = self._closeInLayout()
        yield
        self._ensure(isShown=False)
        review = self.review
        if review is None or views.layoutNode(slicer.mrmlScene) is None:
            return
        if review.layout.isShown:
            review.layout.before = before
        elif (result.first if isinstance(result, SpineResult) else result).status == "failed":
            return
        yield
        try:
            for _ in review.showLayoutInParts(self.views.chosen):
                yield
                if self.review is not review:
                    return
            yield  # the views have their size only now
            review.layout.overview()
        except InputError as error:
            self.problem = str(error)

    def showLevel(self, level: RegisteredLevel) -> None:
        """Go on with another vertebra of several, in the same layout."""
        with self.attempt():
            scored = self.review is not None and self.review.client is not None
            before, parameters = self._closeInLayout(), self.parameters
            showVolumeRendering(parameters.reconstruction, False)
            showGaussians(parameters.gaussians, False)
            with slicer.util.NodeModify(parameters):
                parameters.ctToWorld = level.transformNode
                parameters.reconstruction = level.reconstructionNode
                parameters.gaussians = level.gaussiansNode
            self._ensure()
            review = self.review
            if review is None:
                return
            if review.layout.isShown:
                review.layout.before = before
            if scored and not self.context.busy:
                self._startScoring(review)

    def startScoring(self) -> None:
        """Score the pose under review, if its X-rays are shown."""
        if self.review is not None and self.review.layout.isShown:
            self._startScoring(self.review)

    def missing(self) -> str:
        if not self.parameters.ctToWorld:
            return _("Register first")
        if isLevel(self.parameters.ctToWorld) and not segmentOf(self.parameters.ctToWorld):
            return _("No segment has the name of this vertebra: it cannot be drawn")
        if isSegmentGone(self.parameters):
            return _("The segment of this vertebra has been removed: it cannot be drawn")
        return self._unusable

    def ready(self) -> str:
        if self.review is None:
            return _("Ready")
        session = self.review.session
        if session.isHardened:
            return _("Hardened")
        accepted, count = self.levels.accepted()
        if count:
            text = _("{accepted} of {count} vertebrae accepted")
            return text.format(accepted=accepted, count=count)
        return _("Accepted") if session.isAccepted else _("To be looked at and accepted")

    def update(self) -> None:
        if not self.context.busy:
            self._ensure()
        elif self.review is not None:
            # The computation needs the processor more than a score does.
            self.review.stopScoring()
        self.views.update()
        self.nudge.updateKeys()
        self._showControls()

    # What the buttons do

    def _showLayout(self, review: Review) -> None:
        isNew = not review.layout.isShown
        review.showLayout(self.views.chosen)
        if isNew:
            nextTurn(review.layout.overview)
        self._startScoring(review)

    def _leave(self, review: Review) -> None:
        review.stopScoring()
        if review.layout.before is None:  # another step, or a scene, brought this layout
            review.layout.before = views.layoutBefore(slicer.mrmlScene)
        review.layout.leave()

    def _refine(self, review: Review) -> None:
        self._startScoring(review)
        self._said = _("Refining...")
        review.refine(self._refined)

    def _accept(self, review: Review) -> None:
        if review.session.isAccepted:
            review.session.withdraw()
        else:
            review.session.accept()

    def _save(self, review: Review) -> None:
        if not self._folder:
            raise InputError(_("report"), _("no folder is chosen"))
        self._said = _("Saving the report...")
        review.saveReportLater(self._folder, self._saved)

    @property
    def _folder(self) -> str:
        """Where the report goes, "" where that is not chosen."""
        return str(self.ui.reviewReportPathLineEdit.currentPath or "")

    def onFolder(self, *args: Any) -> None:
        self._showControls()

    def onPoll(self) -> None:
        if self.review is None or self.review.client is None:
            self._timer.stop()
        else:
            self.review.poll()

    # Inside

    def _wanted(self) -> tuple[Any, ...] | None:
        """What the review is about, or None while something is still missing."""
        parameters = self.parameters
        if parameters is None:
            return None
        xrays = [node for node in parameters.xrays if xray.isXray(node)]
        needed = (parameters.ctToWorld, parameters.ctVolume, parameters.segmentation)
        segment = segmentOf(parameters.ctToWorld, parameters.segmentId)
        if not (all(needed) and xrays and segment) or isSegmentGone(parameters):
            return None
        return (
            parameters.ctVolume,
            parameters.segmentation,
            segment,
            xrays,
            parameters.ctToWorld,
            parameters.reconstruction,
            parameters.gaussians,
        )

    def _ensure(self, isShown: bool = True) -> None:
        """Have a review of the very nodes that are chosen, or none.

        It is shown at once if its layout is there already, unless ``isShown`` says otherwise.
        """
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
        self.review.updated.append(self._showControls)
        self.nudge.setReview(self.review)
        self.views.setReview(self.review)
        if isShown and self.review.layout.isShown:  # a scene that was saved in this layout
            self.review.showLayout(self.views.chosen)

    def renew(self) -> None:
        """The X-rays stand elsewhere now: what there is of a review is of where they stood."""
        self._close()

    def _closeInLayout(self) -> int | None:
        """Close the review so that the next one goes on in its layout; the layout from before."""
        before = None
        if self.review is not None and self.review.layout.isShown:
            before, self.review.layout.before = self.review.layout.before, None
        self._close()
        return before

    def _close(self) -> None:
        self._timer.stop()
        self.nudge.setReview(None)
        self.views.setReview(None)
        if self.review is not None:
            self.review.close()
        self.review = None
        self._key = ()
        self._unusable = self._said = ""

    def _act(self, what: Callable[[Review], object]) -> None:
        self._said = ""
        with self.attempt():
            if self.review is None:
                raise InputError(_("review"), self.missing() or _("there is nothing to look at"))
            what(self.review)
            self.nudge.rebase()

    def _startScoring(self, review: Review) -> None:
        if review.client is not None:
            return
        missing = environment.missingPackages()
        if missing:
            names = ", ".join(missing)
            review.problem = _("No scores: {names} must be installed").format(names=names)
            return
        review.startScoring()
        self._timer.start()

    def _refined(self) -> None:
        self._said = ""
        self.nudge.rebase()
        self._showControls()

    def _saved(self, outcome: Path | Exception) -> None:
        self._said = ""
        with self.attempt():
            if isinstance(outcome, Exception):
                raise outcome
            self._said = _("Saved: {folder}").format(folder=outcome)

    def _showControls(self) -> None:
        ui, review = self.ui, self.review
        session = None if review is None else review.session
        there = session is not None
        movable = session is not None and not session.isHardened
        accepted = session is not None and session.isAccepted
        card = None if review is None else review.card()
        ui.reviewCardLabel.text = "" if card is None else card.summaryToHtml()
        # Words that wrap do not say by themselves how high they are.
        ui.reviewCardLabel.minimumHeight = (
            0 if card is None else ui.reviewCardLabel.heightForWidth(ui.reviewCardLabel.width)
        )
        ui.reviewSpreadLabel.text = "" if card is None else card.spreadToHtml()
        for box in (ui.reviewCompareGroupBox, ui.reviewNudgeGroupBox, ui.review3dGroupBox):
            box.enabled = there
        ui.reviewLayoutButton.enabled = there
        ui.reviewLeaveButton.enabled = review is not None and review.layout.isShown
        ui.reviewAcceptButton.enabled = movable
        ui.reviewAcceptButton.checked = accepted
        ui.reviewAcceptButton.text = _("Accepted") if accepted else _("Accept")
        several = session is not None and isLevel(session.transformNode)
        ui.reviewHardenButton.enabled = movable and not several
        ui.reviewHardenButton.toolTip = hardenTip(several)
        ui.reviewResetButton.enabled = movable
        ui.reviewRefineButton.enabled = movable and not environment.missingPackages()
        ui.reviewUndoButton.enabled = session is not None and bool(session.canUndo)
        ui.reviewRedoButton.enabled = session is not None and bool(session.canRedo)
        ui.reviewSaveButton.enabled = there and bool(self._folder)
        ui.reviewSaveButton.toolTip = (
            _("The report, the pose under review as a transform, and pictures of it.")
            if self._folder
            else _("Choose a folder first")
        )
        ui.reviewScoreLabel.text = "\n".join(
            part for part in (scoreText(self.review), self._said) if part
        )
        self.levels.update()
        self.showStatus()


def _identify(part: Any) -> str:
    if isinstance(part, str) or part is None:
        return part or ""
    if isinstance(part, list):
        return ",".join(node.GetID() for node in part)
    return str(part.GetID())
