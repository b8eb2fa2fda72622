"""What following a run says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..cases import Case
from ..geometry import Array
from ..registration import RegistrationOptions, Status

Found = Literal["registered", "forwards", "backwards", "searched", "not found", "no picture"]
"""How a frame's pose was found: by a registration of its own, from the frame before or after it, by
a search after the bone was lost, or not at all."""


@dataclass(frozen=True)
class TrackOptions:
    """What a person may set: how the first frame is registered, and which frames are followed
    (``first`` to ``last``, both included; None: to the end)."""

    registration: RegistrationOptions = field(default_factory=RegistrationOptions)
    first: int = 0
    last: int | None = None


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
class Track:
    """A bone followed through a run.

    ``case``: the run's, its views those of the frame that clicks are of; ``frames`` in their order;
    ``centre_ct`` (3,), about which covariances are; ``anchor``: the index of the frame that was
    registered first. ``timing_s`` by stage, with "total"; ``parameters``: what was asked for.
    """

    case: Case
    frames: tuple[TrackedFrame, ...]
    centre_ct: Array
    anchor: int
    timing_s: dict[str, float]
    parameters: dict[str, Any]
    seed: int

    @property
    def status(self) -> Status:
        """The worst of the frames that have a picture; failed where none has."""
        known = {frame.status for frame in self.frames if frame.has_picture} or {"failed"}
        return next(s for s in ("failed", "uncertain", "ok") if s in known)

    @property
    def reason(self) -> str:
        """One sentence: how many frames are ok, and which not."""
        return said_of(self.frames)


def said_of(frames: tuple[TrackedFrame, ...]) -> str:
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
