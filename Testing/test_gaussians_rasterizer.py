"""The rasterizer against quadrature, finite differences and itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gaussian_scenes import camera, leaves, random_cloud, relative
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from RadGSRegLib.gaussians import GaussianCloud, rasterize, rasterize_with_jacobian
from RadGSRegLib.gaussians.splat_setup import footprint_coefficients
from RadGSRegLib.gaussians.tiles import footprint_boxes
from RadGSRegLib.geometry import compose_about, exp_se3, inverse_intrinsic

SIZE = (40, 34)
BACKENDS = ("torch", "warp")


def scene(count: int, dtype: torch.dtype) -> tuple[GaussianCloud, np.ndarray, np.ndarray]:
    intrinsic, pose = camera(40)
    return random_cloud(count, dtype=dtype, smallest=3.0), intrinsic, pose


def precision(backend: str) -> torch.dtype:
    return torch.float64 if backend == "torch" else torch.float32


@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_quadrature(backend: str) -> None:
    cloud, intrinsic, pose = scene(12, torch.float64)
    image = rasterize(
        cloud.to(dtype=precision(backend)), intrinsic, pose, SIZE, cutoff=6.0, backend=backend
    )
    centre = pose[:3, :3] @ cloud.means.numpy().T + pose[:3, 3:]
    s = pose[:3, :3] @ cloud.covariances().numpy() @ pose[:3, :3].T
    inverse = np.linalg.inv(s)
    checked = 0
    for row, column in ((17, 20), (10, 14), (22, 28), (15, 10), (28, 18), (12, 30)):
        ray = np.linalg.inv(intrinsic) @ [column, row, 1.0]
        ray /= np.linalg.norm(ray)

        def density(t: float, ray: np.ndarray = ray) -> float:
            offset = t * ray[:, None] - centre
            square = np.einsum("an,nab,bn->n", offset, inverse, offset)
            return float(cloud.densities.numpy() @ np.exp(-0.5 * square))

        expected = quad(density, 600, 900, points=np.linspace(650, 850, 21), limit=400)[0]
        if expected > 1e-3:
            assert float(image[row, column]) == pytest.approx(expected, rel=1e-4)
            checked += 1
    assert checked >= 4


def test_the_default_cutoff_is_fine_enough() -> None:
    cloud, intrinsic, pose = scene(300, torch.float64)
    cut = rasterize(cloud, intrinsic, pose, SIZE)
    whole = rasterize(cloud, intrinsic, pose, SIZE, cutoff=8.0)
    assert relative(cut, whole) < 1e-4


@pytest.mark.parametrize("cutoff", [3.5, 4.5])
@pytest.mark.parametrize("shape", [(1.0, 1.0, 1.0), (1.0, 0.15, 3.0)])
def test_warp_equals_the_reference(cutoff: float, shape: tuple[float, ...]) -> None:
    cloud, intrinsic, pose = scene(400, torch.float64)
    scales = cloud.scales * torch.tensor(shape, dtype=torch.float64)
    cloud = GaussianCloud(cloud.means, scales, cloud.quaternions, cloud.densities)
    truth = rasterize(cloud, intrinsic, pose, SIZE, cutoff=cutoff)
    image = rasterize(
        cloud.to(dtype=torch.float32), intrinsic, pose, SIZE, cutoff=cutoff, backend="warp"
    )
    # A pixel at the very edge of a footprint may fall to either side of the cut.
    edge = float(cloud.densities.max() * scales.max()) * 2.5 * math.exp(-0.5 * cutoff**2)
    assert float((image - truth).abs().max()) < 2e-5 * float(truth.max()) + edge
    assert float((image - truth).abs().mean() / truth.mean()) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_mass_comes_through(backend: str) -> None:
    """Far away, pixels times their area at the Gaussian add up to its mass."""
    cloud = random_cloud(1, dtype=precision(backend), smallest=3.0)
    cloud = GaussianCloud(cloud.means * 0, cloud.scales, cloud.quaternions, cloud.densities)
    distance = 1e4
    intrinsic = np.array([[distance, 0, 50.0], [0, distance, 50.0], [0, 0, 1]])
    pose = exp_se3([0.4, -0.3, 0.2, 0.0, 0.0, 0.0])
    pose[2, 3] = distance
    image = rasterize(cloud, intrinsic, pose, (101, 101), backend=backend, cutoff=6.0)
    assert float(image.sum()) == pytest.approx(float(cloud.mass()), rel=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_equal_finite_differences(backend: str) -> None:
    cloud, intrinsic, pose = scene(8, torch.float64)
    generator = torch.Generator().manual_seed(5)
    weights = torch.randn(SIZE[1], SIZE[0], generator=generator, dtype=torch.float64)
    inputs = [*cloud.tensors, torch.as_tensor(pose)]

    def loss(tensors: list[torch.Tensor], name: str = "torch") -> torch.Tensor:
        image = rasterize(
            GaussianCloud(*tensors[:4]), intrinsic, tensors[4], SIZE, cutoff=8.0, backend=name
        )
        return (image * weights.to(image.dtype)).sum()

    free = [t.to(precision(backend)).clone().requires_grad_() for t in inputs]
    loss(free, backend).backward()
    step = 1e-5
    for index, tensor in enumerate(inputs):
        expected = torch.zeros_like(tensor)
        rows = 3 if index == 4 else len(tensor)
        for place in np.ndindex(*tensor.shape):
            if place[0] >= rows:
                continue
            up, down = [t.clone() for t in inputs], [t.clone() for t in inputs]
            up[index][place] += step
            down[index][place] -= step
            expected[place] = (loss(up) - loss(down)) / (2 * step)
        gradient = free[index].grad
        assert gradient is not None
        assert relative(gradient[:rows].double(), expected[:rows]) < (
            1e-6 if index < 5 and backend == "torch" else 1e-4
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_jacobian_follows_the_pose_convention(backend: str) -> None:
    cloud, intrinsic, pose = scene(60, torch.float64)
    centre = np.array([4.0, -2.0, 7.0])
    image, jacobian = rasterize_with_jacobian(
        cloud.to(dtype=precision(backend)),
        intrinsic,
        pose,
        SIZE,
        centre,
        cutoff=8.0,
        backend=backend,
    )
    assert relative(image.double(), rasterize(cloud, intrinsic, pose, SIZE, cutoff=8.0)) < 1e-5
    step = 1e-4
    for index in range(6):
        twist = np.zeros(6)
        twist[index] = step
        up = rasterize(cloud, intrinsic, compose_about(pose, twist, centre), SIZE, cutoff=8.0)
        down = rasterize(cloud, intrinsic, compose_about(pose, -twist, centre), SIZE, cutoff=8.0)
        expected = (up - down) / (2 * step)
        assert relative(jacobian[index].double(), expected) < 1e-4


def test_the_footprint_box_touches_the_cut() -> None:
    cloud, intrinsic, pose = scene(1, torch.float64)
    inverse = torch.as_tensor(inverse_intrinsic(intrinsic))
    coefficients, _ = footprint_coefficients(cloud, inverse, torch.as_tensor(pose), 3.5)
    low, high = footprint_boxes(coefficients, 3.5)
    image = rasterize(cloud, intrinsic, pose, SIZE, cutoff=3.5)
    rows, columns = torch.nonzero(image > 0).T
    found = [columns.min(), rows.min(), columns.max(), rows.max()]
    inside = torch.minimum(high[0].floor(), torch.tensor(SIZE) - 1.0)
    box = [*low[0].ceil().tolist(), *inside.tolist()]
    assert [float(f) for f in found] == box


@given(st.tuples(*[st.floats(-3, 3) for _ in range(3)]), st.tuples(*[st.floats(-99, 99)] * 3))
def test_moving_cloud_and_camera_together_changes_nothing(
    rotation: tuple[float, ...], shift: tuple[float, ...]
) -> None:
    cloud, intrinsic, pose = scene(20, torch.float64)
    motion = exp_se3([*rotation, *shift])
    moved = rasterize(cloud.transformed(motion), intrinsic, pose @ np.linalg.inv(motion), SIZE)
    still = rasterize(cloud, intrinsic, pose, SIZE)
    # edges of the cut may flip by rounding
    assert relative(moved, still) < 1e-4


@given(st.floats(0.0, 10.0), st.floats(0.0, 10.0))
def test_linear_in_the_densities(first: float, second: float) -> None:
    cloud, intrinsic, pose = scene(30, torch.float32)
    half = torch.arange(30) < 15

    def image(weight: torch.Tensor) -> torch.Tensor:
        scaled = GaussianCloud(*cloud.tensors[:3], cloud.densities * weight)
        return rasterize(scaled, intrinsic, pose, SIZE)

    one, other = image(half.float()), image((~half).float())
    both = image(torch.where(half, first, second).float())
    torch.testing.assert_close(both, first * one + second * other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_lies_around_or_behind_the_source_is_left_out(backend: str) -> None:
    cloud, intrinsic, pose = scene(10, precision(backend))
    expected = rasterize(cloud, intrinsic, pose, SIZE, backend=backend)
    outside = cloud.means.clone()
    outside[:5] = torch.as_tensor(-pose[:3, :3].T @ pose[:3, 3]).to(cloud.dtype)
    outside[5:] = outside[5:] - torch.as_tensor(pose[2, :3] * 2000.0).to(cloud.dtype)
    both = leaves(GaussianCloud.concatenate([cloud, GaussianCloud(outside, *cloud.tensors[1:])]))
    image = rasterize(both, intrinsic, pose, SIZE, backend=backend)
    torch.testing.assert_close(image, expected)
    image.sum().backward()
    for tensor in both.tensors:
        assert tensor.grad is not None
        assert bool(torch.isfinite(tensor.grad).all())
        assert float(tensor.grad[10:].abs().max()) == 0.0


def test_the_same_input_gives_the_same_bits() -> None:
    intrinsic, pose = camera(96)
    cloud = random_cloud(1500, dtype=torch.float32)
    images = [rasterize(cloud, intrinsic, pose, (96, 96)) for _ in range(3)]
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])


def test_no_gaussians_make_an_empty_image() -> None:
    cloud, intrinsic, pose = scene(5, torch.float32)
    nothing = cloud.select(torch.zeros(5, dtype=torch.bool))
    assert float(rasterize(nothing, intrinsic, pose, SIZE).abs().sum()) == 0.0


def test_senseless_arguments_are_refused() -> None:
    cloud, intrinsic, pose = scene(5, torch.float32)
    with pytest.raises(ValueError, match="size"):
        rasterize(cloud, intrinsic, pose, (0, 4))
    with pytest.raises(ValueError, match="cutoff"):
        rasterize(cloud, intrinsic, pose, SIZE, cutoff=20.0)
    with pytest.raises(ValueError, match="last row"):
        rasterize(cloud, intrinsic.T, pose, SIZE)
    with pytest.raises(ValueError, match="no backend 'glsl'"):
        rasterize(cloud, intrinsic, pose, SIZE, backend="glsl")
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="gsplat is not available"):
            rasterize(cloud, intrinsic, pose, SIZE, backend="gsplat")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_the_cpu() -> None:
    intrinsic, pose = camera(96)
    cloud = random_cloud(1500, dtype=torch.float32)
    here = rasterize(cloud, intrinsic, pose, (96, 90))
    there = rasterize(cloud.to("cuda"), intrinsic, pose, (96, 90)).cpu()
    assert relative(there, here) < 1e-4
