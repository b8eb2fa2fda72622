"""Rigs whose extrinsics all go from camera to world."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from RadGSRegLib.cases import View, read_views, write_views
from RadGSRegLib.cases.standing import check_standing
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Camera, exp_se3, invert_rigid

FOCAL_MM, STEP_MM, SIDE = 1380.0, 2.0, 176
# As calibrated with a cube in a corner of the field, which is the world: not the isocentre.
SOURCES = ([330.0, -840.0, -40.0], [-1120.0, 80.0, 310.0])
WRIST = np.array([-77.0, 130.0, 100.0])


def _looking(source: np.ndarray, at: np.ndarray, roll: float = 0.0) -> Camera:
    z = (at - source) / np.linalg.norm(at - source)
    x = np.cross([np.sin(roll), 0.0, np.cos(roll)], z)
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, :3] = [x, np.cross(z, x), z]
    pose[:3, 3] = -pose[:3, :3] @ source
    focal, middle = FOCAL_MM / STEP_MM, (SIDE - 1) / 2
    return Camera(np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1.0]]), pose, SIDE, SIDE)


def _rig(off_mm: np.ndarray | None = None, *, clicks: bool = True) -> list[View]:
    """Two views of a wrist, with clicks or without; lines of sight pass it by ``off_mm`` (2, 3)."""
    off = np.zeros((2, 3)) if off_mm is None else off_mm
    views = []
    for name, source, aside in zip(("cam01", "cam02"), SOURCES, off, strict=True):
        camera = _looking(np.array(source), WRIST + aside)
        click = tuple(camera.project(WRIST[None])[0]) if clicks else None
        pixels = np.add.outer(np.arange(SIDE), len(views) * np.arange(SIDE)).astype(np.float32)
        views.append(View(name, pixels, camera, (STEP_MM, STEP_MM), center_px=click))
    return views


@pytest.mark.parametrize("clicks", [True, False])
def test_a_rig_from_camera_to_world_is_refused(tmp_path: Path, clicks: bool) -> None:
    path = write_views(tmp_path, _rig(clicks=clicks))
    assert len(read_views(path)) == 2
    content = json.loads(path.read_text(encoding="utf-8"))
    for view in content["views"]:
        view["extrinsic"] = invert_rigid(view["extrinsic"]).tolist()
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"views\.json: .*if all extrinsics are inverted; .*not camera to world"
    ):
        read_views(path)


@given(
    off=st.lists(st.floats(-40.0, 40.0), min_size=6, max_size=6),
    turn=st.lists(st.floats(-3.0, 3.0), min_size=3, max_size=3),
    shift=st.lists(st.floats(-600.0, 600.0), min_size=3, max_size=3),
    clicks=st.booleans(),
)
def test_a_right_rig_is_taken_wherever_its_world_is(
    off: list[float], turn: list[float], shift: list[float], clicks: bool
) -> None:
    world = exp_se3([*turn, *shift])
    views = [
        replace(
            view,
            camera=replace(view.camera, world_to_camera=view.camera.world_to_camera @ world),
        )
        for view in _rig(np.reshape(off, (2, 3)), clicks=clicks)
    ]
    check_standing(views, Path("views.json"))
