"""A vertebra that was in no training: from what X-rays show along the rays, voxel by voxel.

RecM says where the anchors are. Here a grid stands in their axes; what each view shows where a cell
projects is brought back along the rays, and a network in 3-D says of every cell how dense it is and
whether it is inside of the vertebra. A mean vertebra, or modes of shape, can show only what they
know; this can show what the pictures do.

The dense voxels are round Gaussians, so that all that comes after is as for any reconstruction.
"""

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from ..gaussians import GaussianCloud
from ..geometry import Array, Volume
from ..tensors import applied
from . import bounds
from .anchors import project
from .detector import is_lateral
from .encoders import Residual, after_each, norm
from .turned import turn_towards
from .views import ViewBatch

# Densities are in units of this inside of the network, 1/mm, and heights in units of that, mm.
UNIT = 0.02
_HEIGHT_MM = 50.0
_PICTURE_CHANNELS = 4
_PICTURE_WIDTHS = (16, 32, 48, 64)
_GRID_WIDTHS = (24, 48, 96)
# Of a mean mask, that its logit is finite.
_SURE = 0.01


@dataclass(frozen=True)
class DecoderConfig:
    """The shape of a decoder: ``size`` (i, j, k) voxels of ``spacing_mm``, even numbers, their
    middle at ``middle_mm`` in the anchors' axes (processes reach farther than bodies); cells are
    twice as wide. ``features`` of each view are brought back; its pictures are RecM's, turned
    towards the anchors, and show ``field_mm`` there."""

    spacing_mm: float = 2.0
    size: tuple[int, int, int] = (52, 52, 44)
    middle_mm: tuple[float, float, float] = (0.0, 10.0, 0.0)
    features: int = 16
    field_mm: float = 112.0

    def __post_init__(self) -> None:
        if any(n < 16 or n % 2 for n in self.size) or self.features < 1:
            raise InputError("decoder", "a size is too small or odd", "check its configuration")
        if not (self.spacing_mm > 0 and self.field_mm > 0):
            raise InputError("decoder", "a length is not positive", "check its configuration")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, J, I) voxels."""
        i, j, k = self.size
        return k, j, i

    def index_to_anchors(self, coarser: int = 1) -> Tensor:
        """Return (4, 4): voxel (i, j, k), or cell of ``coarser`` voxels, to mm in the anchors'
        axes."""
        matrix = torch.eye(4, dtype=torch.float64)
        step = self.spacing_mm * coarser
        for axis, (count, middle) in enumerate(zip(self.size, self.middle_mm, strict=True)):
            matrix[axis, axis] = step
            matrix[axis, 3] = middle - 0.5 * step * (count // coarser - 1)
        return matrix

    def points(self, coarser: int = 1) -> Tensor:
        """Return the middles (K, J, I, 3) of voxels, or of cells, mm in the anchors' axes."""
        k, j, i = (torch.arange(n // coarser, dtype=torch.float64) for n in self.shape)
        index = torch.stack(torch.meshgrid(k, j, i, indexing="ij")[::-1], -1)
        return applied(self.index_to_anchors(coarser), index).float()


class Decoded(NamedTuple):
    """What a decoder says of voxels (B, K, J, I) in the anchors' axes: ``density``, 1/mm, and
    ``inside``, the logit of being inside of the vertebra."""

    density: Tensor
    inside: Tensor


class Decoder(nn.Module):
    """Pictures and where the anchors are to `Decoded`. It is told the mean vertebra (`set_mean`),
    and what is inside begins at that."""

    mean: Tensor
    prior: Tensor
    cells: Tensor

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.pictures = _Pyramid(_PICTURE_CHANNELS, _PICTURE_WIDTHS, dims=2)
        self.features = nn.Conv2d(_PICTURE_WIDTHS[0], config.features, 1)
        # Of both kinds of view their features; the share of views in whose pictures the cell lies,
        # its height; the mean.
        self.grid = _Pyramid(2 * config.features + 4, _GRID_WIDTHS, dims=3)
        # Of each of a cell's eight voxels density and inside.
        self.voxels = nn.Conv3d(_GRID_WIDTHS[0], 2 * 8, 3, padding=1)
        cells = config.points(coarser=2)
        self.register_buffer("cells", cells.flatten(0, 2), persistent=False)
        self.register_buffer("mean", torch.zeros(1, 2, *cells.shape[:3]))
        self.register_buffer("prior", torch.zeros(config.shape))

    def set_mean(self, density: Tensor, inside: Tensor) -> None:
        """Tell of a mean vertebra: density (1/mm) and share of vertebrae inside, (K, J, I)."""
        both = torch.stack([density / UNIT, inside])[None].float()
        self.mean = functional.avg_pool3d(both, 2).to(self.mean)
        share = inside.float().clamp(_SURE, 1.0 - _SURE)
        self.prior = torch.log(share / (1.0 - share)).to(self.prior)

    def forward(self, batch: ViewBatch, anchors_to_box: Tensor, up: Tensor) -> Decoded:
        """``batch``: pictures in which bone is bright; ``anchors_to_box`` (B, 4, 4), mm; ``up``
        (3,): the anchors' direction that pictures show upwards."""
        # In bfloat16 cells would project up to a millimetre beside their places.
        with torch.autocast(self.mean.device.type, enabled=False):
            turned = turn_towards(batch, anchors_to_box, up, self.config.field_mm)
            cells = self.cells @ anchors_to_box[:, :3, :3].mT + anchors_to_box[:, None, :3, 3]
            pixels = project(cells, turned.intrinsics, turned.extrinsics)
        shown = self._lifted(turned, pixels, is_lateral(batch.extrinsics))
        mean = self.mean.expand(len(batch), -1, -1, -1, -1)
        raw = self.voxels(self.grid(torch.cat([shown, mean], 1)))
        density, inside = _finer(raw).unbind(1)
        inside = inside + self.prior
        return Decoded(UNIT * inside.sigmoid() * functional.softplus(density), inside)

    def _lifted(self, turned: ViewBatch, pixels: Tensor, lateral: Tensor) -> Tensor:
        """What the views show of cells (B, 2 * features + 2, K / 2, J / 2, I / 2), which project to
        ``pixels`` (B, V, cells, 2)."""
        count, views = len(turned), turned.views
        kind = lateral.to(turned.valid)[..., None, None].expand_as(turned.valid)
        more = torch.stack([turned.valid, kind], 2)
        maps = self.features(self.pictures(torch.cat([turned.pictures, more], 2).flatten(0, 1)))
        at = (2.0 * pixels + 1.0) / turned.size_px - 1.0
        sampled = functional.grid_sample(maps, at.flatten(0, 1)[:, :, None], align_corners=False)
        sampled = sampled[..., 0].unflatten(0, (count, views))
        seen = (at.abs() < 1.0).all(-1).to(sampled).mean(1)[:, None]
        height = (self.cells[:, 2] / _HEIGHT_MM).expand_as(seen)
        parts = []
        for share in (1.0 - lateral.to(sampled), lateral.to(sampled)):
            total = (sampled * share[..., None, None]).sum(1)
            parts.append(total / share.sum(1).clamp_min(1.0)[:, None, None])
        lifted: Tensor = torch.cat([*parts, seen, height], 1).unflatten(2, self.mean.shape[-3:])
        return lifted


def decoded_cloud(decoded: Decoded, config: DecoderConfig) -> GaussianCloud:
    """Return what a decoder says of one case (B = 1) as Gaussians in the anchors' axes: a round one
    for each voxel that is dense enough and may be inside, or for the densest alone."""
    density, inside = decoded.density[0].detach().flatten(), decoded.inside[0].detach().flatten()
    dense = (density > bounds.DENSE_SHARE * UNIT) & (inside > bounds.INSIDE_LEAST)
    if not dense.any():
        dense = density >= density.amax()
    means = config.points().to(density).flatten(0, 2)[dense]
    sigma = bounds.VOXEL_SIGMA * config.spacing_mm
    # Together they are as dense as the voxels were.
    peak = config.spacing_mm**3 / ((2.0 * math.pi) ** 1.5 * sigma**3)
    unit = means.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(means), 1)
    return GaussianCloud(means, torch.full_like(means, sigma), unit, peak * density[dense])


def inside_volume(decoded: Decoded, config: DecoderConfig, anchors_to_world: Array) -> Volume:
    """Return how much of each voxel is inside of the vertebra, [0, 1], in the world; of one case
    (B = 1), its anchors at ``anchors_to_world`` (4, 4) mm."""
    share = decoded.inside[0].detach().sigmoid().cpu().numpy()
    return Volume(share, anchors_to_world @ config.index_to_anchors().numpy())


def _finer(raw: Tensor) -> Tensor:
    """Turn cells (B, C * 8, k, j, i) into voxels (B, C, 2 k, 2 j, 2 i)."""
    parts = raw.unflatten(1, (-1, 2, 2, 2))
    k, j, i = raw.shape[-3:]
    mixed = parts.permute(0, 1, 5, 2, 6, 3, 7, 4)
    voxels: Tensor = mixed.reshape(len(raw), -1, 2 * k, 2 * j, 2 * i)
    return voxels


class _Pyramid(nn.Module):
    """Down some times and up again, with shortcuts (Ronneberger et al., 2015), at the size of what
    comes in."""

    def __init__(self, inside: int, widths: tuple[int, ...], *, dims: int) -> None:
        super().__init__()
        conv: type[nn.Conv2d] | type[nn.Conv3d] = nn.Conv2d if dims == 2 else nn.Conv3d
        self.how = "bilinear" if dims == 2 else "trilinear"
        self.first = nn.Sequential(
            conv(inside, widths[0], 3, padding=1, bias=False), norm(widths[0]), nn.ReLU()
        )
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(Residual(a, b, 2, dims=dims) for a, b in pairs)
        self.up = nn.ModuleList(Residual(b + a, a, dims=dims) for a, b in reversed(pairs))

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        beside = [first, *after_each(self.down, first)]
        out: Tensor = beside.pop()
        for up, there in zip(self.up, reversed(beside), strict=True):
            size = there.shape[2:]
            out = functional.interpolate(out, size=size, mode=self.how, align_corners=False)
            out = up(torch.cat([out, there], 1))
        return out
