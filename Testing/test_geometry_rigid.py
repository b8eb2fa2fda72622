"""Rigid transforms as values, and where a mask lies."""

from __future__ import annotations

import numpy as np
import pytest

from RadGSRegLib.geometry import (
    Rigid,
    Volume,
    centroid,
    exp_se3,
    invert_rigid,
    surface_points,
    transform_points,
)

ONE = exp_se3([0.3, -0.2, 0.9, 12.0, -40.0, 7.5])
OTHER = exp_se3([-1.1, 0.4, 0.2, 3.0, 55.0, -9.0])


def test_rigid_computes_what_matrices_do_to_the_last_bit() -> None:
    rigid, points = Rigid(ONE), np.random.default_rng(0).normal(0.0, 80.0, (20, 3))
    assert np.array_equal(rigid.apply(points), transform_points(ONE, points))
    assert np.array_equal(rigid.apply(points[0]), ONE[:3, :3] @ points[0] + ONE[:3, 3])
    assert np.array_equal(rigid.inverse().matrix, invert_rigid(ONE))
    assert np.array_equal((rigid @ Rigid(OTHER)).matrix, ONE @ OTHER)
    assert np.array_equal(Rigid.from_parts(rigid.rotation, rigid.translation).matrix, ONE)


def test_rigid_undoes_itself() -> None:
    points = np.random.default_rng(1).normal(0.0, 80.0, (20, 3))
    there = Rigid(ONE) @ Rigid(OTHER)
    np.testing.assert_allclose(there.inverse().apply(there.apply(points)), points, atol=1e-10)


def test_rigid_refuses_another_shape() -> None:
    with pytest.raises(ValueError, match="4x4"):
        Rigid(np.eye(3))


def test_centre_and_surface_of_a_box() -> None:
    grid = np.diag([2.0, 1.0, 3.0, 1.0])
    grid[:3, 3] = [10.0, -5.0, 4.0]
    volume = Volume(np.zeros((9, 8, 7)), grid)
    mask = np.zeros((9, 8, 7), dtype=bool)
    mask[2:6, 3:6, 1:6] = True
    np.testing.assert_allclose(centroid(volume, mask), volume.physical_points([[3, 4, 3.5]])[0])
    inside = np.zeros_like(mask)
    inside[3:5, 4:5, 2:5] = True
    kji = np.argwhere(mask & ~inside)
    np.testing.assert_allclose(
        surface_points(volume, mask), volume.physical_points(kji[:, ::-1]), atol=1e-12
    )
