"""Side by side: in order, within each other, stopped from outside, and as one thread would."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.system import (
    Progress,
    parallel,
    side_by_side,
    side_by_side_reporting,
    worker_count,
)


@pytest.fixture(params=[1, 2, 8])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """As many cores as the parameter says, with thread pools of that size."""
    monkeypatch.setattr(parallel, "core_count", lambda: request.param)
    parallel._pool.cache_clear()
    yield request.param
    parallel._pool.cache_clear()


def test_results_come_in_the_items_order(cores: int) -> None:
    def slow(number: int) -> int:
        time.sleep(0.02 * (number == 0))
        return number * number

    assert side_by_side(slow, range(9)) == [n * n for n in range(9)]
    assert side_by_side(slow, []) == []
    found = side_by_side_reporting(lambda n, _: slow(n), list(range(9)), Progress(), "squaring")
    assert found == [n * n for n in range(9)]
    assert side_by_side_reporting(lambda n, _: slow(n), [], Progress(), "squaring") == []


def test_calls_within_calls_share_the_cores_and_do_not_wait_for_each_other(cores: int) -> None:
    shares = []

    def outer(number: int) -> int:
        shares.append(worker_count())
        return sum(side_by_side(lambda n: side_by_side(abs, [n, -n])[0], range(number, number + 5)))

    assert side_by_side(outer, range(4)) == [10 + 5 * n for n in range(4)]
    assert set(shares) == {max(1, cores // 4)}
    assert worker_count() == cores


def test_three_deep_on_eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "core_count", lambda: 8)
    parallel._pool.cache_clear()
    names = set()

    def innermost(n: int) -> int:
        names.add(threading.current_thread().name.split("_")[0])
        return n

    def inner(n: int) -> int:
        return sum(side_by_side(innermost, [n, n + 1]))

    def outer(n: int) -> int:
        return sum(side_by_side(inner, [n, n + 2]))

    for _ in range(20):
        assert side_by_side(outer, [0, 4]) == [6, 22]
    assert names == {"radgsreg-2"}
    parallel._pool.cache_clear()


def test_a_single_item_keeps_the_thread_and_all_cores(cores: int) -> None:
    def here(_: int) -> tuple[int, int]:
        return threading.get_ident(), worker_count()

    assert side_by_side(here, [0]) == [(threading.get_ident(), cores)]


def test_several_items_do_run_at_the_same_time(cores: int) -> None:
    together = threading.Barrier(2, timeout=5.0 if cores > 1 else 0.1)

    def meet(_: int) -> bool:
        try:
            together.wait()
        except threading.BrokenBarrierError:
            return False
        return True

    assert side_by_side(meet, [0, 1]) == [cores > 1] * 2


@pytest.mark.parametrize("reporting", [False, True])
def test_an_error_comes_out_when_all_have_ended(cores: int, reporting: bool) -> None:
    ended = []

    def job(number: int, progress: Progress | None = None) -> int:
        if number == 1:
            raise InputError("view", "is upside down")
        time.sleep(0.05)
        ended.append(number)
        return number

    def both() -> list[int]:
        if reporting:
            return side_by_side_reporting(job, [0, 1], Progress(), "working")
        return side_by_side(job, [0, 1])

    with pytest.raises(InputError, match="upside down"):
        both()
    assert ended == [0]


def test_an_error_stops_the_others_and_is_the_one_that_is_told(cores: int) -> None:
    began = time.monotonic()

    def job(number: int, progress: Progress) -> None:
        if number == 2:
            raise InputError("view", "is upside down")
        if cores > 1:
            _until_stopped(20.0)(number, progress)

    with pytest.raises(InputError, match="upside down"):
        side_by_side_reporting(job, [1, 2], Progress(), "working")
    assert time.monotonic() - began < 10.0


def test_what_was_not_begun_is_not_begun_after_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "core_count", lambda: 2)
    parallel._pool.cache_clear()
    begun = []

    def job(number: int, progress: Progress) -> None:
        begun.append(number)
        _until_stopped(20.0)(number, progress)

    with pytest.raises(Cancelled):
        side_by_side_reporting(job, list(range(8)), Progress(lambda *_: len(begun) < 2), "working")
    assert sorted(begun) == [0, 1]
    parallel._pool.cache_clear()


def test_a_signal_while_jobs_are_handed_out_ends_those_that_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parallel, "core_count", lambda: 2)
    parallel._pool.cache_clear()
    pool = parallel._pool(0)
    submit, handed = pool.submit, []

    def interrupted(*args: Any) -> Any:
        if handed:
            raise KeyboardInterrupt
        handed.append(submit(*args))
        return handed[0]

    monkeypatch.setattr(pool, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        side_by_side_reporting(_until_stopped(20.0), [0, 1], Progress(), "working")
    assert handed[0].done()
    parallel._pool.cache_clear()


def _until_stopped(seconds: float) -> Callable[[int, Progress], None]:
    def job(_: int, progress: Progress) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            progress(0.5, "working")
            time.sleep(0.005)

    return job


def test_progress_is_told_from_the_calling_thread_alone(cores: int) -> None:
    told: list[tuple[float, str, int]] = []

    def hear(fraction: float, message: str) -> bool:
        told.append((fraction, message, threading.get_ident()))
        return True

    job = _until_stopped(0.12)
    side_by_side_reporting(job, [0, 1, 2], Progress(hear).part(0.4, 0.6), "together")
    assert {thread for *_, thread in told} == {threading.get_ident()}
    fractions = [fraction for fraction, *_ in told]
    assert fractions == sorted(fractions)
    assert all(0.4 <= fraction <= 0.6 for fraction in fractions)
    assert len(told) > 3
    # Also of what goes on within the jobs, which say that they are half done.
    assert any(0.45 <= fraction <= 0.55 for fraction in fractions)
    if cores > 1:
        assert {message for _, message, _ in told} == {"together"}


def test_it_stops_soon_after_being_told_to(cores: int) -> None:
    began = time.monotonic()

    def hear(_fraction: float, _message: str) -> bool:
        return time.monotonic() - began < 0.1

    with pytest.raises(Cancelled):
        side_by_side_reporting(_until_stopped(20.0), [0, 1, 2], Progress(hear), "working")
    assert time.monotonic() - began < 10.0
    assert side_by_side(abs, [-1, 2]) == [1, 2]


def test_a_signal_ends_the_jobs_too(cores: int) -> None:
    """What a signal raises in the calling thread: the jobs must not go on without it."""

    def hear(_fraction: float, _message: str) -> bool:
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        side_by_side_reporting(_until_stopped(20.0), [0, 1], Progress(hear), "working")
    assert time.monotonic() - began < 10.0
