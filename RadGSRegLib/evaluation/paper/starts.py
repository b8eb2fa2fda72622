"""From where the methods begin: the case's own start, and others drawn about the truth."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...cases import Case, read_case, read_start
from ...errors import InputError
from ...geometry import compose_about, transform_points
from ..protocol import start_from_centres
from .answers import Task

Array = NDArray[np.float64]
Start = Literal["center", "start", "none"]

# The paper's range of starts: about and along each axis.
DRAWN_DEG = 20.0
DRAWN_MM = 50.0


def own_task(folder: Path, start: Start, seed: int) -> Task:
    """The case of a folder and its own start: its clicks, its start.json, or nothing at all.

    Raises InputError for a case that cannot be read or has no such start.
    """
    case = read_case(folder / "case.json")
    name = folder.resolve().name
    if start == "center":
        pose = start_from_centres(case)
        if pose is None:
            raise InputError(
                folder, "has no usable center_px in two views", "use --start start or none"
            )
    else:
        case = without_clicks(case)
        pose = None
    if start == "start":
        path = folder / "start.json"
        if not path.is_file():
            raise InputError(folder, "has no start.json", "use --start center")
        pose = read_start(path)
    return task_from(name, case, pose, from_clicks=start == "center", seed=seed, volume=True)


def task_from(
    name: str, case: Case, pose: Array | None, *, from_clicks: bool, seed: int, volume: bool
) -> Task:
    """A task whose centre is where the start puts the vertebra's."""
    centre = None if pose is None else transform_points(pose, centre_of(case)[None])[0]
    return Task(name, case, pose, centre, from_clicks, seed, volume)


def drawn_tasks(own: Task, true: Array, count: int) -> list[Task]:
    """``count`` further starts about the truth (4, 4), from near to far, fixed by case and seed.

    The n-th is off by up to (n + a random share) / count of 20 degrees about and 50 mm along each
    axis, so that all sizes of error occur. Clicks are hidden and no volume is asked for.
    """
    digest = hashlib.sha256(f"{own.seed}/{own.name}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    hidden = without_clicks(own.case)
    centre = centre_of(own.case)
    tasks = []
    for number in range(count):
        share = (number + generator.random()) / count
        turn, shift = generator.uniform(-1.0, 1.0, (2, 3))
        twist = share * np.concatenate([np.radians(DRAWN_DEG) * turn, DRAWN_MM * shift])
        pose = compose_about(true, twist, centre)
        task = task_from(own.name, hidden, pose, from_clicks=False, seed=own.seed, volume=False)
        tasks.append(task)
    return tasks


def without_clicks(case: Case) -> Case:
    """The case with nothing said about where the vertebra is."""
    return replace(case, views=tuple(replace(view, center_px=None) for view in case.views))


def centre_of(case: Case) -> Array:
    """The centroid (3,) of the target's mask, mm in the CT."""
    inside = np.argwhere(np.asarray(case.labels.array) == case.label)[:, ::-1].astype(float)
    return np.asarray(case.labels.physical_points(inside).mean(axis=0))
