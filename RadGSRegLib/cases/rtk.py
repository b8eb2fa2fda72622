"""Geometry from RTK's XML files (ThreeDCircularProjectionGeometry).

RTK's matrix maps a point (mm) to physical coordinates on the detector (u, v in mm); the grid of the
projection image takes those to pixels. See "RTK 3D circular projection geometry" in RTK's
documentation for the parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from scipy.spatial.transform import Rotation

from ..errors import InputError
from ..geometry import Array, Camera, affine, translation
from . import bounds
from .json_input import existing_file
from .projection_matrix import camera_from_projection

_PARAMETERS = (
    "SourceToIsocenterDistance",
    "SourceToDetectorDistance",
    "GantryAngle",
    "OutOfPlaneAngle",
    "InPlaneAngle",
    "SourceOffsetX",
    "SourceOffsetY",
    "ProjectionOffsetX",
    "ProjectionOffsetY",
)
# IEC 61217's fixed axes of a patient who lies head first and supine: x left, y up to the head, z
# anterior; here as LPS to IEC.
_LPS_TO_IEC = np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1.0]])


@dataclass(frozen=True)
class DetectorGrid:
    """Where pixels lie on the detector: ``origin_mm`` (2,) of pixel (0, 0) and ``axes_mm`` (2, 2).

    The columns of ``axes_mm`` are the steps along image columns and rows, in RTK's (u, v) mm.
    """

    origin_mm: Array
    axes_mm: Array

    @classmethod
    def centred(cls, columns: int, rows: int, spacing_mm: tuple[float, float]) -> DetectorGrid:
        """A grid with its middle at (0, 0), columns along +u and rows along +v."""
        middle = np.array([columns - 1, rows - 1]) / 2.0
        return cls(-middle * np.array(spacing_mm), np.diag(spacing_mm))

    def mm_to_pixel(self) -> Array:
        """(3, 3), homogeneous (u, v, 1) mm to (column, row, 1)."""
        pixel_to_mm = np.eye(3)
        pixel_to_mm[:2, :2] = self.axes_mm
        pixel_to_mm[:2, 2] = self.origin_mm
        return np.asarray(np.linalg.inv(pixel_to_mm))


def rtk_matrix(parameters: dict[str, float]) -> Array:
    """RTK's 3x4 matrix (world mm to detector mm) from its parameters (mm and degrees).

    Raises ValueError where a distance is missing or not positive, or the detector is not behind the
    isocentre.
    """
    values = dict.fromkeys(_PARAMETERS, 0.0) | parameters
    sid, sdd = values["SourceToIsocenterDistance"], values["SourceToDetectorDistance"]
    if sid <= 0 or sdd <= 0:
        raise ValueError("SourceToIsocenterDistance and SourceToDetectorDistance must be positive")
    if sid >= sdd:
        raise ValueError(
            f"the detector (SourceToDetectorDistance {sdd:g} mm) is not behind the isocentre "
            f"(SourceToIsocenterDistance {sid:g} mm); are the two exchanged?"
        )
    angles = [-values[name] for name in ("InPlaneAngle", "OutOfPlaneAngle", "GantryAngle")]
    turn = Rotation.from_euler("ZXY", angles, degrees=True).as_matrix()
    sx, sy = values["SourceOffsetX"], values["SourceOffsetY"]
    to_source = translation([-sx, -sy, 0.0])
    magnify = np.array([[-sdd, 0, 0, 0], [0, -sdd, 0, 0], [0, 0, 1, -sid]])
    to_detector = np.eye(3)
    to_detector[:2, 2] = sx - values["ProjectionOffsetX"], sy - values["ProjectionOffsetY"]
    return np.asarray(to_detector @ magnify @ to_source @ affine(turn, np.zeros(3)))


def _number(element: ET.Element, path: Path) -> float:
    try:
        value = float((element.text or "").strip())
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(path, f"has no number in <{element.tag}>")
    return value


def _parameters(element: ET.Element, path: Path) -> dict[str, float]:
    names = {"Angle": "GantryAngle"}  # as old files have it
    tagged = [(names.get(child.tag, child.tag), child) for child in element]
    return {name: _number(child, path) for name, child in tagged if name in _PARAMETERS}


def _matrix(element: ET.Element, path: Path, number: int) -> Array | None:
    """The projection's own <Matrix> (3, 4), if it has one."""
    matrix = element.find("Matrix")
    if matrix is None:
        return None
    try:
        values = np.array([float(w) for w in (matrix.text or "").split()])
    except ValueError:
        values = np.array([])
    if values.size != 12 or not np.isfinite(values).all():
        raise InputError(path, f"has no 3x4 <Matrix> in projection {number}")
    return values.reshape(3, 4)


