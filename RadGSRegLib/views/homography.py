"""An X-ray shown to cameras that share its source, many at once, on the device of its pixels.

Exact geometry: pictures of cameras with one centre differ by a homography.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import Array, Camera
from ..tensors import reads_are_free
from .bounds import (
    CROP_BLUR_SHARE,
    CROP_LEAST_BLUR_PX,
    LEAST_SHARE,
    VALID_SHARE,
    WIDE_BLUR_REACH,
)

# So far beyond what a camera shows pixels are smoothed too.
_MARGIN_PX = 8
_LEAST_DEPTH = 1e-9


@torch.no_grad()
def resample(
    pixels: Tensor, valid: Tensor, camera: Camera, virtual: Sequence[Camera]
) -> tuple[Tensor, Tensor]:
    """Resample a view's pixels (rows, columns) to N virtual cameras of one size in the world.

    Smoothed first so far that nothing aliases, over pixels that are ``valid`` (rows, columns)
    alone. Returns pictures (N, rows, columns), and 1 where their pixels show a valid one, else 0,
    float32.
    """
    counts = valid.to(torch.float32)
    stack = torch.stack([torch.where(counts > 0, pixels, 0.0) * counts, counts])
    # On a CPU one after the other: small arrays stay in its caches.
    step = 1 if reads_are_free(pixels) else len(virtual)
    groups = [virtual[n : n + step] for n in range(0, len(virtual), step)]
    images, shown = zip(*(_resampled(stack, camera, group) for group in groups), strict=True)
    return torch.cat(images), torch.cat(shown)


def _resampled(stack: Tensor, camera: Camera, virtual: Sequence[Camera]) -> tuple[Tensor, Tensor]:
    """What `resample` says of a few cameras; ``stack``: values of valid pixels, and how they
    count."""
    device = stack.device
    to_real = np.stack([_to_real(camera, one) for one in virtual])
    low, high = _parts(to_real, virtual[0].size, camera.size)
    first = torch.from_numpy(low).to(device)
    length = torch.from_numpy(high - low).to(device)
    whole = _cut(stack, first, length, (high - low).max(0))
    taps = torch.from_numpy(np.stack(_taps(camera, virtual))).to(device)
    share, total = _blurred(whole, taps).unbind(1)[::-1]
    mean = total / share.clamp_min(LEAST_SHARE)

    columns, rows = virtual[0].size
    matrices = torch.from_numpy(to_real).to(device)
    u = torch.arange(columns, dtype=torch.float64, device=device)
    v = torch.arange(rows, dtype=torch.float64, device=device)
    by_column, by_row, constant = matrices[..., None, None].unbind(2)
    x, y, z = (by_column * u + by_row * v[:, None] + constant).unbind(1)
    ahead = z > _LEAST_DEPTH
    depth = torch.where(ahead, z, 1.0)
    row = y / depth - first[:, 0, None, None]
    column = x / depth - first[:, 1, None, None]
    last = (length - 1)[..., None, None]
    inside = (row >= 0) & (row <= last[:, 0]) & (column >= 0) & (column <= last[:, 1])
    image, valid = _between(torch.stack([mean, share], 1), row, column, last).unbind(1)
    return image, ((valid > VALID_SHARE) & inside & ahead).to(torch.float32)


def _to_real(camera: Camera, virtual: Camera) -> Array:
    """The homography (3, 3) from a virtual camera's pixels to the real one's."""
    turn = camera.world_to_camera[:3, :3] @ virtual.world_to_camera[:3, :3].T
    return np.asarray(camera.intrinsic @ turn @ np.linalg.inv(virtual.intrinsic))


def _parts(
    to_real: Array, virtual: tuple[int, int], size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where (row, column) the part of the real picture begins and ends that each camera shows, with
    what is smoothed into it: (N, 2) each. What lies between corners is shown between them."""
    u, v = virtual[0] - 1.0, virtual[1] - 1.0
    corners = to_real @ np.array([[0.0, u, 0.0, u], [0.0, 0.0, v, v], [1.0, 1.0, 1.0, 1.0]])
    shape = np.array(size[::-1])
    low, high = np.zeros((len(corners), 2)), np.tile(shape, (len(corners), 1))
    ahead = (corners[:, 2] > _LEAST_DEPTH).all(1)
    place = corners[ahead, 1::-1] / corners[ahead, 2:]
    low[ahead] = np.clip(np.floor(place.min(2)) - _MARGIN_PX, 0, shape - 2)
    high[ahead] = np.clip(np.ceil(place.max(2)) + _MARGIN_PX + 1, low[ahead] + 2, shape)
    return low.astype(np.int64), high.astype(np.int64)


