"""MayaCam 2.0, the text file that XMALab exports: OpenCV's K, R and t under headings.

XMALab writes (``Camera::saveMayaCamVersion2``) the headings "image size" (width, height),
"camera matrix" (3 lines), "rotation" (3 lines, world to camera), "translation" (3 lines) and, where
it modelled the distortion, "undistortion" (OpenCV's eight coefficients). All is OpenCV's own
model: x right, y down, z from the source to the picture, pixel centres at integers, (0, 0) the
first pixel at the upper left. XMALab turns the y axis over for MayaCam 1.0 and DLT alone. The
unit is that of the calibration object: cm in XROMM's tradition, mm in many laboratories.
"""

from pathlib import Path

import numpy as np

from ...errors import InputError
from .calibration import Calibration, numbers_of

HEADING = "image size"
_COUNTS = {HEADING: 2, "camera matrix": 9, "rotation": 9, "translation": 3, "undistortion": 8}


def read_mayacam2(text: str, path: Path) -> Calibration:
    """The calibration in the text of a MayaCam 2.0 file.

    Raises InputError for what is missing, twice, unknown or no number.
    """
    parts: dict[str, str] = {}
    heading = ""
    for line in map(str.strip, text.splitlines()):
        if line[:1].isalpha():
            heading = line.lower()
            if heading not in _COUNTS or heading in parts:
                how = "twice" if heading in parts else "which is not known"
                raise InputError(path, f'is no usable MayaCam 2.0 file: it has "{line[:40]}" {how}')
            parts[heading] = ""
        elif line:
            parts[heading] = f"{parts.get(heading, '')} {line}"
    values: dict[str, list[float]] = {}
    for name, count in _COUNTS.items():
        if name not in parts:
            if name == "undistortion":
                continue
            raise InputError(path, f'is no whole MayaCam 2.0 file: it has no "{name}"')
        values[name] = numbers_of(parts[name], path, f'"{name}"')
        if len(values[name]) != count:
            raise InputError(
                path, f'must hold {count} numbers under "{name}", but holds {len(values[name])}'
            )
    columns, rows = values[HEADING]
    return Calibration(
        np.reshape(values["camera matrix"], (3, 3)),
        np.reshape(values["rotation"], (3, 3)),
        np.array(values["translation"]),
        (int(columns), int(rows)),
        tuple(values.get("undistortion", ())),
    )
