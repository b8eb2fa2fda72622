"""A case of several vertebrae small enough to write down: bony balls above one another."""

from __future__ import annotations

import numpy as np
import torch
from ball import DISTANCE, FOCAL, camera_at

from RadGSRegLib.cases import Case, View
from RadGSRegLib.gaussians import GaussianCloud
from RadGSRegLib.geometry import Volume, exp_se3, transform_points
from RadGSRegLib.multilevel import SpineRegistration
from RadGSRegLib.pipeline import PipelineResult
from RadGSRegLib.registration import Registration

RADIUS = 9.0
NAMES = {21: "L2", 22: "L3", 23: "L4"}
CENTRES_CT = {21: [4.0, -40.0, 60.0], 22: [10.0, -40.0, 35.0], 23: [2.0, -38.0, 10.0]}
WHOLE = exp_se3([0.1, -0.2, 0.15, 12.0, 30.0, -8.0])
POSES = {
    21: WHOLE @ exp_se3([0.02, 0.0, 0.0, 0.0, 1.0, 0.0]),
    22: WHOLE,
    23: WHOLE @ exp_se3([0.0, 0.0, 0.03, -1.0, 0.0, 0.5]),
}


def tower_case(names: dict[int, str] | None = None) -> Case:
    """Three balls of 9 mm radius at POSES, with their exact shadows on a ramp."""
    grid = np.diag([1.5, 1.5, 1.5, 1.0])
    grid[:3, 3] = [-16.0, -62.0, -4.0]
    k, j, i = np.mgrid[:54, :32, :32]
    points = np.stack([i, j, k], axis=-1) * 1.5 + grid[:3, 3]
    hounsfield = np.full(k.shape, 40.0, np.float32)
    labels = np.zeros(k.shape, np.uint8)
    for label, centre in CENTRES_CT.items():
        inside = np.linalg.norm(points - centre, axis=-1) < RADIUS
        hounsfield[inside], labels[inside] = 600.0, label
    places = {n: transform_points(POSES[n], np.array(c)) for n, c in CENTRES_CT.items()}
    views = []
    for name, angle in (("AP", 0.0), ("LA", 90.0)):
        camera = camera_at(places[22], angle)
        rows, columns = np.mgrid[: camera.rows, : camera.columns]
        image = 0.3 + 0.0005 * columns
        for place in places.values():
            column, row = camera.project(place[None])[0]
            radius = np.hypot(columns - column, rows - row) * DISTANCE / FOCAL
            image = image + 0.02 * np.sqrt(np.maximum(RADIUS**2 - radius**2, 0.0))
        views.append(View(name, image.astype(np.float32), camera, (0.61, 0.61)))
    inputs = {"case.json": "0123456789abcdef" * 4}
    return Case(
        Volume(hounsfield, grid),
        Volume(labels, grid),
        22,
        tuple(views),
        label_names=NAMES if names is None else names,
        inputs=inputs,
    )


def level(label: int, status: str = "ok") -> Registration:
    """What a registration would say of a ball."""
    return Registration(
        status,  # type: ignore[arg-type]
        f"Both views <agree> on {label}.",
        POSES[label],
        np.diag([1e-4, 1e-4, 4e-4, 0.01, 0.04, 0.09]),
        np.array(CENTRES_CT[label]),
        {"score": 0.7, "expected_error_mm": 0.02 * label, "views": {"AP": {"score": 0.7}}},
        {"search": 1.0, "total": 1.5},
        {"effort": "normal"},
        3,
    )


def spine(case: Case, statuses: dict[int, str] | None = None) -> SpineRegistration:
    """All of them together, their errors independent."""
    levels = {label: level(label, (statuses or {}).get(label, "ok")) for label in POSES}
    return SpineRegistration(
        case, levels, 22, block_diagonal(levels), {"search": 2.0, "total": 5.0}
    )


def block_diagonal(levels: dict[int, Registration]) -> np.ndarray:
    """The joint covariance of registrations whose errors are independent."""
    out = np.zeros((6 * len(levels), 6 * len(levels)))
    for k, level in enumerate(levels.values()):
        out[6 * k : 6 * k + 6, 6 * k : 6 * k + 6] = level.covariance
    return out


def results(spine: SpineRegistration) -> dict[int, PipelineResult]:
    """Each with a reconstruction, as the pipeline would make it."""
    out = {}
    for label, registration in spine.levels.items():
        centre = transform_points(registration.ct_to_world, registration.centre_ct)
        grid = np.diag([2.0, 2.0, 2.0, 1.0])
        grid[:3, 3] = centre - 2.0 * 9
        k, j, i = np.mgrid[:19, :19, :19] - 9
        inside = (i**2 + j**2 + k**2) * 4.0 < RADIUS**2
        cloud = GaussianCloud(
            torch.tensor(centre[None], dtype=torch.float32),
            torch.full((1, 3), 5.0),
            torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
            torch.tensor([0.03]),
        )
        volume = Volume(np.where(inside, 0.033, 0.0214).astype(np.float32), grid)
        points = registration.centre_ct + RADIUS * np.eye(3)
        out[label] = PipelineResult(registration, cloud, volume, points, {"total": 2.0})
    return out
