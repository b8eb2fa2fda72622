"""The voxelizer against brute force, mass, and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gaussian_scenes import leaves, random_cloud, relative
from hypothesis import given
from hypothesis import strategies as st

from RadGSRegLib.gaussians import GaussianCloud, voxelize
from RadGSRegLib.gaussians.voxel_setup import index_coefficients, widened

GRID = np.array(
    [[0.0, 4.5, 0.9, -60.0], [4.0, 0.0, 0.3, -52.0], [0.3, 0.6, 5.0, -40.0], [0, 0, 0, 1.0]]
)
SIZE = (26, 25, 16)
BACKENDS = ("torch", "warp")


def precision(backend: str) -> torch.dtype:
    return torch.float64 if backend == "torch" else torch.float32


@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_brute_force(backend: str) -> None:
    cloud = random_cloud(30, smallest=12.0)  # wide: nothing is widened
    volume = voxelize(cloud.to(dtype=precision(backend)), GRID, SIZE, cutoff=8.0, backend=backend)
    assert volume.shape == SIZE[::-1]
    k, j, i = np.indices(SIZE[::-1])
    points = np.stack([i, j, k], -1).reshape(-1, 3) @ GRID[:3, :3].T + GRID[:3, 3]
    offset = points[None] - cloud.means.numpy()[:, None]
    square = np.einsum(
        "npa,nab,npb->np", offset, np.linalg.inv(cloud.covariances().numpy()), offset
    )
    expected = (cloud.densities.numpy()[:, None] * np.exp(-0.5 * square)).sum(0)
    assert relative(volume.double(), torch.from_numpy(expected.reshape(volume.shape))) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
@given(sigma=st.floats(0.05, 4.0), place=st.tuples(*[st.floats(-0.5, 0.5)] * 3))
def test_mass_is_kept_however_narrow(backend: str, sigma: float, place: tuple[float, ...]) -> None:
    spacing = 2.0
    grid = np.diag([spacing, spacing, spacing, 1.0])
    grid[:3, 3] = -20.0
    middle = torch.tensor([place]) * spacing
    cloud = GaussianCloud(
        middle, torch.full((1, 3), sigma), torch.tensor([[1.0, 0.2, 0.1, 0.3]]), torch.ones(1)
    ).to(dtype=precision(backend))
    volume = voxelize(cloud, grid, (21, 21, 21), backend=backend)
    # One voxel of variance h^2/12 holds the mass on average over places, not at each: the sampled
    # sum of the narrowest, sigma = 0.29 h, swings by up to a fifth per axis.
    scales, _ = widened(cloud, torch.as_tensor(grid).to(cloud.dtype))
    narrow = float(scales.min()) / spacing
    swing = (1.0 + 2.0 * np.exp(-2.0 * np.pi**2 * narrow**2)) ** 3 - 1.0
    assert float(volume.sum()) * spacing**3 == pytest.approx(
        float(cloud.mass()), rel=1.05 * swing + 1e-3
    )


def test_mass_is_kept_exactly_on_average() -> None:
    """Over all places within a voxel, a Gaussian a fiftieth of the voxel wide keeps its mass."""
    generator = torch.Generator().manual_seed(3)
    count = 20000
    cloud = GaussianCloud(
        torch.rand(count, 3, generator=generator) * 40.0 + 10.0,
        torch.full((count, 3), 0.04),
        torch.randn(count, 4, generator=generator),
        torch.ones(count),
    )
    grid = np.diag([2.0, 2.0, 2.0, 1.0])
    volume = voxelize(cloud, grid, (31, 31, 31))
    assert float(volume.sum()) * 8.0 == pytest.approx(float(cloud.mass()), rel=5e-3)


def test_widening_adds_the_variance_of_the_voxel() -> None:
    cloud = random_cloud(5, smallest=0.3)
    grid = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
    scales, densities = widened(cloud, grid)
    torch.testing.assert_close(scales**2, cloud.scales**2 + 4.0 / 12.0)
    ratio = (cloud.covariances().det() / (cloud.covariances() + torch.eye(3) / 3.0).det()).sqrt()
    torch.testing.assert_close(densities, cloud.densities * ratio)
    coefficients = index_coefficients(cloud, grid, False)
    torch.testing.assert_close(coefficients[:, 3], cloud.densities)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_equal_finite_differences(backend: str) -> None:
    cloud = random_cloud(6, smallest=4.0)  # some axes widened, some not
    generator = torch.Generator().manual_seed(5)
    weights = torch.randn(SIZE[::-1], generator=generator, dtype=torch.float64)

    def loss(tensors: list[torch.Tensor], name: str = "torch") -> torch.Tensor:
        volume = voxelize(GaussianCloud(*tensors), GRID, SIZE, cutoff=8.0, backend=name)
        return (volume * weights.to(volume.dtype)).sum()

    free = leaves(cloud.to(dtype=precision(backend)))
    loss(list(free.tensors), backend).backward()
    step = 1e-6
    for index, tensor in enumerate(cloud.tensors):
        expected = torch.zeros_like(tensor)
        for place in np.ndindex(*tensor.shape):
            up, down = [t.clone() for t in cloud.tensors], [t.clone() for t in cloud.tensors]
            up[index][place] += step
            down[index][place] -= step
            expected[place] = (loss(up) - loss(down)) / (2 * step)
        gradient = free.tensors[index].grad
        assert gradient is not None
        assert relative(gradient.double(), expected) < (1e-6 if backend == "torch" else 1e-4)


def test_warp_equals_the_reference_on_many() -> None:
    cloud = random_cloud(400)
    truth = voxelize(cloud, GRID, SIZE)
    volume = voxelize(cloud.to(dtype=torch.float32), GRID, SIZE, backend="warp")
    assert relative(volume.double(), truth) < 1e-4
    again = voxelize(cloud.to(dtype=torch.float32), GRID, SIZE, backend="warp")
    assert torch.equal(volume, again)


def test_the_kernel_for_cuda_gives_the_same() -> None:
    """One thread per row instead of per Gaussian: run on the CPU here."""
    from RadGSRegLib.gaussians import warp_voxel_kernels
    from RadGSRegLib.system import flat_array, launch

    cloud = random_cloud(50, dtype=torch.float32)
    ni, nj, nk = SIZE
    stride = ni + warp_voxel_kernels.LANES
    coefficients = index_coefficients(cloud, torch.as_tensor(GRID).float(), True).contiguous()
    volume = torch.zeros(nk, nj, stride)
    grid = warp_voxel_kernels.grid_of(SIZE, 4.5**2)
    inputs = [flat_array(coefficients), 50, flat_array(volume), grid]
    launch(warp_voxel_kernels.fill_rows, nk * nj, inputs, volume)
    torch.testing.assert_close(volume[:, :, :ni], voxelize(cloud, GRID, SIZE))


def test_senseless_grids_are_refused() -> None:
    cloud = random_cloud(3)
    with pytest.raises(ValueError, match="inverse"):
        voxelize(cloud, np.diag([1.0, 0.0, 1.0, 1.0]), SIZE)
    with pytest.raises(ValueError, match="size"):
        voxelize(cloud, GRID, (3, 0, 3))
    with pytest.raises(ValueError, match="no backend 'gsplat' to voxelize"):
        voxelize(cloud, GRID, SIZE, backend="gsplat")
