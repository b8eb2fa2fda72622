"""Step 4: the computation, its progress and its end."""

from collections.abc import Iterator
from typing import Any

import slicer
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import Array
from RadGSRegLib.vertebrae import vertebra_level
from slicer.i18n import tr as _

from ..exchange import results
from ..exchange.modelcard import describe, knownCard, trainedFor
from ..exchange.results import OutputNodes, ReconstructionResult, RegistrationResult, keepPose
from ..exchange.spineresults import SpineResult
from ..operations.registration import RegisterRequest, refinementProblem
from ..operations.severalregistration import RegisterSpineRequest, registrationRequest
from ..process.timers import inTurns, nextTurn
from ..review.display import tintReconstruction
from ..review.views import showReconstruction
from ..scene.levels import segmentLevel
from ..scene.registeredspine import isLevel
from .ct_several import together
from .register_preview import PreviewControls
from .register_words import verdictText
from .step import PanelContext, Step, onPath
from .timing import ProgressDisplay


class RegisterStep(Step):
    """Starts and cancels the registration, and shows how far it is."""

    name = "register"

    def __init__(self, ui: Any, logic: Any, context: PanelContext) -> None:
        super().__init__(ui, logic, context)
        self.result: RegistrationResult | SpineResult | None = None
        self._fresh: RegistrationResult | SpineResult | None = None
        self.bestPose: Array | None = None
        self._request: RegisterRequest | None = None
        self._requested: tuple[str, ...] = ()
        self._progress = ProgressDisplay(ui.progressBar, ui.progressLabel)
        self._preview = PreviewControls()
        efforts = {
            "fast": _("fast: fewer tries"),
            "normal": _("normal"),
            "careful": _("careful: more tries"),
        }
        self.offer(ui.effortComboBox, "effort", efforts, "normal")
        methods = {
            "optimize": _("optimize: fit the Gaussians to the X-rays"),
            "learned": _("learned: trained weights, then fit"),
            "published": _("as published: networks, the volume first"),
        }
        self.offer(ui.methodComboBox, "method", methods, "optimize")
        onPath(ui.modelPathLineEdit, self.onModelPath)
        ui.applyButton.connect("clicked(bool)", self.onApply)
        results.listeners.append(self.onLoaded)
        ui.keepBestButton.connect("clicked(bool)", self.onKeepBest)

    def setParameterNode(self, parameters: Any) -> None:
        super().setParameterNode(parameters)
        if parameters is None:
            self.result = self._fresh = self.bestPose = None
            self._preview.end()
            self.ui.progressLabel.text = ""

    def cleanup(self) -> None:
        if self.onLoaded in results.listeners:
            results.listeners.remove(self.onLoaded)
        super().cleanup()

    def update(self) -> None:
        ui, parameters = self.ui, self.parameters
        self.showChoices()
        if ui.modelPathLineEdit.currentPath != parameters.modelPath:
            ui.modelPathLineEdit.currentPath = parameters.modelPath
        for widget in (ui.modelLabel, ui.modelPathLineEdit, ui.modelInfoLabel):
            widget.visible = self._takesModel
        ui.modelInfoLabel.text = self._modelInfo() if self._takesModel else ""
        ui.refineCheckBox.visible = parameters.method == "published"
        problem = self._cannotRefineCameras()
        ui.refineCamerasCheckBox.enabled = not problem
        ui.refineCamerasCheckBox.toolTip = problem or _(
            "Where X-rays are only nominal: find their cameras together with all vertebrae of the "
            "segmentation. This takes longer; step 2 can take the cameras back."
        )
        ui.keepBestButton.visible = self._canKeepBest() and not self.context.busy
        ui.progressBar.visible = self._run is not None
        self.showRunButton(
            ui.applyButton,
            self.missing(),
            (_("Apply"), self._what()),
            _("Stop the registration"),
        )

    def missing(self) -> str:
        for number, name in enumerate(("ct", "xray", "start"), start=1):
            problem = self.context.steps[name].missing()
            if problem:
                return _("Step {number}: {problem}").format(number=number, problem=problem)
        parameters = self.parameters
        if parameters.method == "learned" and not parameters.modelPath:
            return _("Choose the trained weights, or the method without them")
        if self._takesModel and parameters.modelPath:
            try:
                knownCard(parameters.modelPath)
            except InputError as error:
                return str(error)
        return self._makeRequest().problem()

    def ready(self) -> str:
        if self._run is not None:
            return _("Computing")
        packages = self.context.missingPackages
        if packages:
            text = _("Apply installs first what is missing: {packages}")
            return text.format(packages=", ".join(packages))
        return self._otherLevel() or _("Ready to register")

    def _what(self) -> str:
        """What the button does."""
        count = len(together(self.parameters))
        if len([node for node in self.parameters.xrays if node is not None]) == 1:
            return _("Register the vertebra to the one X-ray; its depth stays uncertain")
        if count < 2:
            return _("Register the vertebra to the X-rays")
        return _("Register {count} vertebrae together to the X-rays").format(count=count)

    @property
    def _takesModel(self) -> bool:
        """Whether the chosen method has networks."""
        return self.parameters.method in ("learned", "published")

    def _cannotRefineCameras(self) -> str:
        """Why cameras cannot be refined with what is chosen; nothing if they can."""
        parameters = self.parameters
        if parameters.method == "published":
            return _("The method as published does not refine cameras")
        nodes = [node for node in parameters.xrays if node is not None]
        problem = refinementProblem(parameters.segmentation, parameters.segmentId, nodes)
        return problem and _("Not now: {problem}").format(problem=problem)

    def _modelInfo(self) -> str:
        """Whom the chosen model is for; nothing where it cannot be read."""
        if self.parameters.method == "published" and not self.parameters.modelPath:
            return _("None chosen: the weights that come with the program, for any patient")
        try:
            return describe(knownCard(self.parameters.modelPath))[0]
        except InputError:
            return ""

    def _otherLevel(self) -> str:
        """A warning where the model was trained for another vertebra than the chosen one."""
        if not self._takesModel or not self.parameters.modelPath:
            return ""
        trained = vertebra_level(trainedFor(knownCard(self.parameters.modelPath)))
        chosen = segmentLevel(self.parameters.segmentation, self.parameters.segmentId)
        if trained is None or chosen is None or trained == chosen.level:
            return ""
        text = _("Look: the model was trained for {trained}, the chosen vertebra is {chosen}")
        return text.format(trained=trained, chosen=chosen.level)

    def cancel(self) -> None:
        """Stop what is being computed, if anything is, and keep its best pose."""
        if self._run is not None:
            self.ui.progressLabel.text = _("Stopping...")
            self._run.cancel()

    # Handlers

    def onModelPath(self, *args: Any) -> None:
        if self.parameters is not None:
            self.parameters.modelPath = str(self.ui.modelPathLineEdit.currentPath or "")

    def onApply(self, *args: Any) -> None:
        if self._run is not None:
            self.cancel()
            return
        with self.attempt():
            self.installMissing()
            self.bestPose = None
            start = self.context.steps["start"]
            self._request = self._makeRequest(
                startTransform=start.startMatrix(),
                clicks=start.usesClicks,
                waitForCompletion=False,
                progressCallback=self._progress.show,
                poseCallback=self.onPose,
                reconstructedCallback=self.onReconstructed,
                completedCallback=self.onCompleted,
            )
            self._requested = self._choices()
            self._preview.begin(self.parameters)
            self._run = self.context.run = self._request.run()
            self._progress.begin(_("preparing the files"))
        if self._run is None:
            self._preview.end()

    def onPose(self, ctToWorld: Array) -> None:
        self._preview.show(ctToWorld)

    def onReconstructed(self, reconstruction: ReconstructionResult) -> None:
        """The networks' volume is there, before the registration begins."""
        node = reconstruction.reconstructionNode
        if node is not None:
            tintReconstruction(node)
            showReconstruction(node.GetScene(), node)

    def onCompleted(self, run: Any) -> None:
        self._preview.end()
        self._progress.end()
        with self.attempt():
            if run.isDiscarded:
                pass  # the scene that it belonged to is gone
            elif isinstance(run.error, Cancelled):
                if self._request is None or self._request.ctNode.GetScene() is None:
                    raise Cancelled(_("the CT is no longer in the scene"))
                self.ui.progressLabel.text = _("Cancelled; the scene is as it was")
                self.bestPose = run.bestPose
            elif run.error is not None:
                raise run.error
            else:
                self._take(run.result)
        # The review draws a good deal: in turns of the event loop of their own.
        inTurns(self._end())

    def _end(self) -> Iterator[None]:
        """Show the result in the review, a part at each step."""
        result, self._fresh = self._fresh, None
        review = self.context.steps["review"]
        if result is not None and self.parameters is not None:
            for _ in review.showResult(result):
                yield
                if self.parameters is None:
                    break
            else:
                self.ui.reviewCollapsibleButton.collapsed = False
        # Before the scores: while something is computed, none are started.
        self._run = self.context.run = None
        if result is not None:
            review.startScoring()
        self.context.update()

    def onKeepBest(self, *args: Any) -> None:
        with self.attempt():
            if not self._canKeepBest():
                return
            pose, self.bestPose = self.bestPose, None
            request = self._request
            self._take(keepPose(pose, request.ctNode, request.outputs, request.segmentationNode))
            inTurns(self._end())

    def onLoaded(self, loaded: results.Loaded) -> None:
        """A result has come into the scene; one from the console is shown as one's own is."""
        if self._run is None and self.parameters is not None:
            nextTurn(lambda: self._takeUp(loaded))

    def _takeUp(self, loaded: results.Loaded) -> None:
        parameters = self.parameters
        if parameters is None or self._run is not None or loaded.ctNode.GetScene() is None:
            return
        with self.attempt():
            with slicer.util.NodeModify(parameters):
                parameters.ctVolume = loaded.ctNode
                if loaded.segmentationNode is not None:
                    parameters.segmentation = loaded.segmentationNode
                if loaded.segmentationNode is not None and loaded.segment:
                    wanted = loaded.segmentationNode, loaded.segment
                    parameters.segmentId = self.logic.findSegment(*wanted)
                    others = [id_ for id_ in loaded.segments if id_ != parameters.segmentId]
                    parameters.alsoSegmentIds = [id_ for id_ in others if id_]
                if loaded.xrayNodes:
                    parameters.xrays = list(loaded.xrayNodes)
            self._take(loaded.result)
            inTurns(self._end())

    def _canKeepBest(self) -> bool:
        """Whether there is a best pose, and it is still that of the chosen nodes."""
        if self.bestPose is None or self._request is None or self.parameters is None:
            return False
        if self._request.refineCameras or isinstance(self._request, RegisterSpineRequest):
            return False  # of cameras that were not known yet, or of one vertebra of several
        return self._requested == self._choices()

    def _choices(self) -> tuple[str, ...]:
        """What the registration depends on, to be compared."""
        parameters = self.parameters
        nodes = [parameters.ctVolume, parameters.segmentation, *parameters.xrays]
        return (*together(parameters), *(node.GetID() if node else "" for node in nodes))

    def _take(self, result: RegistrationResult | SpineResult) -> None:
        self.result = self._fresh = result
        several = isinstance(result, SpineResult)
        shown = result.first if isinstance(result, SpineResult) else result
        # While another module is shown the form is not bound, but the scene keeps the result.
        parameters = self.parameters or self.logic.getParameterNode()
        with slicer.util.NodeModify(parameters):
            parameters.spine = result.transformNode if several else None
            parameters.ctToWorld = shown.transformNode
            if several or shown.reconstructionNode is not None:
                parameters.reconstruction = shown.reconstructionNode
            if several or shown.gaussiansNode is not None:
                parameters.gaussians = shown.gaussiansNode
        self.ui.progressLabel.text = "\n".join([verdictText(result), *result.notes])

    def _makeRequest(self, **options: Any) -> RegisterRequest:
        """What is chosen, as a request: its pose belongs to these nodes and to no others."""
        parameters = self.parameters
        segments = together(parameters)
        return registrationRequest(
            parameters.ctVolume,
            parameters.segmentation,
            segments if len(segments) > 1 else parameters.segmentId,
            [node for node in parameters.xrays if node is not None],
            device=parameters.device,
            effort=parameters.effort,
            model=(parameters.modelPath or None) if self._takesModel else None,
            method="published" if parameters.method == "published" else "ours",
            refine=parameters.refine or parameters.method != "published",
            refineCameras=parameters.refineCameras and not self._cannotRefineCameras(),
            outputs=self._outputs(),
            **options,
        )

    def _outputs(self) -> OutputNodes:
        """The nodes chosen for results; never a volume without a CT, which took minutes."""
        parameters = self.parameters
        volume, gaussians = parameters.reconstruction, parameters.gaussians
        if isLevel(parameters.ctToWorld) or len(together(parameters)) > 1:
            # The nodes of one of several vertebrae stay theirs.
            return OutputNodes(spineNode=parameters.spine)
        return OutputNodes(
            parameters.ctToWorld,
            None if volume in (parameters.aloneVolume, parameters.aloneBone) else volume,
            None if gaussians is parameters.aloneGaussians else gaussians,
        )
