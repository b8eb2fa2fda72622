"""The fifteen cases of the shared data, against the figures that the project promises.

The normal suite runs three of them. All fifteen, from clicks and from rough starts (30
registrations, about ten minutes on two cores), with a table of results per test::

    python -m pytest -m cases Testing/test_registration_cases.py
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from RadGSRegLib.cases import read_case, read_start
from RadGSRegLib.measures import is_false_alarm, is_silent_failure, mtre
from RadGSRegLib.registration import register_case

NAMES = (
    *(f"l3-clean-{n}" for n in (1, 2, 3)),
    *(f"l3-realistic-{n}" for n in (1, 2, 3, 4, 5)),
    *(f"l3-hard-{n}" for n in (1, 2, 3)),
    "ts_l2-clean-1",
    *(f"ts_l2-realistic-{n}" for n in (1, 2, 3)),
)
FEW = ("l3-clean-1", "ts_l2-realistic-1", "l3-hard-1")

CLEAN_MM = 0.5
SUCCESS_MM = 2.0
REALISTIC_MEDIAN_MM = 0.8


@dataclass(frozen=True)
class Result:
    """One registration of a case with truth."""

    name: str
    status: str
    error_mm: float
    expected_mm: float
    seconds: float

    @property
    def silent_failure(self) -> bool:
        return is_silent_failure(self.status, self.error_mm)


@lru_cache(maxsize=64)
def _run(folder: Path, from_start: bool) -> Result:
    """Register from the clicks alone, or from start.json with the clicks removed."""
    case = read_case(folder / "case.json")
    start = None
    if from_start:
        start = read_start(folder / "start.json")
        case = replace(case, views=tuple(replace(v, center_px=None) for v in case.views))
    done = register_case(case, start)
    truth = json.loads((folder / "truth.json").read_text())
    return Result(
        folder.name,
        done.status,
        mtre(truth["points_ct"], done.ct_to_world, truth["ct_to_world"]),
        done.quality["expected_error_mm"],
        done.timing_s["total"],
    )


def _all(shared_data: Path, from_start: bool) -> dict[str, Result]:
    return {name: _run(shared_data / "cases" / name, from_start) for name in NAMES}


def _of(results: dict[str, Result], *levels: str) -> list[Result]:
    return [one for name, one in results.items() if name.split("-")[1] in levels]


def _print(title: str, results: dict[str, Result], capsys: pytest.CaptureFixture[str]) -> None:
    errors = np.array([one.error_mm for one in results.values()])
    with capsys.disabled():
        print(f"\n\n{title}")
        print(f"{'case':20}{'status':11}{'mTRE mm':>9}{'expected':>10}{'seconds':>9}")
        for one in results.values():
            print(
                f"{one.name:20}{one.status:11}{one.error_mm:9.2f}{one.expected_mm:10.2f}"
                f"{one.seconds:9.1f}{'  silent failure' if one.silent_failure else ''}"
            )
        alarms = sum(is_false_alarm(one.status, one.error_mm) for one in results.values())
        print(
            f"{'median':31}{np.median(errors):9.2f}{'':10}"
            f"{np.median([one.seconds for one in results.values()]):9.1f}\n"
            f"under 2 mm {np.mean(errors < SUCCESS_MM):.0%}, under 1 mm {np.mean(errors < 1):.0%}, "
            f"silent failures {sum(one.silent_failure for one in results.values())}, "
            f"false alarms {alarms}"
        )


@pytest.mark.parametrize("name", FEW)
def test_three_of_the_cases(shared_data: Path, name: str) -> None:
    one = _run(shared_data / "cases" / name, False)
    assert not one.silent_failure
    assert one.error_mm < (CLEAN_MM if "clean" in name else SUCCESS_MM)


@pytest.mark.cases
def test_all_from_clicks(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = _all(shared_data, False)
    _print("From center_px alone", results, capsys)
    assert [one.name for one in results.values() if one.silent_failure] == []
    assert [r.name for r in _of(results, "clean") if not r.error_mm < CLEAN_MM] == []
    realistic = _of(results, "realistic")
    assert [r.name for r in realistic if not r.error_mm < SUCCESS_MM] == []
    assert np.median([r.error_mm for r in realistic]) < REALISTIC_MEDIAN_MM
    assert sum(r.error_mm < SUCCESS_MM for r in _of(results, "hard")) >= 2


@pytest.mark.cases
def test_all_from_rough_starts(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = _all(shared_data, True)
    _print("From start.json, without clicks", results, capsys)
    assert [one.name for one in results.values() if one.silent_failure] == []
    wanted = _of(results, "clean", "realistic")
    assert np.mean([r.error_mm < SUCCESS_MM for r in wanted]) >= 0.9
