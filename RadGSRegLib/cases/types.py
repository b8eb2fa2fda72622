"""What a case holds once it is in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..choices import Intensity
from ..errors import InputError
from ..geometry import Array, Camera, Volume, centroid, surface_points


@dataclass(frozen=True)
class View:
    """One X-ray with its geometry.

    ``pixels`` (rows, columns) float32 as stored in the file, after rescale slope and intercept
    (what DICOM adds to that is in `xray.read_xray`). ``camera`` always has a right-handed pose;
    where the picture is mirrored (seen facing the source, or rows that run upwards) its first focal
    length is negative. ``pixel_spacing_mm`` (column step, row step) at the detector; ``center_px``
    (column, row) about where the vertebra's centre is, if anyone said so; ``nominal`` whether the
    geometry is only a guess from DICOM tags; ``room_nominal`` whether the camera was refined
    beside vertebrae alone, so that where all of them are together in the world is such a guess;
    ``device`` what took it: `display` views of one device show bone alike, bright or dark.
    ``bone_alone``: the line integrals are those of bone alone, as `radgsreg standardize` writes
    them; what is negative is not shown. ``metal_px``: (column, row, radius) of each round shadow of
    a bead or marker. ``camera_covariance`` (9, 9) of the camera's parameters, in the order of
    `geometry.CAMERA_PARAMETERS`; None where that is not known. ``camera_covariance_with``: (9, 9)
    with the camera of another view, by its name, where both were calibrated together; rows are of
    this camera.
    """

    name: str
    pixels: NDArray[np.float32]
    camera: Camera
    pixel_spacing_mm: tuple[float, float]
    intensity: Intensity = "display"
    center_px: tuple[float, float] | None = None
    nominal: bool = False
    device: str = ""
    bone_alone: bool = False
    metal_px: tuple[tuple[float, float, float], ...] = ()
    camera_covariance: Array | None = None
    camera_covariance_with: Mapping[str, Array] = field(default_factory=dict)
    room_nominal: bool = False


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

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Where the label is (K, J, I), on the CT's grid."""
        return np.asarray(self.labels.array == self.label)

    @cached_property
    def centre_ct(self) -> NDArray[np.float64]:
        """The centroid (3,) of the mask, CT mm. Raises InputError where the label is nowhere."""
        return centroid(self.labels, self._mask_somewhere())

    @cached_property
    def surface_ct(self) -> NDArray[np.float64]:
        """The centres (N, 3) of the mask's outermost voxels, CT mm. Raises InputError likewise."""
        return surface_points(self.ct, self._mask_somewhere())

    def _mask_somewhere(self) -> NDArray[np.bool_]:
        mask = self.mask
        if not mask.any():
            raise InputError(self.label_name, "is not in the segmentation", "check the label")
        return mask


@dataclass(frozen=True)
class Case(CtCase):
    """The whole input of a registration: at least two X-rays too.

    ``patient_axes`` (3, 3) turn the patient's axes (LPS, the CT's frame) to the world's, roughly;
    None where the patient may lie in any way.
    """

    views: tuple[View, ...]
    patient_axes: NDArray[np.float64] | None = field(default_factory=lambda: np.eye(3))

    def to_parameters(self) -> dict[str, Any]:
        """What a result records of the case itself (no identity of a patient)."""
        return {
            "label": self.label,
            "label_name": self.label_name,
            "views": [view.name for view in self.views],
            "nominal_geometry": [view.name for view in self.views if view.nominal],
        }
