"""An X-ray made ready, and a window of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import Camera
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
    ``gain_known``: ``values`` are line integrals up to an offset; ``offset_known``: that is zero.
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

    def taken_by(self, name: str, camera: Camera) -> PreparedView:
        """Return the same picture as that of another camera, with its name."""
        return self._with_scaled(replace(self, name=name, camera=camera), self._scaled)

    def mirrored(self) -> PreparedView:
        """Return the view with its picture mirrored left to right; the camera stays."""
        values, valid = np.fliplr(self.values).copy(), np.fliplr(self.valid).copy()
        changed = replace(self, values=values, valid=valid)
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

    @cached_property
    def _scaled(self) -> Pixels:
        inside = self.values[self.valid] if self.valid.any() else self.values.ravel()
        return rescaled(self.values, inside, VIEW_PERCENTILES).astype(np.float32)


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
