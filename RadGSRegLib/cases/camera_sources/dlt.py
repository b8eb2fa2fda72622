"""Eleven DLT coefficients per camera, as XMALab exports them and XROMM's and Hedrick's tools use.

A CSV of eleven lines, L1 to L11, with one column per camera:

    u = (L1 X + L2 Y + L3 Z + L4) / (L9 X + L10 Y + L11 Z + 1),  v = (L5 X + ... + L8) / (the same)

u is counted from the left, v from the *bottom*, both from 1 (XMALab's ``Camera::getDLT``); so the
column from 0 is u - 1 and the row from the top is H - v. The unit is that of the calibration
object.
"""

from pathlib import Path

import numpy as np

from ...errors import InputError
from ...geometry import Array, Camera
from ..projection_matrix import camera_from_projection
from .calibration import DETAILS, calibration_text, flipped, in_mm, numbers_of
from .door import SourcedCamera, ViewEntry


def read_dlt(text: str, path: Path) -> Array:
    """The coefficients (cameras, 11) in the text of a file. InputError for any other number."""
    lines = [numbers_of(line, path, "lines") for line in text.splitlines() if line.strip()]
    if len(lines) != 11 or len({len(line) for line in lines}) != 1:
        raise InputError(
            path, "holds no DLT coefficients: eleven lines, with one column per camera"
        )
    return np.array(lines).T


class Dlt:
    """``dlt``: the path of the CSV, with ``dlt_camera`` (from 0) where it has several columns."""

    name = "dlt"
    keys: tuple[str, ...] = ("dlt",)
    details: tuple[str, ...] = ("dlt_camera", *DETAILS)

    def camera(self, entry: ViewEntry) -> SourcedCamera:
        """Take the matrix of one camera apart."""
        fields = entry.fields
        path, text = calibration_text(entry, "dlt")
        cameras = read_dlt(text, path)
        index = fields.integer("dlt_camera") if "dlt_camera" in fields else None
        if index is None and len(cameras) > 1:
            fields.refuse(
                f'"dlt" holds {len(cameras)} cameras',
                f'choose one with "dlt_camera": 0 to {len(cameras) - 1}',
            )
        if not 0 <= (index or 0) < len(cameras):
            fields.refuse(f'"dlt" has no camera {index}; it has {len(cameras)}')
        projection = np.append(cameras[index or 0], 1.0).reshape(3, 4)
        to_pixels = np.array([[1.0, 0.0, -1.0], [0.0, -1.0, entry.rows], [0.0, 0.0, 1.0]])
        try:
            made = camera_from_projection(to_pixels @ projection, entry.columns, entry.rows)
        except ValueError as error:
            raise InputError(path, str(error)) from error
        if made.intrinsic[0, 0] < 0:
            raise InputError(
                path,
                "is of a mirrored picture where rows are counted from the bottom",
                'give the camera as "projection_matrix" if they are counted from the top, or as '
                "the mirrored picture's",
            )
        pose = made.world_to_camera.copy()
        pose[:3, 3] = in_mm(fields, pose[:3, 3], path)
        return SourcedCamera(
            Camera(flipped(entry, made.intrinsic), pose, entry.columns, entry.rows)
        )
