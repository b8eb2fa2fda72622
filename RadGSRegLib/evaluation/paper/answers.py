"""What a method is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...cases import Case
from ...geometry import Volume
from ...registration.types import Status
from ...system.progress import Progress

Array = NDArray[np.float64]
Group = Literal["rival", "ours", "model"]


@dataclass(frozen=True)
class Task:
    """One case from one start, the same for every method.

    ``case`` has its clicks only where they are the start. ``start`` (4, 4): the pose to begin with;
    where clicks are the start, the one they give with the CT's axes along the world's; None: no
    start at all. ``wants_volume``: whether a reconstruction is wanted too.
    """

    name: str
    case: Case
    start: Array | None
    centre_world: Array | None
    from_clicks: bool
    seed: int
    wants_volume: bool

    @property
    def given(self) -> Array | None:
        """The start for methods that read clicks themselves: None where clicks are the start."""
        return None if self.from_clicks else self.start


@dataclass(frozen=True)
class Attention:
    """Where a network looked: per view its name, the crop (H, W) and the mean map (h, w)."""

    names: tuple[str, ...]
    crops: tuple[NDArray[np.float32], ...]
    maps: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True)
class Answer:
    """A pose (4, 4), a volume in the world (any scale), seconds for each, or what there is of it.

    ``registration_s``: inputs in memory to pose; ``reconstruction_s``: what the volume took beyond
    that, or from the inputs in memory where there is no pose.
    """

    ct_to_world: Array | None = None
    registration_s: float | None = None
    volume: Volume | None = None
    reconstruction_s: float | None = None
    status: Status | None = None
    attention: Attention | None = None


Solver: TypeAlias = Callable[[Task, Progress], Answer]


@dataclass(frozen=True)
class Method:
    """A row of a table: its ``key`` on the command line, its ``label`` in print, and its work.

    ``facts``: JSON values that say what it is (options, a model's card).
    """

    key: str
    label: str
    group: Group
    registers: bool
    reconstructs: bool
    solve: Solver
    needs_start: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)
