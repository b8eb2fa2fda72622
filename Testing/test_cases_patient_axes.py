"""How the patient lies in the world, and which device took a view: read, refused, written again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ball import ball_case

from RadGSRegLib.cases import (
    Ledger,
    read_case,
    read_views,
    read_views_with_axes,
    write_case,
    write_views,
)
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import exp_se3

TURN = exp_se3([0.3, -1.2, 2.0, 0, 0, 0])[:3, :3]
# Where a patient's left, back and head point, along the axes of a table whose own are those of a
# patient head first, supine (DICOM PS3.3 C.7.3.1.1.2).
LIES = {
    "HFS": ("+x", "+y", "+z"),
    "HFP": ("-x", "-y", "+z"),
    "HFDR": ("-y", "+x", "+z"),
    "HFDL": ("+y", "-x", "+z"),
    "FFS": ("-x", "+y", "-z"),
    "FFP": ("+x", "-y", "-z"),
}


def along(letters: str) -> np.ndarray:
    """The unit vector that "-x" and the like mean."""
    return np.eye(3)["xyz".index(letters[1])] * (1 if letters[0] == "+" else -1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_views(tmp_path, ball_case().views)


def say(path: Path, axes: Any) -> Path:
    data = json.loads(path.read_text(encoding="utf-8")) | {"patient_axes": axes}
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_nothing_said_means_the_axes_of_the_world(path: Path) -> None:
    np.testing.assert_array_equal(read_views_with_axes(path)[1], np.eye(3))


def test_any_and_a_rotation(path: Path) -> None:
    assert read_views_with_axes(say(path, "any"))[1] is None
    read = read_views_with_axes(say(path, np.round(TURN, 3).tolist()))[1]
    np.testing.assert_allclose(read, TURN, atol=1e-3)
    np.testing.assert_allclose(read @ read.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("position", LIES)
@pytest.mark.parametrize("table", [None, TURN])
def test_positions_on_the_table(path: Path, position: str, table: np.ndarray | None) -> None:
    said = {"position": position} | ({} if table is None else {"table": table.tolist()})
    axes = read_views_with_axes(say(path, said))[1]
    to_world = np.eye(3) if table is None else table
    for own, letters in zip(np.eye(3), LIES[position], strict=True):
        np.testing.assert_allclose(axes @ own, to_world @ along(letters), atol=1e-9)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("all", "must be a 3x3 rotation, a position with a table, or"),
        (3, "must be a 3x3 rotation, a position with a table, or"),
        ([[1, 0], [0, 1]], "must hold 3 x 3 numbers"),
        (np.diag([-1, 1, 1]).tolist(), "must be a rotation: three right-handed axes"),
        ([[1, 0.05, 0], [0, 1, 0], [0, 0, 1]], "must be a rotation: three right-handed axes"),
        ({}, 'has no "position"'),
        ({"position": "prone"}, 'patient_axes: "position" is "prone"; use one of HFS'),
        ({"position": "HFS", "table": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]}, '"table" must be a rot'),
    ],
)
def test_other_axes_are_refused(path: Path, said: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read_views_with_axes(say(path, said))
    assert "views.json" in str(caught.value)


def test_a_misspelt_key_is_noted(path: Path) -> None:
    data = json.loads(path.read_text(encoding="utf-8")) | {"patient_axis": "any"}
    path.write_text(json.dumps(data), encoding="utf-8")
    ledger = Ledger()
    read_views(path, ledger)
    assert any('"patient_axis" is not used (did you mean "patient_axes"' in n for n in ledger.notes)


@pytest.mark.parametrize("axes", [np.eye(3), TURN, None])
def test_a_case_keeps_its_axes_and_devices(tmp_path: Path, axes: np.ndarray | None) -> None:
    case = ball_case()
    views = [replace(case.views[0], device="left arm"), replace(case.views[1], device="right arm")]
    path = write_case(tmp_path, case.ct, case.labels, case.label, views, patient_axes=axes)
    read = read_case(path)
    assert [view.device for view in read.views] == ["left arm", "right arm"]
    if axes is None:
        assert read.patient_axes is None
    else:
        np.testing.assert_allclose(read.patient_axes, axes, atol=1e-12)


def test_a_device_must_be_a_text(path: Path) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    assert "device" not in data["views"][0]
    data["views"][0]["device"] = 3
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match=r'view "AP": "device" must be a text'):
        read_views(path)
