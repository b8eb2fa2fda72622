"""A nominal camera from the tags of a DICOM X-ray.

The tags say how a C-arm was meant to stand, not how it stood: no flex, no calibration, the
isocentre in the middle of the image. A view made of them is a guess and is marked as such.

The angles of the XA positioner are anatomical: they count from the patient's chest, whichever way
the patient lies (PS3.3 C.8.7.5.1.2), so Patient Position does not turn them, and the world's axes
are the patient's LPS. The image is heads-up and shown as seen facing the X-ray source (the
patient's left on the right of a frontal image), unless Patient Orientation says otherwise. Seen
that way an image is mirrored for a camera that stands at the source; its first focal length is then
negative.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import Dataset

from ..geometry import PATIENT_POSITIONS, Array, affine, carm_rotation, pinhole
from . import bounds
from .dicom_file import frame_value, number_of_frames, value_of

_LETTERS = {
    "L": (1, 0, 0),
    "R": (-1, 0, 0),
    "P": (0, 1, 0),
    "A": (0, -1, 0),
    "H": (0, 0, 1),
    "F": (0, 0, -1),
}


@dataclass(frozen=True)
class GeometryTags:
    """What a DICOM X-ray says of its geometry; None where it is silent. Millimetres and degrees.

    ``spacing_mm`` is (column step, row step) at the detector; ``orientation`` the directions in the
    patient of the image's rows (left to right) and columns (top to bottom), such as ("L", "F");
    ``angle_tags`` which tag is to blame where an angle is None.
    """

    source_detector_mm: float | None = None
    source_isocentre_mm: float | None = None
    primary_deg: float | None = None
    secondary_deg: float | None = None
    spacing_mm: tuple[float, float] | None = None
    orientation: tuple[str, str] | None = None
    patient_position: str | None = None
    angle_tags: tuple[str, str] = ("PositionerPrimaryAngle", "PositionerSecondaryAngle")

    def missing_for_intrinsic(self) -> list[str]:
        """The tags without which there is no intrinsic."""
        return _missing(
            DistanceSourceToDetector=self.source_detector_mm, ImagerPixelSpacing=self.spacing_mm
        )

    def missing_for_extrinsic(self) -> list[str]:
        """The tags without which there is no extrinsic."""
        return _missing(
            DistanceSourceToPatient=self.source_isocentre_mm,
            **dict(zip(self.angle_tags, (self.primary_deg, self.secondary_deg), strict=True)),
        )


def _missing(**values: Any) -> list[str]:
    return [name for name, value in values.items() if value is None]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _positive(value: Any) -> float | None:
    number = _number(value)
    return number if number and number > 0 else None


def _pair(dataset: Dataset, keyword: str, frame: int) -> tuple[Any, Any]:
    """Both values of an element, or None twice where it has not two."""
    value = frame_value(dataset, keyword, frame)
    return tuple(value) if hasattr(value, "__len__") and len(value) == 2 else (None, None)


def _could_be_steps(values: Array) -> bool:
    """Whether values could be steps from frame to frame: alike in sign and about in size."""
    sizes = np.abs(values)
    alike = len(values) > 1 and len(set(np.sign(values))) == 1 and bool(sizes.min() > 0)
    return alike and bool(sizes.max() < bounds.STEPS_ALIKE * sizes.min())


def _readings(first: float, increments: Array, frame: int, count: int) -> list[float]:
    """All angles that a frame (from 1) may have by its run's increments, degrees.

    Makers write them in several ways: one step for all frames; each frame's difference from the
    first; each frame's angle itself; steps from frame to frame.
    """
    same = bounds.SAME_DEG
    steps = _could_be_steps(increments)
    out = []
    if len(increments) == 1:
        out.append(first + frame * float(increments[0]))
    elif len(increments) == count:
        start = float(increments[0])
        angles = abs(start - first) < same
        differences = abs(start) < same
        if angles:
            out.append(float(increments[frame]))
        if differences:
            out.append(first + float(increments[frame]))
        if steps and (not angles or np.ptp(increments) < same):
            out.append(first + float(increments[:frame].sum()))
            out.append(first + float(increments[1 : frame + 1].sum()))
        if differences and _could_be_steps(increments[1:]):
            out.append(first + float(increments[1 : frame + 1].sum()))
    elif len(increments) == count - 1:
        out.append(first + float(increments[frame - 1]))
        if steps:
            out.append(first + float(increments[:frame].sum()))
    return out


def _angle(dataset: Dataset, keyword: str, frame: int) -> tuple[float | None, str]:
    """The angle of a frame, and the name of the tag to blame where there is none."""
    angle = _number(frame_value(dataset, keyword, frame))
    title = f"{keyword}Increment"
    raw = value_of(dataset, title)
    if angle is None or raw is None or frame == 0:
        return angle, keyword
    if value_of(dataset, "PerFrameFunctionalGroupsSequence"):
        return angle, keyword  # each frame has its own
    listed = [_number(v) for v in (raw if hasattr(raw, "__iter__") else [raw])]
    if None in listed:
        return None, title
    increments = np.array(listed, dtype=float)
    angles = _readings(angle, increments, frame, number_of_frames(dataset))
    if not angles or np.ptp(angles) > bounds.SAME_DEG:
        return None, title
    return angles[0], keyword


def geometry_tags(dataset: Dataset, frame: int = 0) -> GeometryTags:
    """The geometry of one frame; tags that are absent, empty or no number are None."""
    rows, columns = (_positive(step) for step in _pair(dataset, "ImagerPixelSpacing", frame))
    row, column = (str(way or "").upper() for way in _pair(dataset, "PatientOrientation", frame))
    known = row and column and set(row + column) <= set(_LETTERS)
    position = str(value_of(dataset, "PatientPosition") or "").strip().upper()
    primary, primary_tag = _angle(dataset, "PositionerPrimaryAngle", frame)
    secondary, secondary_tag = _angle(dataset, "PositionerSecondaryAngle", frame)
    isocentre = _positive(frame_value(dataset, "DistanceSourceToPatient", frame))
    return GeometryTags(
        source_detector_mm=_positive(frame_value(dataset, "DistanceSourceToDetector", frame)),
        source_isocentre_mm=isocentre
        or _positive(frame_value(dataset, "DistanceSourceToIsocenter", frame)),
        primary_deg=primary,
        secondary_deg=secondary,
        angle_tags=(primary_tag, secondary_tag),
        spacing_mm=(columns, rows) if columns and rows else None,
        orientation=(row, column) if known else None,
        patient_position=position if position in PATIENT_POSITIONS else None,
    )


def _direction(letters: str) -> Array:
    """A unit vector (3,), LPS, for letters such as ``L`` or ``PR`` (the first counts most)."""
    out = sum(np.array(_LETTERS[c], dtype=float) / 2**n for n, c in enumerate(letters))
    return np.asarray(out / np.linalg.norm(out))


def image_turn(tags: GeometryTags) -> tuple[Array, bool]:
    """How the image lies: the rotation (3, 3) about the beam away from heads-up, and "mirrored".

    The best of the eight ways in which an image can lie, by Patient Orientation; without that tag
    heads-up and mirrored (as seen facing the source). Raises ValueError where no way fits.
    """
    if tags.orientation is None:
        return np.eye(3), True
    x, y, _ = carm_rotation(tags.primary_deg or 0.0, tags.secondary_deg or 0.0)
    row, column = (_direction(letters) for letters in tags.orientation)
    best, turn, mirrored = -np.inf, np.eye(3), True
    for mirror in (True, False):
        for c, s in ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)):
            camera_x, camera_y = c * x + s * y, -s * x + c * y
            fit = min(row @ (-camera_x if mirror else camera_x), column @ camera_y)
            if fit > best:
                best, mirrored = fit, mirror
                turn = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
    if best < bounds.LEAST_ORIENTATION:
        raise ValueError("PatientOrientation does not fit the positioner's angles")
    return turn, mirrored


def nominal_intrinsic(
    tags: GeometryTags, spacing_mm: tuple[float, float], columns: int, rows: int
) -> Array:
    """The intrinsic (3, 3) with the beam's foot in the middle of the image.

    Raises ValueError where the distance is missing or the orientation does not fit.
    """
    if tags.source_detector_mm is None:
        raise ValueError("DistanceSourceToDetector is missing")
    _, mirrored = image_turn(tags)
    fx = tags.source_detector_mm / spacing_mm[0] * (-1.0 if mirrored else 1.0)
    fy = tags.source_detector_mm / spacing_mm[1]
    return pinhole((fx, fy), ((columns - 1) / 2, (rows - 1) / 2))


def nominal_extrinsic(tags: GeometryTags) -> Array:
    """world_to_camera (4, 4); the world is the patient's LPS with its origin at the isocentre.

    Raises ValueError where a tag is missing or the orientation does not fit.
    """
    missing = tags.missing_for_extrinsic()
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    turn, _ = image_turn(tags)
    rotation = turn @ carm_rotation(tags.primary_deg or 0.0, tags.secondary_deg or 0.0)
    return affine(rotation, [0.0, 0.0, tags.source_isocentre_mm or 0.0])
