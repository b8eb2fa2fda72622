"""Whole views as the detector is shown them in training, each many times disguised."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..networks import STRIDE, DetectorConfig, is_lateral, project
from ..views import WHOLLY_VALID, ranks_and_contrast
from .samples import Sample, SampleOptions

# The wanted distribution about a vertebra's centre, one standard deviation.
_SIGMA_MM = 5.0
# Simulated pictures are wider than the detector's by this, so that they can be shifted.
_MARGIN_PX = 32
# Shades over the pictures, of their own deviation; wide ones, or vertebrae would drown in them.
_SHADE = 0.6
# What a sample's own vertebra has of the wanted distribution where it alone is to be found: the
# others keep a little, so that they come next.
_OWN = 0.75


def whole_views(options: SampleOptions, config: DetectorConfig) -> SampleOptions:
    """Return options of samples for a detector, their physics as in ``options``."""
    return replace(
        options,
        centre_mm=20.0,
        along_mm=30.0,
        size_px=config.size_px + _MARGIN_PX,
        pixel_mm=config.pixel_mm,
        whole=True,
    )


@dataclass(frozen=True)
class Shown:
    """What the detector is shown: ``pictures`` (N, 2, H, W), ``valid`` (N, H, W), ``lateral`` (N,),
    and the ``wanted`` distribution (N, h, w), zero where no vertebra is in the picture."""

    pictures: Tensor
    valid: Tensor
    lateral: Tensor
    wanted: Tensor


def show(
    samples: Sequence[Sample],
    config: DetectorConfig,
    own: bool,
    generator: np.random.Generator | None,
) -> Shown:
    """Show views of samples as a detector sees them, all views of all samples in one row.

    ``own``: the sample's own vertebra is wanted above all, else every labelled one alike. With a
    ``generator`` pictures are shifted, scaled, turned a little, mirrored, cut to a field, partly
    erased, shaded and of either polarity; without one, the middle is taken as it is.
    """
    images, valid, extrinsics = (
        torch.cat([getattr(s, name).cpu() for s in samples])
        for name in ("images", "valid", "extrinsics")
    )
    pixels: list[Tensor] = []
    for sample in samples:
        centres = sample.centres
        pixels += list(project(centres[None], sample.intrinsics[None], sample.extrinsics[None])[0])
    images, valid, matrices = disguised(
        images, valid, len(samples), config, config.size_px, generator
    )
    wanted = []
    for matrix, points in zip(matrices, pixels, strict=True):
        moved = torch.linalg.solve(matrix[:, :2], (points - matrix[:, 2]).T).T
        wanted.append(_wanted(moved, config, own))
    pictures = ranks_and_contrast(images, valid, config.pixel_mm)
    return Shown(pictures, valid, is_lateral(extrinsics), torch.stack(wanted))


def disguised(
    images: Tensor,
    valid: Tensor,
    samples: int,
    config: DetectorConfig,
    size_px: int,
    generator: np.random.Generator | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Disguise pictures (N, H, W), what of them is real likewise, of so many ``samples`` that each
    have views of their own: pictures ``size_px`` wide and high, what of them is real, and the
    affine maps (N, 2, 3) from their pixels to those before.

    With a ``generator`` pictures are shifted, scaled, turned a little, mirrored, cut to a field,
    partly erased, shaded and of either polarity; without one, the middle is taken as it is.
    """
    matrices = _moves(len(images), samples, size_px, images.shape[-1], generator)
    images, valid = _resampled(images, valid, matrices, size_px)
    if generator is not None:
        valid = valid * _fields(len(images), samples, config, size_px, generator)
        images = _erased(images, generator)
        images = shaded(images, generator, _SHADE)
        signs = torch.from_numpy(np.where(generator.random(samples) < 0.5, -1.0, 1.0)).float()
        signs = signs.repeat_interleave(len(images) // samples)
        images = images * signs[:, None, None]
    return images, valid, matrices


def _moves(
    count: int, samples: int, size: int, wide: int, rng: np.random.Generator | None
) -> Tensor:
    """The affine maps (count, 2, 3) from pixels of the new pictures to pixels of the old ones."""
    out = np.zeros((count, 2, 3))
    out[:, 0, 0] = out[:, 1, 1] = 1.0
    shift = np.zeros((count, 2))
    if rng is not None:
        angle = np.radians(rng.uniform(-6.0, 6.0, count))
        scale = np.repeat(rng.uniform(0.92, 1.08, samples), count // samples)
        mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0)
        cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
        out[:, :, :2] = np.stack(
            [np.stack([cos * mirror, -sin], -1), np.stack([sin * mirror, cos], -1)], axis=1
        )
        # All views of a case share how far along the spine they are off.
        along = np.repeat(rng.uniform(-1.0, 1.0, samples), count // samples)
        shift = np.stack([rng.uniform(-0.75, 0.75, count), along], axis=1) * _MARGIN_PX / 2
    middle, old = (size - 1) / 2.0, (wide - 1) / 2.0
    out[:, :, 2] = old + shift - out[:, :, :2] @ np.array([middle, middle])
    return torch.from_numpy(out).float()


def _resampled(images: Tensor, valid: Tensor, matrices: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Pictures (N, size, size) under affine maps from new pixels to old ones, and what is real."""
    v, u = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    new = torch.stack([u, v, torch.ones_like(u)], dim=-1).float()
    old = torch.einsum("nij,vuj->nvui", matrices, new)
    at = (2.0 * old + 1.0) / images.shape[-1] - 1.0
    both = torch.stack([images, valid], dim=1)
    moved = functional.grid_sample(both, at, align_corners=False)
    return moved[:, 0], (moved[:, 1] > WHOLLY_VALID).to(images.dtype)


def _fields(
    count: int, samples: int, config: DetectorConfig, size: int, rng: np.random.Generator
) -> Tensor:
    """What detectors and collimators leave (count, H, W) of the pictures: most often a square about
    the middle, now and then a circle, alike in all views of a case but for where it is."""
    v, u = np.mgrid[:size, :size] - (size - 1) / 2.0
    out = np.ones((count, size, size), dtype=np.float32)
    for case in range(samples):
        half = rng.uniform(80.0, 150.0) / config.pixel_mm
        circle = rng.random() < 0.25
        for view in range(case * count // samples, (case + 1) * count // samples):
            x, y = rng.normal(0.0, 12.0, 2) / config.pixel_mm
            away = np.hypot(u - x, v - y) if circle else np.maximum(abs(u - x), abs(v - y))
            out[view] = away < half
    return torch.from_numpy(out)


def _erased(images: Tensor, rng: np.random.Generator) -> Tensor:
    """The pictures with up to two patches each filled with a grey value of their own."""
    out = images.clone()
    size = images.shape[-1]
    for picture in out:
        for _ in range(int(rng.integers(0, 3))):
            width, height = rng.integers(3, size // 5, 2)
            x, y = (int(rng.integers(0, size - n)) for n in (width, height))
            row, column = (int(n) for n in rng.integers(0, size, 2))
            picture[y : y + height, x : x + width] = picture[row, column].clone()
    return out


def shaded(images: Tensor, rng: np.random.Generator, most: float, cells: int = 4) -> Tensor:
    """Lay smooth shades over pictures (N, H, W), up to ``most`` times as strong as what they show
    themselves, ``cells`` knots along each axis."""
    coarse = torch.from_numpy(rng.standard_normal((len(images), 1, cells, cells))).float()
    size = list(images.shape[-2:])
    shade = functional.interpolate(coarse, size=size, mode="bicubic", align_corners=True)[:, 0]
    strength = torch.from_numpy(rng.uniform(0.0, most, (len(images), 1, 1))).float()
    return images + strength * images.std((-2, -1), keepdim=True) * shade


def _wanted(pixels: Tensor, config: DetectorConfig, own: bool) -> Tensor:
    """The distribution (h, w) over a view in which centres project to pixels (N, 2); centres out of
    the picture do not count. ``own``: the first has the greatest share."""
    size = config.size_px
    cells = STRIDE * torch.arange(size // STRIDE) + 0.5 * (STRIDE - 1)
    sigma = _SIGMA_MM / config.pixel_mm
    inside = ((pixels > -0.5) & (pixels < size - 0.5)).all(-1)
    share = torch.ones(len(pixels))
    if own:
        share[1:] = (1.0 - _OWN) / _OWN / max(int(inside[1:].sum()), 1)
    along = torch.exp(-0.5 * ((cells - pixels[inside, :, None]) / sigma) ** 2)
    hills = along[:, 1, :, None] * along[:, 0, None, :]
    hills = hills / hills.sum((-2, -1), keepdim=True) * share[inside, None, None]
    return hills.sum(0) / share[inside].sum().clamp_min(1e-6)
