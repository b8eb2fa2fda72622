"""What a calibration says of a view beside its camera: shadows of metal, and how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry import CAMERA_PARAMETERS, Array, Camera, projection_by_camera
from . import bounds
from .json_input import Fields
from .ledger import Ledger
from .types import View

METAL, COVARIANCE = "metal_px", "camera_covariance"
CALIBRATED_KEYS = {METAL, COVARIANCE}


def read_metal(fields: Fields) -> tuple[tuple[float, float, float], ...]:
    """The round shadows of an entry, (column, row, radius) each; none where it names none.

    Raises InputError for what are no circles.
    """
    if METAL not in fields:
        return ()
    listed = fields.data[METAL]
    if not isinstance(listed, list):
        fields.refuse(f'"{METAL}" must be a list of [column, row, radius]')
    circles = fields.numbers(METAL, (len(listed), 3))
    if (circles[:, 2:] <= 0).any():
        fields.refuse(f'"{METAL}" has a radius that is not positive')
    return tuple((float(column), float(row), float(radius)) for column, row, radius in circles)


def read_covariance(fields: Fields) -> Array | None:
    """The covariance (9, 9) of an entry's camera; None where it says none.

    Raises InputError for what is none: another shape, not symmetric, negative eigenvalues.
    """
    if COVARIANCE not in fields:
        return None
    covariance = fields.numbers(COVARIANCE, (CAMERA_PARAMETERS, CAMERA_PARAMETERS))
    if (np.diag(covariance) < 0).any():
        fields.refuse(f'"{COVARIANCE}" has a negative variance')
    # Radians and pixels differ by many powers of ten: each number is judged beside its own scale.
    deviations = np.sqrt(np.diag(covariance))
    scale = np.outer(deviations, deviations)
    if (np.abs(covariance - covariance.T) > bounds.COVARIANCE_SHARE * scale).any():
        fields.refuse(f'"{COVARIANCE}" is not symmetric')
    symmetric = (covariance + covariance.T) / 2.0
    correlation = symmetric / np.where(scale > 0, scale, 1.0)
    if np.linalg.eigvalsh(correlation)[0] < -bounds.COVARIANCE_SHARE:
        fields.refuse(f'"{COVARIANCE}" has a negative eigenvalue: it is no covariance')
    return np.asarray(symmetric)


def calibrated_to_json(view: View) -> dict[str, Any]:
    """What an entry of ``views.json`` says of it; nothing where nothing is known."""
    out: dict[str, Any] = {}
    if view.metal_px:
        out[METAL] = [[float(number) for number in circle] for circle in view.metal_px]
    if view.camera_covariance is not None:
        out[COVARIANCE] = np.asarray(view.camera_covariance, dtype=float).tolist()
    return out


def note_loose(view: View, place_world: Array | None, ledger: Ledger) -> None:
    """Note a view whose calibration is worse than 1 mm at the patient (3,), world mm.

    Where it is not known where the patient is, it is taken to be half-way to the detector.
    """
    if view.camera_covariance is None:
        return
    if place_world is None:
        place_world = _half_way(view)
    sigma_mm = camera_sigma_mm(view.camera, view.camera_covariance, place_world)
    if sigma_mm > bounds.CALIBRATION_MM:
        ledger.note(
            f"{view.name}: its calibration is only good to {sigma_mm:.1f} mm at the patient "
            "(standard deviation)"
        )


def camera_sigma_mm(camera: Camera, covariance: Array, point_world: Array) -> float:
    """How far off a camera shows a point (3,), mm there: the standard deviation along the worst
    direction across the ray, by the covariance (9, 9) of its parameters."""
    by_camera = projection_by_camera(camera, point_world[None])[0]
    depth = float(camera.world_to_camera[2] @ np.append(point_world, 1.0))
    # Pixels need not be square.
    by_camera = np.linalg.solve(camera.intrinsic[:2, :2], by_camera) * depth
    spread = np.linalg.eigvalsh(by_camera @ covariance @ by_camera.T)
    return float(np.sqrt(max(spread[-1], 0.0)))


def _half_way(view: View) -> Array:
    camera = view.camera
    detector_mm = camera.focal_px * float(np.sqrt(np.prod(view.pixel_spacing_mm)))
    return np.asarray(camera.source_world + 0.5 * detector_mm * camera.view_direction_world)
