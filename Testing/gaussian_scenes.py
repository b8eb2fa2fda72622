"""Clouds, a volume and cameras that several tests of Gaussians and projectors look at."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter

from RadGSRegLib.gaussians import GaussianCloud
from RadGSRegLib.geometry import Volume, exp_se3
from RadGSRegLib.tensors import Lenses


def random_cloud(
    count: int, *, seed: int = 0, dtype: torch.dtype = torch.float64, smallest: float = 1.5
) -> GaussianCloud:
    """A vertebra-like box of 100 x 90 x 50 mm, standard deviations up to twice ``smallest``."""
    generator = torch.Generator().manual_seed(seed)
    box = torch.tensor([100.0, 90.0, 50.0])
    return GaussianCloud(
        ((torch.rand(count, 3, generator=generator) - 0.5) * box).to(dtype),
        (smallest * (1.0 + torch.rand(count, 3, generator=generator))).to(dtype),
        torch.randn(count, 4, generator=generator).to(dtype),
        (0.01 + 0.02 * torch.rand(count, generator=generator)).to(dtype),
    )


def blob(seed: int = 1, dtype: type = np.float64) -> Volume:
    """A smooth blob of random attenuation on an oblique, anisotropic grid about the origin."""
    generator = np.random.default_rng(seed)
    array = gaussian_filter(generator.random((20, 24, 22)), 1.5) ** 2
    array[[0, -1]] = array[:, [0, -1]] = array[:, :, [0, -1]] = 0.0
    matrix = exp_se3([0.3, 0.5, -0.2, 0.0, 0.0, 0.0])
    matrix[:3, :3] = matrix[:3, :3] * [2.0, 1.5, 2.5]
    matrix[:3, 3] = -matrix[:3, :3] @ [11.0, 12.0, 10.0]
    return Volume(array.astype(dtype), matrix)


def camera(pixels: int, field_mm: float = 150.0) -> tuple[np.ndarray, np.ndarray]:
    """Intrinsic and cloud_to_camera of a C-arm: 1124 mm to the detector, magnification 1.5.

    The principal point is off centre, the pixels are a little oblong and the view is oblique.
    """
    focal = 1124.0 * pixels / field_mm
    middle = (pixels - 1) / 2.0
    intrinsic = np.array([[focal, 0.3, middle + 3], [0, 1.02 * focal, middle - 2], [0, 0, 1.0]])
    pose = exp_se3([0.4, -0.3, 0.2, 0.0, 0.0, 0.0])
    pose[:3, 3] = [5.0, -3.0, 749.0]
    return intrinsic, pose


def placed(
    intrinsics: ArrayLike,
    poses: ArrayLike,
    bodies_to_frame: ArrayLike,
    size: tuple[int, int],
    device: torch.device | str = "cpu",
) -> tuple[Lenses, torch.Tensor, torch.Tensor]:
    """What `rasterize_bodies` takes beside the bodies."""
    lenses = Lenses.of(intrinsics, size, device)
    matrices = [torch.as_tensor(np.asarray(m, dtype=float)) for m in (poses, bodies_to_frame)]
    return lenses, *(m.to(device) for m in matrices)


def leaves(cloud: GaussianCloud) -> GaussianCloud:
    """The same cloud with gradients wanted."""
    return GaussianCloud(*(t.clone().requires_grad_() for t in cloud.tensors))


def relative(value: torch.Tensor, truth: torch.Tensor) -> float:
    """The largest difference over the largest true value."""
    return float((value - truth).abs().max() / truth.abs().max())