def _apart_mm(a: Array, b: Array) -> float:
    """How far apart two matrices put points within 100 mm of the isocentre, mm at the detector."""
    corners = np.array(np.meshgrid(*[(-100.0, 0.0, 100.0)] * 3)).reshape(3, -1)
    points = np.vstack([corners, np.ones(corners.shape[1])])
    with np.errstate(divide="ignore", invalid="ignore"):
        places = [(m @ points)[:2] / (m @ points)[2] for m in (a, b)]
        apart = np.linalg.norm(places[0] - places[1], axis=0).max()
    return float(apart) if np.isfinite(apart) else np.inf


def read_rtk_matrices(path: Path) -> list[Array]:
    """The 3x4 matrices (world mm to detector mm) of all projections of an RTK geometry file.

    The file's own <Matrix> is taken where it is given, the parameters otherwise. Raises InputError
    for anything that is not such a file, for a cylindrical detector, and where both are given and
    disagree.
    """
    content = existing_file(path).read_bytes()
    # Entities could blow up, and RTK writes none. (In UTF-16 there are zeros between.)
    if b"<!ENTITY" in content.replace(b"\0", b""):
        raise InputError(path, "is no RTK geometry: it defines XML entities")
    try:
        root = ET.fromstring(content)
    except ET.ParseError as error:
        raise InputError(path, "is not XML") from error
    if not root.tag.startswith("RTK") or "Geometry" not in root.tag:
        raise InputError(path, "is no RTK geometry file (RTKThreeDCircularGeometry)")
    version = root.get("version", "3")
    if version not in ("2", "3"):
        raise InputError(
            path,
            f"is of version {version}, and only 2 and 3 are known",
            "write it again with a present RTK",
        )
    radius = root.find(".//RadiusCylindricalDetector")
    if radius is not None and _number(radius, path) != 0:
        raise InputError(path, "has a cylindrical detector", "only flat ones are known")
    shared = _parameters(root, path)
    out = []
    for number, element in enumerate(root.findall("Projection")):
        matrix = _matrix(element, path, number)
        parameters = {**shared, **_parameters(element, path)}
        if matrix is not None and not set(_PARAMETERS[:2]) <= set(parameters):
            out.append(matrix)  # and nothing to compare it with
            continue
        try:
            computed = rtk_matrix(parameters)
        except ValueError as error:
            raise InputError(path, f"projection {number}: {error}") from error
        apart = 0.0 if matrix is None else _apart_mm(matrix, computed)
        if apart > bounds.RTK_AGREE_MM:
            raise InputError(
                path,
                f"projection {number}: its <Matrix> and its parameters (angles, distances, "
                f"offsets) disagree, by up to {apart:.3g} mm at the detector",
                "delete the one that is wrong",
            )
        out.append(computed if matrix is None else matrix)
    if not out:
        raise InputError(path, "holds no projection")
    return out


def rtk_camera(
    matrix: Array, grid: DetectorGrid, columns: int, rows: int, frame: str = "lps"
) -> Camera:
    """The camera of one RTK matrix (3, 4) and its image's grid.

    ``frame`` says what RTK's axes are: ``lps`` (the world is taken as it is) or ``iec`` (IEC 61217
    with a patient head first and supine; the world becomes LPS). Raises ValueError for a degenerate
    matrix or another frame.
    """
    if frame not in ("lps", "iec"):
        raise ValueError('the frame must be "lps" or "iec"')
    pixels = grid.mm_to_pixel() @ matrix
    if frame == "iec":
        pixels = pixels @ _LPS_TO_IEC
    return camera_from_projection(pixels, columns, rows)
