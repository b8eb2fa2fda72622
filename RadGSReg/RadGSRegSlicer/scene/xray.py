"""X-rays as nodes: a volume of one slice, standing in the scene where the detector stood.

The geometry is kept on the node as attributes, so that a saved scene brings it back exactly:

========================  ========================================================================
``RadGSReg.Intrinsic``      3 x 3, pixels (JSON)
``RadGSReg.WorldToCamera``  4 x 4, world LPS mm to camera, the contract's ``extrinsic`` (JSON)
``RadGSReg.PixelSpacing``   [column step, row step] mm at the detector (JSON)
``RadGSReg.Intensity``      ``attenuation``, ``transmission`` or ``display``
``RadGSReg.CenterPx``       [column, row] about where the vertebra is (JSON); absent if not said
``RadGSReg.Nominal``        ``true`` where the geometry is only a guess from DICOM tags
``RadGSReg.Room``           ``nominal`` where the camera was refined with vertebrae alone; or absent
``RadGSReg.Device``         what took it; absent if not said
``RadGSReg.BoneAlone``      ``true`` where it shows line integrals of bone alone; absent if not
``RadGSReg.MetalPx``        [[column, row, radius], ...] shadows of beads (JSON); absent if none
``RadGSReg.CameraCovariance`` 9 x 9, of the camera's parameters (JSON); absent if not said
``RadGSReg.CameraCovarianceWith`` {X-ray's name: 9 x 9} with other cameras (JSON); absent if none
``RadGSReg.BeforeRefined``  the nominal camera of a refined one (JSON); see `refinedcameras`
``RadGSReg.PatientAxes``    3 x 3, the patient's LPS to world LPS, or "any" (JSON); absent if equal
========================  ========================================================================
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from numpy.typing import ArrayLike, NDArray
from RadGSRegLib.choices import INTENSITIES, Intensity
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array, Camera, affine, intrinsic_problem, is_rigid

from .frames import parentTransformName, setIjkToLps

if TYPE_CHECKING:
    from RadGSRegLib.cases import View
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLScene

INTRINSIC = "RadGSReg.Intrinsic"
WORLD_TO_CAMERA = "RadGSReg.WorldToCamera"
PIXEL_SPACING = "RadGSReg.PixelSpacing"
INTENSITY = "RadGSReg.Intensity"
CENTER_PX = "RadGSReg.CenterPx"
NOMINAL = "RadGSReg.Nominal"
ROOM = "RadGSReg.Room"
DEVICE = "RadGSReg.Device"
PATIENT_AXES = "RadGSReg.PatientAxes"
BONE_ALONE = "RadGSReg.BoneAlone"
METAL_PX = "RadGSReg.MetalPx"
CAMERA_COVARIANCE = "RadGSReg.CameraCovariance"
CAMERA_COVARIANCE_WITH = "RadGSReg.CameraCovarianceWith"
BEFORE_REFINED = "RadGSReg.BeforeRefined"
PARALLEL = np.eye(3)
"""The axes of a patient who lies as the world's axes say."""
_ATTRIBUTES = (
    INTRINSIC, WORLD_TO_CAMERA, PIXEL_SPACING, INTENSITY, CENTER_PX, NOMINAL, DEVICE, PATIENT_AXES,
    BONE_ALONE, METAL_PX, CAMERA_COVARIANCE, CAMERA_COVARIANCE_WITH, BEFORE_REFINED, ROOM,
)  # fmt: skip


@dataclass(frozen=True)
class XrayGeometry:
    """Where an X-ray was taken from, and what its grey values mean.

    ``device``: what took it; ``patientAxes`` (3, 3) turn the patient's axes (LPS) to the world's,
    None where the patient may lie in any way. ``boneAlone``, ``metalPx``, ``cameraCovariance``,
    ``cameraCovarianceWith`` and ``roomNominal`` as in the library's `View`.
    """

    camera: Camera
    pixelSpacing: tuple[float, float]
    intensity: Intensity = "display"
    centerPx: tuple[float, float] | None = None
    nominal: bool = False
    device: str = ""
    patientAxes: Array | None = field(default_factory=lambda: PARALLEL)
    boneAlone: bool = False
    metalPx: tuple[tuple[float, float, float], ...] = ()
    cameraCovariance: Array | None = None
    cameraCovarianceWith: Mapping[str, Array] = field(default_factory=dict)
    roomNominal: bool = False


def isXray(node: Any) -> bool:
    """Whether a node is a volume with an X-ray's geometry on it."""
    return (
        node is not None
        and node.IsA("vtkMRMLScalarVolumeNode")
        and node.GetAttribute(INTRINSIC) is not None
        and node.GetAttribute(WORLD_TO_CAMERA) is not None
    )


