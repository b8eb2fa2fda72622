"""Whether a folder that is there already holds only results of this program."""

import json
import os
import re
from pathlib import Path
from typing import Any

from ..errors import InputError
from .spine_json import LEVEL_FOLDER, SPINE_JSON, SPINE_SCHEMA
from .track_json import TRACK_JSON, TRACK_SCHEMA

_STANDARDISED = "standardised.json"
_RECORDS = {
    "registration.json": "radgsreg/registration",
    "reconstruction.json": "radgsreg/reconstruction",
    "evaluation.json": "radgsreg/evaluation",
    "paper.json": "radgsreg/paper",
    "levels.json": "radgsreg/levels",
    SPINE_JSON: SPINE_SCHEMA,
    TRACK_JSON: TRACK_SCHEMA,
    _STANDARDISED: "radgsreg/standardised",
    "surface.json": "radgsreg/surface",
    "calibration.json": "radgsreg/calibration",
    "beads.json": "radgsreg/beads",
}
"""The files that say that a folder is one of results, and what they say."""
_RESULTS = re.compile(
    r"(registration|reconstruction|evaluation|paper|spine|track|levels|calibration)\.(json|md|csv)|ct_to_world\.tfm|"
    r"spine_ct_to_world\.h5|film\.webp|"
    r"refined_views\.json|(reconstruction|vertebra|bone|bone_density)\.nii\.gz|gaussians\.ply|axes\.tfm|"
    r"(beads|matrix|opencv|mayacam|corrected)_.+\.(png|txt|yml|tif)|rtk\.xml|beads\.json|holder\.stl|"
    r"surface\.(json|stl|ply|obj)|report\.html|overlay_.+\.png|runs\.csv|"
    r"(errors|errors_by_case|times|error_against_start|reliability|convergence|reconstructions)"
    r"\.png|table\d\.csv|(attention|reconstruction|registration)_.+\.png|case"
)
_OF_STANDARDISED = re.compile(
    r"standardised\.json|views\.json|standard_.+\.png|[A-Za-z0-9_-]+\.tif"
)
FRAMES = "frames"
"""The folder with the pose of each frame of a run."""
_POSE = re.compile(r"\d+_ct_to_world\.tfm")
_REVIEW = {"review.json": "radgsreg/review"}
_OF_A_REVIEW = re.compile(r"review\.json|reviewed")
_OF_THE_SYSTEM = {"thumbs.db", "desktop.ini", "lost+found"}


def refuse_strangers(folder: str | os.PathLike[str], *, reviews: bool = False) -> None:
    """InputError where a folder holds files that are not results of this program.

    Hidden files and those of the system do not count. Results are known by the record that is
    among them; without one a folder must be empty. The folders that a ``spine.json`` names are
    results where they hold such themselves. With ``reviews`` a saved review counts too, which only
    another review may replace.
    """
    if not os.fspath(folder).strip():
        raise InputError("--out", "is empty", "name a folder for the results")
    place = Path(folder)
    if not place.is_dir():
        return
    try:
        names = sorted(entry.name for entry in place.iterdir())
    except OSError as error:
        raise InputError(folder, f"cannot be read ({error.strerror})") from error
    names = [n for n in names if not n.startswith(".") and n.lower() not in _OF_THE_SYSTEM]
    records = {**_RECORDS, **_REVIEW} if reviews else _RECORDS
    ours = any(_is_record(place / name, schema) for name, schema in records.items())
    known = [_RESULTS, _OF_A_REVIEW] if reviews else [_RESULTS]
    if _is_record(place / _STANDARDISED, _RECORDS[_STANDARDISED]):
        known.append(_OF_STANDARDISED)
    levels = [level.name for level in _level_folders(place)]
    if _is_record(place / TRACK_JSON, TRACK_SCHEMA) and _only_poses(place / FRAMES):
        names = [name for name in names if name != FRAMES]
    for level in levels:
        refuse_strangers(place / level, reviews=reviews)
    names = [name for name in names if name not in levels]
    others = [name for name in names if not (ours and any(k.fullmatch(name) for k in known))]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise InputError(
            folder,
            f"holds files that are no results of this program: {others[0]}{more}",
            "name a new or an empty folder",
        )


def files_of_frames(folder: str | os.PathLike[str]) -> list[Path]:
    """What a ``track.json`` in a folder has beside it, itself too, relative to the folder; none
    where there is no such record. What is no result is not among them."""
    place = Path(folder)
    if not _is_record(place / TRACK_JSON, TRACK_SCHEMA):
        return []
    poses = sorted((place / FRAMES).iterdir()) if (place / FRAMES).is_dir() else []
    own = [Path(FRAMES) / path.name for path in poses if _POSE.fullmatch(path.name)]
    return [Path(name) for name in (TRACK_JSON, "track.csv", "film.webp")] + own


def _only_poses(folder: Path) -> bool:
    """Whether a folder, no link, holds poses of frames only."""
    if not folder.is_dir() or folder.is_symlink():
        return False
    return all(_POSE.fullmatch(p.name) or p.name.startswith(".") for p in folder.iterdir())


def files_of_levels(folder: str | os.PathLike[str]) -> list[Path]:
    """``spine.json`` and the results in the folders of levels that it names, relative to the
    folder; none where there is no such record. What is no result is not among them."""
    place = Path(folder)
    if not _is_record(place / SPINE_JSON, SPINE_SCHEMA):
        return []
    inside = [
        path.relative_to(place)
        for level in _level_folders(place)
        for path in sorted(level.iterdir())
        if path.is_file() and _RESULTS.fullmatch(path.name)
    ]
    return [Path(SPINE_JSON), *inside]


def _level_folders(place: Path) -> list[Path]:
    """The folders of levels beside the ``spine.json`` in a folder that are there: folders
    themselves, no links."""
    content = _content(place / SPINE_JSON)
    levels = content.get("levels") if content.get("schema") == SPINE_SCHEMA else None
    entries = levels.values() if isinstance(levels, dict) else ()
    named = [str(entry.get("folder")) for entry in entries if isinstance(entry, dict)]
    folders = [place / name for name in named if LEVEL_FOLDER.fullmatch(name)]
    return [folder for folder in folders if folder.is_dir() and not folder.is_symlink()]


def _is_record(path: Path, schema: str) -> bool:
    return _content(path).get("schema") == schema


def _content(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
