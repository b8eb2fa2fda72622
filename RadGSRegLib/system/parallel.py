"""Things that do not wait for each other, side by side on this machine's cores.

What computes with torch is to be called within `system.one_torch_thread`: else each of these
threads has torch's threads too, and keeps them for ever.
"""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import lru_cache, partial
from typing import TypeVar

from ..errors import Cancelled
from .progress import Progress

T = TypeVar("T")
R = TypeVar("R")

_MOST_CORES = 16
_REPORT_S = 0.05


class _Place(threading.local):
    """How deep in calls of `side_by_side` a thread is, and how many cores are its own."""

    depth = 0
    cores: int | None = None


_place = _Place()


def worker_count() -> int:
    """How many threads a call may use: the cores this process may run on, at most 16; within
    `side_by_side` its share of them."""
    return core_count() if _place.cores is None else _place.cores


def side_by_side(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """``function`` of each item, in the items' order, on as many threads as there are cores.

    May be called by such a function itself, which has its share of the cores. The first exception,
    in the items' order, is raised once all have ended.
    """
    return _run([partial(function, item) for item in items], None)


def side_by_side_reporting(
    function: Callable[[T, Progress], R], items: Sequence[T], progress: Progress, message: str
) -> list[R]:
    """The same with progress, which is reported from the calling thread alone.

    ``function`` is given one to report to, which tells it to stop where ``progress`` says so, and
    where another item has failed; Cancelled or that one's error is raised once all have stopped.
    """
    if len(items) < 2 or worker_count() < 2:
        parts = [progress.part(n / len(items), (n + 1) / len(items)) for n in range(len(items))]
        return [function(item, part) for item, part in zip(items, parts, strict=True)]
    stop = threading.Event()
    done = [0.0] * len(items)

    def job(number: int, item: T) -> R:
        def hear(fraction: float, _message: str) -> bool:
            done[number] = max(done[number], fraction)
            return not stop.is_set()

        result = function(item, Progress(hear))
        done[number] = 1.0
        return result

    jobs = [partial(job, number, item) for number, item in enumerate(items)]
    return _run(jobs, lambda: progress(sum(done) / len(done), message), stop)


def _run(
    jobs: Sequence[Callable[[], R]],
    report: Callable[[], None] | None = None,
    stop: threading.Event | None = None,
) -> list[R]:
    cores = worker_count()
    if len(jobs) < 2 or cores < 2:
        return [job() for job in jobs]
    depth = _place.depth
    share = max(1, cores // len(jobs))

    def placed(job: Callable[[], R]) -> R:
        _place.depth, _place.cores = depth + 1, share
        return job()

    futures: list[Future[R]] = []
    try:
        for job in jobs:
            futures.append(_pool(depth).submit(placed, job))
        if report is None:
            wait(futures)
        else:
            _report_while_running(futures, report)
    finally:
        # After an error or a signal what is still going on is not wanted.
        if stop is not None:
            stop.set()
        for future in futures:
            future.cancel()
        wait(futures)
    failed = [future.exception() for future in futures if not future.cancelled()]
    # Those that were told to stop because of another's error are not the reason.
    errors = [error for error in failed if error is not None]
    errors.sort(key=lambda error: isinstance(error, Cancelled))
    if errors:
        raise errors[0]
    return [future.result() for future in futures]


def _report_while_running(futures: Sequence[Future[R]], report: Callable[[], None]) -> None:
    """Until all have ended or one has failed."""
    left = set(futures)
    while left:
        report()
        ended, left = wait(left, timeout=_REPORT_S, return_when=FIRST_EXCEPTION)
        if any(future.exception() for future in ended):
            return
    report()


@lru_cache
def _pool(depth: int) -> ThreadPoolExecutor:
    # One per depth: what waits for others would else hold the threads that these wait for.
    return ThreadPoolExecutor(max_workers=core_count(), thread_name_prefix=f"radgsreg-{depth}")


@lru_cache(maxsize=1)
def core_count() -> int:
    """The cores this process may run on, at most 16."""
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return max(1, min(_MOST_CORES, cores))
