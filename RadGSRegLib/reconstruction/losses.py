"""The three losses of math.md 3 (eq. 2) and 5, on images and volumes scaled to about [0, 1]."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


@lru_cache(maxsize=16)
def _kernel(dtype: torch.dtype, device: torch.device) -> Tensor:
    offsets = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    kernel = torch.exp(-0.5 * (offsets / SSIM_SIGMA) ** 2)
    return (kernel / kernel.sum()).to(device=device, dtype=dtype)


def _local_means(images: Tensor) -> Tensor:
    """Gaussian means (N, rows - 10, columns - 10) of images (N, rows, columns)."""
    kernel = _kernel(images.dtype, images.device)
    stack = images[:, None]
    stack = functional.conv2d(stack, kernel.view(1, 1, -1, 1))
    return functional.conv2d(stack, kernel.view(1, 1, 1, -1))[:, 0]


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """SSIM (rows - 10, columns - 10) of two images (rows, columns) of data range 1.

    Wang et al. 2004: Gaussian window of 11, sigma 1.5, K = (0.01, 0.03), only where the window fits
    (MONAI's definition). Differentiable. Raises ValueError for images that differ in shape or are
    narrower than the window.
    """
    if a.shape != b.shape or a.dim() != 2 or min(a.shape) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM compares two images of one shape, at least {SSIM_WINDOW} wide: "
            f"{tuple(a.shape)}, {tuple(b.shape)}"
        )
    mean_a, mean_b, aa, bb, ab = _local_means(torch.stack([a, b, a * a, b * b, a * b]))
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    variance = aa - mean_a**2 + bb - mean_b**2
    contrast = (2 * (ab - mean_a * mean_b) + c2) / (variance + c2)
    similarity: Tensor = luminance * contrast
    return similarity


def image_losses(rendered: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean L1, and 1 - SSIM (D-SSIM), of two images (rows, columns) of data range 1.

    ``weight`` (rows, columns) >= 0; pixels of weight 0 do not enter a window of the SSIM either.
    """
    l1 = (weight * (rendered - target).abs()).sum() / weight.sum().clamp_min(1e-6)
    # Where nothing is known the two images are made equal.
    known = (weight > 0).to(target.dtype)
    similarity = ssim_map(known * rendered, known * target)
    edge = SSIM_WINDOW // 2
    inner = weight[edge:-edge, edge:-edge]
    mean = (inner * similarity).sum() / inner.sum().clamp_min(1e-6)
    return l1, 1.0 - mean


def total_variation(volume: Tensor) -> Tensor:
    """Mean absolute difference between neighbouring voxels of (K, J, I), over all three axes."""
    parts = [volume.diff(dim=axis).abs().mean() for axis in range(3)]
    return torch.stack(parts).mean()
