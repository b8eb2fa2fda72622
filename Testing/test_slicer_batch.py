# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""A batch one of whose result folders holds other people's files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import panel_scene
import slicer_startup

slicer_startup.start()

from RadGSRegSlicer.operations import batch

import RadGSReg


@pytest.fixture
def case(tmp_path: Path) -> Path:
    return panel_scene.write_files(tmp_path / "case")


@pytest.mark.parametrize("refused", [0, 1, 2])
def test_a_refused_folder_is_a_row_and_the_other_cases_are_done(
    case: Path, library: Any, tmp_path: Path, refused: int
) -> None:
    out = tmp_path / "out"
    names = ["case", "case-2", "case-3"]
    stranger = out / names[refused] / "letter.txt"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("mine")
    rows = RadGSReg.RadGSRegLogic().batch([case] * 3, out)
    assert [row["case"] for row in rows] == names
    wanted = ["ok"] * 3
    wanted[refused] = "error"
    assert [row["status"] for row in rows] == wanted
    assert "holds files that are no results of this program: letter.txt" in rows[refused]["problem"]
    assert "name a new or an empty folder" in rows[refused]["problem"]
    with (out / batch.TABLE).open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["status"] for row in read] == wanted
    assert read[refused]["problem"] == rows[refused]["problem"]
    assert read[refused]["transform"] == ""
    assert [path.name for path in stranger.parent.iterdir()] == ["letter.txt"]
    for name in set(names) - {names[refused]}:
        assert (out / name / "registration.json").is_file()
    assert json.loads(library.read("arguments"))[0] == "register"


def test_a_batch_of_a_single_refused_folder_ends(case: Path, library: Any, tmp_path: Path) -> None:
    (tmp_path / "out" / "case").mkdir(parents=True)
    (tmp_path / "out" / "case" / "letter.txt").write_text("mine")
    (row,) = RadGSReg.RadGSRegLogic().batch([case], tmp_path / "out")
    assert row["status"] == "error"
    assert "letter.txt" in row["problem"]
