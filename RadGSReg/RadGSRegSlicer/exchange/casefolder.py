"""From nodes to the files of a case (case.json, views.json, CT, label map, X-rays), and back."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import slicer
from numpy.typing import ArrayLike
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import THREE_DECIMALS, Array, Volume, is_rigid, orthonormalize, ras_to_lps

from ..process.environment import requirePackages
from ..scene.frames import ijkToLps, parentTransformName
from ..scene.refinedcameras import nominalGeometry
from ..scene.segments import findSegment, labelsOnCt
from ..scene.xray import (
    PARALLEL,
    XrayGeometry,
    createXrayNode,
    forgetCovariancesWith,
    getGeometry,
    getPixels,
    nodeFromView,
)
from ..scene.xray import xrayNodes as xraysOf
from .patients import rememberFile

if TYPE_CHECKING:
    from RadGSRegLib.cases import View


def volumeFromCt(ctNode: slicer.vtkMRMLScalarVolumeNode | None) -> Volume:
    """A CT node as a library volume in the CT's own frame: a transform above it is left out.

    The voxels are the node's own, not a copy. Raises InputError where the node cannot be a CT.
    """
    if ctNode is None:
        raise InputError("CT", "no volume is chosen")
    name = ctNode.GetName()
    if not ctNode.IsA("vtkMRMLScalarVolumeNode") or ctNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InputError(name, "is no scalar volume and cannot be the CT")
    image = ctNode.GetImageData()
    if image is None or image.GetNumberOfScalarComponents() != 1 or min(image.GetDimensions()) < 2:
        raise InputError(name, "does not hold a 3-D image with one channel")
    index_to_physical = ijkToLps(ctNode)
    axes = index_to_physical[:3, :3]
    cosines = axes / np.linalg.norm(axes, axis=0)
    if not np.allclose(cosines.T @ cosines, np.eye(3), atol=1e-3):
        raise InputError(
            name, "has axes that are not at right angles (a tilted gantry?)", "resample it first"
        )
    return Volume(slicer.util.arrayFromVolume(ctNode), index_to_physical)


def viewsFromXrays(
    xrayNodes: Sequence[slicer.vtkMRMLScalarVolumeNode], nominal: bool = False, least: int = 2
) -> list[View]:
    """X-ray nodes as library views; with ``nominal`` as they were before cameras were refined.

    Raises InputError where they are not at least so many good ones.
    """
    from RadGSRegLib.cases import check_views

    views = [viewFromXray(node, nominal) for node in xrayNodes]
    if not views:
        raise InputError("X-rays", "there is none", "add one or more")
    check_views(views, Path("X-rays"), least)
    return views


def viewFromXray(node: slicer.vtkMRMLScalarVolumeNode, nominal: bool = False) -> View:
    """One X-ray node as a library view, as `viewsFromXrays`."""
    from RadGSRegLib.cases import View

    geometry = nominalGeometry(node) if nominal else getGeometry(node)
    return View(
        name=viewName(node),
        pixels=getPixels(node).astype(np.float32),
        camera=geometry.camera,
        pixel_spacing_mm=geometry.pixelSpacing,
        intensity=geometry.intensity,
        center_px=geometry.centerPx,
        nominal=geometry.nominal,
        device=geometry.device,
        bone_alone=geometry.boneAlone,
        metal_px=geometry.metalPx,
        camera_covariance=geometry.cameraCovariance,
        camera_covariance_with=geometry.cameraCovarianceWith,
        room_nominal=geometry.roomNominal,
    )


def forgetTogether(xrayNodes: Sequence[slicer.vtkMRMLScalarVolumeNode]) -> None:
    """The cameras of X-rays are others now: no other X-ray of their scene is to state how its
    camera goes wrong together with those that they had."""
    names = {viewName(node) for node in xrayNodes}
    scenes = {node.GetScene() for node in xrayNodes} - {None}
    for other in [node for scene in scenes for node in xraysOf(scene)]:
        if other not in xrayNodes:
            forgetCovariancesWith(other, names)


def patientAxes(xrayNodes: Sequence[slicer.vtkMRMLScalarVolumeNode]) -> Array | None:
    """How the patient lies in the X-rays' world (3, 3); None where that may be in any way.

    Raises InputError where the X-rays say it differently.
    """
    every = [getGeometry(node).patientAxes for node in xrayNodes] or [PARALLEL]
    first = every[0]
    for node, axes in zip(xrayNodes, every, strict=False):
        same = axes is first or (
            axes is not None and first is not None and np.allclose(axes, first, atol=1e-6)
        )
        if not same:
            raise InputError(
                node.GetName(),
                "has other patient axes than the other X-rays",
                "load the X-rays of one world together, from one views.json",
            )
    return first


def viewName(xrayNode: slicer.vtkMRMLScalarVolumeNode) -> str:
    """What an X-ray's view is called in files: its node's name, fit for every file system."""
    from RadGSRegLib.cases import view_name

    return view_name(xrayNode.GetName())


def writeViews(
    xrayNodes: Sequence[slicer.vtkMRMLScalarVolumeNode], folder: str | os.PathLike[str]
) -> Path:
    """Write ``views.json`` and one TIFF per X-ray into a folder; returns the path of views.json.

    Raises InputError for X-rays that cannot be used, before anything is written.
    """
    from RadGSRegLib.cases import OutputFolder, write_views

    views, axes = viewsFromXrays(xrayNodes), patientAxes(xrayNodes)
    with OutputFolder(folder) as stage:
        write_views(stage, views, axes)
    return Path(folder) / "views.json"


def writeCase(
    ctNode: slicer.vtkMRMLScalarVolumeNode | None,
    segmentationNode: slicer.vtkMRMLSegmentationNode | None,
    segment: str,
    xrayNodes: Sequence[slicer.vtkMRMLScalarVolumeNode],
    folder: str | os.PathLike[str],
    startRas: ArrayLike | None = None,
) -> Path:
    """Write a case in the form of the contract; returns the path of case.json.

    ``segment`` is a segment's ID, name or vertebra ("L3"); ``startRas`` (4, 4) an approximate
    ct_to_world in RAS, for ``start.json``. The CT is written in its own frame: a transform above it
    is left out. Raises InputError for nodes that cannot be used, before anything is written.
    """
    ct = volumeFromCt(ctNode)
    assert ctNode is not None
    if segmentationNode is None:
        raise InputError("segmentation", "none is chosen")
    segmentId = findSegment(segmentationNode, segment)
    requirePackages()
    from RadGSRegLib.cases import OutputFolder, write_case

    views, axes = viewsFromXrays(xrayNodes), patientAxes(xrayNodes)
    start = None if startRas is None else startToLps(startRas)
    labels = labelsOnCt(segmentationNode, segmentId, ctNode)
    with OutputFolder(folder) as stage:
        array = ct.with_array(labels.array)
        write_case(stage, ct, array, labels.label, views, labels.names, start, axes)
    return Path(folder) / "case.json"


def startToLps(startRas: ArrayLike) -> np.ndarray:
    """A start, given in RAS, as files hold it. Raises InputError unless rigid to three decimals."""
    matrix = np.asarray(startRas, dtype=float)
    if not is_rigid(matrix, THREE_DECIMALS):
        raise InputError("start", "is no rigid 4 x 4 transform")
    return ras_to_lps(orthonormalize(matrix))


def importViews(
    path: str | os.PathLike[str],
    scene: slicer.vtkMRMLScene | None = None,
    notes: list[str] | None = None,
) -> list[slicer.vtkMRMLScalarVolumeNode]:
    """X-ray nodes from a ``views.json``, of one or more; ``notes`` gets remarks on what was read.

    Raises InputError where it cannot be used.
    """
    from RadGSRegLib.cases import Ledger, read_json_object, read_views_with_axes

    path, ledger = Path(path), Ledger()
    views, axes = read_views_with_axes(path, ledger, least=1)
    nodes = [nodeFromView(view, scene, axes) for view in views]
    for node, entry in zip(nodes, read_json_object(path)["views"], strict=True):
        rememberFile(node, path.parent / entry["image"])
    if notes is not None:
        notes += ledger.notes
    return nodes


def importImage(
    path: str | os.PathLike[str],
    geometry: XrayGeometry | None = None,
    frame: int | None = None,
    scene: slicer.vtkMRMLScene | None = None,
) -> slicer.vtkMRMLScalarVolumeNode:
    """An X-ray node from one image file.

    Without a ``geometry`` it is taken from DICOM tags and marked nominal. The node is named after
    the file, one from DICOM as `dicomName` says. Raises InputError where it cannot be read or says
    nothing of its geometry.
    """
    from RadGSRegLib.cases import nominal_extrinsic, nominal_intrinsic, read_xray
    from RadGSRegLib.geometry import Camera

    path = Path(path)
    image = read_xray(path, frame, None if geometry is None else geometry.intensity)
    if geometry is None:
        tags = image.tags
        lacking = (
            ["DICOM tags"]
            if tags is None
            else tags.missing_for_intrinsic() + tags.missing_for_extrinsic()
        )
        if tags is None or tags.spacing_mm is None or lacking:
            raise InputError(
                path, f"says nothing of its geometry (no {', '.join(lacking)})", "use a views.json"
            )
        rows, columns = image.pixels.shape
        try:
            intrinsic = nominal_intrinsic(tags, tags.spacing_mm, columns, rows)
            extrinsic = nominal_extrinsic(tags)
        except ValueError as error:
            raise InputError(path, str(error), "use a views.json") from error
        camera = Camera(intrinsic, extrinsic, columns, rows)
        geometry = XrayGeometry(camera, tags.spacing_mm, image.intensity or "display", nominal=True)
    name = path.stem if image.tags is None else dicomName(path, scene)
    node = createXrayNode(name, image.pixels, geometry, scene)
    rememberFile(node, path)
    return node


def dicomName(path: Path, scene: slicer.vtkMRMLScene | None = None) -> str:
    """A name for an X-ray from a DICOM file: its series' description, or "X-ray 1" and so on.

    The file's own name may be the patient's. So may the description: then it is not used.
    """
    import pydicom
    from RadGSRegLib.cases import quiet_readers

    try:
        with quiet_readers():
            data = pydicom.dcmread(path, stop_before_pixels=True)
            texts = [str(data.get(key, "")) for key in ("PatientName", "PatientID")]
            described = " ".join(str(data.get("SeriesDescription", "")).split())
    except Exception:  # bytes from anywhere make the parser raise anything
        return neutralName(scene)
    # Of names in several scripts and parts every part counts.
    parts = [
        part for text in texts for part in re.split(r"[\s^=,.]+", text.lower()) if len(part) > 1
    ]
    if not described or any(part in described.lower() for part in parts):
        return neutralName(scene)
    return described[:64]


def neutralName(scene: slicer.vtkMRMLScene | None = None) -> str:
    """A name for an X-ray from a DICOM file, whose own name may be the patient's."""
    scene = slicer.mrmlScene if scene is None else scene
    number = 1
    while scene.GetFirstNodeByName(f"X-ray {number}") is not None:
        number += 1
    return f"X-ray {number}"


def ctFrameNote(ctNode: slicer.vtkMRMLScalarVolumeNode) -> str | None:
    """What to tell about a CT that is already under a transform, or None."""
    name = parentTransformName(ctNode)
    if name is None:
        return None
    return (
        f"'{ctNode.GetName()}' is under the transform '{name}'; its own frame, without that "
        "transform, is registered, and the result takes the transform's place"
    )
