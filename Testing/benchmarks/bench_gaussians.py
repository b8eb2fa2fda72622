"""How fast the Gaussians are: rasterizer, voxelizer, projector and fit.

    python -m pytest Testing/benchmarks/bench_gaussians.py --benchmark-only -o addopts=""

The scene is a vertebra's: 4,000 Gaussians of 1.5 to 3 mm in a box of 100 x 90 x 50 mm, 128 x 128
pixels over 150 mm at the detector, magnification 1.5.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gaussian_scenes import camera, leaves, random_cloud
from test_gaussians_fit import synthetic

from RadGSRegLib.drr import project_volume, project_volume_with_jacobian
from RadGSRegLib.gaussians import (
    fit_vertebra,
    rasterize,
    rasterize_with_jacobian,
    voxelize,
)

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")
CENTRE = np.array([1.0, 2.0, 3.0])


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Torch's own threads off: the kernels bring theirs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("count", "pixels"), [(1000, 64), (4000, 128)])
def test_forward(benchmark: Any, count: int, pixels: int) -> None:
    intrinsic, pose = camera(pixels)
    cloud = random_cloud(count, dtype=torch.float32)
    image = benchmark(lambda: rasterize(cloud, intrinsic, pose, (pixels, pixels)))
    assert float(image.max()) > 0


def test_forward_and_backward(benchmark: Any) -> None:
    intrinsic, pose = camera(128)
    cloud = leaves(random_cloud(4000, dtype=torch.float32))
    matrix = torch.as_tensor(pose).float().requires_grad_()
    benchmark(lambda: rasterize(cloud, intrinsic, matrix, (128, 128)).sum().backward())
    assert matrix.grad is not None


@pytest.mark.parametrize(("count", "pixels"), [(1000, 64), (4000, 128)])
def test_forward_and_jacobian(benchmark: Any, count: int, pixels: int) -> None:
    intrinsic, pose = camera(pixels)
    cloud = random_cloud(count, dtype=torch.float32)
    size = (pixels, pixels)
    _, jacobian = benchmark(lambda: rasterize_with_jacobian(cloud, intrinsic, pose, size, CENTRE))
    assert jacobian.shape == (6, pixels, pixels)


def test_the_reference_forward_and_backward(benchmark: Any) -> None:
    """What plain torch takes for the same, one sixteenth of the pixels."""
    intrinsic, pose = camera(32)
    cloud = leaves(random_cloud(4000, dtype=torch.float32))
    run = lambda: rasterize(cloud, intrinsic, pose, (32, 32), backend="torch").sum().backward()  # noqa: E731
    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    assert cloud.means.grad is not None


def test_voxelizer_forward_and_backward(benchmark: Any) -> None:
    cloud = leaves(random_cloud(4000, dtype=torch.float32))
    grid = np.diag([1.0, 1.0, 1.0, 1.0])
    grid[:3, 3] = -64.0
    benchmark(lambda: voxelize(cloud, grid, (128, 128, 128)).sum().backward())
    assert cloud.means.grad is not None


def test_projector(benchmark: Any) -> None:
    intrinsic, pose = camera(128)
    volume = synthetic(1.5)
    pose[:3, 3] -= pose[:3, :3] @ volume.physical_points([[s / 2 for s in volume.size]])[0]
    image = benchmark(lambda: project_volume(volume, intrinsic, pose, (128, 128)))
    assert float(image.max()) > 0


def test_projector_and_jacobian(benchmark: Any) -> None:
    intrinsic, pose = camera(128)
    volume = synthetic(1.5)
    centre = volume.physical_points([[s / 2 for s in volume.size]])[0]
    pose[:3, 3] -= pose[:3, :3] @ centre
    size = (128, 128)
    _, jacobian = benchmark(
        lambda: project_volume_with_jacobian(volume, intrinsic, pose, size, centre)
    )
    assert float(jacobian.abs().max()) > 0


@pytest.mark.parametrize("count", [500, 6000])
def test_fit(benchmark: Any, count: int) -> None:
    volume = synthetic(1.5)
    cloud = benchmark.pedantic(lambda: fit_vertebra(volume, count), rounds=2, warmup_rounds=1)
    assert len(cloud) <= count
