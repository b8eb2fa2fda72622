"""The reference projector in plain torch: any floating dtype and device, autograd to everything."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .grid_rays import Lattice, PictureRays
from .voxels import Voxels

# Samples evaluated at once: bounds the memory, not the result.
_SAMPLES_AT_ONCE = 2_000_000


def sample(volume: Tensor, points: Tensor) -> Tensor:
    """Trilinear values (P,) of a volume (K, J, I) at index points (P, 3) = (i, j, k).

    Beyond the outermost voxel centres values fall to zero within one voxel.
    """
    nk, nj, ni = volume.shape
    base = points.detach().floor()
    fraction = points - base
    corner = base.long()
    flat = volume.reshape(-1)
    total = torch.zeros_like(points[:, 0])
    for ck in (0, 1):
        for cj in (0, 1):
            for ci in (0, 1):
                i, j, k = corner[:, 0] + ci, corner[:, 1] + cj, corner[:, 2] + ck
                inside = (i >= 0) & (i < ni) & (j >= 0) & (j < nj) & (k >= 0) & (k < nk)
                place = (k.clamp(0, nk - 1) * nj + j.clamp(0, nj - 1)) * ni + i.clamp(0, ni - 1)
                weight = torch.ones_like(total)
                for axis, upper in ((0, ci), (1, cj), (2, ck)):
                    weight = weight * (fraction[:, axis] if upper else 1.0 - fraction[:, axis])
                total = total + torch.where(inside, flat[place] * weight, torch.zeros_like(weight))
    return total


def _slab(volume: Tensor, camera_to_index: Tensor, directions: Tensor, depths: Tensor) -> Tensor:
    ahead = directions @ camera_to_index[:3, :3].T
    points = depths[:, None, None] * ahead + camera_to_index[:3, 3]
    values = sample(volume, points.reshape(-1, 3))
    return values.reshape(len(depths), len(directions)).sum(0)


def project(
    volume: Tensor, camera_to_index: Tensor, directions: Tensor, lattice: Lattice
) -> Tensor:
    """Sums (P,) of the samples of a volume (K, J, I) along rays (P, 3), times the depth step."""
    depths = torch.arange(lattice.first, lattice.stop, dtype=volume.dtype, device=volume.device)
    depths = depths * lattice.step
    total = torch.zeros(len(directions), dtype=volume.dtype, device=volume.device)
    graph = torch.is_grad_enabled() and (volume.requires_grad or camera_to_index.requires_grad)
    for part in depths.split(max(1, _SAMPLES_AT_ONCE // max(1, len(directions)))):
        if graph:
            slab = checkpoint(_slab, volume, camera_to_index, directions, part, use_reentrant=False)
        else:
            slab = _slab(volume, camera_to_index, directions, part)
        total = total + slab
    return total * lattice.step


def _of_pictures(voxels: Voxels, rays: PictureRays) -> Iterator[tuple[Tensor, Tensor, Lattice]]:
    """Each picture's volume, directions (P, 3) and depths."""
    for n, directions in enumerate(rays.directions):
        values = voxels.values if voxels.values.dim() == 3 else voxels.values[n]
        yield values, directions.T, rays.lattice(n)


@torch.no_grad()
def project_pictures(voxels: Voxels, rays: PictureRays) -> Tensor:
    """`project` of V pictures: sums (V, P); what is ``occupied`` changes nothing here."""
    scenes = zip(_of_pictures(voxels, rays), rays.camera_to_index, strict=True)
    return torch.stack([project(values, m, ways, depths) for (values, ways, depths), m in scenes])


def spread_pictures(sums: Tensor, shape: tuple[int, int, int], rays: PictureRays) -> Tensor:
    """The transpose of `project_pictures`: numbers (V, P) along rays to one volume (K, J, I)."""
    total = torch.zeros(shape, dtype=sums.dtype, device=sums.device)
    with torch.enable_grad():
        for n, directions in enumerate(rays.directions):
            volume = torch.zeros_like(total, requires_grad=True)
            line = project(volume, rays.camera_to_index[n], directions.T, rays.lattice(n))
            total += torch.autograd.grad(line, volume, sums[n])[0]
    return total


@torch.no_grad()
def project_pictures_with_moments(voxels: Voxels, rays: PictureRays, depths: Tensor) -> Tensor:
    """Sums (V, 7, P): `project`, then of grad mu and of (z - depth) grad mu, times the depth step.

    The gradient is by the index coordinates, ``depths`` (V,) mm. Taken by forward mode through
    `sample`.
    """
    scenes = zip(_of_pictures(voxels, rays), rays.camera_to_index, depths.tolist(), strict=True)
    return torch.stack([_with_moments(*scene, m, depth) for scene, m, depth in scenes])


def _with_moments(
    volume: Tensor, directions: Tensor, lattice: Lattice, camera_to_index: Tensor, depth: float
) -> Tensor:
    flat: list[Tensor] = []
    levers: list[Tensor] = []

    def values(matrix: Tensor) -> Tensor:
        return project(volume, matrix, directions, lattice)

    for axis in range(3):
        shift = torch.zeros_like(camera_to_index)
        shift[axis, 3] = 1.0
        slope = torch.zeros_like(camera_to_index)
        # z - depth times a unit step along the axis, for every ray: A d = e with d_z = 1
        slope[axis, 2], slope[axis, 3] = 1.0, -depth
        for tangent, sums in ((shift, flat), (slope, levers)):
            sums.append(torch.func.jvp(values, (camera_to_index,), (tangent,))[1])
    return torch.stack([values(camera_to_index), *flat, *levers])
