"""Cameras in the files of other programs: OpenCV, RTK, MayaCam 2.0, and matrices as text."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from xml.etree import ElementTree as ET

import numpy as np
from scipy.spatial.transform import Rotation

from ..cases import DetectorGrid, output_file
from ..errors import InputError
from ..geometry import Array
from .types import Calibrated

Place = str | PathLike[str]
_SAME = 1e-9


def _numbers(values: Array, between: str = " ") -> str:
    """Numbers as text that reads back as the same numbers."""
    return between.join(repr(float(value)) for value in np.ravel(values))


def _rows(matrix: Array, between: str = " ") -> str:
    return "\n".join(_numbers(row, between) for row in matrix)


def _refuse_distortion(view: Calibrated, what: str, undistorted: bool) -> None:
    """InputError where the picture is bent: none of the formats holds this distortion."""
    if view.distortion is not None and not undistorted:
        raise InputError(
            view.name,
            f"has a distortion, which {what} cannot hold",
            "remove it from the picture first, and export the camera of the picture without it",
        )


def _refuse_mirrored(view: Calibrated, what: str) -> None:
    if np.linalg.det(view.camera.intrinsic[:2, :2]) < 0:
        raise InputError(
            view.name,
            f"is mirrored (seen from the detector's side), which {what} cannot hold",
            "mirror the picture and calibrate it again, or export matrices as text",
        )


def write_matrix(path: Place, view: Calibrated, undistorted: bool = False) -> None:
    """Write a view's projection matrix as text: three lines of four numbers, world mm to pixels.

    ``undistorted``: the picture beside it is already free of its distortion. Raises InputError
    where it is not, and there is one.
    """
    _refuse_distortion(view, "a matrix", undistorted)
    with output_file(path) as part:
        part.write_text(_rows(view.camera.projection) + "\n", encoding="utf-8")


def write_mayacam(path: Place, view: Calibrated, undistorted: bool = False) -> None:
    """Write a view's camera as MayaCam 2.0, as XMALab reads it; lengths in mm.

    ``undistorted``: the picture beside it is already free of its distortion. Raises InputError
    where it is not, and there is one, and for a mirrored picture.
    """
    _refuse_distortion(view, "MayaCam 2.0 here", undistorted)
    _refuse_mirrored(view, "MayaCam 2.0")
    camera = view.camera
    pose = camera.world_to_camera
    text = (
        f"image size\n{camera.columns},{camera.rows}\n\n"
        f"camera matrix\n{_rows(camera.intrinsic, ',')}\n\n"
        f"rotation\n{_rows(pose[:3, :3], ',')}\n\n"
        f"translation\n{_rows(pose[:3, 3:])}\n\n"
    )
    with output_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_opencv(path: Place, view: Calibrated, undistorted: bool = False) -> None:
    """Write a view's camera as a YAML file of OpenCV's FileStorage; lengths in mm.

    ``camera_matrix``, ``distortion_coefficients`` (zeros), ``R`` and ``T`` from world to camera.
    ``undistorted``: the picture beside it is already free of its distortion. Raises InputError
    where it is not, and there is one, and for a mirrored picture.
    """
    _refuse_distortion(view, "OpenCV's model", undistorted)
    _refuse_mirrored(view, "a camera matrix of OpenCV")
    camera = view.camera
    pose = camera.world_to_camera
    parts = {
        "camera_matrix": camera.intrinsic,
        "distortion_coefficients": np.zeros((1, 5)),
        "R": pose[:3, :3],
        "T": pose[:3, 3:],
    }
    lines = ["%YAML:1.0", "---", f"image_width: {camera.columns}", f"image_height: {camera.rows}"]
    for name, matrix in parts.items():
        rows, columns = matrix.shape
        lines += [
            f"{name}: !!opencv-matrix",
            f"   rows: {rows}",
            f"   cols: {columns}",
            "   dt: d",
            f"   data: [ {_numbers(matrix, ', ')} ]",
        ]
    with output_file(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")


def rtk_parameters(view: Calibrated, grid: DetectorGrid) -> dict[str, float]:
    """RTK's parameters (mm and degrees) of a view, its pixels on the detector as ``grid`` has them.

    Raises InputError for what RTK's model cannot hold: two focal lengths, skew, a world's origin
    that is not between source and detector, and a camera of the other hand. RTK's v axis runs up,
    so a grid whose rows run along +v is of a mirrored picture, and one whose rows run along -v of
    one that is not.
    """
    camera = view.camera
    to_mm = np.eye(3)
    to_mm[:2, :2], to_mm[:2, 2] = grid.axes_mm, grid.origin_mm
    k = to_mm @ camera.intrinsic
    distance = float(np.sqrt(abs(np.linalg.det(k[:2, :2]))))
    if np.abs(np.abs(k[:2, :2]) - distance * np.eye(2)).max() > _SAME * distance:
        raise InputError(
            view.name,
            "has two focal lengths, or skew, in mm at the detector, which RTK cannot hold",
            "give the pixel spacing that the view was calibrated with",
        )
    if np.linalg.det(k[:2, :2]) > 0:
        raise InputError(
            view.name,
            "is of the other hand than RTK's geometry, whose v axis runs upwards",
            "store the picture with its rows along -v, and give that grid"
            if np.linalg.det(grid.axes_mm) > 0
            else "give a grid whose rows run along +v",
        )
    signs = np.sign(np.diag(k)[:2])
    pose = camera.world_to_camera
    to_isocentre = float(pose[2, 3])
    if not 0 < to_isocentre < distance:
        raise InputError(
            view.name,
            f"has the world's origin {to_isocentre:.4g} mm from the source, not between it and the "
            f"detector ({distance:.4g} mm), which RTK cannot hold",
            "take a world whose origin is near the beads",
        )
    turn = np.diag([*signs, -1.0]) @ pose[:3, :3]
    in_plane, out_of_plane, gantry = -Rotation.from_matrix(turn).as_euler("ZXY", degrees=True)
    source = -signs * pose[:2, 3]
    offset = source - k[:2, 2]
    return {
        "SourceToIsocenterDistance": to_isocentre,
        "SourceToDetectorDistance": distance,
        "GantryAngle": float(gantry),
        "OutOfPlaneAngle": float(out_of_plane),
        "InPlaneAngle": float(in_plane),
        "SourceOffsetX": float(source[0]),
        "SourceOffsetY": float(source[1]),
        "ProjectionOffsetX": float(offset[0]),
        "ProjectionOffsetY": float(offset[1]),
    }


def write_rtk(
    path: Place, views: Sequence[Calibrated], grid: DetectorGrid, undistorted: bool = False
) -> None:
    """Write views as one RTK geometry (ThreeDCircularProjectionGeometry), parameters and matrices.

    ``grid``: where all pictures' pixels lie on the detector; `DetectorGrid.centred` unless their
    files say otherwise. ``undistorted``: the pictures are already free of their distortion. Raises
    InputError where they are not, and there is one, and as `rtk_parameters`.
    """
    root = ET.Element("RTKThreeDCircularGeometry", version="3")
    to_mm = np.linalg.inv(grid.mm_to_pixel())
    for view in views:
        _refuse_distortion(view, "RTK's geometry", undistorted)
        element = ET.SubElement(root, "Projection")
        for name, value in rtk_parameters(view, grid).items():
            ET.SubElement(element, name).text = repr(value)
        # RTK's matrices have the sign that puts the world before the source at negative depths.
        matrix = -to_mm @ view.camera.projection
        ET.SubElement(element, "Matrix").text = f"\n{_rows(matrix)}\n"
    ET.indent(root)
    with output_file(path) as part:
        head = '<?xml version="1.0"?>\n<!DOCTYPE RTKGEOMETRY>\n'
        part.write_text(head + ET.tostring(root, encoding="unicode") + "\n", encoding="utf-8")