def xrayNodes(scene: vtkMRMLScene) -> list[vtkMRMLScalarVolumeNode]:
    """All X-rays of a scene, in the scene's order."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene)
    return [node for node in nodes if isXray(node)]


def detectorIjkToLps(camera: Camera, pixelSpacing: tuple[float, float]) -> Array:
    """Index (column, row, 0, 1) to LPS mm (4, 4) of an image that stands at the detector.

    The detector is ``fx`` times the column step away from the source along the camera's z axis;
    pixel (u, v) lies on the very ray that the camera assigns to it.
    """
    # Negative where the image is mirrored; the detector is where it is all the same.
    distance = abs(float(camera.intrinsic[0, 0])) * pixelSpacing[0]
    in_camera = distance * np.linalg.inv(camera.intrinsic)
    to_camera = np.eye(4)
    to_camera[:3, 0] = in_camera[:, 0]
    to_camera[:3, 1] = in_camera[:, 1]
    to_camera[:3, 3] = in_camera[:, 2]
    # The third axis stays the beam's: one millimetre, so that a slice view has something to cut.
    return np.asarray(camera.camera_to_world @ to_camera)


def setGeometry(node: vtkMRMLScalarVolumeNode, geometry: XrayGeometry) -> None:
    """Put a geometry on a volume node and place it in the scene accordingly.

    An earlier one is forgotten, also where that had been refined from a nominal one. Raises
    InputError where the geometry is unusable or does not fit the node's image.
    """
    name = node.GetName()
    camera = geometry.camera
    image = node.GetImageData()
    if image is not None and image.GetDimensions() != (camera.columns, camera.rows, 1):
        size = " x ".join(str(n) for n in image.GetDimensions())
        raise InputError(
            name,
            f"its geometry is for {camera.columns} x {camera.rows} pixels, its image is {size}",
        )
    problem = _problem(geometry)
    if problem:
        raise InputError(name, problem)
    values = {
        INTRINSIC: json.dumps(camera.intrinsic.tolist()),
        WORLD_TO_CAMERA: json.dumps(camera.world_to_camera.tolist()),
        PIXEL_SPACING: json.dumps([float(step) for step in geometry.pixelSpacing]),
        INTENSITY: geometry.intensity,
        NOMINAL: "true" if geometry.nominal else "false",
    }
    with slicer.util.NodeModify(node):
        for key, value in values.items():
            node.SetAttribute(key, value)
        axes = geometry.patientAxes
        parallel = axes is not None and np.array_equal(axes, PARALLEL)
        said = json.dumps("any" if axes is None else np.asarray(axes).tolist())
        node.SetAttribute(PATIENT_AXES, None if parallel else said)
        node.SetAttribute(DEVICE, geometry.device or None)
        node.SetAttribute(BONE_ALONE, "true" if geometry.boneAlone else None)
        node.SetAttribute(ROOM, "nominal" if geometry.roomNominal else None)
        metal, sure = geometry.metalPx, geometry.cameraCovariance
        node.SetAttribute(METAL_PX, json.dumps(metal) if metal else None)
        known = None if sure is None else json.dumps(np.asarray(sure).tolist())
        node.SetAttribute(CAMERA_COVARIANCE, known)
        joint = {name: np.asarray(c).tolist() for name, c in geometry.cameraCovarianceWith.items()}
        node.SetAttribute(CAMERA_COVARIANCE_WITH, json.dumps(joint) if joint else None)
        node.RemoveAttribute(BEFORE_REFINED)
        setCenterPx(node, geometry.centerPx)
        setIjkToLps(node, detectorIjkToLps(camera, geometry.pixelSpacing))


def clearGeometry(node: vtkMRMLScalarVolumeNode) -> None:
    """Make an X-ray an ordinary volume again; it stays where it stands."""
    with slicer.util.NodeModify(node):
        for key in _ATTRIBUTES:
            node.RemoveAttribute(key)


def getGeometry(node: vtkMRMLScalarVolumeNode) -> XrayGeometry:
    """The geometry of an X-ray node. Raises InputError where it has none, or it cannot be read."""
    name = "X-ray" if node is None else node.GetName()
    if not isXray(node):
        raise InputError(
            name, "has no X-ray geometry", "load it through a views.json or set its geometry first"
        )
    if parentTransformName(node) is not None:
        raise InputError(
            name,
            f"is under the transform '{parentTransformName(node)}', but an X-ray's geometry is "
            "given in the world",
            "take it out of the transform",
        )
    image = node.GetImageData()
    if image is None:
        raise InputError(name, "has no image")
    columns, rows, slices = image.GetDimensions()
    if slices != 1:
        raise InputError(name, f"has {slices} slices, but an X-ray has one")
    try:
        camera = Camera(
            np.array(json.loads(node.GetAttribute(INTRINSIC)), dtype=float),
            np.array(json.loads(node.GetAttribute(WORLD_TO_CAMERA)), dtype=float),
            columns,
            rows,
        )
        spacing = _pair(node.GetAttribute(PIXEL_SPACING) or "null")
        center = node.GetAttribute(CENTER_PX)
        intensity: Any = node.GetAttribute(INTENSITY) or "display"
        geometry = XrayGeometry(
            camera,
            spacing,
            intensity,
            None if center is None else _pair(center),
            node.GetAttribute(NOMINAL) == "true",
            node.GetAttribute(DEVICE) or "",
            _patientAxes(node),
            node.GetAttribute(BONE_ALONE) == "true",
            _metal(node.GetAttribute(METAL_PX)),
            _covariance(node.GetAttribute(CAMERA_COVARIANCE)),
            _covariances(node.GetAttribute(CAMERA_COVARIANCE_WITH)),
            node.GetAttribute(ROOM) == "nominal",
        )
    except (ValueError, TypeError) as error:
        raise InputError(name, f"has a geometry that cannot be read ({error})") from error
    problem = _problem(geometry)
    if problem:
        raise InputError(name, problem)
    return geometry


def createXrayNode(
    name: str, pixels: ArrayLike, geometry: XrayGeometry, scene: vtkMRMLScene | None = None
) -> vtkMRMLScalarVolumeNode:
    """A new X-ray node from pixels (rows, columns), kept in their type, and a geometry."""
    array = np.ascontiguousarray(np.asarray(pixels)[None])
    scene = slicer.mrmlScene if scene is None else scene
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    try:
        slicer.util.updateVolumeFromArray(node, array)
        setGeometry(node, geometry)
    except Exception:
        scene.RemoveNode(node)
        raise
    node.CreateDefaultDisplayNodes()
    return node


def getPixels(node: vtkMRMLScalarVolumeNode) -> NDArray[Any]:
    """The pixels (rows, columns) of an X-ray node: a view into the node, not a copy."""
    array = slicer.util.arrayFromVolume(node)
    if array.ndim != 3 or array.shape[0] != 1:
        raise InputError(node.GetName(), "is not a single-channel image of one slice")
    return np.asarray(array[0])


def setCenterPx(node: vtkMRMLScalarVolumeNode, centerPx: tuple[float, float] | None) -> None:
    """Say about where (column, row) the vertebra's centre is in this X-ray, or take it back."""
    if centerPx is None:
        node.RemoveAttribute(CENTER_PX)
    else:
        node.SetAttribute(CENTER_PX, json.dumps([float(x) for x in centerPx]))


