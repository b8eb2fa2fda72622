"""Stages timed in turns with the machine's ceilings, and what each of them did, counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .ceilings import Ceiling, ceiling_of, ceiling_runs
from .counting import counted
from .kernel_work import launches
from .stages import Stage
from .timing import Lap, least, least_busy, take_turns


@dataclass(frozen=True)
class Standing:
    """What a stage did, and how long it took.

    ``seconds`` by the clock, ``busy_s`` all its threads together, ``floor_s`` at least by a single
    thread.
    ``operations`` and ``moved_bytes`` as they were done, ``least_bytes`` what has to be moved
    however it is done; ``needed`` pairs or samples of those ``visited``; kernels ``uncounted``.
    """

    stage: Stage
    seconds: float
    busy_s: float
    operations: float
    moved_bytes: float
    least_bytes: float
    needed: int
    visited: int
    uncounted: tuple[str, ...]
    floor_s: float
    bound: str

    @property
    def times_the_floor(self) -> float:
        """How many times as long as it must take at least."""
        return self.busy_s / self.floor_s


@dataclass(frozen=True)
class Table:
    """All stages at one size, the ceilings by threads."""

    rows: tuple[Standing, ...]
    ceilings: dict[int, Ceiling]


def table_of(
    stages: Sequence[Stage],
    device: torch.device,
    *,
    rounds: int = 5,
    most_s: float = 60.0,
    quick: bool = False,
) -> Table:
    """Time all stages and ceilings in turns (`take_turns`), and count what each stage does."""
    threads = sorted({stage.threads for stage in stages})
    runs: dict[str, Callable[[], object]] = {stage.name: stage.run for stage in stages}
    for count in threads:
        runs |= ceiling_runs(device, count, quick=quick)
    times = take_turns(runs, device, rounds=rounds, most_s=most_s)
    ceilings = {count: ceiling_of(times, device, count) for count in threads}
    rows = (_standing(stage, times[stage.name], ceilings) for stage in stages)
    return Table(tuple(rows), ceilings)


def _standing(stage: Stage, laps: Sequence[Lap], ceilings: dict[int, Ceiling]) -> Standing:
    kernels, torchs = launches(stage.run), counted(stage.run)
    operations, least_bytes = kernels.operations + torchs.operations, stage.least_bytes()
    return Standing(
        stage,
        least(laps),
        least_busy(laps),
        operations,
        kernels.data_bytes + torchs.moved_bytes,
        least_bytes,
        kernels.needed,
        kernels.visited,
        tuple(sorted(kernels.unknown)),
        *ceilings[stage.threads].floor_s(operations, least_bytes),
    )
