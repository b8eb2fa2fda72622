"""Volume to X-ray: line integrals of a trilinearly interpolated volume."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..geometry import Volume, inverse_intrinsic
from ..tensors import Lenses
from .grid_rays import Lattice, depth_lattice, pixel_directions
from .pictures import PROJECTORS, project_pictures_with_jacobian, step_of
from .voxels import Voxels


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
    step = step_of(step_mm, float(np.linalg.norm(index_to_camera[:3, :3], axis=0).min()))
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
    values, to_physical = _voxels(volume, index_to_physical)
    if values.dim() != 3:
        raise ValueError("voxels have three axes (K, J, I), none of them empty")
    spacing_mm = float(to_physical[:3, :3].norm(dim=0).min())
    device = values.device
    cells = None if occupied is None else occupied.to(device)
    voxels = Voxels(values, to_physical.to(device), spacing_mm, cells)
    pose, centre = (
        torch.from_numpy(np.array(a, dtype=np.float64)).to(device)
        for a in (volume_to_camera, centre_physical)
    )
    images, jacobians = project_pictures_with_jacobian(
        voxels,
        Lenses.of(np.asarray(intrinsic)[None], size, device),
        pose[None],
        centre,
        step_mm=step_mm,
    )
    return images[0], jacobians[0]
