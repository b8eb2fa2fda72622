"""Beside step 4: a volume of the X-rays alone, whatever the CT is, and the tools after it."""

from __future__ import annotations

from typing import Any

import slicer
from RadGSRegLib.errors import Cancelled
from slicer.i18n import tr as _

from ..exchange.results import OutputNodes, ReconstructionResult
from ..operations.reconstruction import LEAST_XRAYS, ReconstructRequest
from ..review import rendering, views
from ..review.before import ViewsBefore
from ..review.display import showGaussians
from ..scene.record import REASON, RECONSTRUCTION, STATUS
from .step import PanelContext, Step
from .timing import ProgressDisplay
from .volume_tools import VolumeTools


class VolumeStep(Step):
    """Starts and cancels a reconstruction without a CT, and shows how it grows."""

    name = "volume"

    def __init__(self, ui: Any, logic: Any, context: PanelContext) -> None:
        super().__init__(ui, logic, context)
        self.result: ReconstructionResult | None = None
        self._growing = self._owed = ""  # IDs of nodes
        self._before: tuple[ViewsBefore, bool] | None = None
        self._progress = ProgressDisplay(ui.aloneProgressBar, ui.aloneLabel)
        self._tools = VolumeTools(self)
        ui.aloneButton.connect("clicked(bool)", self.onReconstruct)
        ui.withoutCtButton.connect("clicked(bool)", self.onReconstruct)

    def setParameterNode(self, parameters: Any) -> None:
        super().setParameterNode(parameters)
        self._tools.begin()
        if parameters is None:
            self.result, self._growing, self._owed = None, "", ""
            self._tools.forget()
            self.ui.aloneLabel.text = ""

    def update(self) -> None:
        self.showChoices()
        self.ui.aloneStandardizeCheckBox.enabled = len(self._xrays()) >= LEAST_XRAYS
        self.ui.aloneProgressBar.visible = self._run is not None
        for button in (self.ui.aloneButton, self.ui.withoutCtButton):
            self.showRunButton(
                button,
                self._lacking(),
                (_("Reconstruct without a CT"), _("A volume of the X-rays alone")),
                _("Stop, and keep the volume so far"),
            )
        self._tools.update()

    def missing(self) -> str:
        if self._run is not None or self.parameters.aloneVolume is not None:
            return ""
        return self._lacking()

    def ready(self) -> str:
        if self._run is not None:
            return _("Computing")
        volume = self.parameters.aloneVolume
        if volume is None:
            count = len(self._xrays())
            return _("Ready to reconstruct from {count} X-rays").format(count=count)
        verdicts = {
            "ok": _("{name} is ok: {reason}"),
            "uncertain": _("{name} is uncertain: {reason}"),
            "failed": _("{name} has failed: {reason}"),
        }
        text = verdicts.get(volume.GetAttribute(STATUS) or "", _("{name} has not been judged"))
        text = text.format(name=volume.GetName(), reason=volume.GetAttribute(REASON) or "")
        lacking = self._lacking()
        if lacking:
            text += "\n" + _("For another one: {problem}").format(problem=lacking)
        return text

    def isDoubtful(self) -> bool:
        volume = self.parameters.aloneVolume
        return self._run is None and volume is not None and volume.GetAttribute(STATUS) != "ok"

    @property
    def growing(self) -> Any:
        """The volume that is growing; None where none is."""
        return slicer.mrmlScene.GetNodeByID(self._growing) if self._run and self._growing else None

    def cancel(self) -> None:
        """Stop what is being computed, if anything is, and keep the volume so far."""
        if self._run is not None:
            self.ui.aloneLabel.text = _("Stopping...")
            self._run.cancel()

    def discard(self) -> None:
        self._before = None
        super().discard()

    def cleanup(self) -> None:
        super().cleanup()
        self._putBack()

    # Handlers

    def onReconstruct(self, *args: Any) -> None:
        if self._run is not None:
            self.cancel()
            return
        self.ui.volumeCollapsibleButton.collapsed = False
        with self.attempt():
            self.installMissing()
            request = self._makeRequest(
                waitForCompletion=False,
                progressCallback=self._progress.show,
                previewCallback=self.onGrown,
                completedCallback=self.onCompleted,
            )
            self._growing = self._owed = ""
            self._before = None
            self._run = self.context.run = request.run()
            self._progress.begin(_("preparing the files"))

    def onGrown(self, result: ReconstructionResult) -> None:
        """The volume has grown; the first time the views turn to it."""
        node = result.reconstructionNode
        if node is None or self.parameters is None:
            return
        if not self._growing:
            self._owed = node.GetID()
        self._growing = node.GetID()
        self.showOwed()
        if self.context.isShown():
            self._tools.render()

    def showOwed(self) -> None:
        """Turn the views to a volume, once; while another module is open they are that one's."""
        node = slicer.mrmlScene.GetNodeByID(self._owed) if self._owed else None
        if node is None or self.parameters is None or not self.context.isShown():
            return
        self._owed = ""
        self._before = ViewsBefore(node.GetScene()), self.parameters.volumeRendered
        rendering.plain(node)
        views.showVolumeAlone(node.GetScene(), node)
        self.parameters.volumeRendered = True

    def _putBack(self) -> None:
        """Show what was shown before there was a volume, of which nothing is left."""
        before, self._before, self._owed = self._before, None, ""
        if before is not None:
            before[0].restore(self._growing)
            parameters = self.parameters or self.logic.getParameterNode()
            parameters.volumeRendered = before[1]

    def onCompleted(self, run: Any) -> None:
        self._progress.end()
        with self.attempt():
            if run.isDiscarded:
                pass  # the scene that it belonged to is gone
            elif run.error is not None:
                self._putBack()
                if not isinstance(run.error, Cancelled):
                    raise run.error
                self.ui.aloneLabel.text = _("Cancelled before there was a volume")
            else:
                self._take(run.result)
        self._run = self.context.run = self._before = None
        self.context.update()

    def _take(self, result: ReconstructionResult) -> None:
        self.result = result
        # While another module is shown the form is not bound, but the scene keeps the result.
        parameters = self.parameters or self.logic.getParameterNode()
        with slicer.util.NodeModify(parameters):
            parameters.aloneVolume = result.reconstructionNode
            # After a Cancel there are none: those of an earlier run belong to another volume.
            parameters.aloneGaussians = result.gaussiansNode
            parameters.aloneBone = result.boneNode
            parameters.volumeNode = result.boneNode or result.reconstructionNode
            if result.gaussiansNode is not None:
                showGaussians(result.gaussiansNode, False)  # tens of thousands of points
        if not self._growing and result.reconstructionNode is not None:
            self._owed = result.reconstructionNode.GetID()  # nothing of it has been shown yet
            self.showOwed()
        texts = {
            "ok": _("Reconstructed: {reason}."),
            "uncertain": _("Uncertain, look closely: {reason}."),
        }
        lines = [texts.get(result.status, "{reason}").format(reason=result.reason)]
        if result.oddViews:
            names = ", ".join(result.oddViews)
            lines.append(_("Left out of the volume: {names}.").format(names=names))
        if result.boneNode is not None:
            name, bone = result.boneNode.GetName(), result.quality["bone"]
            lines.append(_("Bone told from soft tissue: {name}.").format(name=name))
            if bone.get("left_out"):
                names = ", ".join(bone["left_out"])
                lines.append(
                    _("Unlike what the network learned from: {names}.").format(names=names)
                )
        figure = result.quality.get("held_out_psnr_db")
        if isinstance(figure, int | float):
            lines.append(_("X-rays held out: {figure:.1f} dB.").format(figure=figure))
        self.ui.aloneLabel.text = "\n".join(lines)

    def _xrays(self) -> list[Any]:
        return [node for node in self.parameters.xrays if node is not None]

    def _lacking(self) -> str:
        """What keeps a reconstruction from being started, one sentence; empty if nothing does."""
        count = LEAST_XRAYS - len(self._xrays())
        problem = self.context.steps["xray"].missing()
        if count > 0:
            problem = _("{count} more needed: three X-rays or more show a volume without a CT")
            return _("Step 2: {problem}").format(problem=problem.format(count=count))
        if problem:
            return _("Step 2: {problem}").format(problem=problem)
        return self._makeRequest().problem()

    def _makeRequest(self, **options: Any) -> ReconstructRequest:
        """What is chosen, as a request."""
        parameters = self.parameters
        return ReconstructRequest(
            self._xrays(),
            clicks=self.context.steps["start"].usesClicks,
            device=parameters.device,
            minutes=parameters.aloneMinutes or None,
            boxMm=float(parameters.aloneBoxMm),
            holdOut=parameters.aloneHoldOut,
            standardize=parameters.aloneStandardize,
            outputs=self._outputs(),
            **options,
        )

    def _outputs(self) -> OutputNodes:
        """The nodes of an earlier run, where they are nothing else by now; else new ones."""
        parameters = self.parameters
        gaussians = parameters.aloneGaussians
        others = [parameters.ctVolume, parameters.reconstruction, *self._xrays()]
        volumes = []
        for node in (parameters.aloneVolume, parameters.aloneBone):
            isOurs = node is not None and node not in others and node.GetAttribute(RECONSTRUCTION)
            volumes.append(node if isOurs else None)
            others.append(node)
        gaussians = None if gaussians is parameters.gaussians else gaussians
        return OutputNodes(None, volumes[0], gaussians, volumes[1])
