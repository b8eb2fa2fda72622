"""What following a run says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, get_args

from ..cases import Case, TrackedFrame, TrackRecord, said_of, worst_of
from ..geometry import Array
from ..registration import RegistrationOptions, Status

_STATUSES: tuple[Status, ...] = get_args(Status)


def rank_of(status: Status) -> int:
    """How good a status is: the better it is, the larger."""
    return -_STATUSES.index(status)


@dataclass(frozen=True)
class TrackOptions:
    """What a person may set: how the first frame is registered, and which frames are followed
    (``first`` to ``last``, both included; None: to the end)."""

    registration: RegistrationOptions = field(default_factory=RegistrationOptions)
    first: int = 0
    last: int | None = None


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
        return worst_of(self.frames)

    @property
    def reason(self) -> str:
        """One sentence: how many frames are ok, and which are not."""
        return said_of(self.frames)

    def to_record(self) -> TrackRecord:
        """Return what ``track.json`` is to hold."""
        case = self.case
        return TrackRecord(
            label=case.label,
            name=case.label_name,
            centre_ct=self.centre_ct,
            anchor=self.anchor,
            frames=self.frames,
            timing_s=dict(self.timing_s),
            inputs=dict(case.inputs),
            parameters={**self.parameters, "seed": self.seed, "notes": list(case.notes)},
        )
