"""Windows of a view about points, at the resolution of a stage.

Registration takes many windows of one view, all on grids along its axes: there blur and linear
interpolation are one small matrix for either axis, which is faster than `resampling` at any places.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import Camera
from ..tensors import Lenses, applied, reads_are_free
from .bounds import (
    BLUR_REACH,
    LEAST_SHARE,
    VALID_SHARE,
    WINDOW_INTERPOLATION_PX,
    WINDOW_LEAST_BLUR_PX,
)
from .types import PreparedView, Window, Windows


def window(
    view: PreparedView,
    centre_world: NDArray[np.float64],
    half_width_mm: float,
    pixel_mm: float,
    blur_mm: float,
) -> Window:
    """Take the part of a view within ``half_width_mm`` of a world point (3,), mm; see `windows`."""
    centre = torch.from_numpy(np.array(centre_world, dtype=np.float64))
    taken = windows(view, centre[None], half_width_mm, pixel_mm, blur_mm)
    intrinsic = taken.lenses.intrinsics[0].numpy()
    return Window(
        camera=Camera(intrinsic, view.camera.world_to_camera, *taken.lenses.size),
        image=taken.image[0],
        valid=taken.valid[0],
        noise=float(taken.noise[0]),
        pixel_mm=pixel_mm,
    )


def windows(
    view: PreparedView,
    centres_world: Tensor,
    half_width_mm: float,
    pixel_mm: float,
    blur_mm: float,
) -> Windows:
    """Take the parts of a view within ``half_width_mm`` of T world points (T, 3), mm, float64.

    They have pixels of ``pixel_mm``, and as many about each point. All lengths are at the depth of
    the point; the picture is blurred with a Gaussian of ``blur_mm`` before it is sampled, over
    valid pixels only. On the points' device, where the host reads nothing of them.
    """
    there = view.on(centres_world.device)
    in_camera = applied(there.world_to_camera, centres_world)
    focal = math.sqrt(abs(float(np.linalg.det(view.camera.intrinsic[:2, :2]))))
    per_mm = focal / in_camera[:, 2]
    step = pixel_mm * per_mm
    place = in_camera @ there.intrinsic.T
    place = place[:, :2] / place[:, 2:]
    count = 2 * math.ceil(half_width_mm / pixel_mm) + 1
    half = (count - 1) / 2 * step
    corner = place - half[:, None]

    sigma = ((blur_mm * per_mm) ** 2 - WINDOW_INTERPOLATION_PX**2).clamp_min(0.0).sqrt()
    steps = torch.arange(count, dtype=torch.float64, device=step.device)
    away = step[:, None] * steps - half[:, None]
    columns = _Samples(place[:, :1] + away, view.pixels.shape[1], sigma)
    rows = _Samples(place[:, 1:] + away, view.pixels.shape[0], sigma)
    weight = there.valid[rows.part, columns.part]
    pixels = there.pixels[rows.part, columns.part]
    both = torch.stack([weight, weight * pixels])
    smooth = rows.matrix[:, None] @ both @ columns.matrix[:, None].mT
    smooth_weight = smooth[:, 0]
    # Where nothing is valid within reach, the nearest pixels stand in.
    plain = pixels[rows.nearest[:, :, None], columns.nearest[:, None, :]]
    mean = smooth[:, 1] / smooth_weight.clamp_min(LEAST_SHARE)
    inside = rows.inside[:, :, None] * columns.inside[:, None, :]
    effective = (2.0 * math.sqrt(math.pi) * sigma).clamp_min(1.0)
    return Windows(
        lenses=Lenses(_seen_from(corner, step) @ there.intrinsic, (count, count)),
        world_to_camera=there.world_to_camera.expand(len(step), 4, 4),
        image=torch.where(smooth_weight > LEAST_SHARE, mean, plain),
        valid=inside * (smooth_weight > VALID_SHARE).float(),
        noise=(view.noise / effective).float(),
        pixel_mm=pixel_mm,
    )


def _seen_from(corners: Tensor, steps: Tensor) -> Tensor:
    """The matrices (T, 3, 3) from a view's pixels to those of windows, as in `Camera.window`."""
    out = steps.new_zeros(len(steps), 3, 3)
    out[:, 0, 0] = out[:, 1, 1] = 1.0 / steps
    out[:, :2, 2] = -corners / steps[:, None]
    out[:, 2, 2] = 1.0
    return out


class _Samples:
    """A line blurred and sampled at positions (T, count): a ``matrix`` (T, count, n), float32, by
    the n pixels of ``part``.

    A Gaussian of ``sigma`` (T,) pixels, then linear interpolation; positions beyond the line's ends
    count as at the end, and ``inside`` says which are not.
    """

    def __init__(self, positions: Tensor, length: int, sigma: Tensor) -> None:
        self.inside = ((positions >= 0.0) & (positions <= length - 1.0)).float()
        held = positions.clamp(0.0, length - 1.0)
        low = held.long().clamp_max(max(length - 2, 0))
        high = (low + 1).clamp_max(length - 1)
        blurs = sigma > WINDOW_LEAST_BLUR_PX
        reach = torch.where(blurs, (BLUR_REACH * sigma + 0.5).floor(), 0.0)
        first, stop, farthest = 0, length, length
        if reads_are_free(positions):
            # What no window shows is left out.
            farthest = int(reach.max())
            first = max(int(low.min()) - farthest, 0)
            stop = min(int(high.max()) + farthest + 1, length)
        self.part = slice(first, stop)
        self.nearest = held.round().long() - first
        table = _gaussians(sigma, reach, farthest)
        pixels = torch.arange(first, stop, device=positions.device)
        share = (held - low)[..., None]
        matrix = (1.0 - share) * _looked_up(table, pixels - low[..., None])
        self.matrix = (matrix + share * _looked_up(table, pixels - high[..., None])).float()


def _gaussians(sigma: Tensor, reach: Tensor, farthest: int) -> Tensor:
    """Weights (T, 2 farthest + 3) of offsets -farthest - 1 to farthest + 1: those within ``reach``
    (T,) sum to one, the others are zero."""
    offsets = torch.arange(-farthest - 1, farthest + 2, dtype=sigma.dtype, device=sigma.device)
    width = torch.where(reach > 0.0, sigma, 1.0)[:, None]
    weights = torch.exp(-0.5 * (offsets / width) ** 2) * (offsets.abs() <= reach[:, None])
    return weights / weights.sum(1, keepdim=True)


def _looked_up(table: Tensor, offsets: Tensor) -> Tensor:
    """The weights (T, ...) of offsets (T, ...), zero beyond a table's ends."""
    middle = table.shape[1] // 2
    index = offsets.clamp(-middle, middle) + middle
    return table.gather(1, index.flatten(1)).reshape(index.shape)
