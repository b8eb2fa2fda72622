"""An X-ray made ready, and a window of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import Camera
from ..tensors import Lenses
from .bounds import VIEW_PERCENTILES, VIEW_RANGE
from .scaling import pixel_noise, rescaled

Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PreparedView:
    """An X-ray whose ``values`` (rows, columns) are monotone in attenuation up to a sign.

    ``valid`` (rows, columns) marks pixels that show the patient: not the collimator, not burnt out.
    ``sign`` is +1 or -1 where it is known that bone is bright or dark, and 0 where it is not.
    Views of one ``device`` have the same sign.
    ``gain_known``: ``values`` are line integrals up to an offset; ``offset_known``: that is zero;
    ``bone_alone``: they are those of bone, soft tissue shows nothing, and a network drew them;
    ``unlike``: it was trained on nothing like the X-ray. ``metal`` (rows, columns): where beads or
    markers hide the patient, which is not valid either; None: nowhere.
    Arrays may be shared with the case and are never written to; `dataclasses.replace` makes a
    changed view, whose scale and noise follow.
    """

    name: str
    camera: Camera
    values: Pixels
    valid: Mask
    sign: int
    gain_known: bool = False
    offset_known: bool = False
    device: str = ""
    bone_alone: bool = False
    unlike: bool = False
    metal: Mask | None = None

    def taken_by(self, name: str, camera: Camera) -> PreparedView:
        """Return the same picture as that of another camera, with its name."""
        return self._with_scaled(replace(self, name=name, camera=camera), self._scaled)

    def mirrored(self) -> PreparedView:
        """Return the view with its picture mirrored left to right; the camera stays."""
        values, valid = np.fliplr(self.values).copy(), np.fliplr(self.valid).copy()
        metal = None if self.metal is None else np.fliplr(self.metal).copy()
        changed = replace(self, values=values, valid=valid, metal=metal)
        return self._with_scaled(changed, np.fliplr(self._scaled).copy())

    def _with_scaled(self, changed: PreparedView, scaled: Pixels) -> PreparedView:
        """Spare a changed view what takes long and is known: its values' scale and noise."""
        changed.__dict__.update(_scaled=scaled, noise=self.noise)
        return changed

    @cached_property
    def pixels(self) -> Pixels:
        """The values (rows, columns) scaled to about [0, 1], with far ones cut off."""
        return np.clip(self._scaled, *VIEW_RANGE)

    @cached_property
    def noise(self) -> float:
        """The standard deviation of the pixel noise, in units of ``pixels``."""
        return pixel_noise(self._scaled, self.valid)

    def on(self, device: torch.device) -> ViewTensors:
        """Return the view on a device, where it is kept. Not to be written into."""
        kept = self._on
        if device not in kept:
            camera = self.camera
            pixels, valid = np.ascontiguousarray(self.pixels), np.asarray(self.valid, np.float32)
            parts = (pixels, valid, camera.intrinsic, camera.world_to_camera)
            # Some arrays are read-only, and nothing here writes.
            kept[device] = ViewTensors(*(_tensor(part).to(device) for part in parts))
        return kept[device]

    @cached_property
    def _on(self) -> dict[torch.device, ViewTensors]:
        return {}

    @cached_property
    def _scaled(self) -> Pixels:
        inside = self.values[self.valid] if self.valid.any() else self.values.ravel()
        return rescaled(self.values, inside, VIEW_PERCENTILES).astype(np.float32)


@dataclass(frozen=True)
class ViewTensors:
    """A prepared view on a device: ``pixels`` and ``valid`` (rows, columns) float32, ``intrinsic``
    (3, 3) and ``world_to_camera`` (4, 4) float64."""

    pixels: Tensor
    valid: Tensor
    intrinsic: Tensor
    world_to_camera: Tensor


def _tensor(array: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(array if array.flags.writeable else array.copy())


@dataclass(frozen=True)
class Window:
    """A resampled window of a view: what a stage compares with a rendering.

    ``image`` and ``valid`` (rows, columns), ``noise`` in units of ``image``.
    """

    camera: Camera
    image: Tensor
    valid: Tensor
    noise: float
    pixel_mm: float
    """Pixel size at the vertebra, mm."""


@dataclass(frozen=True)
class Windows:
    """N resampled windows of views, all of one size, on a device.

    ``world_to_camera`` (N, 4, 4) float64; ``image`` and ``valid`` (N, rows, columns), float32;
    ``noise`` (N,) in units of ``image``; ``pixel_mm``: pixel size at the vertebra.
    """

    lenses: Lenses
    world_to_camera: Tensor
    image: Tensor
    valid: Tensor
    noise: Tensor
    pixel_mm: float

    def __len__(self) -> int:
        return len(self.image)

    def part(self, index: slice | Tensor) -> Windows:
        """Return some of them."""
        return Windows(
            self.lenses.part(index),
            self.world_to_camera[index],
            self.image[index],
            self.valid[index],
            self.noise[index],
            self.pixel_mm,
        )

    @classmethod
    def stacked(cls, several: Sequence[Windows]) -> Windows:
        """Return all of several, one after the other.

        Raises ValueError where their sizes or pixels differ.
        """
        first = several[0]
        if any(w.lenses.size != first.lenses.size or w.pixel_mm != first.pixel_mm for w in several):
            raise ValueError("windows of unlike size or pixels are not taken together")
        if len(several) == 1:
            return first
        return cls(
            Lenses(torch.cat([w.lenses.intrinsics for w in several]), first.lenses.size),
            torch.cat([w.world_to_camera for w in several]),
            torch.cat([w.image for w in several]),
            torch.cat([w.valid for w in several]),
            torch.cat([w.noise for w in several]),
            first.pixel_mm,
        )
