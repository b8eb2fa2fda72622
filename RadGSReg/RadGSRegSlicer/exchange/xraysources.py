"""X-rays and geometries from files, from volumes of the scene and from the DICOM database.

What a file leaves open is filled with the numbers of a usual C-arm, marked nominal, and said.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from RadGSRegLib.errors import InputError

from ..process.environment import requirePackages
from ..scene.carm import nominalCArm
from ..scene.xray import XrayGeometry, createXrayNode, getGeometry, isXray, setGeometry
from . import patients
from .casefolder import dicomName, importViews

if TYPE_CHECKING:
    from RadGSRegLib.cases import DetectorGrid
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLScene

XRAY_MODALITIES = ("XA", "RF", "DX", "CR")

GRID = "RadGSReg.DetectorGrid"
"""The attribute that keeps an image file's own place on the detector (JSON), for RTK."""
GUESSED_SPACING = "RadGSReg.GuessedSpacing"
"""The attribute that keeps the column step (mm) taken for a file that says none."""


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

    ``frame`` is the one to take of several (None: the middle one). Without a ``name`` the node gets
    that of the file, one from DICOM as `casefolder.dicomName` says. Raises InputError for a file
    that cannot be used.
    """
    path = Path(path)
    if not str(path) or not path.is_file():
        raise InputError(path.name or "file", "is not there", "choose a file")
    requirePackages()
    if path.suffix.lower() == ".json":
        notes: list[str] = []
        return Imported(importViews(path, scene, notes), notes)
    from RadGSRegLib.cases import read_xray

    out = Imported()
    frames = frameCount(path)
    if frames > 1 and frame is None:
        frame = (frames - 1) // 2
        out.notes.append(f"{path.name} has {frames} frames; number {frame + 1} is taken")
    image = read_xray(path, frame)
    rows, columns = image.pixels.shape
    geometry, lacking, known = _nominal(image, columns, rows)
    name = name or (path.stem if image.tags is None else dicomName(path, scene))
    node = createXrayNode(name, image.pixels, geometry, scene)
    _remember(node, geometry, known, image.grid if image.spacing_mm else None)
    patients.rememberFile(node, path)
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
    # A volume that was an X-ray before still has the spacing that was guessed then.
    known = spacing != (1.0, 1.0) and not isGuess(node, spacing)
    arm = nominalCArm(columns, rows, spacing if known else None)
    geometry = XrayGeometry(arm.camera(columns, rows), arm.spacing, nominal=True)
    setGeometry(node, geometry)
    _remember(node, geometry, known, _keptGrid(node))
    return Imported(
        [node], [f"{name}: a volume says nothing of its geometry; set the geometry below"]
    )


def fromDicom(series: DicomSeries, frame: int | None = None) -> Imported:
    """The X-rays of a series of the DICOM database, one per file."""
    out = Imported()
    for file in series.files:
        imported = fromFile(file, frame, series.text.split(" \N{MIDDLE DOT} ")[-1])
        out.nodes += imported.nodes
        out.notes += imported.notes
    return out


def dicomSeries() -> list[DicomSeries]:
    """The X-ray series of the DICOM database. Raises InputError where there is no database."""
    database = getattr(slicer, "dicomDatabase", None)
    if database is None or not database.isOpen:
        raise InputError("DICOM database", "is not open", "open the DICOM module once")
    series = []
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
                series.append(DicomSeries(uid, text, tuple(database.filesForSeries(uid))))
    return series


def frameCount(path: str | os.PathLike[str]) -> int:
    """How many frames a DICOM file holds; 1 for any other file.

    Raises InputError for a DICOM file that cannot be read.
    """
    from RadGSRegLib.cases import is_dicom_file, number_of_frames, quiet_readers

    path = Path(path)
    if not is_dicom_file(path):
        return 1
    import pydicom

    with quiet_readers():
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
        except Exception as error:  # bytes from anywhere make the parser raise anything
            raise InputError(path, "cannot be read as DICOM; is it complete?") from error
        return int(number_of_frames(dataset))


def geometryFromFile(
    path: str | os.PathLike[str],
    node: vtkMRMLScalarVolumeNode,
    place: int | None = None,
) -> XrayGeometry:
    """The geometry for an X-ray's node from a views.json, an RTK geometry or a 3 x 4 matrix.

    Of several views that of the node's name is taken, else the one at ``place`` (from 0) among as
    many X-rays. An RTK geometry is in mm: it needs the image file's own place on the detector, or
    else the pixel spacing, with the image's middle at (0, 0). Raises InputError where the file is
    unusable, does not fit the image, or the spacing is only guessed.
    """
    requirePackages()
    from RadGSRegLib.cases import (
        camera_from_projection,
        read_projection_matrix,
        read_rtk_matrices,
        read_views_with_axes,
        rtk_camera,
    )

    path = Path(path)
    if not path.is_file():
        raise InputError(path.name or "file", "is not there", "choose a file")
    present = getGeometry(node)
    columns, rows = present.camera.size
    axes, nominal, room = present.patientAxes, False, False
    try:
        if path.suffix.lower() == ".json":
            views, axes = read_views_with_axes(path)
            names = [view.name.lower() for view in views]
            own = node.GetName().lower()
            view = views[names.index(own) if own in names else _chosen(path, len(views), place)]
            if view.camera.size != (columns, rows):
                raise InputError(
                    path,
                    f"its view '{view.name}' has {view.camera.columns} x {view.camera.rows} "
                    f"pixels, the X-ray {columns} x {rows}",
                )
            camera, spacing, nominal = view.camera, view.pixel_spacing_mm, view.nominal
            room = view.room_nominal
        elif path.suffix.lower() == ".xml":
            matrices = read_rtk_matrices(path)
            grid = _grid(path, node, present)
            matrix = matrices[_chosen(path, len(matrices), place)]
            camera, spacing = rtk_camera(matrix, grid, columns, rows), present.pixelSpacing
        else:
            camera = camera_from_projection(read_projection_matrix(path), columns, rows)
            spacing = present.pixelSpacing
    except ValueError as error:
        raise InputError(path, str(error)) from error
    known = replace(present, camera=camera, pixelSpacing=spacing, patientAxes=axes)
    return replace(known, nominal=nominal, roomNominal=room)


def _chosen(path: Path, count: int, place: int | None) -> int:
    if count == 1:
        return 0
    if place is None or not 0 <= place < count:
        raise InputError(
            path, f"holds {count} views and none fits", "give the X-ray the name of its view"
        )
    return place


def _grid(path: Path, node: Any, present: XrayGeometry) -> DetectorGrid:
    """Where an X-ray's pixels lie on the detector, for RTK."""
    from RadGSRegLib.cases import DetectorGrid

    if present.nominal and isGuess(node, present.pixelSpacing):
        raise InputError(
            path,
            f"is in mm, and the pixel spacing of {node.GetName()} is only a guess",
            "set the pixel spacing first, or say that the geometry is not nominal",
        )
    kept = _keptGrid(node)
    # A spacing that was set by hand since overrules the file's.
    if kept is not None and np.allclose(_steps(kept), present.pixelSpacing, rtol=1e-3):
        return kept
    return DetectorGrid.centred(*present.camera.size, present.pixelSpacing)


