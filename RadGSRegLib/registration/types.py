"""What a registration says."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .bodies import Arrangement

Status = Literal["ok", "uncertain", "failed"]


@dataclass(frozen=True)
class Registration:
    """The pose of the vertebra and the program's own judgement of it.

    ``ct_to_world`` (4, 4) rigid, LPS mm. ``covariance`` (6, 6) of the twist about ``centre_ct``
    (3,) mm under `geometry.compose_about`, in rad and mm, order (rx, ry, rz, tx, ty, tz) along the
    CT's axes. ``quality`` holds "score", "views" ({name: {"score": ...}}), "expected_error_mm" and
    whatever else led to ``status``; ``reason`` is one sentence why. ``timing_s`` maps stages (and
    "total") to seconds, ``ran_on`` those stages to the devices that they were computed on
    (`system.device_name`). ``arrangement``: the pose with all else that was unknown, as how
    neighbours have moved, or what a `BodySource` adds.
    """

    status: Status
    reason: str
    ct_to_world: NDArray[np.float64]
    covariance: NDArray[np.float64]
    centre_ct: NDArray[np.float64]
    quality: dict[str, Any]
    timing_s: dict[str, float]
    parameters: dict[str, Any]
    seed: int
    arrangement: Arrangement | None = None
    ran_on: dict[str, str] = field(default_factory=dict)
