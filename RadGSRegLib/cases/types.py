"""What a case holds once it is in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..geometry import Camera, Volume

Intensity = Literal["attenuation", "transmission", "display"]


@dataclass(frozen=True)
class View:
    """One X-ray with its geometry.

    ``pixels`` (rows, columns) float32 as stored in the file, after rescale slope and intercept
    (what DICOM adds to that is in `xray.read_xray`). ``camera`` always has a right-handed pose;
    where the picture is mirrored (seen facing the source, or rows that run upwards) its first focal
    length is negative. ``pixel_spacing_mm`` (column step, row step) at the detector; ``center_px``
    (column, row) about where the vertebra's centre is, if anyone said so; ``nominal`` whether the
    geometry is only a guess from DICOM tags.
    """

    name: str
    pixels: NDArray[np.float32]
    camera: Camera
    pixel_spacing_mm: tuple[float, float]
    intensity: Intensity = "display"
    center_px: tuple[float, float] | None = None
    nominal: bool = False


@dataclass(frozen=True)
class CtCase:
    """What is known before the operation: a CT (HU), a label map on its grid, the label meant.

    ``inputs`` maps the name of every file that was read to its SHA-256.
    """

    ct: Volume
    labels: Volume
    label: int
    label_names: dict[int, str] = field(default_factory=dict, kw_only=True)
    inputs: dict[str, str] = field(default_factory=dict, kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def label_name(self) -> str:
        """The name of the label to register, or its number."""
        return self.label_names.get(self.label, str(self.label))


@dataclass(frozen=True)
class Case(CtCase):
    """The whole input of a registration: at least two X-rays too."""

    views: tuple[View, ...]

    def to_parameters(self) -> dict[str, Any]:
        """What a result records of the case itself (no identity of a patient)."""
        return {
            "label": self.label,
            "label_name": self.label_name,
            "views": [view.name for view in self.views],
            "nominal_geometry": [view.name for view in self.views if view.nominal],
        }