def _cut(stack: Tensor, first: Tensor, length: Tensor, size: NDArray[np.int64]) -> Tensor:
    """Parts (N, 2, rows, columns) of a stack (2, ...) in arrays of one ``size``, zero beyond."""
    offset = [torch.arange(int(n), device=stack.device) for n in size]
    places = [first[:, axis, None] + offset[axis] for axis in (0, 1)]
    rows, columns = (
        place.clamp_max(n - 1) for place, n in zip(places, stack.shape[1:], strict=True)
    )
    parts = stack[:, rows[:, :, None], columns[:, None, :]].transpose(0, 1)
    within = [offset[axis] < length[:, axis, None] for axis in (0, 1)]
    return parts * (within[0][:, None, :, None] & within[1][:, None, None, :])


def _taps(camera: Camera, virtual: Sequence[Camera]) -> list[Array]:
    """Each camera's Gaussian (taps,), padded to equal length."""
    sigmas = []
    for one in virtual:
        wide = abs(camera.intrinsic[0, 0] / one.intrinsic[0, 0])
        sigma = CROP_BLUR_SHARE * float(np.sqrt(max(wide**2 - 1.0, 0.0)))
        sigmas.append(sigma if sigma > CROP_LEAST_BLUR_PX else 0.0)
    most = int(WIDE_BLUR_REACH * max(sigmas) + 0.5)
    offsets = np.abs(np.arange(-most, most + 1))
    taps = []
    for sigma in sigmas:
        weights = np.exp(-0.5 * (offsets / max(sigma, 1e-6)) ** 2)
        weights[offsets > int(WIDE_BLUR_REACH * sigma + 0.5)] = 0.0
        taps.append(weights / weights.sum())
    return taps


def _blurred(parts: Tensor, taps: Tensor) -> Tensor:
    """Parts (N, 2, rows, columns) along both axes under their own ``taps`` (N, taps).

    By shifts: a tenth of the time of a convolution with kernels of their own for each picture.
    Summed in float64, since networks see ranks, which the last digit can change.
    """
    reach = taps.shape[1] // 2
    for axis, padding in ((2, (0, 0, reach, reach)), (3, (reach, reach))):
        length, padded = parts.shape[axis], torch.nn.functional.pad(parts.double(), padding)
        sums = torch.zeros_like(parts, dtype=torch.float64)
        for n in range(taps.shape[1]):
            sums.addcmul_(padded.narrow(axis, n, length), taps[:, n, None, None, None])
        parts = sums.float()
    return parts


def _between(parts: Tensor, row: Tensor, column: Tensor, last: Tensor) -> Tensor:
    """Parts (N, C, ...) interpolated at places (N, rows, columns) in them; beyond ``last`` (N, 2,
    1, 1) and below 0 as at the edge."""
    shape, width = parts.shape[:2], parts.shape[3]
    flat = parts.flatten(2)
    row, column = (
        torch.minimum(place.clamp_min(0.0), last[:, axis])
        for axis, place in enumerate((row, column))
    )
    above, beside = row.floor(), column.floor()
    down, along = row - above, column - beside
    above, beside = above.long(), beside.long()
    below = torch.minimum(above + 1, last[:, 0])
    across = torch.minimum(beside + 1, last[:, 1])

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        index = (rows * width + columns).flatten(1)[:, None].expand(*shape, -1)
        return flat.gather(2, index).view(*shape, *rows.shape[1:]).double()

    upper = torch.lerp(at(above, beside), at(above, across), along[:, None])
    lower = torch.lerp(at(below, beside), at(below, across), along[:, None])
    return torch.lerp(upper, lower, down[:, None]).float()