def _steps(grid: DetectorGrid) -> tuple[float, float]:
    column, row = np.linalg.norm(grid.axes_mm, axis=0)
    return float(column), float(row)


def _remember(
    node: Any, geometry: XrayGeometry, spacingIsKnown: bool, grid: DetectorGrid | None
) -> None:
    """Keep on a node what a geometry in mm needs, which its own geometry does not tell."""
    node.RemoveAttribute(GUESSED_SPACING)
    node.RemoveAttribute(GRID)
    if not spacingIsKnown:
        node.SetAttribute(GUESSED_SPACING, json.dumps(float(geometry.pixelSpacing[0])))
    if grid is not None:
        content = {"origin_mm": grid.origin_mm.tolist(), "axes_mm": grid.axes_mm.tolist()}
        node.SetAttribute(GRID, json.dumps(content))


def isGuess(node: Any, spacing: tuple[float, float]) -> bool:
    """Whether a spacing is still the one that was guessed for want of any."""
    try:
        guess = float(json.loads(node.GetAttribute(GUESSED_SPACING) or "null"))
    except (ValueError, TypeError):
        return False
    return bool(np.isclose(guess, spacing[0], rtol=1e-6))


def _keptGrid(node: Any) -> DetectorGrid | None:
    from RadGSRegLib.cases import DetectorGrid

    try:
        content = json.loads(node.GetAttribute(GRID) or "null")
        origin, axes = (np.array(content[key], dtype=float) for key in ("origin_mm", "axes_mm"))
    except (ValueError, TypeError, KeyError):
        return None
    usable = origin.shape == (2,) and axes.shape == (2, 2) and abs(np.linalg.det(axes)) > 1e-12
    return DetectorGrid(origin, axes) if usable else None


def _nominal(image: Any, columns: int, rows: int) -> tuple[XrayGeometry, list[str], bool]:
    """A nominal geometry, what the file lacks for a better one, and whether it tells the spacing.

    The spacing is that of the DICOM tags or of the image file's own place.
    """
    tags = image.tags
    intensity: Any = image.intensity or "display"
    usual = nominalCArm(columns, rows, image.spacing_mm)
    if tags is None:
        camera = usual.camera(columns, rows)
        geometry = XrayGeometry(camera, usual.spacing, intensity, nominal=True)
        return geometry, ["any geometry"], image.spacing_mm is not None
    from RadGSRegLib.cases import nominal_extrinsic, nominal_intrinsic
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
    geometry = XrayGeometry(camera, spacing, intensity, nominal=True)
    return geometry, lacking, tags.spacing_mm is not None


def _dicomFile(node: Any) -> str | None:
    """The file of a volume that Slicer has loaded from its DICOM database."""
    uids = (node.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if not uids or database is None:
        return None
    return database.fileForInstance(uids[0]) or None