def forgetCovariancesWith(node: vtkMRMLScalarVolumeNode, names: Container[str]) -> None:
    """Take back how a camera goes wrong together with those of views of these names."""
    joint = json.loads(node.GetAttribute(CAMERA_COVARIANCE_WITH) or "{}")
    left = {name: said for name, said in joint.items() if name not in names}
    if len(left) < len(joint):
        node.SetAttribute(CAMERA_COVARIANCE_WITH, json.dumps(left) if left else None)


def nodeFromView(
    view: View, scene: vtkMRMLScene | None = None, patientAxes: Array | None = PARALLEL
) -> vtkMRMLScalarVolumeNode:
    """An X-ray node from a view that the library has read."""
    geometry = XrayGeometry(
        view.camera,
        view.pixel_spacing_mm,
        view.intensity,
        view.center_px,
        view.nominal,
        view.device,
        patientAxes,
        view.bone_alone,
        view.metal_px,
        view.camera_covariance,
        view.camera_covariance_with,
        view.room_nominal,
    )
    return createXrayNode(view.name, view.pixels, geometry, scene)


def sourcePositionRas(geometry: XrayGeometry) -> Array:
    """Where the X-ray source is in the scene (3,), RAS mm."""
    return np.asarray(geometry.camera.source_world * [-1.0, -1.0, 1.0])


def _patientAxes(node: vtkMRMLScalarVolumeNode) -> Array | None:
    said = json.loads(node.GetAttribute(PATIENT_AXES) or "null")
    if said == "any":
        return None
    axes = PARALLEL if said is None else np.array(said, dtype=float)
    if not is_rigid(affine(axes, np.zeros(3))):
        raise ValueError("the patient's axes are no rotation")
    return axes


def _metal(said: str | None) -> tuple[tuple[float, float, float], ...]:
    circles = np.array(json.loads(said or "[]"), dtype=float).reshape(-1, 3)
    return tuple((float(column), float(row), float(radius)) for column, row, radius in circles)


def _covariance(said: str | None) -> Array | None:
    return None if said is None else np.array(json.loads(said), dtype=float).reshape(9, 9)


def _covariances(said: str | None) -> dict[str, Array]:
    joint = json.loads(said or "{}").items()
    return {name: np.array(c, dtype=float).reshape(9, 9) for name, c in joint}


def _pair(text: str) -> tuple[float, float]:
    first, second = json.loads(text)
    return float(first), float(second)


def _problem(geometry: XrayGeometry) -> str:
    camera = geometry.camera
    problem = intrinsic_problem(camera.intrinsic)
    if problem:
        return f"the intrinsic matrix {problem}"
    if not is_rigid(camera.world_to_camera):
        return "the pose is not a right-handed rigid 4 x 4 matrix"
    if not all(np.isfinite(step) and step > 0 for step in geometry.pixelSpacing):
        return "the pixel spacing is not positive"
    if geometry.intensity not in INTENSITIES:
        return f"the intensity '{geometry.intensity}' is unknown"
    if geometry.centerPx is not None and not np.isfinite(geometry.centerPx).all():
        return "the vertebra's centre is not finite"
    return ""
