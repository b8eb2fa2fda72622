"""The sweep of the numbers that decide changes what it says, and leaves everything as it was."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import RadGSRegLib
from RadGSRegLib import views
from RadGSRegLib.cases.json_input import Fields
from RadGSRegLib.drr.attenuation import water_attenuation
from RadGSRegLib.gaussians import voxelize
from RadGSRegLib.reconstruction import calibration
from RadGSRegLib.registration.proposers.pictures import OtherPictures
from RadGSRegLib.segmentation import bounds as segmentation

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import bench_bounds
import bounds_tests

ROOT = Path(__file__).resolve().parent.parent
TABLES = sorted(table.parent.name for table in Path(RadGSRegLib.__path__[0]).glob("*/bounds.py"))


def test_numbers_change_by_a_fifth_and_stay_possible() -> None:
    assert bench_bounds.changed(2.0, 0.8) == pytest.approx(1.6)
    assert bench_bounds.changed((-5.0, 10.0), 1.2) == pytest.approx((-6.0, 12.0))
    assert [bench_bounds.changed(2, factor) for factor in (0.8, 1.2)] == [1, 3]
    assert [bench_bounds.changed(50, factor) for factor in (0.8, 1.2)] == [40, 60]
    assert bench_bounds.changed((0.5, 99.5), 1.2) == pytest.approx((0.6, 99.4))
    assert bench_bounds.changed((100.0, 850.0, 1250.0), 1.2) == pytest.approx((120, 1020, 1500))
    assert bench_bounds.changed((-200.0, 1000.0), 0.8) == pytest.approx((-160, 800))


@pytest.mark.parametrize("room", TABLES)
def test_every_table_holds_numbers_only(room: str) -> None:
    bounds = bench_bounds.bounds_of(room)
    assert bounds
    for value in bounds.values():
        numbers = value if isinstance(value, tuple) else (value,)
        assert all(type(number) in (int, float) for number in numbers)
        assert bench_bounds.changed(value, 0.8) != value != bench_bounds.changed(value, 1.2)


@pytest.mark.parametrize("room", TABLES)
def test_every_number_is_used(room: str) -> None:
    files = Path(RadGSRegLib.__path__[0]).rglob("*.py")
    texts = [file.read_text("utf-8") for file in files if file.name != "bounds.py"]
    used = set(re.findall(r"\w+", " ".join(texts)))
    assert set(bench_bounds.bounds_of(room)) <= used


def test_every_number_is_swept_as_it_stands_or_it_is_said_why_not() -> None:
    """A row of the tables is of one value: a number that is changed is to be swept again."""
    page = (ROOT / "docs" / "experiments" / "bounds.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| (\w+\.\w+) \| (.+?) \|", page, re.MULTILINE))
    reasons = page[page.index("\n## Not swept\n") :]
    left_out = set(re.findall(r"^- `(\w+\.\w+)`: \w", reasons, re.MULTILINE))
    numbers = {
        (f"{room}.{name}", str(value))
        for room in TABLES
        for name, value in bench_bounds.bounds_of(room).items()
    }
    assert {number for number in numbers - rows if number[0] not in left_out} == set()
    # What is left out is there, and is not swept.
    assert left_out <= {name for name, _ in numbers}
    assert not {name for name, _ in numbers & rows} & left_out


def test_trials_of_single_numbers_are_of_numbers_that_there_are() -> None:
    for room, runs in bench_bounds.WHERE.items():
        assert set(runs) <= set(bench_bounds.bounds_of(room))


def test_every_swept_room_has_a_table_and_trials_that_can_run() -> None:
    assert set(bench_bounds.TRIALS) <= set(TABLES)
    used = {run for runs in bench_bounds.TRIALS.values() for run in runs}
    used |= {run for own in bench_bounds.WHERE.values() for runs in own.values() for run in runs}
    used |= {run.removeprefix("judged ") for run in used}
    assert used == set(bench_bounds.RUNS)


def test_a_bound_is_changed_for_all_who_use_it_and_put_back_without_what_was_cached() -> None:
    before = views.LEAST_SHARE
    water_attenuation(60.0)

    def fail_inside() -> None:
        with bench_bounds.with_bound("views", "LEAST_SHARE", 0.5):
            assert water_attenuation.cache_info().currsize == 0
            # Also where another room imported it by name.
            assert views.bounds.LEAST_SHARE == views.LEAST_SHARE == calibration.LEAST_SHARE == 0.5
            water_attenuation(60.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert views.bounds.LEAST_SHARE == views.LEAST_SHARE == calibration.LEAST_SHARE == before
    assert water_attenuation.cache_info().currsize == 0


@pytest.mark.parametrize(
    ("room", "name", "function", "place"),
    [
        ("registration", "CLEAR_PICTURE_SCORE", OtherPictures.__init__, None),
        ("cases", "SKEW", Fields.rigid, None),
        ("gaussians", "DEFAULT_CUTOFF", voxelize, "cutoff"),
    ],
)
def test_a_bound_that_is_a_default_is_changed_and_put_back(
    room: str, name: str, function: Any, place: str | None
) -> None:
    def default() -> float:
        return float(function.__kwdefaults__[place] if place else function.__defaults__[-1])

    before = default()
    assert before == bench_bounds.bounds_of(room)[name]
    with bench_bounds.with_bound(room, name, 0.125):
        assert default() == 0.125
    assert default() == before


def test_which_tests_ask_for_a_number_and_how_they_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right files that are refused, wrong ones that are accepted, and what else changes."""
    (tmp_path / "Testing").mkdir()
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "Testing" / "test_files.py").write_text(
        "import pytest\n"
        "from RadGSRegLib.errors import InputError\n"
        "from RadGSRegLib.cases import bounds\n"
        "def read(span):\n"
        "    if span < bounds.LEAST_SPAN_HU: raise InputError('ct', 'spans little')\n"
        "def test_right(): read(110)\n"
        "def test_wrong():\n"
        "    with pytest.raises(InputError): read(90)\n"
        "def test_other(): assert bounds.LEAST_SPAN_HU > 85\n"
        "def test_without(): pass\n"
    )
    monkeypatch.setitem(bounds_tests.FILES, "cases", ("test_files.py",))
    monkeypatch.setattr(bounds_tests, "TESTING", tmp_path / "Testing")
    asking = bounds_tests.tests_asking("cases")
    assert set(asking) == {"LEAST_SPAN_HU"}
    tests = asking["LEAST_SPAN_HU"]
    assert [name.split("::")[1] for name in tests] == ["test_right", "test_wrong", "test_other"]
    less, more = (
        bench_bounds.sweep_tests(("cases", "LEAST_SPAN_HU", factor, tests)) for factor in (0.8, 1.2)
    )
    assert less == {"accepted": 1, "otherwise": 1}
    assert more == {"refused": 1}


def test_an_equal_number_of_another_table_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views.bounds, "KEPT", segmentation.KEPT, raising=False)
    with bench_bounds.with_bound("segmentation", "KEPT", 7):
        assert (segmentation.KEPT, vars(views.bounds)["KEPT"]) == (7, 6)
    assert segmentation.KEPT == 6


def test_a_row_says_what_changed() -> None:
    usual = bench_bounds.Outcome("ok", np.zeros(3), np.array([0.5]))
    wrong = bench_bounds.Outcome("ok", np.ones(3), np.array([0.4]), wrong=True)
    line, nothing = bench_bounds.row("views", "BODY_MM", [[usual], [usual], [wrong]])
    assert line == "| views.BODY_MM | 12.0 | 1 | 0 | 0 | 0 | 0 | 0 | 1 | 1 | 0.1 |"
    assert not nothing
    assert bench_bounds.row("views", "BODY_MM", [[usual]] * 3)[1]
