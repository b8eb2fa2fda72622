"""What `floors` measures: stages at one size, series of sizes, and peaks of memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from measuring import devices, stages
from measuring.growth import Growth, fitted
from measuring.stages import Stage
from measuring.standings import Table, table_of
from measuring.timing import least_busy, take_turns

# Of the field that a window shows at the vertebra, mm.
WINDOW_MM = 90.0
# A neighbourhood's part of that.
NEIGHBOURHOOD = 0.07
# Above this an exponent counts as more than linear: it is not known better than to some hundredths.
LINEAR = 1.1
# Lets glibc keep what is freed.
KEEP = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**36)}


@dataclass(frozen=True)
class Size:
    """How large everything is: the stages of the table, and the series.

    ``search_steps``: to either side about each axis. ``most_s``: after so long a series begins no
    further round.
    """

    gaussians: int
    pixels: int
    voxels: int
    spacing_mm: float
    search_steps: int
    pairs: int
    many_gaussians: tuple[int, ...]
    many_pixels: tuple[int, ...]
    many_views: tuple[int, ...]
    many_poses: tuple[int, ...]
    many_steps: tuple[int, ...]
    rounds: int
    most_s: float
    quick: bool = False


SIZES = {
    "full": Size(
        gaussians=4000,
        pixels=128,
        voxels=128,
        spacing_mm=1.5,
        search_steps=2,
        pairs=32,
        many_gaussians=(1_000, 3_162, 10_000, 31_623, 100_000),
        many_pixels=(64, 128, 256, 488, 976),
        many_views=(1, 2, 5, 10, 20, 50),
        many_poses=(1, 8, 64, 512),
        many_steps=(0, 1, 2, 3, 4),
        rounds=5,
        most_s=35.0,
    ),
    "tiny": Size(
        gaussians=300,
        pixels=32,
        voxels=16,
        spacing_mm=4.0,
        search_steps=0,
        pairs=2,
        many_gaussians=(100, 400),
        many_pixels=(24, 48),
        many_views=(1, 3),
        many_poses=(1, 4),
        many_steps=(0, 1),
        rounds=1,
        most_s=5.0,
        quick=True,
    ),
}


def base_stages(size: Size, device: torch.device) -> list[Stage]:
    """The stages of the table."""
    window = round(WINDOW_MM / stages.OPTIONS.fine.pixel_mm) if not size.quick else size.pixels
    middle = stages.OPTIONS.middle.pixel_mm
    searching, _ = stages.search(size.search_steps, size.spacing_mm)
    return [
        stages.loop(4 * size.pixels, device),
        *stages.rasterizer(size.gaussians, size.pixels, device),
        *stages.bodies(2, size.pixels, size.spacing_mm, device),
        *stages.voxelizer(size.gaussians, size.voxels, device),
        *stages.projector(size.pixels, size.spacing_mm, device),
        *stages.normalisation(window, NEIGHBOURHOOD, device),
        *stages.products(window, device),
        *stages.normal_equations(1, middle, size.spacing_mm),
        *stages.normal_equations(1, stages.OPTIONS.fine.pixel_mm, size.spacing_mm, voxels=True),
        searching,
        *stages.preparing(4 * size.pixels, size.spacing_mm),
        stages.simulation(size.pairs, size.spacing_mm, device),
    ]


def standing(size: Size, device: torch.device) -> Table:
    """Time and count the stages of the table."""
    every, most_s = base_stages(size, device), 2.0 * size.most_s
    return table_of(every, device, rounds=size.rounds, most_s=most_s, quick=size.quick)


@dataclass(frozen=True)
class Series:
    """How long processors are busy with a stage, by the number of ``what``.

    ``kept``: the same where freed memory is kept, measured only where it grows by more than its
    share.
    """

    stage: str
    what: str
    growth: Growth
    kept: Growth | None = None


# Makes the stages at a size, and says how large that is.
Maker = Callable[[int], tuple[Sequence[Stage], int]]


def makers(size: Size, device: torch.device) -> list[tuple[str, tuple[int, ...], Maker]]:
    """What grows, how far, and how its stages are made."""
    spacing = size.spacing_mm

    def gaussians(n: int) -> tuple[Sequence[Stage], int]:
        voxels = min(size.voxels, 64)
        return [
            *stages.rasterizer(n, size.pixels, device),
            *stages.voxelizer(n, voxels, device),
        ], n

    def pixels(n: int) -> tuple[Sequence[Stage], int]:
        return [
            *stages.rasterizer(size.gaussians, n, device),
            *stages.projector(n, spacing, device),
            *stages.normalisation(n, NEIGHBOURHOOD, device),
            *stages.normal_equations(1, WINDOW_MM / n, spacing),
            *stages.preparing(n, spacing),
        ], n * n

    def views(n: int) -> tuple[Sequence[Stage], int]:
        middle = stages.OPTIONS.middle.pixel_mm
        return [
            *stages.bodies(n, 64, spacing, device),
            *stages.normal_equations(n, middle, spacing),
        ], n

    def poses(n: int) -> tuple[Sequence[Stage], int]:
        return stages.bodies(n, 48, spacing, device)[:1], n

    def turns(n: int) -> tuple[Sequence[Stage], int]:
        stage, count = stages.search(n, spacing)
        return [stage], count

    return [
        ("Gaussians", size.many_gaussians, gaussians),
        ("pixels", size.many_pixels, pixels),
        ("views", size.many_views, views),
        ("poses", size.many_poses, poses),
        ("poses", size.many_steps, turns),
    ]


def growths(size: Size, device: torch.device, only: Sequence[tuple[str, str]] = ()) -> list[Series]:
    """Time each series, all its sizes in turns; ``only`` these (stage, what), if there are any."""
    out = []
    for what, sizes, make in makers(size, device):
        if only and what not in {of for _, of in only}:
            continue
        runs: dict[str, Callable[[], object]] = {}
        at: dict[str, list[tuple[int, str]]] = {}
        for n in sizes:
            every, amount = make(n)
            for stage in every:
                if only and (stage.name, what) not in only:
                    continue
                key = f"{stage.name} {amount}"
                runs[key] = stage.run
                at.setdefault(stage.name, []).append((amount, key))
        times = take_turns(runs, device, rounds=size.rounds, most_s=size.most_s)
        for name, places in at.items():
            busy = [least_busy(times[key]) for _, key in places]
            out.append(Series(name, what, fitted([n for n, _ in places], busy)))
    return out


def keeping(series: Sequence[Series], command: Sequence[str]) -> list[Series]:
    """Those that grow by more than their share once more, in a child that keeps freed memory.

    The C library gives large arrays back to the system when they are freed, and the system clears
    each page anew when the next one is made.
    """
    steep = [(each.stage, each.what) for each in series if each.growth.steepest > LINEAR]
    known: dict[tuple[str, str], Growth] = {}
    try:
        answer = devices.in_child([*command, "--again", json.dumps(steep)], KEEP) if steep else "[]"
        for name, what, sizes, busy in json.loads(answer):
            known[name, what] = fitted(sizes, busy)
    except RuntimeError as error:
        print(f"not run again: {error}", file=sys.stderr)
    return [replace(each, kept=known.get((each.stage, each.what))) for each in series]


def memory_stages(size: Size, device: torch.device) -> dict[str, Callable[[], Stage]]:
    """Whose peak of memory is measured, at the largest sizes, by name."""
    many, wide, voxels = size.many_gaussians[-1], size.many_pixels[-1], size.voxels
    few, pixels, spacing = size.gaussians, size.pixels, size.spacing_mm
    views, steps = size.many_views[-1], size.many_steps[-1]
    middle, picture = stages.OPTIONS.middle.pixel_mm, f"{wide} x {wide} pixels"

    def equations(views: int, pixel_mm: float) -> Stage:
        return stages.normal_equations(views, pixel_mm, spacing)[1]

    return {
        f"rasterizer, forward, {many:,} Gaussians": (
            lambda: stages.rasterizer(many, pixels, device)[0]
        ),
        f"rasterizer, forward, {picture}": lambda: stages.rasterizer(few, wide, device)[0],
        f"rasterizer, backward, {many:,} Gaussians": (
            lambda: stages.rasterizer(many, pixels, device)[1]
        ),
        f"rasterizer, image and Jacobian, {picture}": (
            lambda: stages.rasterizer(few, wide, device)[2]
        ),
        f"voxelizer, forward, {voxels}^3 voxels": (
            lambda: stages.voxelizer(few, voxels, device)[0]
        ),
        f"voxelizer, backward, {voxels}^3 voxels": (
            lambda: stages.voxelizer(few, voxels, device)[1]
        ),
        f"projector, image and Jacobian, {picture}": (
            lambda: stages.projector(wide, spacing, device)[2]
        ),
        f"normal equations, {picture}": lambda: equations(1, WINDOW_MM / wide),
        f"normal equations, {views} views": lambda: equations(views, middle),
        f"simulated pairs, {size.pairs} together": (
            lambda: stages.simulation(size.pairs, spacing, device)
        ),
        f"search, {(2 * steps + 1) ** 3} poses": lambda: stages.search(steps, spacing)[0],
    }


def memory_of(name: str, size: Size, device: torch.device) -> dict[str, Any]:
    """In a child: what a stage takes beyond what its inputs and the program took before, MiB."""
    every = memory_stages(size, device)
    small = list(memory_stages(SIZES["tiny"], device).values())
    # Kernels and libraries are loaded with a small one of its kind.
    small[list(every).index(name)]().run()
    stage = every[name]()
    devices.give_back()
    before = devices.rss_mib() if device.type == "cpu" else 0.0
    with devices.watch(device) as peak:
        kept = stage.run()
    del kept
    return {"mib": peak.mib - before, "kind": peak.kind}


def memories(size: Size, command: Sequence[str]) -> dict[str, float | None]:
    """The peaks of all, MiB, each in a child process of its own; None where that failed."""
    names = list(memory_stages(size, torch.device("cpu")))
    out: dict[str, float | None] = {}
    for name in names[:1] if size.quick else names:
        try:
            out[name] = json.loads(devices.in_child([*command, "--memory", name]))["mib"]
        except RuntimeError as error:
            print(f"{name}: {error}", file=sys.stderr)
            out[name] = None
    return out
