"""What the user has chosen in the panel."""

from typing import Annotated

from RadGSRegLib.choices import DEVICES, EFFORTS, RECONSTRUCTION_METHODS
from slicer import (
    vtkMRMLLinearTransformNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLModelNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
)
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

COMPARISONS = ("xray", "blend", "checkerboard", "flicker", "rendering")
"""How an X-ray is held against a rendering of the CT."""


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
    method: Annotated[str, Choice(list(RECONSTRUCTION_METHODS))] = "optimize"
    modelPath: str = ""
    effort: Annotated[str, Choice(list(EFFORTS))] = "normal"
    device: Annotated[str, Choice(list(DEVICES))] = "auto"
    showPreview: bool = True
    ctToWorld: vtkMRMLLinearTransformNode
    reconstruction: vtkMRMLScalarVolumeNode
    gaussians: vtkMRMLModelNode
    reviewMode: Annotated[str, Choice(list(COMPARISONS))] = "xray"
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
