"""Volume to X-ray: line integrals of a trilinearly interpolated volume."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..geometry import Rigid, Volume, inverse_intrinsic, invert_rigid, translation, twist_generators
from ..system import Backends, on_torch, on_warp
from .grid_rays import Lattice, depth_lattice, pixel_directions

# Samples per smallest voxel edge: two of them keep the error of the sum under 0.1 % of the image.
_SAMPLES_PER_VOXEL = 2.0


PROJECTORS = Backends(
    "project", on_torch(f"{__package__}.torch_backend"), on_warp(f"{__package__}.warp_backend")
)


def _voxels(volume: Volume | Tensor, index_to_physical: ArrayLike | None) -> tuple[Tensor, Tensor]:
    if isinstance(volume, Volume):
        array = volume.array
        keep = array.dtype == np.float64
        voxels = torch.from_numpy(np.ascontiguousarray(array, np.float64 if keep else np.float32))
        return voxels, torch.as_tensor(volume.index_to_physical)
    if index_to_physical is None:
        raise ValueError("voxels given as a tensor need index_to_physical")
    return volume, torch.as_tensor(np.asarray(index_to_physical, dtype=np.float64))


def _lattice(voxels: Tensor, index_to_camera: np.ndarray, step_mm: float | None) -> Lattice:
    if voxels.dim() != 3 or min(voxels.shape) < 1:
        raise ValueError("voxels have three axes (K, J, I), none of them empty")
    spacing = np.linalg.norm(index_to_camera[:3, :3], axis=0)
    step = float(spacing.min()) / _SAMPLES_PER_VOXEL if step_mm is None else float(step_mm)
    if not step > 0:
        raise ValueError(f"a step is positive, not {step_mm}")
    return depth_lattice(index_to_camera, tuple(voxels.shape), step)


def project_volume(
    volume: Volume | Tensor,
    intrinsic: ArrayLike,
    volume_to_camera: Tensor | ArrayLike,
    size: tuple[int, int],
    *,
    index_to_physical: ArrayLike | None = None,
    step_mm: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """Project a volume: line integrals of its trilinear interpolation along every pixel's ray.

    Differentiable by voxels and by ``volume_to_camera`` where these are tensors. The integral is a
    sum of samples; two per voxel keep its error under 0.1 % of the image.

    Args:
        volume: a `Volume`, or voxels (K, J, I) as a tensor, in 1/mm. Beyond the outermost voxel
            centres values fall to zero within one voxel.
        intrinsic: (3, 3) in pixels.
        volume_to_camera: (4, 4) rigid, from the volume's physical frame, mm.
        size: (columns, rows).
        index_to_physical: (4, 4), for voxels given as a tensor.
        step_mm: between samples in depth; half the smallest voxel edge unless given.
        backend: "auto" (float64 goes to the reference), "torch" or "warp".

    Returns:
        Line integrals (rows, columns), dimensionless, on the voxels' device and of their dtype
        (float32 for a `Volume` of anything but float64).

    Raises:
        ValueError: for an invalid intrinsic, size, step or backend.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.drr import project_volume
        >>> from RadGSRegLib.geometry import Volume
        >>> grid = np.eye(4)
        >>> grid[:3, 3] = -10.0
        >>> cube = Volume(np.full((21, 21, 21), 0.02, np.float32), grid)
        >>> to_camera = np.eye(4)
        >>> to_camera[2, 3] = 700.0
        >>> intrinsic = [[1000.0, 0.0, 16.0], [0.0, 1000.0, 16.0], [0.0, 0.0, 1.0]]
        >>> image = project_volume(cube, intrinsic, to_camera, (33, 33))
        >>> round(image[16, 16].item(), 2)  # 21 mm of 0.02 per mm
        0.42
    """
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"a size is (columns, rows), both at least 1, not {size}")
    voxels, to_physical = _voxels(volume, index_to_physical)
    inverse = inverse_intrinsic(np.asarray(intrinsic, dtype=np.float64))
    pose = torch.as_tensor(volume_to_camera)
    numbers = pose.detach().cpu().double().numpy()
    lattice = _lattice(voxels, numbers @ to_physical.numpy(), step_mm)
    # In float64 until the last step: translations of hundreds of millimetres enter here.
    camera_to_index = torch.linalg.inv(pose.double().cpu() @ to_physical)
    camera_to_index = camera_to_index.to(device=voxels.device, dtype=voxels.dtype)
    directions = pixel_directions(inverse, size, voxels)
    module = PROJECTORS.choose(backend, voxels.device, voxels.dtype)
    sums: Tensor = module.project(voxels, camera_to_index, directions, lattice)
    image: Tensor = (sums * directions.norm(dim=1)).reshape(size[1], size[0])
    return image


def occupied_cells(volume: Volume) -> Tensor:
    """Return between which voxels (K, J, I) a volume is anything but zero: (K+1, J+1, I+1) uint8.

    Cell (k, j, i) lies between voxels k-1 and k, j-1 and j, i-1 and i, with zero outside.
    """
    padded = np.pad(np.asarray(volume.array) != 0, 1)
    cells = padded[1:] | padded[:-1]
    cells = cells[:, 1:] | cells[:, :-1]
    cells = cells[:, :, 1:] | cells[:, :, :-1]
    return torch.from_numpy(cells.astype(np.uint8))


@torch.no_grad()
def project_volume_with_jacobian(
    volume: Volume | Tensor,
    intrinsic: ArrayLike,
    volume_to_camera: ArrayLike,
    size: tuple[int, int],
    centre_physical: ArrayLike,
    *,
    index_to_physical: ArrayLike | None = None,
    step_mm: float | None = None,
    occupied: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`project_volume` and its derivative (6, rows, columns) by the pose.

    The six columns follow `RadGSRegLib.geometry.pose`: ``volume_to_camera @ C @ exp(xi) @ C^-1``
    with C the translation by ``centre_physical`` (3,) mm and xi = (rotation in radians, translation
    in mm), at xi = 0. ``occupied``: the volume's `occupied_cells`, to be faster with one that is
    mostly zero. Otherwise as `project_volume`, with a ValueError for cells of another size too;
    nothing carries a graph.
    """
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"a size is (columns, rows), both at least 1, not {size}")
    voxels, to_physical = _voxels(volume, index_to_physical)
    inverse = inverse_intrinsic(np.asarray(intrinsic, dtype=np.float64))
    pose = np.asarray(volume_to_camera, dtype=np.float64)
    lattice = _lattice(voxels, pose @ to_physical.numpy(), step_mm)
    physical_to_index = np.linalg.inv(to_physical.numpy())
    camera_to_physical = invert_rigid(pose)
    matrix = torch.as_tensor(physical_to_index @ camera_to_physical)
    matrix = matrix.to(device=voxels.device, dtype=voxels.dtype)
    directions = pixel_directions(inverse, size, voxels)
    if occupied is not None:
        wanted = tuple(length + 1 for length in voxels.shape)
        if occupied.dtype != torch.uint8 or tuple(occupied.shape) != wanted:
            raise ValueError(f"occupied cells of this volume are {wanted} uint8")
        occupied = occupied.to(voxels.device).contiguous()
    centre = np.asarray(centre_physical, dtype=np.float64)
    depth = float(Rigid(pose).apply(centre)[2])
    module = PROJECTORS.choose("auto", voxels.device, voxels.dtype)
    value, flat, lever = module.project_with_moments(
        voxels, matrix, directions, lattice, depth, occupied
    )
    changes = []
    for generator in translation(centre) @ twist_generators() @ translation(-centre):
        # Moving the volume by xi moves the ray by exp(-xi) about the centre, in its frame.
        change = -physical_to_index @ generator @ camera_to_physical
        # z L d + t = (z - depth) L d + (depth L d + t): linear in these twelve numbers of L and t.
        changes.append(np.concatenate([change[:3, :3].ravel(), change[:3, 3]]))
    turns = (lever + depth * flat)[:, :, None] * directions[:, None, :]
    moments = torch.cat([turns.reshape(-1, 9), flat], dim=1)
    jacobian = torch.as_tensor(np.array(changes)).to(moments) @ moments.T
    lengths = directions.norm(dim=1)
    image = (value * lengths).reshape(size[1], size[0])
    return image, (jacobian * lengths).reshape(6, size[1], size[0])
