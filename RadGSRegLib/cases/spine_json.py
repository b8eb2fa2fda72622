"""``spine.json``: several vertebrae of one CT, registered together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ..geometry import Array, is_rigid
from .json_input import Fields, read_json_object
from .results import Status, software_versions, write_json
from .views import check_schema, file_stem

SPINE_JSON = "spine.json"
SPINE_SCHEMA = "radgsreg/spine"
VERSION = 1
LEVEL_FOLDER = re.compile(r"[A-Za-z0-9_-]+")
"""What the folder of a level may be called: one folder, safe on every file system."""

_STATUSES: tuple[Status, ...] = get_args(Status)
_TABLES = ("timing_s", "inputs", "software", "parameters")


@dataclass(frozen=True)
class RelativeMotion:
    """How one vertebra has moved as it is seen from the one below it, compared with the CT.

    ``upper``, ``lower``: their labels. ``motion_ct`` (4, 4) = inv(lower's ct_to_world) @ upper's
    ct_to_world takes a point of the upper vertebra in the CT to where it is now in the CT's frame
    as the lower vertebra carries it along; the identity where the two stand as in the CT.
    ``shift_mm`` (3,): by how far the upper vertebra's centre has moved so, along the CT's axes
    L, P, S. ``turn_deg`` (3,): the rotation vector of ``motion_ct``, degrees: about L flexion (+:
    leaning forwards), about P lateral bending (+: to the left), about S axial rotation (+: to its
    left). ``shift_sigma_mm`` (3,), ``turn_sigma_deg`` (3,): their standard deviations; NaN where
    they are not known.
    """

    upper: int
    lower: int
    motion_ct: Array
    shift_mm: Array
    turn_deg: Array
    shift_sigma_mm: Array
    turn_sigma_deg: Array


@dataclass(frozen=True)
class LevelRecord:
    """What ``spine.json`` holds of one vertebra.

    ``ct_to_world`` (4, 4) and ``covariance`` (6, 6) as in `RegistrationRecord`;
    ``expected_error_mm`` None where there is none; ``folder``: where the vertebra's own results
    are, beside ``spine.json``.
    """

    label: int
    status: Status
    reason: str
    ct_to_world: Array
    covariance: Array | None
    expected_error_mm: float | None
    folder: str


@dataclass(frozen=True)
class SpineRecord:
    """What ``spine.json`` holds.

    ``levels`` by name, in the order along the spine; ``begun_with``: the name of the vertebra that
    was looked for first. ``joint_covariance`` (6 K, 6 K) of the levels' twists in their order, each
    about its centre along the CT's axes, radians and mm; None where there is none (allowed only if
    a level is not ``ok``).
    """

    levels: Mapping[str, LevelRecord]
    begun_with: str
    relative_motions: Sequence[RelativeMotion] = ()
    joint_covariance: Array | None = None
    timing_s: dict[str, float] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    software: dict[str, str] = field(default_factory=software_versions)
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        """The worst of the levels'."""
        return worst_status([level.status for level in self.levels.values()])


def worst_status(statuses: Sequence[Status]) -> Status:
    """The worst of one status or more."""
    return _STATUSES[max(_STATUSES.index(status) for status in statuses)]


def level_names(label_names: Mapping[int, str], labels: Sequence[int]) -> dict[int, str]:
    """The name of each label, or its number; with its number where two labels share a name."""
    names = {label: label_names.get(label, str(label)) for label in labels}
    shared = [name for name in names.values() if list(names.values()).count(name) > 1]
    return {label: f"{name} ({label})" if name in shared else name for label, name in names.items()}


def level_folders(names: Mapping[int, str]) -> dict[int, str]:
    """A folder's name of each label: safe on every file system and unlike one another."""
    folders: dict[int, str] = {}
    for label, name in names.items():
        known = re.search(r"[A-Za-z0-9]", name) is not None
        plain = file_stem(name) if known else f"label_{abs(label)}"
        candidate, number = plain, 2
        while candidate.lower() in [folder.lower() for folder in folders.values()]:
            candidate, number = f"{plain}_{number}", number + 1
        folders[label] = candidate
    return folders


def write_spine_json(record: SpineRecord, path: Path) -> None:
    """Write ``spine.json``. ValueError for a level, a motion or a covariance that promises
    nonsense."""
    if record.begun_with not in record.levels:
        raise ValueError(f"it cannot have begun with {record.begun_with!r}, which is not there")
    folders = [level.folder.lower() for level in record.levels.values()]
    labels = {level.label for level in record.levels.values()}
    if len(labels) < len(folders) or len(set(folders)) < len(folders):
        raise ValueError("two levels share a label or a folder")
    levels = {name: _level_json(name, level) for name, level in record.levels.items()}
    joint = _finite(record.joint_covariance, 6 * len(record.levels))
    if joint is None and record.status == "ok":
        raise ValueError("a result that is ok needs a finite covariance")
    whole = None if joint is None else {"order": list(record.levels), "matrix": joint}
    content = {
        "schema": SPINE_SCHEMA,
        "version": VERSION,
        "status": record.status,
        "begun_with": record.begun_with,
        "levels": levels,
        "relative_motions": [_motion_json(m, record.levels) for m in record.relative_motions],
        "joint_covariance": whole,
        **{key: getattr(record, key) for key in _TABLES},
    }
    write_json(content, path)


