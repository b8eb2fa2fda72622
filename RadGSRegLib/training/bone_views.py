"""Whole views as the standardisation is shown them in training, and the bones that they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..networks import StandardConfig
from ..views import ranks_and_contrast
from .samples import Sample, SampleOptions
from .whole_views import shaded

# Simulated pictures are so many pixels, of which a square of `SHOWN_PX` is shown: 240 and 192 mm at
# the patient.
WIDE_PX, SHOWN_PX = 160, 128
VIEWS = 6
# Share of the pictures that are cut to a field, and half of its edge or its radius, in halves of
# the picture; how far off the middle, likewise.
_CUT = 0.3
_FIELD = (0.55, 1.1)
_FIELD_OFF = 0.08
# Shades over the pictures, of their own deviation, by how many knots they have along each axis: a
# display is not a function of attenuation alone. (With those of 6 to 24 knots too, trunks cut and
# more hard X-rays, bones of a real trunk got worse: docs/experiments/standard.md.)
_SHADES = {4: 0.3, 8: 0.1}


def bone_views(config: StandardConfig) -> SampleOptions:
    """Return options of samples for a standardisation: what a C-arm displays, from anywhere."""
    return SampleOptions(
        realism="displayed",
        centre_mm=25.0,
        along_mm=40.0,
        rotation_deg=15.0,
        size_px=WIDE_PX,
        pixel_mm=config.pixel_mm,
        whole=True,
        anywhere=VIEWS,
    )


@dataclass(frozen=True)
class BonesShown:
    """What the network is shown: ``pictures`` (N, 2, H, W) and ``valid`` (N, H, W); and what it is
    to say: ``bone`` (N, H, W), line integrals."""

    pictures: Tensor
    valid: Tensor
    bone: Tensor


def show_bones(
    samples: Sequence[Sample], config: StandardConfig, generator: np.random.Generator
) -> BonesShown:
    """Show a view of each sample: a square of it, some mirrored, cut to a field, shaded and of
    either polarity."""
    images, valid, bone = [], [], []
    for sample in samples:
        view = int(generator.integers(len(sample.images)))
        row, column = generator.integers(0, sample.images.shape[-1] - SHOWN_PX + 1, 2)
        square = (slice(row, row + SHOWN_PX), slice(column, column + SHOWN_PX))
        parts = [
            getattr(sample, name)[view].cpu()[square] for name in ("images", "valid", "targets")
        ]
        if generator.random() < 0.5:
            parts = [part.flip(-1) for part in parts]
        images.append(parts[0])
        valid.append(parts[1])
        bone.append(parts[2])
    pictures, real = torch.stack(images), torch.stack(valid)
    real = real * _fields(len(samples), generator)
    for cells, most in _SHADES.items():
        pictures = shaded(pictures, generator, most, cells)
    signs = torch.from_numpy(np.where(generator.random(len(samples)) < 0.5, -1.0, 1.0)).float()
    shown = ranks_and_contrast(pictures * signs[:, None, None], real, config.pixel_mm)
    return BonesShown(shown, real, torch.stack(bone))


def _fields(count: int, rng: np.random.Generator) -> Tensor:
    """What collimators leave (count, H, W) of pictures: of some a square or a disc."""
    v, u = (np.mgrid[:SHOWN_PX, :SHOWN_PX] + 0.5) * (2.0 / SHOWN_PX) - 1.0
    out = np.ones((count, SHOWN_PX, SHOWN_PX), dtype=np.float32)
    for field in out:
        if rng.random() < _CUT:
            half = rng.uniform(*_FIELD)
            x, y = rng.normal(0.0, _FIELD_OFF, 2)
            if rng.random() < 0.5:
                field *= np.hypot(u - x, v - y) < 1.2 * half
            else:
                field *= np.maximum(abs(u - x), abs(v - y)) < half
    return torch.from_numpy(out)
