"""What a method is asked, and what it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..cases import Case, View
from ..errors import InputError
from ..gaussians import GaussianCloud
from ..geometry import Array, Volume
from ..registration import Status
from ..system import Progress

Group = Literal["baseline", "ours", "model"]


@dataclass(frozen=True)
class Task:
    """X-rays, what else is known, and where to begin: the same for every method.

    ``case``: the CT and its labels with these views; None where there is no CT. ``views`` have
    their clicks only where those are the start. ``start`` (4, 4): the pose to begin with; where
    clicks are the start (``from_clicks``), the one they give with the CT's axes along the world's.
    ``centre_world`` (3,) mm: where the start puts the vertebra's centre. ``wants_volume``: whether
    a reconstruction is wanted too. ``progress`` is told how far the work is and which pose is the
    best so far.
    """

    name: str
    views: tuple[View, ...]
    case: Case | None = None
    start: Array | None = None
    centre_world: Array | None = None
    from_clicks: bool = False
    seed: int = 0
    wants_volume: bool = False
    progress: Progress = field(default_factory=Progress)

    @property
    def given(self) -> Array | None:
        """The start for methods that read clicks themselves: None where clicks are the start."""
        return None if self.from_clicks else self.start

    def needed_case(self) -> Case:
        """Return the case; InputError where there is no CT."""
        if self.case is None:
            raise InputError(self.name, "has no CT", "leave out methods that need one")
        return self.case

    def needed_start(self) -> Array:
        """Return the start's pose (4, 4); InputError where there is no start."""
        return self._needed(self.start)

    def needed_centre(self) -> Array:
        """Return where to look (3,), world mm; InputError where nothing says so."""
        return self._needed(self.centre_world)

    def _needed(self, value: Array | None) -> Array:
        if value is None:
            raise InputError(self.name, "has no start", "leave out methods that need one")
        return value


@dataclass(frozen=True)
class Attention:
    """Where a network looked: per view its name, the crop (H, W) and the mean map (h, w)."""

    names: tuple[str, ...]
    crops: tuple[NDArray[np.float32], ...]
    maps: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True)
class Answer:
    """A pose (4, 4), a volume and a cloud in the world (any scale), or what there is of it.

    ``registration_s``: seconds from inputs in memory to pose; ``reconstruction_s``: what the volume
    took beyond that, or from the inputs in memory where there is no pose. ``status``: the method's
    own verdict, with one sentence why (``reason``), where it has one; ``quality``: the evidence,
    such as "score" and "expected_error_mm".
    """

    ct_to_world: Array | None = None
    registration_s: float | None = None
    volume: Volume | None = None
    cloud: GaussianCloud | None = None
    reconstruction_s: float | None = None
    status: Status | None = None
    reason: str = ""
    quality: Mapping[str, Any] = field(default_factory=dict)
    attention: Attention | None = None


@dataclass(frozen=True)
class About:
    """A method in words: its ``key`` on the command line, its ``label`` in print, what it gives.

    ``facts``: JSON values that say what it is (options, a model's card).
    """

    key: str
    label: str
    group: Group
    registers: bool = True
    reconstructs: bool = True
    needs_start: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)


class Method(Protocol):
    """Anything that can answer tasks; `FunctionMethod` is the plainest."""

    @property
    def about(self) -> About:
        """What it is."""
        ...

    def solve(self, task: Task) -> Answer:
        """Answer a task. Raises InputError to refuse it, Cancelled when its progress says so."""
        ...


@dataclass(frozen=True)
class FunctionMethod:
    """A method that is one function."""

    about: About
    solve: Callable[[Task], Answer]
