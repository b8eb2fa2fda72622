"""Seconds of work on a device: warmed up, in turns, each with its rounds kept."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from .devices import synchronize

Run = Callable[[], object]
Times = dict[str, list[float]]


def _once(run: Run, calls: int, device: torch.device) -> float:
    """Seconds of a call, the mean of so many in a row: by events on CUDA, else by the clock."""
    if device.type != "cuda":
        began = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - began) / calls
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    synchronize(device)
    begin.record()
    for _ in range(calls):
        run()
    end.record()
    synchronize(device)
    return float(begin.elapsed_time(end)) / calls / 1e3


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

    Each is run twice before, for caches and compilers, and then in a row until ``at_least_s`` are
    over. After ``most_s`` no further round is begun; there is always one.
    """
    began = time.perf_counter()
    calls = {}
    for name, run in runs.items():
        run()
        synchronize(device)
        once = time.perf_counter()
        run()
        synchronize(device)
        spent = max(time.perf_counter() - once, 1e-7)
        calls[name] = max(1, min(10_000, round(at_least_s / spent)))
    times: Times = {name: [] for name in runs}
    for number in range(rounds):
        if number and time.perf_counter() - began > most_s:
            break
        for name in list(runs) if number % 2 == 0 else reversed(list(runs)):
            times[name].append(_once(runs[name], calls[name], device))
    return times


def least(times: Sequence[float]) -> float:
    """The least of the rounds: what it takes when nothing else does anything."""
    return min(times)


def median(times: Sequence[float]) -> float:
    """The middle one of the rounds."""
    return statistics.median(times)


def timed(run: Run, device: torch.device, rounds: int = 5) -> dict[str, Any]:
    """Milliseconds of one run: the median and the least of the rounds."""
    times = take_turns({"run": run}, device, rounds=rounds)["run"]
    return {"ms": 1e3 * median(times), "least_ms": 1e3 * least(times), "rounds": len(times)}
