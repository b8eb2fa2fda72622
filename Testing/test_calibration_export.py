"""Cameras written for other programs, read again by the project's own readers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from bead_scenes import SIZE, SPACING, pixels_of, random_camera
from hypothesis import given
from hypothesis import strategies as st

from RadGSRegLib.calibration import (
    Calibrated,
    rtk_parameters,
    write_matrix,
    write_mayacam,
    write_opencv,
    write_rtk,
)
from RadGSRegLib.cases import DetectorGrid, Ledger, read_rtk_matrices, read_views, rtk_camera
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Camera, Distortion

POINTS = np.random.default_rng(5).uniform(-45, 45, (40, 3))
GRID = DetectorGrid.centred(*SIZE, SPACING)
UPWARDS = DetectorGrid(GRID.origin_mm * [1, -1], GRID.axes_mm * [1, -1])


def calibrated(seed: int, mirrored: bool = False) -> Calibrated:
    camera = random_camera(seed, mirrored)
    none = np.zeros((0, 2))
    return Calibrated(f"view {seed}", camera, np.eye(9), none.astype(int), none)


def read(folder: Path, geometry: dict[str, Any]) -> Camera:
    """The camera of a ``views.json`` with such a geometry, by the project's reader."""
    draw = np.random.default_rng(0)
    for name in ("view.tif", "other.tif"):
        tifffile.imwrite(folder / name, draw.integers(0, 60000, SIZE[::-1]).astype(np.uint16))
    shared = {"size": list(SIZE), "pixel_spacing_mm": list(SPACING)}
    second = random_camera(20)
    matrices = {
        "intrinsic": second.intrinsic.tolist(),
        "extrinsic": second.world_to_camera.tolist(),
    }
    views = [
        {"name": "AP", "image": "view.tif", **shared, **geometry},
        {"name": "other", "image": "other.tif", **shared, **matrices},
    ]
    content = {"schema": "radgsreg/views", "version": 1, "views": views}
    path = folder / "views.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return read_views(path, Ledger())[0].camera


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("write", "geometry"),
    [
        (write_matrix, {"projection_matrix": "view.out"}),
        (write_mayacam, {"mayacam": "view.out", "unit": "mm"}),
        (write_opencv, {"opencv": "view.out", "unit": "mm"}),
    ],
)
def test_what_is_written_is_read_again(
    tmp_path: Path, write: Any, geometry: dict[str, Any], seed: int
) -> None:
    view = calibrated(seed)
    write(tmp_path / "view.out", view)
    camera = read(tmp_path, geometry)
    assert np.abs(pixels_of(camera, POINTS) - pixels_of(view.camera, POINTS)).max() < 1e-6


def test_a_mirrored_picture_as_matrix_and_rtk(tmp_path: Path) -> None:
    views = [calibrated(seed, mirrored=True) for seed in (1, 2)]
    write_matrix(tmp_path / "view.txt", views[1])
    write_rtk(tmp_path / "view.xml", views, GRID)
    for geometry in ({"projection_matrix": "view.txt"}, {"geometry": "view.xml", "projection": 1}):
        camera = read(tmp_path, geometry)
        apart = pixels_of(camera, POINTS) - pixels_of(views[1].camera, POINTS)
        assert np.abs(apart).max() < 1e-6


@given(seed=st.integers(0, 500), mirrored=st.booleans())
def test_rtk_parameters_and_matrices_agree(
    tmp_path_factory: pytest.TempPathFactory, seed: int, mirrored: bool
) -> None:
    path = tmp_path_factory.mktemp("rtk") / "geometry.xml"
    view = calibrated(seed, mirrored)
    grid = GRID if mirrored else UPWARDS
    write_rtk(path, [view], grid)  # the reader compares the matrix with the parameters
    camera = rtk_camera(read_rtk_matrices(path)[0], grid, *SIZE)
    assert np.abs(pixels_of(camera, POINTS) - pixels_of(view.camera, POINTS)).max() < 1e-6
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("Matrix>", "Ignored>"), encoding="utf-8")
    camera = rtk_camera(read_rtk_matrices(path)[0], grid, *SIZE)
    assert np.abs(pixels_of(camera, POINTS) - pixels_of(view.camera, POINTS)).max() < 1e-6


def test_rtk_itself_reads_it(tmp_path: Path) -> None:
    itk = pytest.importorskip("itk")
    rtk = getattr(itk, "RTK", None) or pytest.skip("RTK is not installed")
    views = [calibrated(seed, mirrored=True) for seed in (1, 2)]
    write_rtk(tmp_path / "view.xml", views, GRID)
    geometry = rtk.read_geometry(str(tmp_path / "view.xml"))
    for number, view in enumerate(views):
        theirs = itk.array_from_matrix(geometry.GetMatrix(number))
        camera = rtk_camera(theirs, GRID, *SIZE)
        assert np.abs(pixels_of(camera, POINTS) - pixels_of(view.camera, POINTS)).max() < 1e-6


@pytest.mark.parametrize("write", [write_mayacam, write_opencv])
def test_a_mirrored_picture_is_refused(tmp_path: Path, write: Any) -> None:
    with pytest.raises(InputError, match=r"view 1.*mirrored"):
        write(tmp_path / "view.out", calibrated(1, mirrored=True))
    assert list(tmp_path.iterdir()) == []


def test_distortion_is_refused_unless_it_is_removed(tmp_path: Path) -> None:
    bent = replace(calibrated(1, True), distortion=Distortion((499.5, 499.5), 500.0, (0.1, 0.0)))
    straight = replace(bent, camera=random_camera(1))
    for write, view in (
        (write_matrix, straight),
        (write_mayacam, straight),
        (write_opencv, straight),
    ):
        with pytest.raises(InputError, match="distortion"):
            write(tmp_path / "view.out", view)
        write(tmp_path / "view.out", view, undistorted=True)
    with pytest.raises(InputError, match="distortion"):
        write_rtk(tmp_path / "view.xml", [bent], GRID)
    assert not (tmp_path / "view.xml").exists()
    write_rtk(tmp_path / "view.xml", [bent], GRID, undistorted=True)


def test_what_rtk_cannot_hold_is_refused() -> None:
    with pytest.raises(InputError, match="other hand"):
        rtk_parameters(calibrated(1), GRID)
    wide = DetectorGrid.centred(*SIZE, (0.4, 0.5))
    with pytest.raises(InputError, match="two focal lengths"):
        rtk_parameters(calibrated(1, True), wide)
    view = calibrated(1, True)
    pose = view.camera.world_to_camera.copy()
    pose[2, 3] = 1500.0
    far = replace(view, camera=replace(view.camera, world_to_camera=pose))
    with pytest.raises(InputError, match="between"):
        rtk_parameters(far, GRID)
