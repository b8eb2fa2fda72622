"""The benchmark of contradicting X-rays: the faults that it puts in, and its table."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "benchmarks"))

import bench_contradictions
from bench_contradictions import with_fault
from test_tomography import CENTRE, about_centre, shown

from RadGSRegLib.tomography.beams import Beams, whole_beams
from RadGSRegLib.views import prepare_views


@pytest.fixture(scope="module")
def lines() -> Beams:
    return whole_beams(prepare_views(shown(about_centre(5))), CENTRE, 32)


def test_no_fault_changes_nothing(lines: Beams) -> None:
    assert with_fault(lines, "none", np.random.default_rng(0)) == (lines, [])


def test_a_camera_is_turned_about_the_origin(lines: Beams) -> None:
    other, wrong = with_fault(lines, "turned", np.random.default_rng(0))
    assert len(wrong) == 1
    before, after = (of.cameras[wrong[0]] for of in (lines, other))
    turn = after.world_to_camera[:3, :3] @ before.world_to_camera[:3, :3].T
    assert np.degrees(np.arccos((np.trace(turn) - 1.0) / 2.0)) == pytest.approx(10.0)
    np.testing.assert_allclose(after.world_to_camera[:3, 3], before.world_to_camera[:3, 3])
    rest = [n for n in range(5) if n not in wrong]
    assert all(other.cameras[n] is lines.cameras[n] for n in rest)


def test_two_pictures_are_swapped(lines: Beams) -> None:
    other, wrong = with_fault(lines, "swapped", np.random.default_rng(0))
    first, second = wrong
    assert other.cameras == lines.cameras
    assert bool((other.values[first] == lines.values[second]).all())
    assert bool((other.values[second] == lines.values[first]).all())


def test_the_table_sums_up() -> None:
    row = {"seed": 1, "views": 10, "agreement": 0.9}
    rows = [
        row | {"fault": "none", "wrong": [], "named": ["V1", "V2"]},
        row | {"fault": "swapped", "wrong": ["V3", "V4"], "named": ["V4"]},
    ]
    table = bench_contradictions.table(rows)
    assert "| 10 | none | 1 |  | 2 | 1 |" in table
    assert "| 10 | swapped | 1 | 1 of 2 | 0 | 0 |" in table
