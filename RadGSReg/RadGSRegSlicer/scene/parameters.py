"""What the user has chosen in the panel."""

from typing import Annotated

from RadGSRegLib.choices import BEAD_LAYOUTS, DEVICES, EFFORTS, RECONSTRUCTION_METHODS
from slicer import (
    vtkMRMLLinearTransformNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLMarkupsROINode,
    vtkMRMLModelNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTransformNode,
)
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from .bonesurface import PERCENTILE

COMPARISONS = ("xray", "blend", "checkerboard", "flicker", "rendering")
"""How an X-ray is held against a rendering of the CT."""
PRESETS = ("bone", "CT-Bone", "CT-Bones", "CT-Soft-Tissue")
"""How a volume is rendered: by one preset of our own, for bone in 1/mm, and some of Slicer's."""


@parameterNodeWrapper
class RadGSRegParameterNode:
    """What the user has chosen; saved with the scene.

    ``segmentId`` is the vertebra to register, ``alsoSegmentIds`` are those together with it; of
    ``segmentPoint`` the last point counts, and ``newLevel`` is what the vertebra around it is, ""
    for not chosen. ``trainPath`` is empty for a file beside the scene. What begins with
    ``calibrate`` is of the beads that X-rays show (0 mm: what these say). ``startTransform`` is an
    approximate CT to world; ``ctLandmarks`` are paired with ``worldLandmarks`` or with clicks in
    the X-rays (``landmarkSource``). Results of a registration go into ``ctToWorld``,
    ``reconstruction`` and ``gaussians``; of several vertebrae these are the nodes of the one under
    review, and ``spine`` is what keeps them all. What begins with ``alone`` is of a reconstruction
    without a CT (0 minutes: until it is done) and its result, what begins with ``volume`` of the
    tools after it, which work on ``volumeNode``, whichever that is.
    """

    ctVolume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    segmentId: str = ""
    alsoSegmentIds: list[str]
    segmentPoint: vtkMRMLMarkupsFiducialNode
    newLevel: str = ""
    trainMinutes: Annotated[int, WithinRange(1, 600)] = 20
    trainPath: str = ""
    xrays: list[vtkMRMLScalarVolumeNode]
    showGeometry: bool = False
    calibrateBeads: Annotated[str, Choice([*BEAD_LAYOUTS, "file"])] = BEAD_LAYOUTS[0]
    calibrateBeadsPath: str = ""
    calibratePixelMm: Annotated[float, WithinRange(0.0, 10.0)] = 0.0
    calibrateDistanceMm: Annotated[float, WithinRange(0.0, 3000.0)] = 0.0
    calibrateShared: bool = False
    calibrateFit: bool = False
    calibrateGridPath: str = ""
    calibratePreset: str = ""
    startMode: Annotated[str, Choice(["clicks", "transform", "landmarks"])] = "clicks"
    showEpipolarLines: bool = True
    startTransform: vtkMRMLLinearTransformNode
    ctLandmarks: vtkMRMLMarkupsFiducialNode
    landmarkSource: Annotated[str, Choice(["world", "xrays"])] = "world"
    worldLandmarks: vtkMRMLMarkupsFiducialNode
    method: Annotated[str, Choice([*RECONSTRUCTION_METHODS, "published"])] = "optimize"
    refine: bool = True
    refineCameras: bool = False
    modelPath: str = ""
    effort: Annotated[str, Choice(list(EFFORTS))] = "normal"
    device: Annotated[str, Choice(list(DEVICES))] = "auto"
    showPreview: bool = True
    ctToWorld: vtkMRMLLinearTransformNode
    spine: vtkMRMLTransformNode
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
    aloneMinutes: Annotated[int, WithinRange(0, 600)] = 0
    aloneBoxMm: Annotated[int, WithinRange(40, 400)] = 112
    aloneHoldOut: Annotated[int, WithinRange(0, 99)] = 0
    aloneStandardize: bool = False
    aloneVolume: vtkMRMLScalarVolumeNode
    aloneGaussians: vtkMRMLModelNode
    aloneBone: vtkMRMLScalarVolumeNode
    volumeNode: vtkMRMLScalarVolumeNode
    volumePercentile: Annotated[float, WithinRange(0.0, 100.0)] = PERCENTILE
    volumeLargest: bool = True
    volumeBox: vtkMRMLMarkupsROINode
    volumeInBox: bool = False
    volumeSurface: vtkMRMLModelNode
    volumeAxesFrom: Annotated[str, Choice(["volume", "segment"])] = "volume"
    volumeAxes: vtkMRMLLinearTransformNode
    volumeRendered: bool = False
    volumePreset: Annotated[str, Choice(list(PRESETS))] = "bone"
    volumeCutRed: bool = False
    volumeCutYellow: bool = False
    volumeCutGreen: bool = False
