"""Step 4: the computation, its progress and its end."""

from __future__ import annotations

from typing import Any

from RadGSRegLib.errors import Cancelled, InputError
from slicer.i18n import tr as _

from .. import environment
from ..compute import checkOutputs
from ..results import OutputNodes, RegistrationResult
from .step import PanelContext, Step, modify


class RegisterStep(Step):
    """Starts and cancels the registration, and shows how far it is."""

    name = "register"

    def __init__(self, ui: Any, logic: Any, context: PanelContext) -> None:
        super().__init__(ui, logic, context)
        self.result: RegistrationResult | None = None
        ui.applyButton.connect("clicked(bool)", self.onApply)

    def update(self) -> None:
        button = self.ui.applyButton
        if self.context.busy:
            button.text = _("Cancel")
            button.toolTip = _("Stop the registration")
            button.enabled = True
            return
        problem = self.missing()
        button.text = _("Apply")
        button.toolTip = problem or _("Register the vertebra to the X-rays")
        button.enabled = not problem

    def missing(self) -> str:
        for name in ("ct", "xray", "start"):
            problem = self.context.steps[name].missing()
            if problem:
                return problem
        parameters = self.parameters
        try:
            checkOutputs(self._outputs(), [parameters.ctVolume, *parameters.xrays])
        except InputError as error:
            return str(error)
        return ""

    def cancel(self) -> None:
        """Stop what is being computed, if anything is."""
        if self.context.task is not None:
            self.context.task.cancel()

    def cleanup(self) -> None:
        self.cancel()
        if self.context.task is not None:
            self.context.task.job.wait(2.0)

    def onApply(self, *args: Any) -> None:
        if self.context.task is not None:
            self.context.task.cancel()
            self.ui.progressLabel.text = _("Stopping...")
            return
        with self.attempt():
            if environment.missingPackages():
                self.logic.installDependencies()
            parameters = self.parameters
            self.context.task = self.logic.register(
                parameters.ctVolume,
                parameters.segmentation,
                parameters.segmentId,
                list(parameters.xrays),
                startNode=parameters.startTransform,
                device=parameters.device,
                outputs=self._outputs(),
                waitForCompletion=False,
                progressCallback=self.onProgress,
                completedCallback=self.onCompleted,
            )
            self.onProgress(0.0, _("Starting..."))

    def onProgress(self, fraction: float, message: str) -> None:
        self.ui.progressBar.value = round(100 * fraction)
        self.ui.progressLabel.text = message

    def onCompleted(self, task: Any) -> None:
        self.context.task = None
        self.ui.progressBar.value = 0
        self.ui.progressLabel.text = ""
        with self.attempt():
            if isinstance(task.error, Cancelled):
                self.ui.progressLabel.text = _("Cancelled")
            elif task.error is not None:
                raise task.error
            else:
                self._take(task.result)

    def _take(self, result: RegistrationResult) -> None:
        self.result = result
        if self.parameters is not None:
            with modify(self.parameters):
                self.parameters.ctToWorld = result.transformNode
                self.parameters.reconstruction = result.reconstructionNode
                self.parameters.gaussians = result.gaussiansNode
        text = _("Result: {status}").format(status=result.status)
        self.ui.progressLabel.text = "\n".join([text, *result.notes])
        self.context.steps["review"].setResult(result)

    def _outputs(self) -> OutputNodes:
        parameters = self.parameters
        return OutputNodes(parameters.ctToWorld, parameters.reconstruction, parameters.gaussians)
