"""Bodies rendered together against each one rendered by the rasterizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from gaussian_scenes import camera, placed, random_cloud, relative
from host_reads import counted_host_reads
from hypothesis import given, settings
from hypothesis import strategies as st

from RadGSRegLib.gaussians import (
    Bodies,
    available_backends,
    rasterize,
    rasterize_bodies,
    rasterize_bodies_with_jacobian,
    rasterize_with_jacobian,
)
from RadGSRegLib.geometry import exp_se3
from RadGSRegLib.tensors import Lenses, without_host_reads

SIZE = (70, 64)
CENTRE = np.array([4.0, -7.0, 11.0])
ABOUT = torch.from_numpy(CENTRE)
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


@contextmanager
def rendering(way: str) -> Iterator[str]:
    """The backend of a way to render: "gathering" is warp as on a GPU."""
    backend = "warp" if way == "gathering" else way
    if available_backends()[backend]:
        pytest.skip(f"{backend} does not work here")
    if way == "gathering":
        with without_host_reads():
            yield backend
    else:
        yield backend


WAYS = pytest.mark.parametrize("way", ["torch", "warp", "gathering"])


@WAYS
def test_bodies_are_what_the_reference_renders_one_by_one(
    bodies: Bodies, reference: list[tuple[torch.Tensor, torch.Tensor]], way: str
) -> None:
    intrinsics, poses = _two_views()
    scene = placed(intrinsics, poses, MOVES, SIZE)
    with rendering(way) as backend:
        images, jacobians = rasterize_bodies_with_jacobian(bodies, *scene, ABOUT, backend=backend)
        plain = rasterize_bodies(bodies, *scene, backend=backend)
        second = placed(intrinsics[1:], poses[1:], MOVES, SIZE)
        alone = rasterize_bodies(bodies, *second, backend=backend)
    for n, (wanted, wanted_jacobians) in enumerate(reference):
        assert relative(images[n].double(), wanted) < 1e-4
        for part in (slice(0, 3), slice(3, 6)):
            assert relative(jacobians[n, :, part].double(), wanted_jacobians[:, part]) < 2e-4
    assert relative(plain, images) < 1e-5
    assert torch.equal(alone[0], plain[1])


@WAYS
def test_a_body_may_have_a_place_of_its_own_in_each_view(bodies: Bodies, way: str) -> None:
    intrinsics, poses = _two_views()
    places = np.stack([MOVES, MOVES[::-1]])
    scene = placed(intrinsics, poses, places, SIZE)
    with rendering(way) as backend:
        images, jacobians = rasterize_bodies_with_jacobian(bodies, *scene, ABOUT, backend=backend)
        plain = rasterize_bodies(bodies, *scene, backend=backend)
        for n in range(2):
            view = placed(intrinsics[n : n + 1], poses[n : n + 1], places[n], SIZE)
            (image,), (jacobian,) = rasterize_bodies_with_jacobian(
                bodies, *view, ABOUT, backend=backend
            )
            assert torch.equal(images[n], image)
            assert relative(jacobians[n], jacobian) < 1e-6
            assert relative(plain[n], image) < 1e-5
    assert relative(images[0], images[1]) > 0.1


@given(seed=st.integers(0, 10_000), views=st.integers(1, 4), cutoff=st.floats(1.0, 8.0))
@settings(max_examples=25, deadline=None)
def test_gathering_is_scattering(seed: int, views: int, cutoff: float) -> None:
    """Bodies of any number of Gaussians, at the picture's edges, behind the source and none."""
    rng = np.random.default_rng(seed)
    counts = rng.choice([0, 1, 7, 60], size=rng.integers(1, 4)).tolist()
    clouds = [random_cloud(max(n, 1), seed=seed + n, dtype=torch.float32) for n in counts]
    bodies = Bodies(tuple(c.select(torch.arange(n)) for c, n in zip(clouds, counts, strict=True)))
    size = tuple(rng.integers(1, 40, 2).tolist())
    intrinsic, pose = camera(max(size))
    twists = rng.standard_normal((views, len(counts), 6)) * [0.3, 0.3, 0.3, 40.0, 40.0, 300.0]
    scene = placed([intrinsic] * views, [pose] * views, exp_se3(twists), size)
    how = {"cutoff": cutoff, "backend": "warp"}
    image, jacobian = rasterize_bodies_with_jacobian(bodies, *scene, ABOUT, **how)
    plain = rasterize_bodies(bodies, *scene, **how)
    with without_host_reads():
        gathered = rasterize_bodies_with_jacobian(bodies, *scene, ABOUT, **how)
        values = rasterize_bodies(bodies, *scene, **how)
    largest = 1e-9 + float(image.max())
    assert float((gathered[0] - image).abs().max()) < 2e-6 * largest
    assert float((values - plain).abs().max()) < 2e-6 * largest
    for part in (slice(0, 3), slice(3, 6)):
        largest = 1e-9 + float(jacobian[:, :, part].abs().max())
        difference = (gathered[1][:, :, part] - jacobian[:, :, part]).abs().max()
        assert float(difference) < 1e-5 * largest


