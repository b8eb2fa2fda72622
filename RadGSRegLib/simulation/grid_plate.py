"""X-rays of a flat grid of steel balls that lies on the detector, by which distortion is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Array, Camera, Distortion, undistort
from .bead_case import exposed
from .drawing import draw_finish
from .materials import DENSITY
from .parameters import SimulationParameters
from .pixels import Image, transmitted
from .spectrum import tungsten_spectrum

STEP_MM, BALL_MM = 15.0, 4.0
_TURN_DEG = 5.0
_FINER = 4
# Draws of its own: a case is the same for its seed with the grid's pictures and without.
_GRID = 1703


@dataclass(frozen=True)
class GridPicture:
    """A picture (rows, columns) of the grid, as float32 and as a device stores it (None: so)."""

    pixels: Image
    stored: NDArray[Any] | None


def simulate_grids(
    cameras: Mapping[str, Camera],
    distortions: Mapping[str, Distortion],
    parameters: SimulationParameters,
    seed: int,
) -> dict[str, GridPicture]:
    """Simulate a picture of the grid for each view, where the C-arm stands as it does there.

    The grid has balls of 4 mm every 15 mm and is laid on the detector once for all views, turned by
    up to 5 degrees. Nothing else is in the beam.

    Args:
        cameras: of the views, by their names.
        distortions: of the views that have one.
        parameters: of the X-rays.
        seed: of how the grid lies, and of the pictures.

    Returns:
        A picture for each view.

    Example:
        >>> from RadGSRegLib.geometry import carm_camera
        >>> from RadGSRegLib.simulation import SimulationParameters, simulate_grids
        >>> camera = carm_camera(1000.0, 600.0, 0.0, 0.0, (200, 200), (0.6, 0.6))
        >>> grids = simulate_grids({"AP": camera}, {}, SimulationParameters.preset("clean"), 0)
        >>> grids["AP"].pixels.shape
        (200, 200)
    """
    p, rng = parameters, np.random.default_rng([seed, _GRID])
    turn = np.radians(rng.uniform(-_TURN_DEG, _TURN_DEG))
    offset_mm = rng.uniform(0.0, STEP_MM, 2)
    kvp = float(rng.uniform(*p.kvp))
    spectrum = tungsten_spectrum(kvp, float(rng.uniform(*p.filter_mm))) if p.polychromatic else None
    finish = draw_finish(p, rng)
    out = {}
    for name, camera in cameras.items():
        steel = _steel(camera, distortions.get(name), p.pixel_mm, float(turn), offset_mm)
        nothing = np.zeros_like(steel)
        signal = transmitted((nothing, nothing, steel), spectrum)[0]
        out[name] = GridPicture(*exposed(signal, p, finish, rng))
    return out


def _steel(
    camera: Camera, distortion: Distortion | None, pixel_mm: float, turn: float, offset_mm: Array
) -> Image:
    """Steel along the rays (rows, columns), g/cm^2, the mean over each pixel."""
    inside = (np.arange(_FINER) + 0.5) / _FINER - 0.5
    rows, columns = camera.rows, camera.columns
    v, u = np.meshgrid(
        (np.arange(rows)[:, None] + inside).ravel(),
        (np.arange(columns)[:, None] + inside).ravel(),
        indexing="ij",
    )
    pixels = np.stack([u.ravel(), v.ravel()], axis=1)
    if distortion is not None:
        pixels = undistort(pixels, distortion)
    sine, cosine = np.sin(turn), np.cos(turn)
    place = pixel_mm * pixels @ np.array([[cosine, sine], [-sine, cosine]]) + offset_mm
    away = place - STEP_MM * np.rint(place / STEP_MM)
    path = 2.0 * np.sqrt(np.maximum((0.5 * BALL_MM) ** 2 - np.sum(away**2, axis=1), 0.0))
    mean = path.reshape(rows, _FINER, columns, _FINER).mean(axis=(1, 3))
    return np.asarray(0.1 * DENSITY["iron"] * mean, dtype=np.float32)
