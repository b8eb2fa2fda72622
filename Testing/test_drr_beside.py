"""Rays along a face and beside the volume cost nothing and see nothing."""

from __future__ import annotations

import time

import numpy as np

from RadGSRegLib.drr import project_volume
from RadGSRegLib.geometry import Volume


def test_a_ray_along_a_face_beside_the_volume_ends_at_once() -> None:
    volume = Volume(np.ones((8, 8, 8), dtype=np.float32), np.eye(4))
    to_camera = np.eye(4)
    to_camera[:3, 3] = [60.0, -4.0, 700.0]  # beside the axis, all along it
    # The middle column's rays are all but parallel to the volume's faces.
    intrinsic = np.array([[1800.0, 0.0, 4.0 - 1e-5], [0.0, 1800.0, 4.0], [0.0, 0.0, 1.0]])
    project_volume(volume, intrinsic, to_camera, (2, 2))  # compiles, if it must
    begin = time.perf_counter()
    image = project_volume(volume, intrinsic, to_camera, (9, 9))
    assert time.perf_counter() - begin < 2.0
    assert float(image.abs().max()) == 0.0
