"""Bodies rendered together against each one rendered by the rasterizer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gaussian_scenes import camera, random_cloud, relative

from RadGSRegLib.gaussians import (
    Bodies,
    available_backends,
    rasterize,
    rasterize_bodies,
    rasterize_bodies_with_jacobian,
    rasterize_with_jacobian,
)
from RadGSRegLib.geometry import exp_se3

SIZE = (70, 64)
CENTRE = np.array([4.0, -7.0, 11.0])
MOVES = [
    np.eye(4),
    exp_se3([0.1, -0.05, 0.2, 6.0, -3.0, 2.0]),
    exp_se3([-0.2, 0.1, 0.0, -20.0, 9.0, 30.0]),
]


@pytest.fixture(scope="module")
def bodies() -> Bodies:
    counts = (200, 1, 80)
    return Bodies(tuple(random_cloud(n, seed=n, dtype=torch.float32) for n in counts))


def _two_views() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The usual camera, and a longer one that looks from elsewhere."""
    intrinsic, pose = camera(64)
    other = np.diag([1.3, 1.2, 1.0]) @ intrinsic
    return [intrinsic, other], [pose, pose @ exp_se3([0.4, -0.7, 0.1, 5.0, 0.0, -9.0])]


def _reference(
    bodies: Bodies, intrinsic: np.ndarray, pose: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """In float64, by the plain torch rasterizer, one body after the other."""
    pairs = [
        rasterize_with_jacobian(
            cloud.to(dtype=torch.float64).transformed(move), intrinsic, pose, SIZE, CENTRE
        )
        for cloud, move in zip(bodies.clouds, MOVES, strict=True)
    ]
    return torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])


@pytest.fixture(scope="module")
def reference(bodies: Bodies) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What each view shows, for both backends."""
    return [_reference(bodies, *view) for view in zip(*_two_views(), strict=True)]


@pytest.mark.parametrize("backend", ["torch", "warp"])
def test_bodies_are_what_the_reference_renders_one_by_one(
    bodies: Bodies, reference: list[tuple[torch.Tensor, torch.Tensor]], backend: str
) -> None:
    if available_backends()[backend]:
        pytest.skip(f"{backend} does not work here")
    views = _two_views()
    images, jacobians = rasterize_bodies_with_jacobian(
        bodies, *views, MOVES, SIZE, CENTRE, backend=backend
    )
    for n, (wanted, wanted_jacobians) in enumerate(reference):
        assert relative(images[n].double(), wanted) < 1e-4
        for part in (slice(0, 3), slice(3, 6)):
            assert relative(jacobians[n, :, part].double(), wanted_jacobians[:, part]) < 2e-4
    plain = rasterize_bodies(bodies, *views, MOVES, SIZE, backend=backend)
    assert relative(plain, images) < 1e-5
    alone = rasterize_bodies(bodies, views[0][1:], views[1][1:], MOVES, SIZE, backend=backend)
    assert torch.equal(alone[0], plain[1])


@pytest.mark.parametrize("backend", ["torch", "warp"])
def test_a_body_may_have_a_place_of_its_own_in_each_view(bodies: Bodies, backend: str) -> None:
    if available_backends()[backend]:
        pytest.skip(f"{backend} does not work here")
    intrinsics, poses = _two_views()
    places = np.stack([MOVES, MOVES[::-1]])
    images, jacobians = rasterize_bodies_with_jacobian(
        bodies, intrinsics, poses, places, SIZE, CENTRE, backend=backend
    )
    plain = rasterize_bodies(bodies, intrinsics, poses, places, SIZE, backend=backend)
    for n in range(2):
        view = intrinsics[n : n + 1], poses[n : n + 1]
        (image,), (jacobian,) = rasterize_bodies_with_jacobian(
            bodies, *view, places[n], SIZE, CENTRE, backend=backend
        )
        assert torch.equal(images[n], image)
        assert relative(jacobians[n], jacobian) < 1e-6
        assert relative(plain[n], image) < 1e-5
    assert relative(images[0], images[1]) > 0.1


def test_the_derivative_is_the_difference_quotient(bodies: Bodies) -> None:
    intrinsic, pose = camera(64)
    # A far cutoff: a pixel that crosses it would jump, by little, but over a small step.
    _, (jacobians,) = rasterize_bodies_with_jacobian(
        bodies, [intrinsic], [pose], MOVES, SIZE, CENTRE, cutoff=8.0
    )
    about, back = np.eye(4), np.eye(4)
    about[:3, 3], back[:3, 3] = CENTRE, -CENTRE
    for axis in range(6):
        step = 1e-4 if axis < 3 else 1e-2
        twist = np.zeros(6)
        twist[axis] = step
        for n, cloud in enumerate(bodies.clouds):
            double = cloud.to(dtype=torch.float64)
            ends = [
                rasterize(
                    double.transformed(about @ exp_se3(sign * twist) @ back @ MOVES[n]),
                    intrinsic,
                    pose,
                    SIZE,
                    cutoff=8.0,
                )
                for sign in (1.0, -1.0)
            ]
            wanted = (ends[0] - ends[1]) / (2 * step)
            assert relative(jacobians[n, axis].double(), wanted) < 2e-3


def test_a_body_behind_the_source_casts_nothing(bodies: Bodies) -> None:
    intrinsic, pose = camera(64)
    away = np.eye(4)
    away[:3, 3] = -2000.0 * pose[2, :3]
    (images,) = rasterize_bodies(bodies, [intrinsic], [pose], [away, np.eye(4), away], SIZE)
    assert float(images[0].max()) == float(images[2].max()) == 0.0
    assert float(images[1].max()) > 0.0


def test_wrong_numbers_of_bodies_are_refused(bodies: Bodies) -> None:
    intrinsic, pose = camera(64)
    with pytest.raises(ValueError, match="3 bodies need as many poses"):
        rasterize_bodies(bodies, [intrinsic], [pose], MOVES[:2], SIZE)
    with pytest.raises(ValueError, match="1 views need as many sets of poses, not 2"):
        rasterize_bodies(bodies, [intrinsic], [pose], np.stack([MOVES, MOVES]), SIZE)
    with pytest.raises(ValueError, match="as many intrinsics"):
        rasterize_bodies(bodies, [intrinsic], [pose, pose], MOVES, SIZE)
    with pytest.raises(ValueError, match="at least one"):
        Bodies(())
