"""Folders of cases whose true pose is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..cases import read_json_object
from ..errors import InputError
from ..geometry import Array, is_rigid


@dataclass(frozen=True)
class FrameTruth:
    """What is known of a frame of a run: its pose (4, 4), and whether it shows nothing."""

    ct_to_world: Array
    blank: bool = False


@dataclass(frozen=True)
class Truth:
    """What is known of a case: its pose (4, 4), surface points (N, 3) mm, realism, by label the
    poses (4, 4) of the vertebrae beside it, and of a run every frame."""

    ct_to_world: Array
    points_ct: Array | None
    realism: str
    neighbours: Mapping[int, Array] = field(default_factory=dict)
    frames: tuple[FrameTruth, ...] = ()


def find_cases(folder: Path) -> list[Path]:
    """List the case folders in ``folder`` (or it alone), by name; each has its truth.json.

    Raises InputError where there is none, or where one has no truth.
    """
    folder = Path(folder)
    if not folder.exists():
        raise InputError(folder, "does not exist")
    if not folder.is_dir():
        raise InputError(folder, "is not a folder of cases")
    if (folder / "case.json").is_file():
        cases = [folder]
    else:
        cases = sorted(path.parent for path in folder.glob("*/case.json"))
    if not cases:
        raise InputError(folder, "holds no case", "each case is a folder with a case.json")
    for case in cases:
        if not (case / "truth.json").is_file():
            raise InputError(case, "has no truth.json", "evaluation needs the true pose")
    return cases


def read_truth(path: Path) -> Truth:
    """Read the truth.json of a case: "ct_to_world", and optionally "points_ct", "level",
    "neighbours" and "frames".

    Raises InputError for a pose that is not rigid or points of another shape.
    """
    path = Path(path)
    content = read_json_object(path)
    try:
        matrix = np.asarray(content["ct_to_world"], dtype=float)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(path, 'has no 4x4 "ct_to_world"') from error
    if not is_rigid(matrix):
        raise InputError(path, '"ct_to_world" is not a rigid 4x4')
    points: Array | None = None
    if content.get("points_ct") is not None:
        try:
            points = np.asarray(content["points_ct"], dtype=float)
        except (TypeError, ValueError):
            points = np.empty(0)
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise InputError(path, '"points_ct" must be a list of [x, y, z]')
    beside = _neighbours(path, content.get("neighbours") or {})
    frames = _frames(path, content.get("frames") or [])
    return Truth(matrix, points, str(content.get("level", "")), beside, frames)


def hold_runs(folder: Path) -> bool:
    """Say whether the cases in ``folder`` are runs of X-rays, whose truth has "frames".

    Raises InputError as `find_cases` and `read_truth` do, and where only some are.
    """
    cases = find_cases(folder)
    runs = [bool(read_truth(case / "truth.json").frames) for case in cases]
    if any(runs) and not all(runs):
        (first, *_) = [case.name for case, is_run in zip(cases, runs, strict=True) if not is_run]
        raise InputError(
            folder, f"holds runs and cases of single X-rays ({first})", "evaluate them apart"
        )
    return all(runs)


def _frames(path: Path, content: Any) -> tuple[FrameTruth, ...]:
    try:
        frames = tuple(
            FrameTruth(np.asarray(frame["ct_to_world"], dtype=float), bool(frame.get("blank")))
            for frame in content
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(path, '"frames" must hold a 4x4 "ct_to_world" each') from error
    if not all(is_rigid(frame.ct_to_world) for frame in frames):
        raise InputError(path, '"frames" holds a pose that is not a rigid 4x4')
    return frames


def _neighbours(path: Path, content: Any) -> dict[int, Array]:
    try:
        poses = {int(label): np.asarray(pose, dtype=float) for label, pose in content.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(path, '"neighbours" must hold a 4x4 by label') from error
    if not all(is_rigid(pose) for pose in poses.values()):
        raise InputError(path, '"neighbours" holds a pose that is not a rigid 4x4')
    return poses
