"""Where the vertebra's centre may be in a whole X-ray: a small network on one view at a time.

It looks at coarse pictures of all that a view shows (virtual cameras as for crops) and gives a
distribution over where the vertebra's centre projects. What several views say together about the
place in space is in `networks.places`.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from . import bounds
from .encoders import Residual, norm

# Rank, local contrast, what is valid, and whether the view is a lateral one.
_INPUTS = 4
STRIDE = 2
MULTIPLE = 16


@dataclass(frozen=True)
class DetectorConfig:
    """Pictures of ``size_px`` pixels of ``pixel_mm`` at the vertebra; ``width`` channels."""

    size_px: int = 96
    pixel_mm: float = 2.5
    width: int = 16

    def __post_init__(self) -> None:
        if self.size_px < 32 or self.size_px % MULTIPLE or self.width < 1 or not self.pixel_mm > 0:
            raise InputError(
                "detector", f"{self.size_px} px, width {self.width}", "a size is a multiple of 16"
            )


class Detector(nn.Module):
    """Whole views to logits of where the vertebra's centre projects; polarity need not be known.

    Frontal and lateral views share the weights. A U-Net whose deepest maps see the whole picture.
    ``outputs``: how many maps it gives; a detector of one vertebra's centre gives one.
    """

    def __init__(self, config: DetectorConfig, outputs: int = 1) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.stem = nn.Sequential(
            nn.Conv2d(_INPUTS, w, 5, stride=STRIDE, padding=2, bias=False), norm(w), nn.ReLU()
        )
        widths = (w, 2 * w, 3 * w, 4 * w)
        self.down = nn.ModuleList([Residual(a, b, 2) for a, b in itertools.pairwise(widths)])
        self.deep = Residual(4 * w, 4 * w)
        # What the whole picture shows, told to every place in it.
        self.around = nn.Linear(4 * w, 4 * w)
        self.lateral = nn.ModuleList([nn.Conv2d(c, 2 * w, 1) for c in widths])
        # At the finest maps most of the time would be spent: one layer, the last, must do there.
        self.up = nn.ModuleList([Residual(2 * w, 2 * w) for _ in widths[2:]] + [nn.ReLU()])
        self.last = nn.Conv2d(2 * w, outputs, 3, padding=1)
        nn.init.zeros_(self.last.weight)

    def forward(self, pictures: Tensor, valid: Tensor, lateral: Tensor) -> Tensor:
        """Turn pictures (N, 2, H, W) of `views.ranks_and_contrast`, validity (N, H, W) and 1 for
        lateral views, 0 for frontal ones (N,), to logits (N, H / 2, W / 2). H, W: multiples of
        16."""
        return self.maps(pictures, valid, lateral)[:, 0]

    def maps(self, pictures: Tensor, valid: Tensor, lateral: Tensor) -> Tensor:
        """Turn the same to all its maps (N, outputs, H / 2, W / 2)."""
        kind = (2.0 * lateral - 1.0).view(-1, 1, 1, 1).expand(-1, 1, *valid.shape[1:])
        x = self.stem(torch.cat([pictures, valid[:, None], kind.to(pictures)], dim=1))
        maps = [x]
        for stage in self.down:
            maps.append(stage(maps[-1]))
        deep = self.deep(maps[-1])
        deep = deep + self.around(deep.mean((-2, -1)))[..., None, None]
        x = self.lateral[-1](functional.relu(deep))
        for n, up in enumerate(self.up):
            like = self.lateral[-2 - n](maps[-2 - n])
            x = functional.interpolate(
                x, size=like.shape[-2:], mode="bilinear", align_corners=False
            )
            x = up(x + like)
        out: Tensor = self.last(x)
        return out


@torch.no_grad()
def look(detector: Detector, pictures: Tensor, valid: Tensor, extrinsics: Tensor) -> Tensor:
    """Ask what a detector says of one case's views: `log_shares` (V, h, w) on the CPU; inputs as
    for `maps_of_case`."""
    return log_shares(maps_of_case(detector, pictures, valid, extrinsics)[:, 0])


@torch.no_grad()
def maps_of_case(detector: Detector, pictures: Tensor, valid: Tensor, extrinsics: Tensor) -> Tensor:
    """Return a detector's maps (V, outputs, h, w), logits, of one case's views, on the CPU.

    Inputs as for `Detector.forward`, and box_to_camera (V, 4, 4). The pictures are shown as they
    are, inverted, mirrored and both, and the answers averaged: training shows all of these too.
    """
    device = next(detector.parameters()).device
    signs = torch.cat([pictures, -pictures])
    shown = torch.cat([signs, signs.flip(-1)]).to(device)
    real = torch.cat([valid, valid, valid.flip(-1), valid.flip(-1)]).to(device)
    was = detector.training
    detector.eval()
    maps = detector.maps(shown, real, is_lateral(extrinsics).repeat(4).to(device))
    detector.train(was)
    straight, mirrored = maps.unflatten(0, (2, 2, -1))
    return torch.cat([straight, mirrored.flip(-1)]).mean(0).cpu()


def is_lateral(extrinsics: Tensor) -> Tensor:
    """Return 1 for views (box_to_camera (..., 4, 4)) rather along the box's x axis than y, else
    0."""
    axis = extrinsics[..., 2, :2].abs()
    return (axis[..., 0] > axis[..., 1]).to(extrinsics.dtype)


def log_shares(logits: Tensor) -> Tensor:
    """Return the logarithm of the distribution (N, h, w) that logits mean."""
    cells = logits.shape[-1] * logits.shape[-2]
    log = functional.log_softmax(logits.flatten(-2), dim=-1).view_as(logits)
    even = torch.full_like(log, math.log(bounds.EVEN_SHARE / cells))
    return torch.logaddexp(log + math.log1p(-bounds.EVEN_SHARE), even)


def sample_map(maps: Tensor, pixels: Tensor, size_px: int) -> Tensor:
    """Sample maps (N, h, w) to values (N, P) at pixels (N, P, 2) = (column, row) of pictures
    that are ``size_px`` wide and high; the nearest value outside."""
    at = (2.0 * pixels + 1.0) / size_px - 1.0
    values = functional.grid_sample(
        maps[:, None], at[:, None].to(maps), padding_mode="border", align_corners=False
    )
    return values[:, 0, 0]
