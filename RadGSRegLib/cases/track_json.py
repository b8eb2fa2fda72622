"""``track.json`` and ``track.csv``: a bone followed through a run of X-rays."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from scipy.spatial.transform import Rotation

from ..geometry import Array, Rigid, is_rigid
from .json_input import Fields, read_json_object
from .results import Status, software_versions, write_json
from .views import check_schema

TRACK_JSON = "track.json"
TRACK_SCHEMA = "radgsreg/track"
VERSION = 1
_STATUSES: tuple[Status, ...] = get_args(Status)
_TABLES = ("timing_s", "inputs", "software", "parameters")

Found = Literal["registered", "forwards", "backwards", "searched", "not found", "no picture"]
"""How a frame's pose was found: by a registration of its own, from the frame before or after it, by
a search after the bone was lost, or not at all."""


@dataclass(frozen=True)
class TrackedFrame:
    """The bone in one frame of a run.

    ``index`` in the run, ``time_s`` where that is known. ``ct_to_world`` (4, 4) as measured in this
    frame alone and its ``covariance`` (6, 6) as a `Registration` has it; None where the frame shows
    no bone that was found. ``smoothed_ct_to_world`` and ``smoothed_covariance`` are of the whole
    run's motion and always there: between frames that are `ok` they are interpolated, and the
    covariance grows with the distance from these. ``scores``: each view's correlation;
    ``expected_error_mm`` of the measured pose, ``smoothed_error_mm`` of the smoothed one;
    ``evidence``: other numbers that led to ``status``.
    """

    index: int
    time_s: float | None
    status: Status
    reason: str
    found: Found
    ct_to_world: Array | None
    covariance: Array | None
    smoothed_ct_to_world: Array
    smoothed_covariance: Array
    smoothed_error_mm: float
    scores: Mapping[str, float] = field(default_factory=dict)
    expected_error_mm: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_picture(self) -> bool:
        """Whether the frame shows anything in all views."""
        return self.found != "no picture"


@dataclass(frozen=True)
class TrackRecord:
    """What ``track.json`` holds.

    ``label`` and its ``name``; ``centre_ct`` (3,), about which covariances are; ``anchor``: the
    index of the frame that was registered first; ``frames`` in their order.
    """

    label: int
    name: str
    centre_ct: Array
    anchor: int
    frames: Sequence[TrackedFrame]
    timing_s: dict[str, float] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    software: dict[str, str] = field(default_factory=software_versions)
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        """The worst of the frames with a picture."""
        return worst_of(self.frames)

    @property
    def reason(self) -> str:
        """One sentence: how many frames are ok, and which are not."""
        return said_of(self.frames)


def worst_of(frames: Sequence[TrackedFrame]) -> Status:
    """The worst status of the frames that have a picture; failed where none has."""
    numbers = [_STATUSES.index(frame.status) for frame in frames if frame.has_picture]
    return _STATUSES[max(numbers, default=len(_STATUSES) - 1)]


def said_of(frames: Sequence[TrackedFrame]) -> str:
    """Say how many frames are ok, and which are not."""
    shown = [frame for frame in frames if frame.has_picture]
    parts = [f"{sum(f.status == 'ok' for f in shown)} of {len(shown)} frames are ok"]
    for status in ("uncertain", "failed"):
        own = [frame.index for frame in shown if frame.status == status]
        if own:
            parts.append(f"{status}: {ranges(own)}")
    blank = [frame.index for frame in frames if not frame.has_picture]
    if blank:
        parts.append(f"without a picture: {ranges(blank)}")
    return "; ".join(parts)


def ranges(numbers: list[int]) -> str:
    """Say whole numbers in order in brief: 3, 5 to 9."""
    out: list[list[int]] = []
    for number in numbers:
        if out and number == out[-1][-1] + 1:
            out[-1] = [out[-1][0], number]
        else:
            out.append([number, number])
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in out)


def write_track_json(record: TrackRecord, path: Path) -> None:
    """Write ``track.json``. ValueError for a pose or a covariance that promises nonsense."""
    for frame in record.frames:
        if frame.status == "ok" and (
            frame.ct_to_world is None
            or frame.covariance is None
            or not np.isfinite(frame.covariance).all()
        ):
            raise ValueError(f"frame {frame.index}, which is ok, needs a pose with a covariance")
        for pose in (frame.ct_to_world, frame.smoothed_ct_to_world):
            if pose is not None and not is_rigid(pose):
                raise ValueError(f"a pose of frame {frame.index} is not rigid")
    content = {
        "schema": TRACK_SCHEMA,
        "version": VERSION,
        "status": record.status,
        "reason": record.reason,
        "label": record.label,
        "name": record.name,
        "centre_ct": record.centre_ct,
        "anchor": record.anchor,
        "frames": [vars(frame) for frame in record.frames],
        **{key: getattr(record, key) for key in _TABLES},
    }
    write_json(content, path)


def read_track_json(path: Path) -> TrackRecord:
    """Read a ``track.json`` back. InputError for anything else."""
    path = Path(path)
    fields = Fields(path, read_json_object(path))
    check_schema(fields, TRACK_SCHEMA, VERSION)
    entries = fields.need("frames")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        fields.refuse('"frames" must be a list of objects')
    tables = {key: fields.data.get(key, {}) for key in _TABLES}
    for key, table in tables.items():
        if not isinstance(table, dict):
            fields.refuse(f'"{key}" must be an object')
    record = TrackRecord(
        label=fields.integer("label"),
        name=fields.text("name"),
        centre_ct=fields.numbers("centre_ct", (3,)),
        anchor=fields.integer("anchor"),
        frames=[_read_frame(Fields(path, e, f"frame {n}")) for n, e in enumerate(entries)],
        **tables,
    )
    if fields.text("status") != record.status:
        fields.refuse(f'"status" is not the worst of the frames, {record.status}')
    return record


def _read_frame(fields: Fields) -> TrackedFrame:
    status, found = fields.text("status"), fields.text("found")
    if status not in _STATUSES:
        fields.refuse(f'"status" is "{status}"', f"it must be one of {', '.join(_STATUSES)}")
    if found not in get_args(Found):
        fields.refuse(f'"found" is "{found}"', f"it must be one of {', '.join(get_args(Found))}")
    scores, evidence = fields.data.get("scores", {}), fields.data.get("evidence", {})
    if not isinstance(scores, dict) or not isinstance(evidence, dict):
        fields.refuse('"scores" and "evidence" must be objects')
    posed = "ct_to_world" in fields
    return TrackedFrame(
        index=fields.integer("index"),
        time_s=fields.number("time_s") if "time_s" in fields else None,
        status=status,
        reason=fields.text("reason"),
        found=found,  # type: ignore[arg-type]
        ct_to_world=fields.rigid("ct_to_world") if posed else None,
        covariance=fields.numbers("covariance", (6, 6)) if "covariance" in fields else None,
        smoothed_ct_to_world=fields.rigid("smoothed_ct_to_world"),
        smoothed_covariance=fields.numbers("smoothed_covariance", (6, 6)),
        smoothed_error_mm=fields.number("smoothed_error_mm"),
        scores={str(name): float(score) for name, score in scores.items()},
        expected_error_mm=(
            fields.number("expected_error_mm") if "expected_error_mm" in fields else None
        ),
        evidence=evidence,
    )


def motion_of(record: TrackRecord) -> tuple[Array, Array]:
    """Where the smoothed bone's centre is, (N, 3) mm, and how it is turned, rotation vectors
    (N, 3) in degrees, along the world's axes, both against the CT."""
    poses = [Rigid(frame.smoothed_ct_to_world) for frame in record.frames]
    places = np.array([pose.apply(record.centre_ct) for pose in poses]) - record.centre_ct
    turns = Rotation.from_matrix([pose.rotation for pose in poses]).as_rotvec(degrees=True)
    return places, turns


def track_csv(record: TrackRecord) -> str:
    """Return the text of ``track.csv``: a row for each frame."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    views = list(dict.fromkeys(name for frame in record.frames for name in frame.scores))
    table.writerow(
        [
            "frame", "time_s", "status", "found",
            "shift_l_mm", "shift_p_mm", "shift_s_mm", "turn_l_deg", "turn_p_deg", "turn_s_deg",
            "smoothed_error_mm", "expected_error_mm",
            *(f"score_{name}" for name in views),
            "reason",
        ]
    )  # fmt: skip
    places, turns = motion_of(record)
    for frame, place, turn in zip(record.frames, places, turns, strict=True):
        numbers = [*place, *turn, frame.smoothed_error_mm, frame.expected_error_mm]
        numbers += [frame.scores.get(name) for name in views]
        table.writerow(
            [
                frame.index,
                "" if frame.time_s is None else f"{frame.time_s:.4f}",
                frame.status,
                frame.found,
                *("" if n is None else f"{n:.4f}" for n in numbers),
                frame.reason,
            ]
        )
    return out.getvalue()
