"""Geometry on tensors against the same on the host, which SciPy's rotations judge."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from RadGSRegLib import geometry, tensors

SIZE = (7, 5)


def _twists(seed: int, count: int = 12) -> np.ndarray:
    """Rotations of up to 2 rad, some of them tiny, and translations of hundreds of mm."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-9, 0, (count, 1))
    turns = rng.uniform(-1.15, 1.15, (count, 3)) * size
    turns[0] = 0.0
    return np.hstack([turns, rng.normal(0.0, 200.0, (count, 3))])


@given(st.integers(0, 10_000))
def test_twists_move_poses_as_on_the_host(seed: int) -> None:
    twists, others = _twists(seed), _twists(seed + 1)
    centres = np.random.default_rng(seed).normal(0.0, 100.0, (len(twists), 3))
    poses = geometry.exp_se3(others)
    given_, by, about = (torch.from_numpy(a) for a in (poses, twists, centres))
    np.testing.assert_allclose(tensors.exp_se3(by), geometry.exp_se3(twists), atol=1e-10)
    moved = tensors.compose_about(given_, by, about)
    np.testing.assert_allclose(moved, geometry.compose_about(poses, twists, centres), atol=1e-9)
    np.testing.assert_allclose(tensors.twist_about(given_, moved, about), twists, atol=1e-8)
    turns = tensors.rotation_vector(given_[:, :3, :3])
    exact = Rotation.from_matrix(poses[:, :3, :3]).as_rotvec()
    np.testing.assert_allclose(turns, exact, atol=1e-12, rtol=1e-9)
    np.testing.assert_allclose(tensors.log_se3(tensors.exp_se3(by)), twists, atol=1e-9)
    undone = given_ @ tensors.inverse_rigid(given_)
    np.testing.assert_allclose(undone, np.broadcast_to(np.eye(4), undone.shape), atol=1e-9)
    points = torch.from_numpy(np.random.default_rng(seed).normal(0.0, 50.0, (len(twists), 3)))
    each = [geometry.transform_points(p, x) for p, x in zip(poses, points.numpy(), strict=True)]
    np.testing.assert_allclose(tensors.applied(given_, points), each, atol=1e-9)


def test_affine_transforms_are_undone() -> None:
    matrices = np.random.default_rng(2).normal(0.0, 3.0, (20, 4, 4))
    matrices[:, 3] = 0.0, 0.0, 0.0, 1.0
    inverses = tensors.inverse_affine(torch.from_numpy(matrices))
    np.testing.assert_allclose(inverses, np.linalg.inv(matrices), rtol=1e-9, atol=1e-11)


def test_rotations_with_three_decimals_become_rigid() -> None:
    turns = Rotation.random(20, rng=3).as_matrix()
    poses = geometry.affine(turns, np.zeros((20, 3)))
    rounded = geometry.affine(turns.round(3), np.zeros((20, 3)))
    assert np.abs(rounded - poses).max() > 4e-4
    rigid = tensors.orthonormalized(torch.from_numpy(rounded))
    np.testing.assert_allclose(rigid, geometry.orthonormalize(rounded), atol=1e-10)


def _intrinsics(count: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    out = np.zeros((count, 3, 3))
    out[:, 0, 0], out[:, 1, 1] = rng.uniform(500.0, 5000.0, (2, count)) * [[-1.0], [1.0]]
    out[:, 0, 1] = rng.normal(0.0, 3.0, count)
    out[:, :2, 2] = rng.normal(0.0, 500.0, (count, 2))
    out[:, 2, 2] = 1.0
    return out


def test_rays_go_through_their_pixels() -> None:
    matrices = _intrinsics(4)
    lenses = tensors.Lenses.of(matrices, SIZE)
    np.testing.assert_allclose(lenses.inverses, np.linalg.inv(matrices), rtol=1e-9, atol=1e-12)
    directions, lengths = lenses.rays
    assert directions.shape == (4, 3, 5, 7)
    back = np.einsum("vab,vbrc->varc", matrices, directions.double())
    v, u = np.mgrid[:5, :7].astype(float)
    np.testing.assert_allclose(
        back, np.broadcast_to([u, v, np.ones_like(u)], back.shape), atol=1e-3
    )
    np.testing.assert_allclose(lengths, directions.norm(dim=1), rtol=1e-6)
    exact, _ = lenses.exact_rays()
    assert exact.dtype == torch.float64
    assert torch.equal(exact.float(), directions)
    few = lenses.part(slice(1, 3))
    assert len(few) == 2
    assert torch.equal(few.rays[0], directions[1:3])
    picked = tensors.Lenses.of(matrices, SIZE).part(torch.tensor([3, 0]))
    assert torch.equal(picked.rays[0], directions[[3, 0]])


def test_lenses_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(V, 3, 3\)"):
        tensors.Lenses.of(np.eye(3), SIZE)
    with pytest.raises(ValueError, match="size"):
        tensors.Lenses.of([np.eye(3)], (0, 5))


def test_lenses_are_of_intrinsics() -> None:
    matrices = _intrinsics(2)
    twice = tensors.Lenses.of(2.0 * matrices, SIZE)
    np.testing.assert_allclose(twice.intrinsics, matrices, rtol=1e-15)
    with pytest.raises(ValueError, match="finite"):
        tensors.Lenses.of([matrices[0], np.full((3, 3), np.nan)], SIZE)
    flat, singular = matrices.copy(), matrices.copy()
    flat[1, 2, 2] = singular[1, 0, 0] = 0.0
    for wrong in (matrices.transpose(0, 2, 1), flat, singular):
        with pytest.raises(ValueError, match="last row"):
            tensors.Lenses.of(wrong, SIZE)


def test_the_host_may_read_the_cpu_unless_told_not_to() -> None:
    number, elsewhere = torch.zeros(1), torch.zeros(1, device="meta")
    assert tensors.reads_are_free(number)
    assert not tensors.reads_are_free(elsewhere)
    with tensors.without_host_reads():
        assert not tensors.reads_are_free(number)
    assert tensors.reads_are_free(number)