def test_gathering_reads_nothing_on_the_host_and_repeats_its_bits(bodies: Bodies) -> None:
    scene = placed(*_two_views(), MOVES, SIZE)
    with without_host_reads():
        with counted_host_reads() as reads:
            assert float(ABOUT[0]) == 4.0
            assert reads == {"__float__": 1}
        with counted_host_reads() as reads:
            first = rasterize_bodies_with_jacobian(bodies, *scene, ABOUT, backend="warp")
            plain = rasterize_bodies(bodies, *scene, backend="warp")
            assert not reads
        for _ in range(2):
            again = rasterize_bodies_with_jacobian(bodies, *scene, ABOUT, backend="warp")
            assert all(torch.equal(one, two) for one, two in zip(again, first, strict=True))
            assert torch.equal(rasterize_bodies(bodies, *scene, backend="warp"), plain)


def test_the_derivative_is_the_difference_quotient(bodies: Bodies) -> None:
    intrinsic, pose = camera(64)
    # A far cutoff: a pixel that crosses it would jump, by little, but over a small step.
    scene = placed([intrinsic], [pose], MOVES, SIZE)
    _, (jacobians,) = rasterize_bodies_with_jacobian(bodies, *scene, ABOUT, cutoff=8.0)
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
    scene = placed([intrinsic], [pose], [away, np.eye(4), away], SIZE)
    for way in ("warp", "gathering"):
        with rendering(way) as backend:
            (images,) = rasterize_bodies(bodies, *scene, backend=backend)
        assert float(images[0].max()) == float(images[2].max()) == 0.0
        assert float(images[1].max()) > 0.0


def test_bodies_go_to_another_device(bodies: Bodies) -> None:
    assert bodies.to("cpu") is bodies
    moved = bodies.to("meta")
    assert moved.device.type == moved.first.device.type == moved.clouds[0].device.type == "meta"
    assert bodies.first.tolist() == [0, 200, 201, 281]


def test_wrong_numbers_of_bodies_are_refused(bodies: Bodies) -> None:
    intrinsic, pose = camera(64)
    lenses, poses, moves = placed([intrinsic], [pose], MOVES, SIZE)
    with pytest.raises(ValueError, match="3 bodies need as many poses"):
        rasterize_bodies(bodies, lenses, poses, moves[:2])
    with pytest.raises(ValueError, match="1 views need as many sets of poses, not 2"):
        rasterize_bodies(bodies, lenses, poses, torch.stack([moves, moves]))
    with pytest.raises(ValueError, match="1 lenses need as many poses"):
        rasterize_bodies(bodies, lenses, torch.cat([poses, poses]), moves)
    with pytest.raises(ValueError, match="bodies on cpu need lenses and poses there"):
        rasterize_bodies(bodies, lenses, poses.to("meta"), moves)
    with pytest.raises(ValueError, match="bodies on cpu need lenses and poses there"):
        rasterize_bodies(bodies, Lenses(lenses.intrinsics.to("meta"), SIZE), poses, moves)
    with pytest.raises(ValueError, match="a centre is"):
        rasterize_bodies_with_jacobian(bodies, lenses, poses, moves, ABOUT[:2])
    with pytest.raises(ValueError, match="cutoff"):
        rasterize_bodies(bodies, lenses, poses, moves, cutoff=0.5)
    with pytest.raises(ValueError, match="at least one"):
        Bodies(())
