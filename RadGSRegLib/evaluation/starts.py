"""From where the methods begin: the case's own start, and others drawn about the truth."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from ..cases import Case, Run, clicked_centre, read_case, read_run, read_start
from ..errors import InputError
from ..geometry import Array, compose_about, transform_points, translation
from ..methods import Task

StartKind = Literal["center", "start", "none"]

# The paper's range of starts: about and along each axis.
DRAWN_DEG = 20.0
DRAWN_MM = 50.0


def start_from_clicks(case: Case) -> Array | None:
    """Return the pose (4, 4) that clicks alone give: axes along the world's, centres together.

    None where fewer than two views have a ``center_px``; InputError where those are parallel.
    """
    centre_world = clicked_centre(case.views)
    return None if centre_world is None else translation(centre_world - case.centre_ct)


def own_task(folder: Path, start: StartKind, seed: int) -> Task:
    """Read the case of a folder and its own start: its clicks, its start.json, or nothing at all.

    A case may have one X-ray alone. Raises InputError for a case that cannot be read or has no such
    start.
    """
    case = read_case(folder / "case.json", least=1)
    name = folder.resolve().name
    if start == "center":
        pose = start_from_clicks(case)
        if pose is None:
            raise InputError(
                folder, "has fewer than two views with a center_px", "use --start start"
            )
        return _task(name, case, pose, seed, from_clicks=True)
    case = _without_clicks(case)
    if start == "none":
        return _task(name, case, None, seed)
    path = folder / "start.json"
    if not path.is_file():
        raise InputError(folder, "has no start.json", "use --start center")
    return _task(name, case, read_start(path), seed)


def one_view_tasks(own: Task) -> list[Task]:
    """Make a task of every view of a case alone, with the case's start: "CASE/VIEW" for each."""
    case = own.needed_case()
    alone = [replace(case, views=(view,)) for view in case.views]
    return [
        replace(own, name=f"{own.name}/{case.views[0].name}", views=case.views, case=case)
        for case in alone
    ]


def drawn_tasks(own: Task, true: Array, count: int) -> list[Task]:
    """Draw ``count`` further starts about the truth (4, 4), from near to far, by case and seed.

    The n-th is off by up to (n + a random share) / count of 20 degrees about and 50 mm along each
    axis, so that all sizes of error occur. Clicks are hidden and no volume is asked for.
    """
    digest = hashlib.sha256(f"{own.seed}/{own.name}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    hidden = _without_clicks(own.needed_case())
    centre = hidden.centre_ct
    tasks = []
    for number in range(count):
        share = (number + generator.random()) / count
        turn, shift = generator.uniform(-1.0, 1.0, (2, 3))
        twist = share * np.concatenate([np.radians(DRAWN_DEG) * turn, DRAWN_MM * shift])
        tasks.append(_task(own.name, hidden, compose_about(true, twist, centre), own.seed))
    return tasks


def _task(
    name: str, case: Case, pose: Array | None, seed: int, *, from_clicks: bool = False
) -> Task:
    """A task whose centre is where the start puts the vertebra's."""
    centre = None if pose is None else transform_points(pose, case.centre_ct[None])[0]
    return Task(name, case.views, case, pose, centre, from_clicks, seed)


def run_and_start(folder: Path, start: StartKind) -> tuple[Run, Array | None]:
    """Read the run of a folder and the pose (4, 4) that its first frame is begun from; None where
    that is its clicks.

    Raises InputError for a run that cannot be read or has no such start.
    """
    run = read_run(folder / "case.json")
    if start == "center":
        if start_from_clicks(run.case) is None:
            raise InputError(
                folder, "has fewer than two views with a center_px", "use --start start"
            )
        return run, None
    path = folder / "start.json"
    if not path.is_file():
        raise InputError(folder, "has no start.json", "use --start center")
    return replace(run, case=_without_clicks(run.case)), read_start(path)


def _without_clicks(case: Case) -> Case:
    """The case with nothing said about where the vertebra is."""
    return replace(case, views=tuple(replace(view, center_px=None) for view in case.views))
