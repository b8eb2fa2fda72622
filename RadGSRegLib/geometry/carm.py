"""The pose of a C-arm from its two angles, and back.

Convention (DICOM PS3.3 C.8.7.5.1.2): the angles say where the **detector** stands about the
patient, like longitude and latitude. At (0, 0) it is in front of the chest: the beam runs from
posterior to anterior, upwards through a supine patient. The primary angle turns about the patient's
long axis and is positive towards the patient's left (LAO; +90 is a left lateral, the beam runs
along +x of LPS). The secondary angle tilts the detector towards the head (CRA) when positive.

With ``a`` and ``b`` for the two, in LPS::

    camera z = ( sin a cos b, -cos a cos b,  sin b)     source to detector
    camera y = ( sin a sin b, -cos a sin b, -cos b)     image down, towards the feet
    camera x = (-cos a,       -sin a,        0    )     image right, as seen from the source
"""

from typing import NamedTuple

import numpy as np

from .arrays import Array
from .camera import Camera, pinhole
from .pose import affine

# Where the patient's left and back point, in the axes of the room (x: to the left of a patient who
# lies head first and supine, y: down, z: towards the head end of the table).
_HEAD_FIRST = {
    "S": ((1, 0, 0), (0, 1, 0)),
    "P": ((-1, 0, 0), (0, -1, 0)),
    "DR": ((0, -1, 0), (1, 0, 0)),
    "DL": ((0, 1, 0), (-1, 0, 0)),
}
PATIENT_POSITIONS = tuple(f"{first}{lies}" for first in ("HF", "FF") for lies in _HEAD_FIRST)


class CArmAngles(NamedTuple):
    """Degrees: primary (LAO positive), secondary (CRA positive), and the image's roll.

    The roll is the rotation of the image axes about the beam (from camera x to camera y) away from
    the heads-up image that `carm_rotation` describes.
    """

    primary_deg: float
    secondary_deg: float
    roll_deg: float


def room_to_patient(patient_position: str) -> Array:
    """The rotation (3, 3) from room axes to the patient's LPS axes.

    Room axes are the LPS axes of a patient who lies head first and supine (``HFS``). Knows DICOM's
    ``HFS, HFP, HFDR, HFDL, FFS, FFP, FFDR, FFDL``; ValueError for anything else.
    """
    name = patient_position.strip().upper()
    if name not in PATIENT_POSITIONS:
        raise ValueError(f"patient position {patient_position!r} is none of {PATIENT_POSITIONS}")
    left, posterior = (np.array(v, dtype=float) for v in _HEAD_FIRST[name[2:]])
    if name.startswith("FF"):  # turned about the vertical, what is down stays down
        turn = np.diag([-1.0, 1.0, -1.0])
        left, posterior = turn @ left, turn @ posterior
    return np.stack([left, posterior, np.cross(left, posterior)])


def carm_rotation(primary_deg: float, secondary_deg: float) -> Array:
    """The rotation (3, 3) from LPS to the camera, as in the module's docstring."""
    a, b = np.radians([primary_deg, secondary_deg])
    sa, ca, sb, cb = np.sin(a), np.cos(a), np.sin(b), np.cos(b)
    return np.array([[-ca, -sa, 0.0], [sa * sb, -ca * sb, -cb], [sa * cb, -ca * cb, sb]])


def carm_camera(
    source_detector_mm: float,
    source_isocentre_mm: float,
    primary_deg: float,
    secondary_deg: float,
    size: tuple[int, int],
    spacing_mm: tuple[float, float],
    principal_point: tuple[float, float] | None = None,
    patient_position: str = "HFS",
) -> Camera:
    """Make a C-arm's camera from its distances and angles, the isocentre at the world's origin.

    World axes are the patient's LPS. The image is heads-up and seen from the source (a camera needs
    that: x, y and the beam are right-handed). The angles are those of DICOM PS3.3 C.8.7.5.1.2, as
    the module's docstring has them, and count from the chest of the patient. Then leave
    ``patient_position`` at HFS, whichever way the patient lies. Give the position only where the
    angles count from the room (a C-arm that does not know how the patient lies): 0 is then upright
    with the detector above the table, and "heads-up" means towards the head end of the table.

    Args:
        source_detector_mm: from the source to the detector, mm.
        source_isocentre_mm: from the source to the isocentre, mm.
        primary_deg: about the patient's long axis, positive towards the patient's left.
        secondary_deg: towards the head where positive.
        size: (columns, rows) of the image.
        spacing_mm: (column step, row step) at the detector, mm.
        principal_point: (column, row) in pixels; the middle of the image unless given.
        patient_position: one of `PATIENT_POSITIONS`.

    Returns:
        The camera.

    Raises:
        ValueError: for distances or steps that are not positive, a detector nearer than the
            isocentre, or an unknown patient position.

    Example:
        >>> from RadGSRegLib.geometry import carm_angles, carm_camera
        >>> lateral = carm_camera(1124.0, 700.0, 90.0, 0.0, (488, 488), (0.61, 0.61))
        >>> lateral.view_direction_world.round(6) + 0.0  # along +x: towards the left
        array([1., 0., 0.])
        >>> lateral.project([[0.0, 0.0, 0.0]])
        array([[243.5, 243.5]])
        >>> round(carm_angles(lateral).primary_deg)
        90
    """
    if not 0 < source_isocentre_mm < source_detector_mm:
        raise ValueError(
            f"the isocentre ({source_isocentre_mm} mm) must lie between the source and the "
            f"detector ({source_detector_mm} mm)"
        )
    if min(spacing_mm) <= 0:
        raise ValueError(f"pixel spacing {spacing_mm} mm is not positive")
    columns, rows = size
    centre = principal_point or ((columns - 1) / 2.0, (rows - 1) / 2.0)
    focal = source_detector_mm / spacing_mm[0], source_detector_mm / spacing_mm[1]
    turn = carm_rotation(primary_deg, secondary_deg) @ room_to_patient(patient_position).T
    world_to_camera = affine(turn, [0.0, 0.0, source_isocentre_mm])
    return Camera(pinhole(focal, centre), world_to_camera, columns, rows)


def carm_angles(camera: Camera, patient_position: str = "HFS") -> CArmAngles:
    """The angles of a camera, the inverse of `carm_camera`.

    Primary in (-180, 180], secondary in [-90, 90], roll in (-180, 180]. Looking straight along the
    patient's long axis (secondary +-90) primary and roll are not both fixed: the roll is then 0.
    """
    rotation = camera.world_to_camera[:3, :3] @ room_to_patient(patient_position)
    x, z = rotation[0], rotation[2]
    secondary = float(np.degrees(np.arcsin(np.clip(z[2], -1.0, 1.0))))
    if np.hypot(z[0], z[1]) < 1e-9:
        return CArmAngles(float(np.degrees(np.arctan2(-x[1], -x[0]))), secondary, 0.0)
    primary = float(np.degrees(np.arctan2(z[0], -z[1])))
    heads_up = carm_rotation(primary, secondary)
    roll = float(np.degrees(np.arctan2(x @ heads_up[1], x @ heads_up[0])))
    return CArmAngles(primary, secondary, roll)