def _level_json(name: str, level: LevelRecord) -> dict[str, Any]:
    if level.status not in _STATUSES:
        raise ValueError(f"status {level.status!r} of {name} is none of {_STATUSES}")
    if not is_rigid(level.ct_to_world):
        raise ValueError(f"ct_to_world of {name} is not rigid")
    if not LEVEL_FOLDER.fullmatch(level.folder):
        raise ValueError(f"{level.folder!r} is no name for a folder")
    covariance = _finite(level.covariance, 6)
    if covariance is None and level.status == "ok":
        raise ValueError(f"{name}, which is ok, needs a finite covariance")
    return {**vars(level), "covariance": covariance}


def _motion_json(motion: RelativeMotion, levels: Mapping[str, LevelRecord]) -> dict[str, Any]:
    names = {level.label: name for name, level in levels.items()}
    if motion.upper not in names or motion.lower not in names:
        raise ValueError("a relative motion is of a vertebra that is not there")
    if not is_rigid(motion.motion_ct):
        raise ValueError("a relative motion is not rigid")
    pair = (names[motion.upper], names[motion.lower])
    status = worst_status([levels[name].status for name in pair])
    return {**vars(motion), "upper": pair[0], "lower": pair[1], "status": status}


def _finite(covariance: Array | None, size: int) -> Array | None:
    """A covariance, None where it is not finite. ValueError for one of another shape."""
    if covariance is None:
        return None
    matrix = np.asarray(covariance, dtype=float)
    if matrix.shape != (size, size):
        raise ValueError(f"a covariance is ({size}, {size}), not {matrix.shape}")
    return matrix if np.isfinite(matrix).all() else None


def read_spine_json(path: Path) -> SpineRecord:
    """Read a ``spine.json`` back. InputError for anything else."""
    path = Path(path)
    fields = Fields(path, read_json_object(path))
    check_schema(fields, SPINE_SCHEMA, VERSION)
    levels = {}
    for name, entry in _table(fields, "levels").items():
        if not isinstance(entry, dict):
            fields.refuse(f'"levels" must hold an object of "{name}"')
        levels[name] = _read_level(Fields(path, entry, f'level "{name}"'))
    if not levels:
        fields.refuse('"levels" is empty')
    begun_with = fields.text("begun_with")
    if begun_with not in levels:
        fields.refuse(f'"begun_with" is "{begun_with}", which is none of "levels"')
    status = fields.text("status")
    record = SpineRecord(
        levels,
        begun_with,
        [_read_motion(m, levels) for m in _objects(fields, "relative_motions")],
        _read_joint(fields, list(levels)) if "joint_covariance" in fields else None,
        **{key: _table(fields, key) for key in _TABLES},
    )
    if status != record.status:
        fields.refuse(f'"status" is "{status}", but the worst of the levels is {record.status}')
    return record


def _read_level(fields: Fields) -> LevelRecord:
    status, folder = fields.text("status"), fields.text("folder")
    if status not in _STATUSES:
        fields.refuse(f'"status" is "{status}"', f"it must be one of {', '.join(_STATUSES)}")
    if not LEVEL_FOLDER.fullmatch(folder):
        fields.refuse(f'"folder" is "{folder}", which is no name of a folder beside the file')
    return LevelRecord(
        label=fields.integer("label"),
        status=status,
        reason=fields.text("reason"),
        ct_to_world=fields.rigid("ct_to_world"),
        covariance=fields.numbers("covariance", (6, 6)) if "covariance" in fields else None,
        expected_error_mm=_number(fields, "expected_error_mm"),
        folder=folder,
    )


def _read_motion(fields: Fields, levels: Mapping[str, LevelRecord]) -> RelativeMotion:
    names = [fields.text(key) for key in ("upper", "lower")]
    for name in names:
        if name not in levels:
            fields.refuse(f'names "{name}", which is none of "levels"')
    upper, lower = (levels[name].label for name in names)
    return RelativeMotion(
        upper=upper,
        lower=lower,
        motion_ct=fields.rigid("motion_ct"),
        shift_mm=fields.numbers("shift_mm", (3,)),
        turn_deg=fields.numbers("turn_deg", (3,)),
        shift_sigma_mm=_sigma(fields, "shift_sigma_mm"),
        turn_sigma_deg=_sigma(fields, "turn_sigma_deg"),
    )


def _read_joint(fields: Fields, names: Sequence[str]) -> Array:
    """The joint covariance, its rows in the order of the levels."""
    inner = Fields(fields.source, _table(fields, "joint_covariance"), '"joint_covariance"')
    order = inner.need("order")
    if not isinstance(order, list) or sorted(map(str, order)) != sorted(names):
        inner.refuse('"order" must name each of "levels" once')
    size = 6 * len(names)
    at = np.concatenate([np.arange(6) + 6 * order.index(name) for name in names])
    return np.asarray(inner.numbers("matrix", (size, size))[np.ix_(at, at)])


def _table(fields: Fields, key: str) -> dict[str, Any]:
    value = fields.data.get(key, {})
    if not isinstance(value, dict):
        fields.refuse(f'"{key}" must be an object')
    return value


def _objects(fields: Fields, key: str) -> list[Fields]:
    value = fields.data.get(key, [])
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        fields.refuse(f'"{key}" must be a list of objects')
    return [Fields(fields.source, part, f"{key} {n}") for n, part in enumerate(value, 1)]


def _number(fields: Fields, key: str) -> float | None:
    return fields.number(key) if key in fields else None


def _sigma(fields: Fields, key: str) -> Array:
    """Standard deviations; NaN for those that are null, as JSON knows no NaN."""
    value = fields.need(key)
    if isinstance(value, list) and len(value) == 3 and value == [None] * 3:
        return np.full(3, np.nan)
    return fields.numbers(key, (3,))
