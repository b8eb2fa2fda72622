"""The cloud itself: shapes, rigid motion, covariances, mass."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from gaussian_scenes import camera, random_cloud
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from RadGSRegLib.gaussians import (
    GaussianCloud,
    available_backends,
    coarsen,
    rasterize,
    rasterizer,
    warm_up,
)
from RadGSRegLib.geometry import exp_se3
from RadGSRegLib.tensors import without_host_reads

angles = st.tuples(*[st.floats(-3.0, 3.0) for _ in range(3)])


def test_rotations_are_scipys() -> None:
    cloud = random_cloud(20)
    expected = Rotation.from_quat(cloud.quaternions.numpy()[:, [1, 2, 3, 0]]).as_matrix()
    np.testing.assert_allclose(cloud.rotations().numpy(), expected, atol=1e-12)


def test_precision_factors_invert_the_covariances() -> None:
    cloud = random_cloud(20)
    factors = cloud.precision_factors()
    product = factors.transpose(1, 2) @ factors @ cloud.covariances()
    np.testing.assert_allclose(product.numpy(), np.broadcast_to(np.eye(3), (20, 3, 3)), atol=1e-9)


@given(angles)
def test_a_rigid_motion_moves_means_and_turns_covariances(rotation: tuple[float, ...]) -> None:
    cloud = random_cloud(10)
    pose = exp_se3([*rotation, 10.0, -20.0, 30.0])
    moved = cloud.transformed(pose)
    r = torch.as_tensor(pose[:3, :3])
    np.testing.assert_allclose(moved.means, cloud.means @ r.T + torch.as_tensor(pose[:3, 3]))
    expected = r @ cloud.covariances() @ r.T
    np.testing.assert_allclose(moved.covariances(), expected, atol=1e-9)
    assert float(moved.mass()) == pytest.approx(float(cloud.mass()), rel=1e-12)


def test_a_motion_given_as_a_tensor_keeps_its_graph() -> None:
    pose = torch.as_tensor(exp_se3([0.3, 0.2, -0.4, 1.0, 2.0, 3.0])).requires_grad_()
    moved = random_cloud(5).transformed(pose)
    (moved.covariances().sum() + moved.means.sum()).backward()
    assert pose.grad is not None
    assert float(pose.grad[:3].abs().min()) > 0


def test_mass_is_the_integral() -> None:
    one = random_cloud(1)
    expected = float(one.densities[0] * one.scales.prod()) * (2 * math.pi) ** 1.5
    assert float(one.mass()) == pytest.approx(expected)


def test_concatenate_and_select() -> None:
    first, second = random_cloud(3), random_cloud(4, seed=1)
    both = GaussianCloud.concatenate([first, second])
    assert len(both) == 7
    assert torch.equal(both.select(torch.arange(3, 7)).means, second.means)
    with pytest.raises(ValueError, match="nothing"):
        GaussianCloud.concatenate([])


def test_wrong_shapes_and_dtypes_are_refused() -> None:
    good = random_cloud(3)
    with pytest.raises(ValueError, match="scales has shape"):
        GaussianCloud(good.means, good.scales[:2], good.quaternions, good.densities)
    with pytest.raises(ValueError, match="differs"):
        GaussianCloud(good.means, good.scales.float(), good.quaternions, good.densities)


def test_coarsening_keeps_mass_centre_and_spread() -> None:
    cloud = random_cloud(800)
    coarse = coarsen(cloud, 60).to(dtype=torch.float64)
    assert len(coarse) <= 60

    def total(c: GaussianCloud) -> tuple[torch.Tensor, torch.Tensor]:
        share = c.masses() / c.mass()
        centre = (share[:, None] * c.means).sum(0)
        offset = c.means - centre
        spread = c.covariances() + offset[:, :, None] * offset[:, None, :]
        return centre, (share[:, None, None] * spread).sum(0)

    assert float(coarse.mass()) == pytest.approx(float(cloud.mass()), rel=1e-5)
    for one, other in zip(total(coarse), total(cloud), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)


def test_backends_name_their_reasons() -> None:
    backends = available_backends()
    assert backends["torch"] == ""
    assert set(backends) == {"torch", "warp", "gsplat"}
    if not torch.cuda.is_available():
        assert "CUDA" in backends["gsplat"]


def test_why_gsplat_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = rasterizer._gsplat_problem.__wrapped__
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert problem() == "needs a CUDA device, and torch finds none"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.utils.cpp_extension.CUDA_HOME", None)
    assert "no nvcc" in problem()
    monkeypatch.setattr("torch.utils.cpp_extension.CUDA_HOME", "/somewhere")
    assert problem() == ""
    monkeypatch.setattr(rasterizer, "find_spec", lambda name: None)
    assert problem() == "gsplat is not installed"


def test_after_warming_up_a_call_takes_no_compiling() -> None:
    pytest.importorskip("warp", reason="warp-lang is not installed")
    warm_up()
    intrinsic, pose = camera(32)
    begin = time.perf_counter()
    rasterize(random_cloud(50, dtype=torch.float32), intrinsic, pose, (32, 32), backend="warp")
    assert time.perf_counter() - begin < 1.0


def test_a_move_waits_for_no_number() -> None:
    cloud = random_cloud(5)
    # Each has another largest component of its quaternion.
    turns = ([0.1, 0.2, 0.3], [3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0])
    for turn in turns:
        moves = [torch.tensor(exp_se3([*turn, 1, 2, 3]), requires_grad=True) for _ in range(2)]
        plain = cloud.transformed(moves[0])
        with without_host_reads():
            moved = cloud.transformed(moves[1])
        for one, other in zip(plain.tensors, moved.tensors, strict=True):
            assert torch.equal(one, other)
        for done in (plain, moved):
            (done.means.sum() + done.quaternions.square().sum() + done.quaternions.sum()).backward()
        assert torch.equal(moves[0].grad, moves[1].grad)
    there = GaussianCloud(*(tensor.to("meta") for tensor in cloud.tensors))
    assert there.transformed(exp_se3([0.1, 0.2, 0.3, 1, 2, 3])).device.type == "meta"
