"""Where a C-arm stands when many X-rays are taken: on a circle, on an arc, or anywhere."""

from __future__ import annotations

import numpy as np

from ..choices import PATHS
from ..errors import InputError
from ..geometry import Camera
from .geometry import AP, c_arm_camera
from .parameters import SimulationParameters

_PATHS = tuple(path for path in PATHS if path != "biplanar")
# How far a C-arm turns about the patient and tilts to head and feet, degrees to either side: the
# orbit and the tilt of S. Jecklin et al., "IXGS", 2025 (section Dataset).
ORBIT_DEG = 102.0
TILT_DEG = 25.0


def path_cameras(
    parameters: SimulationParameters, path: str, count: int, generator: np.random.Generator
) -> dict[str, Camera]:
    """Return ``count`` cameras about the isocentre by name, "V01" and so on.

    ``path``: "circular" (equal steps around the patient), "arc" (equal steps over the C-arm's orbit
    of 204 degrees) or "arbitrary" (drawn from orbit and tilt, as a surgeon places them). The
    principal points are off by the parameters' range. Raises InputError for another path and for
    fewer than two views.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.simulation import SimulationParameters, path_cameras
        >>> parameters = SimulationParameters.preset("clean")
        >>> cameras = path_cameras(parameters, "circular", 4, np.random.default_rng(0))
        >>> list(cameras)
        ['V01', 'V02', 'V03', 'V04']
        >>> np.round(cameras["V03"].source_world).tolist()  # half way around
        [-0.0, -750.0, 0.0]
    """
    if path not in _PATHS:
        raise InputError("path", f"there is none named {path}", f"use one of {list(_PATHS)}")
    if count < 2:
        raise InputError("views", f"{count} is too few", "simulate two or more")
    tilts = np.zeros(count)
    if path == "circular":
        turns = 360.0 * np.arange(count) / count
    elif path == "arc":
        turns = np.linspace(-ORBIT_DEG, ORBIT_DEG, count)
    else:
        turns = generator.uniform(-ORBIT_DEG, ORBIT_DEG, count)
        tilts = generator.uniform(-TILT_DEG, TILT_DEG, count)
    digits = max(2, len(str(count)))
    offsets = generator.uniform(-1.0, 1.0, (count, 2)) * parameters.principal_px
    return {
        f"V{number + 1:0{digits}d}": c_arm_camera(parameters, AP, turn, tilt, offset)
        for number, (turn, tilt, offset) in enumerate(zip(turns, tilts, offsets, strict=True))
    }
