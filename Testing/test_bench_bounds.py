"""The sweep of the numbers that decide changes what it says, and leaves everything as it was."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

import RadGSRegLib
from RadGSRegLib import views
from RadGSRegLib.drr.attenuation import water_attenuation
from RadGSRegLib.reconstruction import calibration
from RadGSRegLib.segmentation import bounds as segmentation

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import bench_bounds

TABLES = sorted(table.parent.name for table in Path(RadGSRegLib.__path__[0]).glob("*/bounds.py"))


def test_numbers_change_by_a_fifth_and_stay_possible() -> None:
    assert bench_bounds.changed(2.0, 0.8) == pytest.approx(1.6)
    assert bench_bounds.changed((-5.0, 10.0), 1.2) == pytest.approx((-6.0, 12.0))
    assert [bench_bounds.changed(2, factor) for factor in (0.8, 1.2)] == [1, 3]
    assert [bench_bounds.changed(50, factor) for factor in (0.8, 1.2)] == [40, 60]
    assert bench_bounds.changed((0.5, 99.5), 1.2) == pytest.approx((0.6, 99.4))


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


def test_every_swept_room_has_a_table_and_trials_that_can_run() -> None:
    assert set(bench_bounds.TRIALS) <= set(TABLES)
    assert {run for runs in bench_bounds.TRIALS.values() for run in runs} == set(bench_bounds.RUNS)


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


def test_an_equal_number_of_another_table_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views.bounds, "KEPT", segmentation.KEPT, raising=False)
    with bench_bounds.with_bound("segmentation", "KEPT", 7):
        assert (segmentation.KEPT, vars(views.bounds)["KEPT"]) == (7, 6)
    assert segmentation.KEPT == 6


def test_a_row_says_what_changed() -> None:
    usual = bench_bounds.Outcome("ok", np.zeros(3), np.array([0.5]))
    wrong = bench_bounds.Outcome("ok", np.ones(3), np.array([0.4]), wrong=True)
    line, nothing = bench_bounds.row("views", "BODY_MM", [[usual], [usual], [wrong]])
    assert line == "| views.BODY_MM | 12.0 | 0 | 0 | 0 | 0 | 0 | 1 | 1 | 0.1 |"
    assert not nothing
    assert bench_bounds.row("views", "BODY_MM", [[usual]] * 3)[1]
