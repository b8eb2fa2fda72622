"""Seconds of work on a device: warmed up, in turns, each with its rounds kept."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from .devices import synchronize

Run = Callable[[], object]


class Lap(NamedTuple):
    """Seconds of a call: by the ``wall``'s clock, and how long processors were ``busy`` with it,
    all threads together, which other work on the machine changes little. On CUDA both are the
    device's."""

    wall: float
    busy: float


# What takes longer than this is run but once before it is timed.
_LONG_S = 0.3

Times = dict[str, list[Lap]]


def _lap(run: Run, calls: int, device: torch.device) -> Lap:
    """A call's, the mean of so many in a row: by events on CUDA, else by the clocks."""
    if device.type != "cuda":
        began, busy = time.perf_counter(), time.process_time()
        for _ in range(calls):
            run()
        return Lap((time.perf_counter() - began) / calls, (time.process_time() - busy) / calls)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    synchronize(device)
    begin.record()
    for _ in range(calls):
        run()
    end.record()
    synchronize(device)
    spent = float(begin.elapsed_time(end)) / calls / 1e3
    return Lap(spent, spent)


def _first(run: Run, device: torch.device) -> float:
    synchronize(device)
    began = time.perf_counter()
    run()
    synchronize(device)
    return max(time.perf_counter() - began, 1e-7)


def take_turns(
    runs: Mapping[str, Run],
    device: torch.device,
    *,
    rounds: int = 5,
    at_least_s: float = 0.02,
    most_s: float = 60.0,
) -> Times:
    """Seconds of each of ``runs`` in each round; all take turns, there and back, so that whatever
    else the machine does hits them alike.

    Each is run twice before (once if that takes long), for caches and compilers, then in a row
    until ``at_least_s`` are over. After ``most_s`` no further round is begun; there is always one.
    """
    began = time.perf_counter()
    calls = {}
    for name, run in runs.items():
        spent = _first(run, device)
        if spent < _LONG_S:
            spent = _first(run, device)
        calls[name] = max(1, min(10_000, round(at_least_s / spent)))
    times: Times = {name: [] for name in runs}
    for number in range(rounds):
        if number and time.perf_counter() - began > most_s:
            break
        for name in list(runs) if number % 2 == 0 else reversed(list(runs)):
            times[name].append(_lap(runs[name], calls[name], device))
    return times


def least(laps: Sequence[Lap]) -> float:
    """The least of the rounds by the clock: what it takes when nothing else does anything."""
    return min(lap.wall for lap in laps)


def least_busy(laps: Sequence[Lap]) -> float:
    """The least that processors were busy with it, all threads together."""
    return max(min(lap.busy for lap in laps), 1e-9)


def median(laps: Sequence[Lap]) -> float:
    """The middle one of the rounds by the clock."""
    return statistics.median(lap.wall for lap in laps)


def median_ms(run: Run, device: torch.device, rounds: int) -> float:
    """Milliseconds of a run by the clock: the median of the rounds."""
    return 1e3 * median(take_turns({"run": run}, device, rounds=rounds)["run"])
