"""X-rays from files, from volumes of the scene and from the DICOM database, with what geometry
there is; and a geometry from a file for an X-ray that is in the scene already.

What a file leaves open is filled with the numbers of a usual C-arm, marked nominal, and said.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from RadGSRegLib.errors import InputError

from .carm import nominalCArm
from .casefolder import importViews
from .environment import requirePackages
from .xray import XrayGeometry, createXrayNode, getGeometry, isXray, setGeometry

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLScene

XRAY_MODALITIES = ("XA", "RF", "DX", "CR")


@dataclass
class Imported:
    """X-ray nodes that have come into the scene, and what has to be said of them."""

    nodes: list[Any] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DicomSeries:
    """One series of X-rays in the DICOM database. ``text`` is for the screen only."""

    uid: str
    text: str
    files: tuple[str, ...]


def fromFile(
    path: str | os.PathLike[str],
    frame: int | None = None,
    name: str | None = None,
    scene: vtkMRMLScene | None = None,
) -> Imported:
    """X-rays from a ``views.json`` or one image file.

    ``frame`` is the one to take of several (None: the middle one). Raises InputError for a file
    that cannot be used.
    """
    path = Path(path)
    if not str(path) or not path.is_file():
        raise InputError(path.name or "file", "is not there", "choose a file")
    requirePackages()
    if path.suffix.lower() == ".json":
        return Imported(importViews(path, scene))
    from RadGSRegLib.cases import read_xray

    out = Imported()
    frames = frameCount(path)
    if frames > 1 and frame is None:
        frame = (frames - 1) // 2
        out.notes.append(f"{path.name} has {frames} frames; number {frame + 1} is taken")
    image = read_xray(path, frame)
    rows, columns = image.pixels.shape
    geometry, lacking = _nominal(image, columns, rows)
    node = createXrayNode(name or path.stem, image.pixels, geometry, scene)
    out.nodes.append(node)
    if lacking:
        out.notes.append(
            f"{node.GetName()}: the file lacks {', '.join(lacking)}; set the geometry below"
        )
    return out


def fromVolume(node: vtkMRMLScalarVolumeNode | None, frame: int | None = None) -> Imported:
    """A volume of the scene as an X-ray.

    Where it came from DICOM the file is read again, for its geometry and its grey values, into a
    node of its own; else the volume itself gets a nominal geometry, which moves it.
    """
    if node is None:
        raise InputError("volume", "none is chosen")
    name = node.GetName()
    if isXray(node):
        return Imported([node])
    file = _dicomFile(node)
    if file is not None:
        return fromFile(file, frame, f"{name} X-ray", node.GetScene())
    image = node.GetImageData()
    if image is None or image.GetNumberOfScalarComponents() != 1:
        raise InputError(name, "is no image with one channel")
    columns, rows, slices = image.GetDimensions()
    if slices != 1 or min(columns, rows) < 2:
        raise InputError(name, f"is {columns} x {rows} x {slices}, but an X-ray has one slice")
    spacing = (float(node.GetSpacing()[0]), float(node.GetSpacing()[1]))
    arm = nominalCArm(columns, rows, None if spacing == (1.0, 1.0) else spacing)
    geometry = XrayGeometry(arm.camera(columns, rows), arm.spacing, nominal=True)
    setGeometry(node, geometry)
    return Imported(
        [node], [f"{name}: a volume says nothing of its geometry; set the geometry below"]
    )


def fromDicom(series: DicomSeries, frame: int | None = None) -> Imported:
    """The X-rays of a series of the DICOM database, one per file."""
    out = Imported()
    for file in series.files:
        one = fromFile(file, frame, series.text.split(" \N{MIDDLE DOT} ")[-1])
        out.nodes += one.nodes
        out.notes += one.notes
    return out


def dicomSeries() -> list[DicomSeries]:
    """The X-ray series of the DICOM database. Raises InputError where there is no database."""
    database = getattr(slicer, "dicomDatabase", None)
    if database is None or not database.isOpen:
        raise InputError("DICOM database", "is not open", "open the DICOM module once")
    found = []
    for patient in database.patients():
        for study in database.studiesForPatient(patient):
            for uid in database.seriesForStudy(study):
                modality = database.fieldForSeries("Modality", uid)
                if modality not in XRAY_MODALITIES:
                    continue
                parts = [
                    database.displayedNameForPatient(patient),
                    database.fieldForStudy("StudyDate", study),
                    f"{modality} {database.descriptionForSeries(uid) or ''}".strip(),
                ]
                text = " \N{MIDDLE DOT} ".join(part for part in parts if part)
                found.append(DicomSeries(uid, text, tuple(database.filesForSeries(uid))))
    return found


def frameCount(path: str | os.PathLike[str]) -> int:
    """How many frames a DICOM file holds; 1 for any other file."""
    from RadGSRegLib.cases.dicom_file import is_dicom_file, number_of_frames

    if not is_dicom_file(Path(path)):
        return 1
    import pydicom

    return int(number_of_frames(pydicom.dcmread(path, stop_before_pixels=True)))


def geometryFromFile(
    path: str | os.PathLike[str],
    node: vtkMRMLScalarVolumeNode,
    place: int | None = None,
) -> XrayGeometry:
    """The geometry for an X-ray's node from a views.json, an RTK geometry or a 3 x 4 matrix.

    Of several views that of the node's name is taken, else the one at ``place`` (from 0) among as
    many X-rays. Raises InputError where the file is unusable or does not fit the image.
    """
    requirePackages()
    from RadGSRegLib.cases import (
        DetectorGrid,
        camera_from_projection,
        read_projection_matrix,
        read_rtk_matrices,
        read_views,
        rtk_camera,
    )

    path = Path(path)
    if not path.is_file():
        raise InputError(path.name or "file", "is not there", "choose a file")
    present = getGeometry(node)
    columns, rows = present.camera.size
    try:
        if path.suffix.lower() == ".json":
            views = read_views(path)
            names = [view.name.lower() for view in views]
            own = node.GetName().lower()
            view = views[names.index(own) if own in names else _chosen(path, len(views), place)]
            if view.camera.size != (columns, rows):
                raise InputError(
                    path,
                    f"its view '{view.name}' has {view.camera.columns} x {view.camera.rows} "
                    f"pixels, the X-ray {columns} x {rows}",
                )
            camera, spacing = view.camera, view.pixel_spacing_mm
        elif path.suffix.lower() == ".xml":
            matrices = read_rtk_matrices(path)
            grid = DetectorGrid.centred(columns, rows, present.pixelSpacing)
            matrix = matrices[_chosen(path, len(matrices), place)]
            camera, spacing = rtk_camera(matrix, grid, columns, rows), present.pixelSpacing
        else:
            camera = camera_from_projection(read_projection_matrix(path), columns, rows)
            spacing = present.pixelSpacing
    except ValueError as error:
        raise InputError(path, str(error)) from error
    return replace(present, camera=camera, pixelSpacing=spacing, nominal=False)


def _chosen(path: Path, count: int, place: int | None) -> int:
    if count == 1:
        return 0
    if place is None or not 0 <= place < count:
        raise InputError(
            path, f"holds {count} views and none fits", "give the X-ray the name of its view"
        )
    return place


def _nominal(image: Any, columns: int, rows: int) -> tuple[XrayGeometry, list[str]]:
    """A nominal geometry from DICOM tags, and what the tags lack."""
    tags = image.tags
    intensity = image.intensity or "display"
    usual = nominalCArm(columns, rows)
    if tags is None:
        camera = usual.camera(columns, rows)
        return XrayGeometry(camera, usual.spacing, intensity, nominal=True), ["any geometry"]
    from RadGSRegLib.cases.dicom_geometry import nominal_extrinsic, nominal_intrinsic
    from RadGSRegLib.geometry import Camera

    lacking = tags.missing_for_intrinsic() + tags.missing_for_extrinsic()
    spacing = tags.spacing_mm or usual.spacing
    detector = tags.source_detector_mm or usual.sourceDetector
    patient = tags.source_isocentre_mm or 0.7 * detector
    whole = replace(
        tags,
        spacing_mm=spacing,
        source_detector_mm=detector,
        source_isocentre_mm=patient if patient < detector else 0.7 * detector,
        primary_deg=tags.primary_deg or 0.0,
        secondary_deg=tags.secondary_deg or 0.0,
    )
    try:
        intrinsic = nominal_intrinsic(whole, spacing, columns, rows)
        camera = Camera(intrinsic, nominal_extrinsic(whole), columns, rows)
    except ValueError:
        lacking.append("a usable PatientOrientation")
        whole = replace(whole, orientation=None)
        intrinsic = nominal_intrinsic(whole, spacing, columns, rows)
        camera = Camera(intrinsic, nominal_extrinsic(whole), columns, rows)
    return XrayGeometry(camera, spacing, intensity, nominal=True), lacking


def _dicomFile(node: Any) -> str | None:
    """The file of a volume that Slicer has loaded from its DICOM database."""
    uids = (node.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if not uids or database is None:
        return None
    return database.fileForInstance(uids[0]) or None
