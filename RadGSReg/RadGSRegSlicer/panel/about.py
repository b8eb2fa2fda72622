"""What this installation has, and what it lacks."""

from typing import Any

from slicer.i18n import tr as _

from ..process import environment
from ..process.driver import Driver
from .step import PanelContext, Step


class AboutStep(Step):
    """Versions, and one button that installs what is missing."""

    name = "about"

    def __init__(self, ui: Any, logic: Any, context: PanelContext) -> None:
        super().__init__(ui, logic, context)
        self._info: Driver[None] | None = None
        ui.installButton.connect("clicked(bool)", self.onInstall)
        ui.aboutButton.connect("clicked(bool)", self.onAbout)

    def setParameterNode(self, parameters: Any) -> None:
        super().setParameterNode(parameters)
        if parameters is not None:
            self.context.lookForPackages()

    def update(self) -> None:
        missing = self.context.missingPackages
        self.ui.installButton.enabled = bool(missing) and not self.context.busy
        self.ui.installButton.toolTip = (
            _("Install the Python packages that RadGSReg needs")
            if missing
            else _("Nothing is missing")
        )
        self.ui.aboutButton.enabled = self._info is None

    def missing(self) -> str:
        packages = self.context.missingPackages
        return _("Missing: {packages}").format(packages=", ".join(packages)) if packages else ""

    def ready(self) -> str:
        return _("All packages are there")

    def onInstall(self, *args: Any) -> None:
        with self.attempt():
            try:
                self.logic.installDependencies()
            finally:
                self.context.lookForPackages()

    def onAbout(self, *args: Any) -> None:
        """Ask the library itself, in a child process: loading torch takes seconds."""
        with self.attempt():
            info = Driver[None](environment.infoJob(), completedCallback=self._take)
            info.start()
            info.startTimer(100)
            self._info = info
            self.ui.aboutLabel.text = _("Asking...")

    def cleanup(self) -> None:
        if self._info is not None:
            self._info.end()

    def _take(self, info: Driver[None]) -> None:
        self._info = None
        job = info.job
        lines = [line for line in job.outputLines if line.strip()]
        self.ui.aboutLabel.text = "\n".join(lines) if job.returnCode == 0 else job.errorText
        self.context.update()
