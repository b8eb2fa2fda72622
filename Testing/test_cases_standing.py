"""Geometry that cannot be: wrong units, signs, directions; RTK files at odds with themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ball import ball_case
from hypothesis import given
from hypothesis import strategies as st

from RadGSRegLib.cases import Ledger, read_rtk_matrices, read_start, read_views, write_views
from RadGSRegLib.cases.rtk import rtk_matrix
from RadGSRegLib.cases.standing import opposite
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import THREE_DECIMALS, exp_se3, invert_rigid, is_rigid

MM_PER_PX = 0.61


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two views whose patient is 750 mm, and whose detector is 1124 mm from the source."""
    return write_views(tmp_path, ball_case().views)


def change(path: Path, edit: Callable[[dict[str, Any]], Any], which: str = "AP") -> None:
    """Edit the entries of one view, or of "all"."""
    data = json.loads(path.read_text(encoding="utf-8"))
    for view in data["views"]:
        if which in (view["name"], "all"):
            edit(view)
    path.write_text(json.dumps(data), encoding="utf-8")


def _focal_in_mm(view: dict[str, Any]) -> None:
    for row in (0, 1):
        view["intrinsic"][row][row] *= MM_PER_PX


def _scaled(factor: float) -> Callable[[dict[str, Any]], None]:
    def edit(view: dict[str, Any]) -> None:
        for row in range(3):
            view["extrinsic"][row][3] *= factor

    return edit


def _backwards(view: dict[str, Any]) -> None:
    view["extrinsic"] = invert_rigid(view["extrinsic"]).tolist()


def _elsewhere(view: dict[str, Any]) -> None:
    if view["name"] == "AP":  # the patient's length away
        view["extrinsic"][1][3] += 800.0


IMPOSSIBLE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "focal length in mm": (
        _focal_in_mm,
        r"detector \(686 mm .* nearer than the patient, where the views meet \(74\d mm\)"
        r"; is the focal length 1124 in mm\? The intrinsic must be in pixels",
    ),
    "extrinsic in metres": (
        _scaled(1e-3),
        "mm from the source, .*; is the extrinsic in metres or cm",
    ),
    "extrinsic in cm": (_scaled(0.1), "mm from the source, .*; is the extrinsic in metres or cm"),
    "camera to world": (
        _backwards,
        "only .* mm from the source|are equal|are taken from the same place",
    ),
    "detector nearer": (
        lambda v: v.update(pixel_spacing_mm=[0.4, 0.4]),
        r"the detector \(737 mm from the source\) is nearer than the patient",
    ),
    "pixels too large": (
        lambda v: v.update(pixel_spacing_mm=[6.1, 6.1]),
        r"lies only 7\d\d mm from the source, the detector 11240 mm; .*check pixel_spacing_mm",
    ),
    "another world": (_elsewhere, "the views do not meet in its picture"),
    "spacing of other pixels": (
        lambda v: v.update(pixel_spacing_mm=[0.61, 0.305]),
        "1124 mm from the source by columns, but 562 mm by rows",
    ),
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
@pytest.mark.parametrize("which", ["AP", "all"])
def test_impossible_geometry_is_refused_by_name(path: Path, kind: str, which: str) -> None:
    edit, problem = IMPOSSIBLE[kind]
    change(path, edit, which)
    with pytest.raises(InputError) as caught:
        read_views(path)
    said = str(caught.value)
    assert re.search(problem, said), said
    assert "views.json: view" in said
    assert "\n" not in said


def test_without_pixel_spacing(path: Path) -> None:
    """Where the intrinsic is given, the pixels' size decides nothing but margins; that is noted."""
    before = read_views(path)
    change(path, lambda view: view.pop("pixel_spacing_mm"), "all")
    ledger = Ledger()
    for view, known in zip(read_views(path, ledger), before, strict=True):
        np.testing.assert_array_equal(view.camera.intrinsic, known.camera.intrinsic)
        np.testing.assert_allclose(view.pixel_spacing_mm, known.pixel_spacing_mm, rtol=0.02)
    assert [note for note in ledger.notes if "pixels' size" in note] == ledger.notes
    assert len(ledger.notes) == 2


@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
@pytest.mark.parametrize("clicks", [True, False])
def test_projection_matrices_with_the_origin_behind_a_source(
    path: Path, signs: tuple[int, int], clicks: bool
) -> None:
    """The world's origin lies 2 m to one side; where the views meet is in front of each source."""
    data = json.loads(path.read_text(encoding="utf-8"))
    away = np.eye(4)
    away[:3, 3] = -2000.0, 2000.0, -500.0
    cameras = []
    for view, sign in zip(data["views"], signs, strict=True):
        extrinsic = np.array(view.pop("extrinsic")) @ away
        intrinsic = np.array(view.pop("intrinsic"))
        cameras.append((intrinsic, extrinsic))
        view["projection_matrix"] = (sign * intrinsic @ extrinsic[:3]).tolist()
        if not clicks:
            del view["center_px"]
    path.write_text(json.dumps(data), encoding="utf-8")
    ledger = Ledger()
    read = read_views(path, ledger)
    behind = 0
    for view, (intrinsic, extrinsic) in zip(read, cameras, strict=True):
        np.testing.assert_allclose(view.camera.intrinsic, intrinsic, atol=1e-6)
        np.testing.assert_allclose(view.camera.world_to_camera, extrinsic, atol=1e-6)
        behind += extrinsic[2, 3] < 0
    assert behind > 0
    assert sum("origin lies behind the source" in note for note in ledger.notes) == behind


