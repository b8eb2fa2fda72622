"""A source of cameras as a guest: ``views.json`` learns its keys without an edit of the library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ball import ball_case

from RadGSRegLib.cases import (
    CAMERA_SOURCES,
    Ledger,
    SourcedCamera,
    ViewEntry,
    read_views,
    write_views,
)
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Camera


class Toy:
    """``toy_focal_px`` and the turn about the patient's axis, ``toy_turn_deg``."""

    name = "toy"
    keys: tuple[str, ...] = ("toy_focal_px",)
    details: tuple[str, ...] = ("toy_turn_deg",)

    def camera(self, entry: ViewEntry) -> SourcedCamera:
        focal = float(entry.fields.numbers("toy_focal_px", ()))
        if focal <= 0.0:
            raise ValueError("a toy's focal length is positive")
        a = np.radians(entry.fields.integer("toy_turn_deg"))
        pose = np.eye(4)
        pose[:3, :3] = [[np.cos(a), np.sin(a), 0], [0, 0, -1], [-np.sin(a), np.cos(a), 0]]
        pose[2, 3] = 700.0
        intrinsic = np.array([[focal, 0, entry.columns / 2], [0, focal, entry.rows / 2], [0, 0, 1]])
        return SourcedCamera(Camera(intrinsic, pose, entry.columns, entry.rows), nominal=True)


@pytest.fixture(autouse=True)
def _toy() -> Iterator[None]:
    guest = Toy()
    CAMERA_SOURCES.append(guest)
    yield
    CAMERA_SOURCES.remove(guest)


def _views(folder: Path, **changes: object) -> Path:
    """Two views whose geometry is the toy's; ``changes`` go into the first."""
    path = write_views(folder, ball_case().views)
    content = json.loads(path.read_text(encoding="utf-8"))
    for number, view in enumerate(content["views"]):
        del view["intrinsic"], view["extrinsic"]
        view |= {"toy_focal_px": 1500.0, "toy_turn_deg": 90 * number}
    content["views"][0] |= changes
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_view_gets_its_camera_from_a_guest(tmp_path: Path) -> None:
    ledger = Ledger()
    front, side = read_views(_views(tmp_path), ledger)
    assert front.nominal
    assert front.camera.intrinsic[0, 0] == 1500.0
    assert front.camera.view_direction_world @ side.camera.view_direction_world == pytest.approx(0)
    assert ledger.notes == []


def test_a_guest_beside_another_source_is_refused(tmp_path: Path) -> None:
    path = _views(tmp_path, intrinsic=[[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    with pytest.raises(InputError, match=r"geometry twice \(intrinsic and extrinsic and toy\)"):
        read_views(path)


def test_what_a_guest_refuses_names_the_view(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'views.json: view "AP": a toy\'s focal length'):
        read_views(_views(tmp_path, toy_focal_px=-1.0))


def test_without_the_guest_its_keys_are_unknown(tmp_path: Path) -> None:
    guest = CAMERA_SOURCES.pop()
    try:
        ledger = Ledger()
        with pytest.raises(InputError, match='has no "intrinsic"'):
            read_views(_views(tmp_path), ledger)
    finally:
        CAMERA_SOURCES.append(guest)
    assert any('"toy_focal_px" is not used' in note for note in ledger.notes)
