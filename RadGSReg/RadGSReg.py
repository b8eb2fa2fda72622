import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import slicer
import vtk
from slicer import (
    vtkMRMLLinearTransformNode,
    vtkMRMLModelNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTransformNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

try:
    import RadGSRegLib  # noqa: F401
except ImportError:
    # Run from a checkout: there the library stands beside this folder, not in it.
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from RadGSRegLib.errors import Cancelled, InputError

from RadGSRegSlicer import casefolder, environment, frames, results, segments, xray
from RadGSRegSlicer.results import OutputNodes, ReconstructionResult, RegistrationResult
from RadGSRegSlicer.tasks import Task, WorkFolder

ProgressCallback = Callable[[float, str], object]

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
    xrays - The X-rays, at least two, each with its geometry.
    device - What to compute on.
    startTransform - An approximate pose, if there is one.
    ctToWorld - The transform that the result goes into.
    reconstruction - The volume that the reconstruction goes into.
    gaussians - The model that the Gaussians go into.
    """

    ctVolume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    segmentId: str = ""
    xrays: list[vtkMRMLScalarVolumeNode]
    device: Annotated[str, Choice(["auto", "cpu", "cuda"])] = "auto"
    startTransform: vtkMRMLLinearTransformNode
    ctToWorld: vtkMRMLLinearTransformNode
    reconstruction: vtkMRMLScalarVolumeNode
    gaussians: vtkMRMLModelNode


#
# RadGSRegWidget
#


class RadGSRegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: chooses nodes, starts and cancels the registration, shows how it went."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._task = None
        self._updatingSelectors = False

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/RadGSReg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        # Only volumes that carry an X-ray's geometry are offered as X-rays.
        self.ui.xraySelector.addAttribute("vtkMRMLScalarVolumeNode", xray.INTRINSIC)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = RadGSRegLogic()

        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.segmentSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onSegmentChanged)
        self.ui.segmentSelector.connect("currentSegmentChanged(QString)", self.onSegmentChanged)
        self.ui.xraySelector.connect("checkedNodesChanged()", self.onXraysChanged)
        self.ui.importButton.connect("clicked(bool)", self.onImportButton)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Called when the application closes: no child process may stay behind."""
        if self._task is not None:
            self._task.cancel()
            self._task.job.wait(2.0)
        self.removeObservers()

    def enter(self) -> None:
        self.initializeParameterNode()

    def exit(self) -> None:
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self._parameterNodeGuiTag = None
            self.removeObserver(
                self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply
            )

    def onSceneStartClose(self, caller, event) -> None:
        if self._task is not None:
            self._task.cancel()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.xrays:
            self._parameterNode.xrays = xray.xrayNodes(slicer.mrmlScene)
        if not self._parameterNode.ctVolume:
            for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
                if not xray.isXray(node) and not node.IsA("vtkMRMLLabelMapVolumeNode"):
                    self._parameterNode.ctVolume = node
                    break

    def setParameterNode(self, inputParameterNode) -> None:
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(
                self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply
            )
        self._parameterNode = inputParameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply)
            self._checkCanApply()

    def onSegmentChanged(self, *args) -> None:
        if self._parameterNode and not self._updatingSelectors:
            segmentation = self.ui.segmentSelector.currentNode()
            segmentId = self.ui.segmentSelector.currentSegmentID()
            with slicer.util.NodeModify(self._parameterNode):
                self._parameterNode.segmentation = segmentation
                self._parameterNode.segmentId = segmentId or ""

    def onXraysChanged(self) -> None:
        if self._parameterNode and not self._updatingSelectors:
            self._parameterNode.xrays = list(self.ui.xraySelector.checkedNodes())

    def _updateSelectors(self) -> None:
        """Show what the parameter node holds in the selectors that it cannot be bound to."""
        self._updatingSelectors = True
        try:
            selector = self.ui.segmentSelector
            if selector.currentNode() != self._parameterNode.segmentation:
                selector.setCurrentNode(self._parameterNode.segmentation)
            if (selector.currentSegmentID() or "") != self._parameterNode.segmentId:
                selector.setCurrentSegmentID(self._parameterNode.segmentId)
            chosen = {node.GetID() for node in self._parameterNode.xrays if node is not None}
            for node in xray.xrayNodes(slicer.mrmlScene):
                if node.GetID() in chosen:
                    self.ui.xraySelector.check(node)
                else:
                    self.ui.xraySelector.uncheck(node)
        finally:
            self._updatingSelectors = False

    def _checkCanApply(self, caller=None, event=None) -> None:
        if not self._parameterNode:
            return
        self._updateSelectors()
        if self._task is not None:
            self.ui.applyButton.text = _("Cancel")
            self.ui.applyButton.toolTip = _("Stop the registration")
            self.ui.applyButton.enabled = True
            return
        problem = self._missing()
        self.ui.applyButton.text = _("Apply")
        self.ui.applyButton.toolTip = problem or _("Register the vertebra to the X-rays")
        self.ui.applyButton.enabled = not problem

    def _missing(self) -> str:
        """What is still needed before the registration can start; empty if nothing."""
        parameters = self._parameterNode
        if not parameters.ctVolume:
            return _("Select the CT")
        if not parameters.segmentation or not parameters.segmentId:
            return _("Select the segment of the vertebra")
        if len(parameters.xrays) < 2:
            return _("Select at least two X-rays")
        try:
            for node in parameters.xrays:
                xray.getGeometry(node)
            _checkOutputs(self._outputs(), [parameters.ctVolume, *parameters.xrays])
        except InputError as error:
            return str(error)
        return ""

    def _outputs(self) -> OutputNodes:
        parameters = self._parameterNode
        return OutputNodes(parameters.ctToWorld, parameters.reconstruction, parameters.gaussians)

    def onImportButton(self) -> None:
        with slicer.util.tryWithErrorDisplay(
            _("The X-rays could not be loaded."), waitCursor=False
        ):
            nodes = self.logic.importXray(self.ui.viewsPathLineEdit.currentPath)
            self._parameterNode.xrays = [*self._parameterNode.xrays, *nodes]

    def onApplyButton(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self.ui.statusLabel.text = _("Stopping...")
            return
        with slicer.util.tryWithErrorDisplay(_("The registration could not be started.")):
            if environment.missingPackages():
                self.logic.installDependencies()
            parameters = self._parameterNode
            self._task = self.logic.register(
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
        self._checkCanApply()

    def onProgress(self, fraction: float, message: str) -> None:
        self.ui.progressBar.value = round(100 * fraction)
        self.ui.statusLabel.text = message

    def onCompleted(self, task) -> None:
        self._task = None
        self.ui.progressBar.value = 0
        if isinstance(task.error, Cancelled):
            self.ui.statusLabel.text = _("Cancelled")
        elif task.error is not None:
            self.ui.statusLabel.text = str(task.error)
        else:
            result = task.result
            if self._parameterNode:
                with slicer.util.NodeModify(self._parameterNode):
                    self._parameterNode.ctToWorld = result.transformNode
                    self._parameterNode.reconstruction = result.reconstructionNode
                    self._parameterNode.gaussians = result.gaussiansNode
            text = _("Result: {status}").format(status=result.status)
            self.ui.statusLabel.text = "\n".join([text, *result.notes])
        self._checkCanApply()


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
        model: str | None = None,
        outputFolder: str | os.PathLike | None = None,
        outputs: OutputNodes | None = None,
        waitForCompletion: bool = True,
        progressCallback: ProgressCallback | None = None,
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
        :param outputFolder: keep the result files here; else they are temporary.
        :param outputs: nodes to put the results into; else new nodes are made.
        """
        environment.requirePackages()
        _checkDevice(device)
        _checkOutputs(outputs, [ctNode, *xrayNodes])
        if startNode is not None and startTransform is not None:
            raise InputError("start", "is given both as a node and as a matrix")
        if startNode is not None:
            startTransform = frames.transformMatrix(startNode)
        folder = WorkFolder(outputFolder)
        try:
            case = casefolder.writeCase(
                ctNode, segmentationNode, segment, xrayNodes, folder.inputs, startTransform
            )
        except BaseException:
            folder.remove()
            raise
        arguments = ["register", str(case), "--out", str(folder.outputs), "--device", device]
        if startTransform is not None:
            arguments += ["--start", str(case.with_name("start.json"))]
        if model is not None:
            arguments += ["--model", model]

        def load(path: Path) -> RegistrationResult:
            result = results.loadRegistration(path, ctNode, outputs, segmentationNode)
            if not folder.keep:
                result.outputFolder = None
            return result

        task = Task(
            arguments,
            folder,
            load,
            progressCallback=progressCallback,
            completedCallback=completedCallback,
        )
        return _run(task, waitForCompletion)

    def reconstruct(
        self,
        xrayNodes: Sequence[vtkMRMLScalarVolumeNode],
        *,
        ctNode: vtkMRMLScalarVolumeNode | None = None,
        segmentationNode: vtkMRMLSegmentationNode | None = None,
        segment: str | None = None,
        method: str = "optimize",
        outputFolder: str | os.PathLike | None = None,
        outputs: OutputNodes | None = None,
        waitForCompletion: bool = True,
        progressCallback: ProgressCallback | None = None,
        completedCallback: Callable[[Task], object] | None = None,
    ) -> ReconstructionResult | Task:
        """Reconstruct Gaussians and a volume from X-rays alone, or with the CT as a prior.

        :param ctNode: with a segmentation and a segment: start from that vertebra of the CT.
        :param method: "optimize" or "learned".
        """
        environment.requirePackages()
        if method not in ("optimize", "learned"):
            raise InputError("method", f"'{method}' is unknown", "use optimize or learned")
        _checkOutputs(outputs, [ctNode, *xrayNodes])
        folder = WorkFolder(outputFolder)
        try:
            if ctNode is None:
                case = casefolder.writeViews(xrayNodes, folder.inputs)
            else:
                case = casefolder.writeCase(
                    ctNode, segmentationNode, segment or "", xrayNodes, folder.inputs
                )
        except BaseException:
            folder.remove()
            raise
        arguments = ["reconstruct", str(case), "--out", str(folder.outputs), "--method", method]
        if ctNode is not None:
            arguments.append("--ct-prior")
        scene = xrayNodes[0].GetScene()

        def load(path: Path) -> ReconstructionResult:
            result = results.loadReconstruction(path, scene, outputs)
            if not folder.keep:
                result.outputFolder = None
            return result

        task = Task(
            arguments,
            folder,
            load,
            progressCallback=progressCallback,
            completedCallback=completedCallback,
        )
        return _run(task, waitForCompletion)

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

    def findSegment(self, segmentationNode: vtkMRMLSegmentationNode, wanted: str) -> str:
        """The ID of the segment that is meant by an ID, a name or a vertebra ("L3")."""
        return segments.findSegment(segmentationNode, wanted)

    def installDependencies(self) -> None:
        """Install the Python packages that are missing, after asking (inside Slicer only)."""
        environment.installMissing()


def _checkDevice(device: str) -> None:
    if device not in ("auto", "cpu", "cuda"):
        raise InputError("device", f"'{device}' is unknown", "use auto, cpu or cuda")


def _checkOutputs(outputs: OutputNodes | None, inputNodes: Sequence) -> None:
    if outputs is not None and outputs.reconstructionNode is not None:
        for node in inputNodes:
            if node is not None and node.GetID() == outputs.reconstructionNode.GetID():
                raise InputError(node.GetName(), "is an input and cannot take the reconstruction")


def _run(task: Task, waitForCompletion: bool):
    task.start()
    if waitForCompletion:
        return task.wait()
    if hasattr(slicer, "app"):
        task.startTimer()
    return task


#
# RadGSRegTest
#


class RadGSRegTest(ScriptedLoadableModuleTest):
    """The self test: no network, no patient, nothing to install."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_geometryIsKept()
        self.setUp()
        self.test_badInputIsRefused()

    def _xray(self, name: str):
        import numpy as np
        from RadGSRegLib.geometry import Camera

        world_to_camera = np.eye(4)
        world_to_camera[2, 3] = 750.0
        intrinsic = np.array([[1800.0, 0.0, 31.5], [0.0, 1800.0, 23.5], [0.0, 0.0, 1.0]])
        camera = Camera(intrinsic, world_to_camera, 64, 48)
        pixels = np.arange(48 * 64, dtype=np.float32).reshape(48, 64)
        return xray.createXrayNode(name, pixels, xray.XrayGeometry(camera, (0.6, 0.6)))

    def test_geometryIsKept(self):
        """An X-ray stands at its detector, and its geometry is read back from the node."""
        self.delayDisplay("X-ray geometry")
        node = self._xray("AP")
        geometry = xray.getGeometry(node)
        self.assertEqual(geometry.camera.size, (64, 48))
        center = [0.0, 0.0, 0.0, 1.0]
        matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        matrix.MultiplyPoint([31.5, 23.5, 0.0, 1.0], center)
        # The beam's foot lies 1800 * 0.6 = 1080 mm from the source, which is at z = -750 mm.
        self.assertAlmostEqual(center[2], 330.0, places=3)

    def test_badInputIsRefused(self):
        """A case that lacks something is refused with a reason, and nothing is written."""
        self.delayDisplay("Bad input")
        node = self._xray("AP")
        logic = RadGSRegLogic()
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "case"
            with self.assertRaises(InputError):
                logic.exportCase(None, None, "L3", [node], target)
            self.assertFalse(target.exists())
