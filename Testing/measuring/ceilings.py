"""What the machine itself can do: bytes per second of a triad, operations per second of products.

Nothing that a kernel does can be faster. Both are measured on as many threads as the kernel has,
which run side by side as the kernels do, and on arrays of several sizes: what lies in a cache is
read faster than memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from RadGSRegLib.system import run_jobs

from .timing import Run, Times, least_busy

TRIAD_BYTES = (2**18, 2**21, 2**24, 2**28)
_FLOAT = 4
_SIDE = {"cpu": 768, "cuda": 8192}


@dataclass(frozen=True)
class Ceiling:
    """Of each of ``threads`` that work side by side: operations per second in float32, and bytes
    per second by how many bytes they all use."""

    threads: int
    operations_per_s: float
    bytes_per_s: dict[int, float]

    def floor_s(self, operations: float, data_bytes: float) -> tuple[float, str]:
        """Seconds of a thread below which nothing computes so much and moves so much, and which of
        the two it is: "arithmetic" or "memory".

        What fits into a cache need not come from memory: the rate is the best of those measured
        with at least as many bytes in use.
        """
        fits = [rate for size, rate in self.bytes_per_s.items() if size >= data_bytes]
        rate = max(fits) if fits else self.bytes_per_s[max(self.bytes_per_s)]
        computing, moving = operations / self.operations_per_s, data_bytes / rate
        return max(computing, moving), "arithmetic" if computing >= moving else "memory"


def _triad(size_bytes: int, threads: int, device: torch.device) -> Run:
    count = max(size_bytes // (3 * _FLOAT * threads), 1)
    return _side_by_side(
        [
            partial(torch.add, b, c, alpha=1.5, out=a)
            for a, b, c in torch.rand(threads, 3, count, device=device)
        ]
    )


def _product(threads: int, device: torch.device) -> Run:
    side = _SIDE[device.type]
    jobs = [
        partial(torch.mm, b, c, out=a)
        for a, b, c in torch.rand(threads, 3, side, side, device=device)
    ]
    return _side_by_side(jobs)


def _side_by_side(jobs: list[Run]) -> Run:
    return jobs[0] if len(jobs) == 1 else partial(run_jobs, jobs)


def ceiling_runs(device: torch.device, threads: int, *, quick: bool = False) -> dict[str, Run]:
    """What has to be timed for a `Ceiling` (`ceiling_of`); ``quick``: on small arrays alone."""
    sizes = TRIAD_BYTES[:2] if quick else TRIAD_BYTES
    runs = {f"triad {size} {threads}": _triad(size, threads, device) for size in sizes}
    return {**runs, f"product {threads}": _product(threads, device)}


def ceiling_of(times: Times, device: torch.device, threads: int) -> Ceiling:
    """The ceiling that the runs' times show."""
    seconds = {
        size: least_busy(times[f"triad {size} {threads}"])
        for size in TRIAD_BYTES
        if f"triad {size} {threads}" in times
    }
    operations = 2.0 * _SIDE[device.type] ** 3 * threads
    rates = {size: size / spent for size, spent in seconds.items()}
    return Ceiling(threads, operations / least_busy(times[f"product {threads}"]), rates)
