"""A case small enough to write down: a bony ball, seen from two sides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from RadGSRegLib.cases import Case, View, write_case
from RadGSRegLib.geometry import Camera, Volume, exp_se3, transform_points

FOCAL = 1842.6
DISTANCE = 750.0
RADIUS = 18.0
CENTRE_CT = np.array([10.0, -40.0, 25.0])
POSE = exp_se3([0.1, -0.2, 0.15, 12.0, 30.0, -8.0])
START = exp_se3([0.0, -0.1, 0.25, 20.0, 25.0, -18.0])


def camera_at(target_world: np.ndarray, angle_deg: float) -> Camera:
    """A camera 750 mm from ``target_world``, which projects to (160, 150)."""
    turn = Rotation.from_euler("x", 90, degrees=True)
    turn = turn * Rotation.from_euler("z", angle_deg, degrees=True)
    matrix = np.eye(4)
    matrix[:3, :3] = turn.as_matrix()
    matrix[:3, 3] = np.array([0.0, 0.0, DISTANCE]) - matrix[:3, :3] @ target_world
    intrinsic = np.array([[FOCAL, 0, 160.0], [0, FOCAL, 150.0], [0, 0, 1]])
    return Camera(intrinsic, matrix, 320, 300)


def ball_case(*, dark: bool = False) -> Case:
    """A ball of 18 mm radius about CENTRE_CT at POSE, with its exact shadows on a ramp."""
    grid = np.diag([1.5, 1.5, 1.5, 1.0])
    grid[:3, 3] = CENTRE_CT - 1.5 * 19.5
    k, j, i = np.mgrid[:40, :40, :40] - 19.5
    ball = (i**2 + j**2 + k**2) * 1.5**2 < RADIUS**2
    ct = Volume(np.where(ball, 600.0, 40.0).astype(np.float32), grid)
    labels = Volume(ball.astype(np.uint8) * 22, grid)
    centre_world = transform_points(POSE, CENTRE_CT[None])[0]
    views = []
    for name, angle in (("AP", 0.0), ("LA", 90.0)):
        camera = camera_at(centre_world, angle)
        rows, columns = np.mgrid[: camera.rows, : camera.columns]
        radius = np.hypot(columns - 160.0, rows - 150.0) * DISTANCE / FOCAL
        chord = 2.0 * np.sqrt(np.maximum(RADIUS**2 - radius**2, 0.0))
        image = 0.3 + 0.01 * chord + 0.001 * (columns if name == "AP" else rows)
        pixels = (-image if dark else image).astype(np.float32)
        views.append(View(name, pixels, camera, (0.61, 0.61), center_px=(164.0, 147.0)))
    inputs = {"case.json": "0123456789abcdef" * 4}
    return Case(ct, labels, 22, tuple(views), label_names={22: "L3"}, inputs=inputs)


def write_ball(folder: Path, *, realism: str = "clean") -> Path:
    """The case with its truth and a start in ``folder``; returns the path of case.json."""
    folder.mkdir(parents=True)
    case = ball_case()
    path = write_case(folder, case.ct, case.labels, 22, case.views, start_ct_to_world=START)
    truth = {"ct_to_world": POSE.tolist(), "level": realism}
    (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    return path
