"""The system matrix of many X-rays and its transpose."""

import numpy as np
import pytest
import torch

from RadGSRegLib.drr import SystemMatrix, project_volume
from RadGSRegLib.simulation import SimulationParameters, path_cameras

PARAMETERS = SimulationParameters(size_px=24, pixel_mm=12.0)
CAMERAS = list(path_cameras(PARAMETERS, "arbitrary", 5, np.random.default_rng(1)).values())
GRID = np.diag([7.0, 8.0, 9.0, 1.0])
GRID[:3, 3] = -40.0
SHAPE = (9, 11, 12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forward_is_the_projector_of_each_view(
    dtype: torch.dtype, generator: torch.Generator
) -> None:
    voxels = torch.rand(SHAPE, generator=generator, dtype=dtype)
    pictures = SystemMatrix(CAMERAS, GRID, SHAPE, dtype=dtype).forward(voxels)
    for camera, picture in zip(CAMERAS, pictures, strict=True):
        alone = project_volume(
            voxels,
            camera.intrinsic,
            camera.world_to_camera,
            camera.size,
            index_to_physical=GRID,
            step_mm=7.0,
        )
        assert torch.allclose(picture, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_transpose_is_exact(dtype: torch.dtype, generator: torch.Generator) -> None:
    matrix = SystemMatrix(CAMERAS, GRID, SHAPE, dtype=dtype)
    voxels = torch.rand(SHAPE, generator=generator, dtype=dtype)
    pictures = torch.rand((5, 24, 24), generator=generator, dtype=dtype)
    across = float((matrix.forward(voxels) * pictures).sum())
    back = float((voxels * matrix.transpose(pictures)).sum())
    assert across == pytest.approx(back, rel=1e-4 if dtype == torch.float32 else 1e-12)


def test_warp_and_reference_agree_and_so_do_parts(generator: torch.Generator) -> None:
    pictures = torch.rand((5, 24, 24), generator=generator, dtype=torch.float64)
    exact = SystemMatrix(CAMERAS, GRID, SHAPE, dtype=torch.float64).transpose(pictures)
    matrix = SystemMatrix(CAMERAS, GRID, SHAPE)
    fast = matrix.transpose(pictures.float())
    assert torch.allclose(fast.double(), exact, rtol=1e-3, atol=1e-3 * float(exact.max()))
    parts = [slice(0, 2), slice(2, 5)]
    summed = sum(matrix.transpose(pictures[part].float(), part) for part in parts)
    assert torch.allclose(summed, fast, rtol=1e-4, atol=1e-3)


def test_cameras_of_several_sizes_are_refused() -> None:
    other = CAMERAS[0].window(0.0, 0.0, 12, 12, 2.0)
    with pytest.raises(ValueError, match="one size"):
        SystemMatrix([CAMERAS[0], other], GRID, SHAPE)
