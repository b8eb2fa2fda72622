"""What files of a camera calibration share: K, R and t as OpenCV has them, and what may be wrong.

Such files do not say their unit of length, whether the picture beside them is already without
distortion, and whether it was mirrored before the calibration. The view's entry says so:
``unit``, ``undistorted`` and ``flipped``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...geometry import Array, Camera, affine, intrinsic_problem, orthonormalize
from .. import bounds
from ..json_input import Fields, existing_file
from .door import SourcedCamera, ViewEntry

DETAILS: tuple[str, ...] = ("unit", "undistorted", "flipped")
_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0}


@dataclass(frozen=True)
class Calibration:
    """A camera as a file has it.

    ``intrinsic`` (3, 3) in pixels whose centres are integers from (0, 0), the first pixel; a point
    is at ``rotation @ point + translation`` in the camera (x right, y down, z away from the
    source), in the file's unit. ``size`` (columns, rows) where the file says it; ``distortion``:
    the coefficients of a model that is none where all are zero.
    """

    intrinsic: Array
    rotation: Array
    translation: Array
    size: tuple[int, int] | None = None
    distortion: tuple[float, ...] = ()


def calibration_text(entry: ViewEntry, key: str) -> tuple[Path, str]:
    """The path and text of the file that a key names. InputError where it is no text file."""
    path = existing_file(entry.fields.path(key), entry.fields.source.name)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(path, "is not a text file in UTF-8") from error
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error
    entry.ledger.add_file(path)
    return path, text


def numbers_of(text: str, path: Path, what: str) -> list[float]:
    """The finite numbers of a text, with commas, semicolons or spaces between them."""
    words = text.replace(",", " ").replace(";", " ").split()
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise InputError(path, f"holds what is no number in its {what}") from error
    if not np.isfinite(values).all():
        raise InputError(path, f"holds a number that is not finite in its {what}")
    return values


def _flag(fields: Fields, key: str) -> bool:
    value = fields.data.get(key, False)
    if not isinstance(value, bool):
        fields.refuse(f'"{key}" must be true or false')
    return value


def unit_mm(fields: Fields) -> float | None:
    """How many mm the unit of the view's calibration is; None where the entry does not say."""
    if "unit" not in fields:
        return None
    unit = fields.text("unit")
    if unit not in _MM:
        fields.refuse(f'"unit" is "{unit}"', f"it must be one of {', '.join(_MM)}")
    return _MM[unit]


def in_mm(fields: Fields, translation: Array, path: Path) -> Array:
    """A translation (3,) of the file in mm.

    Raises InputError where no unit is given and the length is none of a source in mm, or where the
    unit that is given takes the source out of any room.
    """
    scale = unit_mm(fields)
    distance = float(np.linalg.norm(translation)) * (scale or 1.0)
    low, high = bounds.SOURCE_MM
    if scale is None and not low <= distance <= high:
        raise InputError(
            path,
            f"puts the source {distance:.4g} from the world's origin, which is no usual distance "
            "in mm",
            'say in the view which unit it is in: "unit": "mm", "cm" or "m"',
        )
    if distance > bounds.ROOM_MM:
        raise InputError(
            path,
            f"puts the source {distance / 1000:.4g} m from the world's origin in the unit given "
            f'("{fields.data["unit"]}")',
            'correct the view\'s "unit"',
        )
    return translation * (scale or 1.0)


def check_size(entry: ViewEntry, size: tuple[int, int] | None, path: Path) -> None:
    """InputError where a calibration was made for pictures of another size than the view's."""
    if size is not None and size != (entry.columns, entry.rows):
        raise InputError(
            path,
            f"is for pictures of {size[0]} x {size[1]} pixels (columns x rows), but the view's is "
            f"{entry.columns} x {entry.rows}",
            "use the calibration of this picture, uncropped and unscaled",
        )


def flipped(entry: ViewEntry, intrinsic: Array) -> Array:
    """The intrinsic (3, 3) of the stored picture, where the calibrated one was its mirror image."""
    if not _flag(entry.fields, "flipped"):
        return intrinsic
    mirror = np.array([[-1.0, 0.0, entry.columns - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(mirror @ intrinsic)


def calibrated(entry: ViewEntry, calibration: Calibration, path: Path) -> SourcedCamera:
    """The camera of a calibration, for the view's picture.

    Raises InputError for another picture's size, a distortion that is not zero (unless the view
    says that its picture is ``undistorted``), a rotation that is none or mirrors, an impossible
    intrinsic, and an unlikely unit.
    """
    fields = entry.fields
    check_size(entry, calibration.size, path)
    if any(calibration.distortion) and not _flag(fields, "undistorted"):
        raise InputError(
            path,
            "has a distortion that is not zero, which is not removed here",
            "remove it from the picture first, and say so in the view: "
            '"undistorted": true (it keeps its camera matrix)',
        )
    k, rotation = calibration.intrinsic, calibration.rotation
    problem = intrinsic_problem(k)
    if problem:
        raise InputError(path, f"has a camera matrix that {problem}")
    if min(k[0, 0], k[1, 1]) < 0:
        raise InputError(
            path,
            "has a negative focal length in its camera matrix, as of a mirrored picture",
            'give the camera as "intrinsic" and "extrinsic"',
        )
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > bounds.SKEW:
        raise InputError(path, "has a rotation that is none: it scales or shears")
    if np.linalg.det(rotation) < 0:
        raise InputError(
            path, "has a rotation that mirrors (determinant -1)", "export the calibration again"
        )
    pose = orthonormalize(affine(rotation, in_mm(fields, calibration.translation, path)))
    return SourcedCamera(Camera(flipped(entry, k), pose, entry.columns, entry.rows))
