import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import slicer
import vtk
from slicer import (
    vtkMRMLLinearTransformNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLModelNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTransformNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

try:
    import RadGSRegLib  # noqa: F401
except ImportError:
    # Run from a checkout: there the library stands beside this folder, not in it.
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from RadGSRegSlicer.exchange import casefolder, results
from RadGSRegSlicer.exchange.results import OutputNodes, ReconstructionResult, RegistrationResult
from RadGSRegSlicer.operations import clicked, compute, pretraining, sampledata, simulated
from RadGSRegSlicer.operations.batch import Batch
from RadGSRegSlicer.operations.clicked import ClickedSegment
from RadGSRegSlicer.operations.compute import ProgressCallback
from RadGSRegSlicer.operations.pretraining import PretrainingTask, TrainedModel
from RadGSRegSlicer.operations.simulated import SimulatedNodes
from RadGSRegSlicer.panel import STEPS
from RadGSRegSlicer.panel.step import PanelContext
from RadGSRegSlicer.process import environment
from RadGSRegSlicer.process.tasks import PoseCallback, Task
from RadGSRegSlicer.review.review import Review
from RadGSRegSlicer.scene import segments, xray
from RadGSRegSlicer.selftest import RadGSRegTest  # noqa: F401 (Slicer looks for it here)

#
# RadGSReg
#


class RadGSReg(ScriptedLoadableModule):
    """Registers a vertebra of a CT to calibrated X-rays through radiative Gaussians."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("RadGSReg")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        self.parent.dependencies = []
        self.parent.contributors = ["The RadGSReg contributors"]
        self.parent.helpText = _("""
Registers one vertebra of a preoperative CT to two or more calibrated X-rays: the X-rays become a
cloud of radiative Gaussians, from which the pose of the vertebra is found and then refined.
The result is a transform on the CT, a reconstructed volume and the Gaussians.<br>
<b>For research use only. Not a medical device, not approved for clinical use.</b><br>
See the <a href="https://github.com/RadGSReg/SlicerRadGSReg">documentation</a>.
""")
        self.parent.acknowledgementText = _("""
The method follows RadGS-Reg (2025) and Gaussian splatting for X-rays; this is an independent
implementation under the Apache License 2.0.
""")
        # Sample data can be offered once all modules are there; tests on slicer-core have no app.
        if hasattr(slicer, "app"):
            slicer.app.connect("startupCompleted()", registerSampleData)


#
# Register sample data sets in Sample Data module
#


def registerSampleData():
    """Offer the phantom in the Sample Data module."""
    icon = Path(__file__).resolve().parent / "Resources" / "Icons" / "RadGSReg.png"
    sampledata.register("RadGSReg", icon)


#
# RadGSRegParameterNode
#


@parameterNodeWrapper
class RadGSRegParameterNode:
    """
    What the user has chosen; saved with the scene.

    ctVolume - The preoperative CT.
    segmentation - The segmentation of the CT.
    segmentId - The segment of the vertebra to register.
    segmentPoint - Points to segment a vertebra from; the last one counts.
    newLevel - What the next vertebra that is segmented from a point is.
    trainMinutes - How long to train for one patient.
    trainPath - Where the trained model goes; empty: beside the scene.
    xrays - The X-rays in use, at least two, each with its geometry.
    showGeometry - Whether source, beam and detector of the X-rays are drawn in 3D.
    startMode - Where the search begins: clicks in the X-rays, a transform, or landmarks.
    showEpipolarLines - Whether clicks are shown as lines in the other X-rays.
    startTransform - An approximate pose, CT to world.
    ctLandmarks - Landmarks in the CT.
    landmarkSource - Where the other points of the pairs are: in the world or in the X-rays.
    worldLandmarks - The same landmarks in the world.
    method - How the Gaussians are found.
    modelPath - Trained weights for that.
    effort - How much is searched and refined.
    device - What to compute on.
    showPreview - Whether the pose is shown while it is being found.
    ctToWorld - The transform that the result goes into.
    reconstruction - The volume that the reconstruction goes into.
    gaussians - The model that the Gaussians go into.
    reviewMode - What the X-ray views show: the X-ray, or it against a rendering of the CT.
    reviewContent - What of the CT is rendered.
    reviewOpacity - How much of the rendering there is in a blend.
    reviewEnhance - Whether wide shading is softened so that bone stands out.
    reviewWhole - Whether whole X-rays are shown rather than the vertebra's surroundings.
    reviewBefore, reviewAfter, reviewVolume, reviewGaussians - What the 3D view shows.
    reviewStepMm, reviewStepDeg - How far one press moves and turns.
    reviewKeys - Whether arrow keys in the X-ray views move the vertebra.
    """

    ctVolume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    segmentId: str = ""
    segmentPoint: vtkMRMLMarkupsFiducialNode
    newLevel: str = "L3"
    trainMinutes: Annotated[int, WithinRange(1, 600)] = 20
    trainPath: str = ""
    xrays: list[vtkMRMLScalarVolumeNode]
    showGeometry: bool = False
    startMode: Annotated[str, Choice(["clicks", "transform", "landmarks"])] = "clicks"
    showEpipolarLines: bool = True
    startTransform: vtkMRMLLinearTransformNode
    ctLandmarks: vtkMRMLMarkupsFiducialNode
    landmarkSource: Annotated[str, Choice(["world", "xrays"])] = "world"
    worldLandmarks: vtkMRMLMarkupsFiducialNode
    method: Annotated[str, Choice(["optimize", "learned"])] = "optimize"
    modelPath: str = ""
    effort: Annotated[str, Choice(["fast", "normal", "careful"])] = "normal"
    device: Annotated[str, Choice(["auto", "cpu", "cuda"])] = "auto"
    showPreview: bool = True
    ctToWorld: vtkMRMLLinearTransformNode
    reconstruction: vtkMRMLScalarVolumeNode
    gaussians: vtkMRMLModelNode
    reviewMode: Annotated[
        str, Choice(["xray", "blend", "checkerboard", "flicker", "rendering"])
    ] = "xray"
    reviewContent: Annotated[str, Choice(["bones", "vertebra"])] = "bones"
    reviewOpacity: float = 0.5
    reviewEnhance: bool = True
    reviewWhole: bool = False
    reviewBefore: bool = False
    reviewAfter: bool = True
    reviewVolume: bool = False
    reviewGaussians: bool = False
    # Said here and not only in the form: binding a spin box sets its limits to those given here.
    reviewStepMm: Annotated[float, WithinRange(0.1, 20.0)] = 1.0
    reviewStepDeg: Annotated[float, WithinRange(0.1, 20.0)] = 1.0
    reviewKeys: bool = True


#
# RadGSRegWidget
#


class RadGSRegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel; each of its steps is a class of ``RadGSRegSlicer.panel``."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.steps = {}
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._looksAgain = False

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/RadGSReg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = RadGSRegLogic()

        context = PanelContext(
            resourcePath=self.resourcePath,
            update=self.update,
            addObserver=self.addObserver,
            removeObserver=self.removeObserver,
            steps=self.steps,
        )
        for kind in STEPS:
            self.steps[kind.name] = kind(self.ui, self.logic, context)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAddedEvent, self.onNode)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self.onNode)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Called when the application closes: no child process may stay behind."""
        for step in self.steps.values():
            step.cleanup()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        self.initializeParameterNode()

    def exit(self) -> None:
        """Another module is opened: the form rests, a computation goes on."""
        self._disconnectParameterNode()

    def onSceneStartClose(self, caller, event) -> None:
        for step in self.steps.values():
            step.discard()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller, event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNode(self, caller, event, node) -> None:
        """Volumes come and go, from the console too: look again when all of them are there."""
        if self._parameterNode and not self._looksAgain and node.IsA("vtkMRMLScalarVolumeNode"):
            import qt

            self._looksAgain = True
            qt.QTimer.singleShot(0, self.lookAgain)

    def lookAgain(self) -> None:
        self._looksAgain = False
        if self._parameterNode:
            self.steps["xray"].takeUpXrays()
            self.update()

    def initializeParameterNode(self) -> None:
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, inputParameterNode) -> None:
        self._disconnectParameterNode()
        self._parameterNode = inputParameterNode
        for step in self.steps.values():
            step.setParameterNode(inputParameterNode)
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.update)
        self.update()

    def _disconnectParameterNode(self) -> None:
        if self._parameterNode and self._parameterNodeGuiTag is not None:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self._parameterNodeGuiTag = None
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.update)

    def update(self, caller=None, event=None) -> None:
        """Let every step show what there is, what is missing, and what can be done."""
        for step in self.steps.values():
            if self._parameterNode:
                step.update()
            step.showStatus()


