"""A CT vertebra as Gaussians.

Three steps, all deterministic for a seed:

1. voxels are clustered by weighted k-means, and each cluster becomes the Gaussian of its mass, mean
   and covariance (with the variance of the trilinear hat around each voxel);
2. all parameters are fitted to the trilinearly interpolated volume on a finer grid (least squares,
   Adam through the voxelizer), with the total mass held;
3. all parameters are fitted to the volume's own X-rays from many directions (L1, Adam through the
   rasterizer), which is what the cloud is for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..drr import project_volume
from ..errors import InputError
from ..geometry import Array, Rigid, Volume, cut, mask_box
from ..system import Progress, ProgressCallable, one_torch_thread
from . import bounds
from .adam import Adam
from .cloud import GaussianCloud
from .moments import cluster, match_moments
from .rasterizer import rasterize
from .voxelizer import voxelize


@dataclass(frozen=True)
class FitOptions:
    """How hard to try; the defaults hold 2 % relative L1 on 1.5 mm CT with 6,000 Gaussians."""

    volume_steps: int = 16
    volume_rate: float = 0.3
    view_steps: int = 120
    view_rate: float = 0.03
    views: int = 24

    @classmethod
    def for_count(cls, count: int) -> FitOptions:
        """What holds 2 % from 4,000 Gaussians on; fewer than 2,500 are for a coarse search."""
        if count >= 6000 or count < 2500:
            return cls()
        return cls(volume_steps=80, view_steps=480, views=96)


def fit_vertebra(
    volume: Volume,
    count: int = 6000,
    *,
    seed: int = 0,
    options: FitOptions | None = None,
    progress: ProgressCallable | None = None,
    device: torch.device | str = "cpu",
) -> GaussianCloud:
    """Fit Gaussians to a vertebra's voxels, first to the volume, then to X-rays of it.

    Args:
        volume: excess attenuation in 1/mm, zero outside the vertebra
            (`RadGSRegLib.drr.excess_attenuation`); values below zero count as zero.
        count: Gaussians at most. Fewer (300 to 1,500) give a smooth model for a coarse search in
            proportionally less time.
        seed: of the views that are fitted to.
        options: how hard to try; chosen by ``count`` unless given.
        progress: told of the share done; may cancel.
        device: where to fit them; they are placed on the CPU.

    Returns:
        A cloud (float32, on ``device``) in the volume's physical frame, mm.

    Raises:
        InputError: for a volume that is zero everywhere, or a count below one.
        Cancelled: when ``progress`` says so.

    Example:
        >>> from RadGSRegLib.drr import excess_attenuation
        >>> from RadGSRegLib.gaussians import FitOptions, fit_vertebra
        >>> excess = excess_attenuation(case.ct, case.labels, case.label)
        >>> quick = FitOptions(volume_steps=4, view_steps=4)
        >>> cloud = fit_vertebra(excess, 300, options=quick)
        >>> 200 < len(cloud) <= 300
        True
    """
    report = Progress(progress)
    chosen = options or FitOptions.for_count(count)
    if count < 1:
        raise InputError("Gaussians", f"cannot fit {count} Gaussians", "ask for at least one")
    array = np.maximum(np.nan_to_num(np.asarray(volume.array, np.float32)), 0.0)
    if not array.any():
        raise InputError("volume", "is zero everywhere", "check the segmentation's label")
    trimmed = _trim(Volume(array, volume.index_to_physical))
    report(0.0, "Placing Gaussians")
    with one_torch_thread():
        cloud = _start(trimmed, count, seed).to(device)
        cloud = _fit_volume(trimmed, cloud, chosen, report.part(0.05, 0.4))
        return _fit_views(trimmed, cloud, chosen, seed, report.part(0.4, 1.0))


def _trim(volume: Volume) -> Volume:
    """The box of what is not zero, with one voxel of zeros around it."""
    part = cut(volume, mask_box(volume.array != 0, volume.spacing, 0.0))
    matrix = part.index_to_physical.copy()
    matrix[:3, 3] = part.physical_points([[-1.0, -1.0, -1.0]])[0]
    return Volume(np.pad(part.array, 1), matrix)


def refine_grid(volume: Volume, factor: int) -> Volume:
    """The trilinearly interpolated volume on a grid ``factor`` times as fine (corners coincide)."""
    array = np.asarray(volume.array, dtype=np.float32)
    for axis in range(3):
        size = array.shape[axis]
        place = np.arange((size - 1) * factor + 1) / factor
        lower = np.minimum(place.astype(int), max(size - 2, 0))
        shape = [1, 1, 1]
        shape[axis] = -1
        share = (place - lower).astype(np.float32).reshape(shape)
        upper = np.minimum(lower + 1, size - 1)
        array = array.take(lower, axis) * (1.0 - share) + array.take(upper, axis) * share
    matrix = volume.index_to_physical.copy()
    matrix[:3, :3] /= factor
    return Volume(array, matrix)


def _start(volume: Volume, count: int, seed: int) -> GaussianCloud:
    # Clusters need members: a coarse CT is interpolated until there are enough voxels.
    factor = 1
    fine = volume
    while np.count_nonzero(fine.array) < 1.5 * count and factor < 8:
        factor += 1
        fine = refine_grid(volume, factor)
    k, j, i = np.nonzero(fine.array)
    points = fine.physical_points(np.stack([i, j, k], 1))
    values = fine.array[k, j, i].astype(np.float64)
    linear = fine.index_to_physical[:3, :3]
    masses = values * abs(float(np.linalg.det(linear)))
    many = len(points) > count
    labels = cluster(points, values, count, seed) if many else np.arange(len(points))
    hat = linear @ linear.T / 6.0
    return match_moments(points, masses, labels, hat, floor_mm=0.25 * float(fine.spacing.min()))


class _Parameters:
    """A cloud as four free tensors around a start, in units that make one step size fit all."""

    def __init__(
        self, cloud: GaussianCloud, length_mm: float, narrowest_mm: Tensor, rate: float, steps: int
    ) -> None:
        self.start = [cloud.means, cloud.scales.log(), cloud.quaternions, cloud.densities.log()]
        self.units = [0.3 * length_mm, 0.3, 0.3, 0.5]
        self.free = [torch.zeros_like(t).requires_grad_() for t in self.start]
        self.narrowest = narrowest_mm.log().to(cloud.dtype)
        self.rate, self.steps = rate, steps
        self.optimizer = Adam(self.free, betas=(0.85, 0.95))

    def cloud(self) -> GaussianCloud:
        means, scales, quaternions, densities = (
            base + unit * free
            for base, unit, free in zip(self.start, self.units, self.free, strict=True)
        )
        narrow = scales.clamp(min=self.narrowest).exp()
        return GaussianCloud(means, narrow, quaternions, densities.exp())

    def step(self, number: int, loss: Tensor) -> None:
        self.optimizer.step(loss, self.rate * (1.0 - 0.97 * number / self.steps))


def _coarseness(cloud: GaussianCloud) -> float:
    """How much larger the Gaussians are than those of a cloud of 6,000."""
    return float(max(1.0, (6000.0 / len(cloud)) ** (1.0 / 3.0)))


def _length(volume: Volume, cloud: GaussianCloud) -> float:
    """About the standard deviation that Gaussians filling the volume have, mm."""
    occupied = np.count_nonzero(volume.array) * float(volume.spacing.prod())
    return float(0.75 * (occupied / len(cloud)) ** (1.0 / 3.0))


def _with_mass(cloud: GaussianCloud, mass: Tensor) -> GaussianCloud:
    scaled = cloud.densities * (mass * cloud.mass().reciprocal())
    return GaussianCloud(cloud.means, cloud.scales, cloud.quaternions, scaled)


def _fit_volume(
    volume: Volume, cloud: GaussianCloud, options: FitOptions, report: Progress
) -> GaussianCloud:
    # Between the voxels the target is the trilinear volume: without samples there, the Gaussians
    # would shrink onto the voxel centres.
    spacing = float(volume.spacing.max())
    factor = max(1, min(4, round(spacing / (0.75 * _coarseness(cloud)))))
    fine = refine_grid(volume, factor)
    target = torch.from_numpy(np.ascontiguousarray(fine.array)).to(cloud.device)
    norm = target.square().sum()
    mass = cloud.mass()
    length = _length(volume, cloud)
    # Narrower ones could hide between the samples.
    narrowest = max(0.2 * length, bounds.NARROWEST_SEEN * float(fine.spacing.max()))
    steps = options.volume_steps
    least = norm.new_tensor(narrowest, dtype=torch.float64)
    parameters = _Parameters(cloud, length, least, options.volume_rate, steps)
    for number in range(options.volume_steps):
        report(number / options.volume_steps, "Fitting Gaussians to the CT")
        current = _with_mass(parameters.cloud(), mass)
        residual = voxelize(
            current, fine.index_to_physical, fine.size, cutoff=bounds.VOLUME_FIT_CUTOFF, widen=False
        )
        parameters.step(number, (residual - target).square().sum() / norm)
    return _with_mass(parameters.cloud(), mass).detach()


def _directions(count: int) -> Array:
    """Unit vectors (N, 3) spread evenly over a hemisphere (Fibonacci)."""
    step = np.arange(count) + 0.5
    height = step / count
    angle = math.pi * (1.0 + math.sqrt(5.0)) * step
    radius = np.sqrt(1.0 - height**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], 1)


def view_ring(volume: Volume, count: int, pixel_mm: float) -> tuple[Array, list[Array], int]:
    """Cameras 800 mm away that look at a volume from all sides.

    Returns the intrinsic (3, 3), ``count`` transforms volume_to_camera (4, 4) and the edge of the
    square image in pixels, which are ``pixel_mm`` wide at the volume's centre.
    """
    distance = 800.0
    k, j, i = np.nonzero(volume.array)
    points = volume.physical_points(np.stack([i, j, k], 1))
    centre = (points.min(0) + points.max(0)) / 2.0
    radius = float(np.linalg.norm(points - centre, axis=1).max() + 2.0 * volume.spacing.max())
    edge = math.ceil(2.0 * radius * distance / (distance - radius) / pixel_mm)
    focal = distance / pixel_mm
    middle = (edge - 1) / 2.0
    intrinsic = np.array([[focal, 0.0, middle], [0.0, focal, middle], [0.0, 0.0, 1.0]])
    poses = []
    for forward in _directions(count):
        right = np.cross(forward, [0.3, 0.5, 0.8])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        poses.append(Rigid.carrying(rotation, centre, [0.0, 0.0, distance]).matrix)
    return intrinsic, poses, edge


def _fit_views(
    volume: Volume,
    cloud: GaussianCloud,
    options: FitOptions,
    seed: int,
    report: Progress,
) -> GaussianCloud:
    if options.view_steps < 1:
        return cloud
    pixel = max(0.8, 2.0 / 3.0 * float(volume.spacing.min())) * _coarseness(cloud)
    intrinsic, poses, edge = view_ring(volume, options.views, pixel)
    size = (edge, edge)
    report(0.0, "Projecting the CT")
    voxels = torch.from_numpy(np.ascontiguousarray(volume.array)).to(cloud.device)
    grid = volume.index_to_physical
    targets = [
        project_volume(voxels, intrinsic, pose, size, index_to_physical=grid) for pose in poses
    ]
    length = _length(volume, cloud)
    narrowest = cloud.scales.min().double().clamp(max=0.2 * length)
    steps = options.view_steps
    parameters = _Parameters(cloud, length, narrowest, options.view_rate, steps)
    order = np.random.default_rng(seed).permutation(options.views)
    for number in range(options.view_steps):
        report(number / options.view_steps, "Fitting Gaussians to the CT's X-rays")
        view = int(order[number % options.views])
        image = rasterize(
            parameters.cloud(), intrinsic, poses[view], size, cutoff=bounds.VIEW_FIT_CUTOFF
        )
        difference = (image - targets[view]).abs().sum()
        parameters.step(number, difference / targets[view].sum())
    return parameters.cloud().detach()