def test_opposite_cameras_project_alike() -> None:
    camera = ball_case().views[0].camera
    points = np.random.default_rng(1).uniform(-50, 50, (9, 3))
    turned = opposite(camera)
    np.testing.assert_allclose(turned.project(points), camera.project(points))
    np.testing.assert_allclose(turned.source_world, camera.source_world)
    assert is_rigid(turned.world_to_camera, 1e-9)
    assert turned.view_direction_world @ camera.view_direction_world == pytest.approx(-1.0)


# ---------------------------------------------------------------- starts


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_a_rotation_of_three_decimals_is_near_enough(turn: list[float]) -> None:
    assert is_rigid(np.round(exp_se3([*turn, 0, 0, 0]), 3), THREE_DECIMALS)


def write_start(folder: Path, matrix: np.ndarray) -> Path:
    path = folder / "start.json"
    path.write_text(json.dumps({"ct_to_world": matrix.tolist()}), encoding="utf-8")
    return path


def test_a_start_of_three_decimals_is_made_rigid(tmp_path: Path) -> None:
    exact = exp_se3([0.4, -0.7, 1.1, 12.0, -30.0, 8.0])
    read = read_start(write_start(tmp_path, np.round(exact, 3)))
    assert is_rigid(read, 1e-12)
    np.testing.assert_allclose(read, exact, atol=1e-3)


@pytest.mark.parametrize("degrees", [0.25, 1.0, 15.0])
def test_a_sheared_start_is_refused(tmp_path: Path, degrees: float) -> None:
    sheared = exp_se3([0.4, -0.7, 1.1, 12.0, -30.0, 8.0])
    sheared[:3, 0] += np.tan(np.radians(degrees)) * sheared[:3, 1]
    with pytest.raises(InputError, match=r'start\.json: "ct_to_world" is not rigid'):
        read_start(write_start(tmp_path, np.round(sheared, 3)))


# ---------------------------------------------------------------- RTK

PARAMETERS = {
    "SourceToIsocenterDistance": 750.0,
    "SourceToDetectorDistance": 1124.0,
    "GantryAngle": 30.0,
    "OutOfPlaneAngle": 8.0,
    "InPlaneAngle": 5.0,
    "SourceOffsetX": 3.0,
    "SourceOffsetY": 2.0,
    "ProjectionOffsetX": 12.0,
    "ProjectionOffsetY": -7.0,
}


def write_rtk(folder: Path, matrix: np.ndarray | None, version: str = "3", **said: float) -> Path:
    """An RTK file of one projection, with the parameters that are said and a matrix, if any."""
    tags = "".join(f"<{name}>{value!r}</{name}>" for name, value in said.items())
    if matrix is not None:
        tags += f"<Matrix>{' '.join(repr(float(v)) for v in matrix.ravel())}</Matrix>"
    path = folder / "geometry.xml"
    path.write_text(
        f'<?xml version="1.0"?><RTKThreeDCircularGeometry version="{version}"><Projection>{tags}'
        "</Projection></RTKThreeDCircularGeometry>"
    )
    return path


def test_matrix_and_parameters_that_agree(tmp_path: Path) -> None:
    """Also at another scale and with six decimals, as other programs write the matrix."""
    matrix = rtk_matrix(PARAMETERS)
    for written in (matrix, -matrix, np.round(matrix / 1124.0, 6)):
        read = read_rtk_matrices(write_rtk(tmp_path, written, **PARAMETERS))
        np.testing.assert_array_equal(read[0], written)
    # A matrix alone has nothing to disagree with.
    np.testing.assert_array_equal(read_rtk_matrices(write_rtk(tmp_path, matrix))[0], matrix)


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("GantryAngle", 0.05),
        ("OutOfPlaneAngle", 0.05),
        ("InPlaneAngle", 0.05),
        ("SourceToIsocenterDistance", 1.0),
        ("SourceToDetectorDistance", 1.0),
        ("SourceOffsetX", 0.5),
        ("ProjectionOffsetY", 0.2),
    ],
)
def test_matrix_and_parameters_that_disagree_are_refused(
    tmp_path: Path, name: str, by: float
) -> None:
    matrix = rtk_matrix({**PARAMETERS, name: PARAMETERS[name] + by})
    path = write_rtk(tmp_path, matrix, **PARAMETERS)
    problem = r"geometry\.xml: projection 0: its <Matrix> and its parameters .* disagree"
    with pytest.raises(InputError, match=problem):
        read_rtk_matrices(path)


def test_a_detector_before_the_isocentre_is_refused(tmp_path: Path) -> None:
    wrong = {**PARAMETERS, "SourceToIsocenterDistance": 1200.0}
    for matrix in (None, rtk_matrix(PARAMETERS)):
        with pytest.raises(InputError, match=r"1124 mm\) is not behind the isocentre .*1200 mm"):
            read_rtk_matrices(write_rtk(tmp_path, matrix, **wrong))


def test_old_and_unknown_versions_of_rtk(tmp_path: Path) -> None:
    """RTK reads the versions 2 and 3, and takes <Angle> for the gantry's."""
    old = {n: v for n, v in PARAMETERS.items() if n != "GantryAngle"}
    read = read_rtk_matrices(write_rtk(tmp_path, None, "2", Angle=30.0, **old))
    np.testing.assert_allclose(read[0], rtk_matrix(PARAMETERS))
    with pytest.raises(InputError, match="is of version 1, and only 2 and 3 are known"):
        read_rtk_matrices(write_rtk(tmp_path, None, "1", **PARAMETERS))


def test_entities_are_refused_in_every_encoding(tmp_path: Path) -> None:
    path = tmp_path / "geometry.xml"
    text = '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a [<!ENTITY b "c">]><RTKGeometry/>'
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(InputError, match="entities"):
        read_rtk_matrices(path)
