"""MayaCam 1.0, the CSV file of XROMM's XrayProject for MATLAB; XMALab exports it too.

Five lines of three numbers (XrayProject's ``mayacam.m``, XMALab's ``Camera::getMayaCam``):

1. the source (x, y, z) in the world;
2. degrees about x, y and z: the camera's axes in the world are the columns of Rz Ry Rx. They are
   those of Maya: x to the right, y *up*, z *back* towards the source's side, so that the camera
   looks along -z;
3. the middle of the film, scale (W/2 - u0, H/2 - v0, Z), in camera axes: a repetition;
4. u0, v0, Z: the principal point in pixels counted from 1, u from the left and v from the
   *bottom*; Z is minus the focal length in pixels, one for both directions;
5. scale, W, H; where W and H are 0 they are 1024.

So, with rows from the top and pixels from 0: cx = u0 - 1, cy = H - v0, and OpenCV's rotation is
diag(1, -1, -1) (Rz Ry Rx)^T. MATLAB's csvwrite keeps five digits. The unit is cm in XROMM's
tradition; XMALab takes that of the calibration object.
"""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from ...errors import InputError
from .. import bounds
from .calibration import Calibration, numbers_of

_MAYA_TO_OPENCV = np.diag([1.0, -1.0, -1.0])


def read_mayacam1(text: str, path: Path) -> Calibration:
    """The calibration in the text of a MayaCam 1.0 file.

    Raises InputError unless it is five lines of three numbers whose third line agrees with the
    fourth and fifth.
    """
    lines = [numbers_of(line, path, "lines") for line in text.splitlines() if line.strip()]
    if [len(line) for line in lines] != [3] * 5:
        raise InputError(path, "is no MayaCam 1.0 file, which has five lines of three numbers")
    source, angles, film, (u0, v0, z), (scale, *size) = lines
    columns, rows = (int(length) or 1024 for length in size)
    if z >= 0 or scale <= 0:
        raise InputError(
            path, "is no usable MayaCam 1.0 file: its film does not lie in front of the source"
        )
    expected = scale * np.array([columns / 2 - u0, rows / 2 - v0, z])
    if np.abs(film - expected).max() > scale * bounds.FILM_PX + 1e-4 * abs(expected[2]):
        raise InputError(
            path,
            "contradicts itself: its third line (the film) does not follow from the fourth and "
            "fifth",
            "export the calibration again",
        )
    axes = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    rotation = _MAYA_TO_OPENCV @ axes.T
    intrinsic = np.array([[-z, 0.0, u0 - 1.0], [0.0, -z, rows - v0], [0.0, 0.0, 1.0]])
    return Calibration(intrinsic, rotation, -rotation @ np.array(source), (columns, rows))
