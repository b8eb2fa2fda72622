"""What the calibration of a C-arm hands from step to step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..geometry import Array, Camera
from ..geometry import Distortion as Distortion


@dataclass(frozen=True)
class Beads:
    """The beads of a calibration phantom, or of a patient with markers.

    ``centres_mm`` (N, 3) and ``diameters_mm`` (N,); the frame of the centres becomes the world.
    """

    name: str
    centres_mm: Array
    diameters_mm: Array

    def __len__(self) -> int:
        return len(self.centres_mm)


@dataclass(frozen=True)
class Spots:
    """Round shadows in one X-ray.

    ``centres_px`` (N, 2) as (column, row), pixel centres at integers; ``radii_px`` (N,);
    ``score`` (N,) how clear each is, the clearest first; ``sigma_px`` (N,) standard deviation of
    a centre along an axis as what its fit leaves has it, None where that is not known.
    """

    centres_px: Array
    radii_px: Array
    score: Array
    sigma_px: Array | None = None

    def __len__(self) -> int:
        return len(self.centres_px)

    def some(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Spots:
        """Return some of them."""
        sigma = None if self.sigma_px is None else self.sigma_px[index]
        return Spots(self.centres_px[index], self.radii_px[index], self.score[index], sigma)


@dataclass(frozen=True)
class Calibrated:
    """A view's camera, and what it rests on.

    ``camera`` of the picture without distortion; ``covariance`` (9, 9) of its parameters in the
    order rotation vector (camera axes, radians), source (world, mm), focal length, principal point
    column and row (pixels). ``pairs`` (M, 2): numbers of bead and of spot that belong together;
    ``residuals_px`` (M, 2) of shown minus predicted. ``distortion`` None where there is none.
    ``covariance_with``: (9, 9) of these parameters (rows) with those of a view (columns) that was
    calibrated together with this one, by its name.
    """

    name: str
    camera: Camera
    covariance: Array
    pairs: NDArray[np.int64]
    residuals_px: Array
    distortion: Distortion | None = None
    covariance_with: Mapping[str, Array] = field(default_factory=dict)

    @property
    def rms_px(self) -> float:
        """The root mean square of the residuals' lengths."""
        return float(np.sqrt(np.mean(np.sum(self.residuals_px**2, axis=1))))
