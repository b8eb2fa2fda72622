"""Between CT and operation: a model for this one patient, if the user wants one."""

from typing import Any

import slicer
from RadGSRegLib.errors import Cancelled, InputError
from slicer.i18n import tr as _

from ..exchange.modelcard import describe
from ..operations.pretraining import TrainedModel, defaultPath, filesOf, modelFile, vertebraName
from .step import PanelContext, Step, onPath
from .timing import ProgressDisplay


class TrainStep(Step):
    """Trains for the chosen vertebra, and hands the model to the registration."""

    name = "train"

    def __init__(self, ui: Any, logic: Any, context: PanelContext) -> None:
        super().__init__(ui, logic, context)
        self._finishing = False
        self._choices: tuple[str, ...] = ()
        self._progress = ProgressDisplay(ui.trainProgressBar, ui.trainProgressLabel)
        onPath(ui.trainPathLineEdit, self.onTargetPath)
        ui.trainButton.connect("clicked(bool)", self.onTrain)
        ui.finishTrainingButton.connect("clicked(bool)", self.onFinish)

    def setParameterNode(self, parameters: Any) -> None:
        super().setParameterNode(parameters)
        if parameters is None:
            self.ui.trainProgressLabel.text = ""
            self.ui.trainResultLabel.text = ""

    def update(self) -> None:
        ui, parameters = self.ui, self.parameters
        if ui.trainPathLineEdit.currentPath != parameters.trainPath:
            ui.trainPathLineEdit.currentPath = parameters.trainPath
        running = self._run is not None
        ui.trainProgressBar.visible = running
        ui.trainMinutesSpinBox.enabled = not running
        ui.trainPathLineEdit.enabled = not running
        self._updateFinish()
        self.showRunButton(
            ui.trainButton,
            self.missing(),
            (_("Train for this patient"), _("Train weights for this vertebra, from CT and labels")),
            _("Stop the training; nothing is written"),
        )

    def missing(self) -> str:
        problem = self.context.steps["ct"].missing()
        if problem:
            return _("Step {number}: {problem}").format(number=1, problem=problem)
        try:
            self._target()
        except InputError as error:
            return str(error)
        return ""

    def ready(self) -> str:
        if self._run is not None:
            return _("Training; the rest of Slicer can be used")
        path = self._target()
        there = [file for file in filesOf(path) if file.exists()]
        if there:
            return _("Ready; this file will be replaced: {path}").format(path=there[0])
        return _("Ready; the model will be {path}").format(path=path)

    # Handlers

    def onTargetPath(self, *args: Any) -> None:
        if self.parameters is not None:
            self.parameters.trainPath = str(self.ui.trainPathLineEdit.currentPath or "")

    def onTrain(self, *args: Any) -> None:
        if self._run is not None:
            self.ui.trainProgressLabel.text = _("Stopping...")
            self._run.cancel()
            return
        with self.attempt():
            self.installMissing()
            parameters = self.parameters
            self._finishing = False
            self._choices = self._chosen()
            self.ui.trainResultLabel.text = ""
            self._run = self.context.run = self.logic.pretrain(
                parameters.ctVolume,
                parameters.segmentation,
                parameters.segmentId,
                self._target(),
                minutes=parameters.trainMinutes,
                device=parameters.device,
                waitForCompletion=False,
                progressCallback=self.onProgress,
                completedCallback=self.onCompleted,
            )
            self._progress.begin(_("preparing the files"), 60.0 * parameters.trainMinutes)

    def onFinish(self, *args: Any) -> None:
        if self._run is not None:
            with self.attempt():
                self._run.finish()
                self._finishing = True
                self._progress.begin(_("ending with the best so far"))

    def onProgress(self, fraction: float, message: str) -> None:
        self._progress.show(fraction, message)
        figures = self._run.figures if self._run is not None else {}
        if figures:
            text = _(
                "Best so far, on simulated X-rays: reconstruction {recm:.1f} mm, registration "
                "{regm:.1f} mm, before any refinement"
            )
            recm, regm = figures.get("recm_mm", -1.0), figures.get("regm_mm", -1.0)
            self.ui.trainResultLabel.text = text.format(recm=recm, regm=regm)
        self._updateFinish()

    def onCompleted(self, run: Any) -> None:
        self._run = self.context.run = None
        self._progress.end()
        self.ui.trainResultLabel.text = ""
        with self.attempt():
            if run.isDiscarded:
                pass  # the scene that it belonged to is gone
            elif isinstance(run.error, Cancelled):
                self.ui.trainProgressLabel.text = _("Cancelled; no model was written")
            elif run.error is not None:
                raise run.error
            else:
                self._take(run.result)

    def _take(self, model: TrainedModel) -> None:
        """Show the model, and use it if the vertebra is still the one it was trained for."""
        parameters = self.parameters or self.logic.getParameterNode()
        if self._chosen() == self._choices:
            with slicer.util.NodeModify(parameters):
                parameters.modelPath = str(model.path)
                parameters.method = "learned"
            text = _("Trained. Step 4 uses this model: {path}")
        else:
            text = _("Trained, for a vertebra that is no longer the chosen one: {path}")
        self.ui.trainProgressLabel.text = text.format(path=model.path)
        lines = describe(model.card)
        lines.append(_("More in {name}").format(name=filesOf(model.path)[1].name))
        self.ui.trainResultLabel.text = "\n".join(lines)

    def _target(self) -> Any:
        """Where the model goes. Raises InputError where nothing can be written there."""
        parameters = self.parameters
        if parameters.trainPath:
            return modelFile(parameters.trainPath)
        return defaultPath(vertebraName(parameters.segmentation, parameters.segmentId))

    def _chosen(self) -> tuple[str, ...]:
        """What the training depends on, to be compared."""
        parameters = self.parameters
        if parameters is None:
            return ()
        nodes = (parameters.ctVolume, parameters.segmentation)
        return (parameters.segmentId, *(node.GetID() if node else "" for node in nodes))

    def _updateFinish(self) -> None:
        button = self.ui.finishTrainingButton
        button.visible = self._run is not None
        button.enabled = bool(self._run is not None and self._run.figures and not self._finishing)
        button.toolTip = (
            _("End now and keep the best model so far")
            if button.enabled or self._finishing
            else _("Nothing has been measured yet")
        )
