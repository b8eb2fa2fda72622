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
    per_mm = view.camera.focal_px / in_camera[:, 2]
    step = pixel_mm * per_mm
    place = in_camera @ there.intrinsic.T
    place = place[:, :2] / place[:, 2:]
    count = 2 * math.ceil(half_width_mm / pixel_mm) + 1
    half = (count - 1) / 2 * step
    corner = place - half[:, None]

    sigma = ((blur_mm * per_mm) ** 2 - WINDOW_INTERPOLATION_PX**2).clamp_min(0.0).sqrt()
    steps = torch.arange(count, dtype=torch.float64, device=step.device)
    away = step[:, None] * steps - half[:, None]
    blur = _Blur(sigma, max(view.pixels.shape))
    columns = _Samples(place[:, :1] + away, view.pixels.shape[1], blur)
    rows = _Samples(place[:, 1:] + away, view.pixels.shape[0], blur)
    weight = there.valid[rows.part, columns.part]
    pixels = there.pixels[rows.part, columns.part]
    # Side by side, so that all windows' rows are one product and the picture is not repeated.
    both = torch.cat([weight, weight * pixels], 1)
    along = (rows.matrix.flatten(0, 1) @ both).reshape(len(step), 2 * count, -1)
    smooth = (along @ columns.matrix.mT).reshape(len(step), count, 2, count)
    smooth_weight = smooth[:, :, 0]
    # Where nothing is valid within reach, the nearest pixels stand in.
    plain = pixels[rows.nearest[:, :, None], columns.nearest[:, None, :]]
    mean = smooth[:, :, 1] / smooth_weight.clamp_min(LEAST_SHARE)
    inside = rows.inside[:, :, None] & columns.inside[:, None, :]
    effective = (2.0 * math.sqrt(math.pi) * sigma).clamp_min(1.0)
    return Windows(
        lenses=Lenses(_seen_from(corner, step) @ there.intrinsic, (count, count)),
        world_to_camera=there.world_to_camera.expand(len(step), 4, 4),
        image=torch.where(smooth_weight > LEAST_SHARE, mean, plain),
        valid=(inside & (smooth_weight > VALID_SHARE)).float(),
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


class _Blur:
    """Gaussians of ``sigma`` (T,) pixels, each cut off after whole pixels, for lines of at most
    ``length`` pixels."""

    def __init__(self, sigma: Tensor, length: int) -> None:
        blurs = sigma > WINDOW_LEAST_BLUR_PX
        reach = torch.where(blurs, (BLUR_REACH * sigma + 0.5).floor(), 0.0)
        # None reaches farther: where the host must not ask, as far as a line is long.
        self.reach = int(reach.max()) if reads_are_free(sigma) else length
        steps = torch.arange(-self.reach - 2, self.reach + 3, device=sigma.device)
        offsets = steps.to(sigma.dtype)
        width = torch.where(blurs, sigma, 1.0)[:, None]
        weights = torch.exp(-0.5 * (offsets / width) ** 2) * (offsets.abs() <= reach[:, None])
        weights = weights / weights.sum(1, keepdim=True)
        # By the offset from the pixel before a position, and from the one after it.
        self._before, self._after = weights[:, 1:].contiguous(), weights[:, :-1].contiguous()

    def between(self, pixels: Tensor, low: Tensor, share: Tensor) -> Tensor:
        """Return the weights (T, count, n) of ``pixels`` (n,) at positions that lie by ``share``
        (T, count) of a pixel after the pixels ``low`` (T, count).

        In few arrays: several windows' are larger than a processor's caches.
        """
        index = (pixels + (self.reach + 1)) - low[..., None]
        index = index.clamp_(0, self._before.shape[1] - 1).flatten(1)
        before, after = self._before.gather(1, index), self._after.gather(1, index)
        shape = (*low.shape, len(pixels))
        return before.view(shape).lerp_(after.view(shape), share[..., None])


class _Samples:
    """A line blurred and sampled at positions (T, count): a ``matrix`` (T, count, n), float32, by
    the n pixels of ``part``.

    A Gaussian, then linear interpolation; positions beyond the line's ends count as at the end, and
    ``inside`` says which are not.
    """

    def __init__(self, positions: Tensor, length: int, blur: _Blur) -> None:
        held = positions.clamp(0.0, length - 1.0)
        self.inside = held == positions
        low = held.long().clamp_max(max(length - 2, 0))
        first, stop = 0, length
        if reads_are_free(positions):
            # What no window shows is left out.
            least, most = low.aminmax()
            first = max(int(least) - blur.reach, 0)
            stop = min(int(most) + blur.reach + 2, length)
        self.part = slice(first, stop)
        self.nearest = held.round().long() - first
        pixels = torch.arange(first, stop, device=positions.device)
        self.matrix = blur.between(pixels, low, held - low).float()