#
# RadGSRegLogic
#


class RadGSRegLogic(ScriptedLoadableModuleLogic):
    """All that the module does, without a window.

    Every call that computes runs the library in a child process. With ``waitForCompletion`` (the
    default) it returns the result when that is done; without, it returns a `Task` at once, whose
    ``poll`` a timer calls inside Slicer and the caller elsewhere. ``progressCallback`` gets
    (fraction, message) and may return False to cancel; ``completedCallback`` gets the task.

    Nodes or files that cannot be used raise `InputError`, one sentence; a computation that fails
    raises `TaskError`, one that was cancelled `Cancelled`.
    """

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)

    def getParameterNode(self):
        return RadGSRegParameterNode(super().getParameterNode())

    def register(
        self,
        ctNode: vtkMRMLScalarVolumeNode,
        segmentationNode: vtkMRMLSegmentationNode,
        segment: str,
        xrayNodes: Sequence[vtkMRMLScalarVolumeNode],
        *,
        startNode: vtkMRMLTransformNode | None = None,
        startTransform: Any = None,
        device: str = "auto",
        model: str | os.PathLike | None = None,
        effort: str = "normal",
        clicks: bool = True,
        outputFolder: str | os.PathLike | None = None,
        outputs: OutputNodes | None = None,
        waitForCompletion: bool = True,
        progressCallback: ProgressCallback | None = None,
        poseCallback: PoseCallback | None = None,
        completedCallback: Callable[[Task], object] | None = None,
    ) -> RegistrationResult | Task:
        """Register one vertebra of a CT to X-rays; the resulting transform is set on the CT.

        :param ctNode: the CT. If it is under a transform, its own frame without that transform is
          registered, and the result replaces the transform (see ``notes`` of the result).
        :param segmentationNode: the segmentation of the CT.
        :param segment: the vertebra, by segment ID, name or level ("L3").
        :param xrayNodes: at least two X-rays with geometry (see `importXray`).
        :param startNode: an approximate pose, CT to world, as a linear transform node.
        :param startTransform: the same as a matrix (4, 4), RAS mm.
        :param device: "auto", "cpu" or "cuda".
        :param model: a model of the library, as ``radgsreg register --model``.
        :param effort: "fast", "normal" or "careful".
        :param clicks: whether to begin at the centres said for the X-rays.
        :param poseCallback: gets the best pose so far (4, 4), RAS, whenever there is a better one.
        :param outputFolder: keep the result files here; else they are temporary.
        :param outputs: nodes to put the results into; else new nodes are made.
        """
        task = compute.register(
            ctNode,
            segmentationNode,
            segment,
            xrayNodes,
            startNode=startNode,
            startTransform=startTransform,
            device=device,
            model=model,
            effort=effort,
            clicks=clicks,
            outputFolder=outputFolder,
            outputs=outputs,
            progressCallback=progressCallback,
            poseCallback=poseCallback,
            completedCallback=completedCallback,
        )
        return compute.run(task, waitForCompletion)

    def reconstruct(
        self,
        xrayNodes: Sequence[vtkMRMLScalarVolumeNode],
        *,
        ctNode: vtkMRMLScalarVolumeNode | None = None,
        segmentationNode: vtkMRMLSegmentationNode | None = None,
        segment: str | None = None,
        method: str = "optimize",
        startNode: vtkMRMLTransformNode | None = None,
        startTransform: Any = None,
        device: str = "auto",
        model: str | os.PathLike | None = None,
        outputFolder: str | os.PathLike | None = None,
        outputs: OutputNodes | None = None,
        waitForCompletion: bool = True,
        progressCallback: ProgressCallback | None = None,
        completedCallback: Callable[[Task], object] | None = None,
    ) -> ReconstructionResult | Task:
        """Reconstruct Gaussians and a volume from X-rays alone, or with the CT as a prior.

        :param ctNode: with a segmentation and a segment: start from that vertebra of the CT.
        :param method: "optimize" or "learned"; the latter needs a model and leaves the CT out.
        :param startNode: with a CT: an approximate pose, CT to world, as a linear transform node.
        :param startTransform: the same as a matrix (4, 4), RAS mm.
        :param device: "auto", "cpu" or "cuda".
        :param model: a model of the library, as ``radgsreg reconstruct --model``.
        """
        task = compute.reconstruct(
            xrayNodes,
            ctNode=ctNode,
            segmentationNode=segmentationNode,
            segment=segment,
            method=method,
            startNode=startNode,
            startTransform=startTransform,
            device=device,
            model=model,
            outputFolder=outputFolder,
            outputs=outputs,
            progressCallback=progressCallback,
            completedCallback=completedCallback,
        )
        return compute.run(task, waitForCompletion)

    def segmentFromClick(
        self,
        ctNode: vtkMRMLScalarVolumeNode,
        pointRas: Sequence[float],
        level: str | None = None,
        segmentationNode: vtkMRMLSegmentationNode | None = None,
        waitForCompletion: bool = True,
        progressCallback: ProgressCallback | None = None,
        completedCallback: Callable[[Task], object] | None = None,
    ) -> ClickedSegment | Task:
        """Segment the vertebra around a point; returns (segmentationNode, segmentId).

        :param pointRas: inside the vertebra's body, RAS mm, in the CT's own frame (without a
          transform that the CT is under).
        :param level: which vertebra it is ("L3"), which no computation can know; None if nobody
          says so.
        :param segmentationNode: gets the new segment; else a new node is made. A segment of the
          same level that was made from an earlier click is replaced.
        """
        task = clicked.segmentFromClick(
            ctNode,
            pointRas,
            level=level,
            segmentationNode=segmentationNode,
            progressCallback=progressCallback,
            completedCallback=completedCallback,
        )
        return compute.run(task, waitForCompletion)

    def pretrain(
        self,
        ctNode: vtkMRMLScalarVolumeNode,
        segmentationNode: vtkMRMLSegmentationNode,
        segment: str,
        modelPath: str | os.PathLike,
        *,
        minutes: float = 20.0,
        device: str = "auto",
        base: str | os.PathLike | None = None,
        config: str | os.PathLike | None = None,
        waitForCompletion: bool = True,
        progressCallback: ProgressCallback | None = None,
        completedCallback: Callable[[Task], object] | None = None,
    ) -> TrainedModel | PretrainingTask:
        """Train a model for one vertebra of one CT, before there are X-rays.

        Returns its path and its card; the path is what `register` takes as ``model``. The task's
        ``finish`` ends the training with the best so far.

        :param segment: the vertebra, by segment ID, name or level ("L3").
        :param modelPath: the file to write (``.safetensors`` is added where it is missing); its
          card goes beside it (``.md``).
        :param minutes: stop then, with the best so far.
        :param base: a model to go on from, as ``radgsreg pretrain --base``: if it is left out, the
          weights that come with the program; ``"none"`` for none.
        :param config: a file of options, as ``radgsreg pretrain --config``.
        """
        task = pretraining.pretrain(
            ctNode,
            segmentationNode,
            segment,
            modelPath,
            minutes=minutes,
            device=device,
            base=base,
            config=config,
            progressCallback=progressCallback,
            completedCallback=completedCallback,
        )
        return compute.run(task, waitForCompletion)

    def simulate(
        self,
        ctNode: vtkMRMLScalarVolumeNode | None = None,
        segmentationNode: vtkMRMLSegmentationNode | None = None,
        segment: str | None = None,
        *,
        realism: str = "realistic",
        seed: int = 0,
        outputFolder: str | os.PathLike | None = None,
        waitForCompletion: bool = True,
        progressCallback: ProgressCallback | None = None,
        completedCallback: Callable[[Task], object] | None = None,
    ) -> SimulatedNodes | Task:
        """Two X-rays of a moved spine with the truth beside, of a CT or of the built-in phantom.

        :param ctNode: with a segmentation and a segment (ID, name or level) of it; without all
          three a phantom is made, and its CT and segmentation too.
        :param realism: "clean", "realistic" or "hard".
        :param outputFolder: keep the case here, in the form of ``radgsreg simulate``.
        """
        task = simulated.simulate(
            ctNode,
            segmentationNode,
            segment,
            realism=realism,
            seed=seed,
            outputFolder=outputFolder,
            progressCallback=progressCallback,
            completedCallback=completedCallback,
        )
        return compute.run(task, waitForCompletion)

    def errorAgainstTruth(
        self,
        ctNode: vtkMRMLScalarVolumeNode,
        segmentationNode: vtkMRMLSegmentationNode,
        segment: str,
        transformNode: vtkMRMLTransformNode | None = None,
    ) -> float | None:
        """The error (mTRE, mm) of a transform against the truth that the scene holds for a CT.

        :param transformNode: the CT to world to judge; without it, the transform that the CT is
          under. Returns None where the scene holds no truth for the CT.
        """
        return simulated.errorAgainstTruth(ctNode, segmentationNode, segment, transformNode)

    def batch(
        self,
        cases: Sequence[str | os.PathLike],
        outputFolder: str | os.PathLike,
        *,
        device: str = "auto",
        effort: str = "normal",
        waitForCompletion: bool = True,
        progressCallback: ProgressCallback | None = None,
        completedCallback: Callable[[Batch], object] | None = None,
    ) -> list[dict[str, Any]] | Batch:
        """Register many cases one after the other; returns a row (dict) per case.

        :param cases: ``case.json`` files or their folders (`exportCase` writes such).
        :param outputFolder: gets ``batch.csv`` and a folder with transform and results per case. A
          case that fails is a row that says why; where ``truth.json`` lies beside a case, the row
          holds the error.
        """
        compute.checkDevice(device)
        job = Batch(
            cases,
            outputFolder,
            device=device,
            effort=effort,
            progressCallback=progressCallback,
            completedCallback=completedCallback,
        )
        return compute.run(job, waitForCompletion)

    def importXray(
        self,
        path: str | os.PathLike,
        geometry: xray.XrayGeometry | None = None,
        frame: int | None = None,
    ) -> list[vtkMRMLScalarVolumeNode]:
        """X-ray nodes from a ``views.json``, or one from an image file.

        :param geometry: where the image was taken from; without it, it is read from DICOM tags
          and marked as nominal.
        :param frame: which frame of a DICOM file with several, from 0.
        """
        if Path(path).suffix.lower() == ".json":
            return casefolder.importViews(path)
        return [casefolder.importImage(path, geometry, frame)]

    def exportCase(
        self,
        ctNode: vtkMRMLScalarVolumeNode,
        segmentationNode: vtkMRMLSegmentationNode,
        segment: str,
        xrayNodes: Sequence[vtkMRMLScalarVolumeNode],
        folder: str | os.PathLike,
    ) -> Path:
        """Write nodes as a case folder for the command line; returns the path of case.json."""
        return casefolder.writeCase(ctNode, segmentationNode, segment, xrayNodes, folder)

    def loadResult(
        self,
        folder: str | os.PathLike,
        ctNode: vtkMRMLScalarVolumeNode,
        segmentationNode: vtkMRMLSegmentationNode | None = None,
        outputs: OutputNodes | None = None,
    ) -> RegistrationResult:
        """Load a folder of results and set the transform on the CT."""
        return results.loadRegistration(folder, ctNode, outputs, segmentationNode)

    def review(
        self,
        ctNode: vtkMRMLScalarVolumeNode,
        segmentationNode: vtkMRMLSegmentationNode,
        segment: str,
        xrayNodes: Sequence[vtkMRMLScalarVolumeNode],
        transformNode: vtkMRMLLinearTransformNode,
        reconstruction: vtkMRMLScalarVolumeNode | None = None,
        gaussians: vtkMRMLModelNode | None = None,
    ) -> Review:
        """Look at a result and correct it: outlines, scores, nudges, undo, accept, report.

        Nothing waits for a window: ``review.startScoring().wait()`` and then
        ``review.nudge("right", 1.0, xrayNode)``, ``review.client.wait()``, ``review.scores``;
        ``review.close()`` takes all drawings out of the scene.
        """
        return Review(
            ctNode,
            segmentationNode,
            segment,
            list(xrayNodes),
            transformNode,
            reconstruction,
            gaussians,
        )

    def findSegment(self, segmentationNode: vtkMRMLSegmentationNode, wanted: str) -> str:
        """The ID of the segment that is meant by an ID, a name or a vertebra ("L3")."""
        return segments.findSegment(segmentationNode, wanted)

    def installDependencies(self) -> None:
        """Install the Python packages that are missing, after asking (inside Slicer only)."""
        environment.installMissing()
