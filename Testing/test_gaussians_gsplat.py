"""The plain-torch side of gsplat as a judge: covariances, projection, tiles and their gradients.

Its functions need neither CUDA nor a compiler. What it has besides, fisheye lenses, spherical
harmonics and blending of colours, has no counterpart here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from gaussian_scenes import camera, placed, random_cloud, relative
from gsplat.cuda import _torch_impl as judge

from RadGSRegLib.gaussians import (
    Bodies,
    GaussianCloud,
    gsplat_backend,
    gsplat_bodies,
    rasterize,
    rasterize_bodies,
    rasterize_bodies_with_jacobian,
    rasterize_with_jacobian,
    voxelize,
    warp_backend,
)
from RadGSRegLib.gaussians.cloud import quaternions_to_matrices
from RadGSRegLib.gaussians.splat_setup import footprint_coefficients, footprint_motion
from RadGSRegLib.gaussians.tiles import TILE, footprint_boxes, list_tiles, tile_counts
from RadGSRegLib.geometry import compose_about, inverse_intrinsic, translation, twist_generators
from RadGSRegLib.tensors import without_host_reads

SIZE = (140, 120)
# gsplat pulls what lies far outside of the picture back in: for it the picture is wide enough.
WIDE = 4096


def view() -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """Intrinsic without skew, which gsplat does not know, and its tensors: intrinsic and pose."""
    intrinsic, pose = camera(128)
    intrinsic[0, 1] = 0.0
    return intrinsic, torch.as_tensor(intrinsic), torch.as_tensor(pose)


def project(
    cloud: GaussianCloud, k: torch.Tensor, pose: torch.Tensor, model: str = "pinhole"
) -> tuple[torch.Tensor, ...]:
    """gsplat's radii (N, 2), means (N, 2) px, depths (N,) mm and conics (N, 3) of a cloud."""
    covariances, _ = judge._quat_scale_to_covar_preci(cloud.quaternions, cloud.scales)
    out = judge._fully_fused_projection(
        cloud.means, covariances, pose[None], k[None], WIDE, WIDE, eps2d=0.0, camera_model=model
    )
    return tuple(part[0] for part in out[:4])


def ours(
    cloud: GaussianCloud, intrinsic: np.ndarray, pose: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same means, depths and conics by our own projection."""
    inverse = torch.as_tensor(inverse_intrinsic(intrinsic)).to(cloud.dtype)
    coefficients, depth = footprint_coefficients(cloud, inverse, pose, 4.5)
    # Half the exponent's second derivative at the centre's pixel is exactly the conic.
    return coefficients[:, :2], depth, coefficients[:, 3:6] / coefficients[:, 6:7]


def test_rotations_covariances_and_precisions() -> None:
    cloud = random_cloud(200)
    turned = judge._quat_to_rotmat(cloud.quaternions)
    torch.testing.assert_close(quaternions_to_matrices(cloud.quaternions), turned)
    covariances, precisions = judge._quat_scale_to_covar_preci(cloud.quaternions, cloud.scales)
    torch.testing.assert_close(cloud.covariances(), covariances)
    factors = cloud.precision_factors()
    torch.testing.assert_close(factors.transpose(1, 2) @ factors, precisions)


def test_a_moved_cloud() -> None:
    cloud = random_cloud(100)
    _, _, pose = view()
    covariances, _ = judge._quat_scale_to_covar_preci(cloud.quaternions, cloud.scales)
    means, spread = judge._world_to_cam(cloud.means, covariances, pose[None])
    moved = cloud.transformed(pose)
    torch.testing.assert_close(moved.means, means[0])
    torch.testing.assert_close(moved.covariances(), spread[0])


@pytest.mark.parametrize("smallest", [0.05, 3.0])
def test_means_depths_and_conics(smallest: float) -> None:
    intrinsic, k, pose = view()
    cloud = random_cloud(100, smallest=smallest)
    _, means, depths, conics = project(cloud, k, pose)
    own_means, own_depths, own_conics = ours(cloud, intrinsic, pose)
    torch.testing.assert_close(own_means, means, rtol=1e-10, atol=1e-8)
    torch.testing.assert_close(own_depths, depths, rtol=1e-12, atol=0.0)
    scale = float(conics.abs().max())
    torch.testing.assert_close(own_conics, conics, rtol=1e-9, atol=1e-10 * scale)
    inverse = torch.as_tensor(inverse_intrinsic(intrinsic))
    with_motion, motion = footprint_motion(cloud, inverse, pose, 4.5)
    torch.testing.assert_close(with_motion[:, :2], means, rtol=1e-10, atol=1e-8)
    torch.testing.assert_close(motion[:, 0], depths, rtol=1e-12, atol=0.0)


def test_gradients_of_the_projection() -> None:
    intrinsic, k, pose = view()
    cloud = random_cloud(40, smallest=2.0)
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(40, n, generator=generator, dtype=torch.float64) for n in (2, 1, 3)]

    def gradients(numbers: Callable[..., tuple[torch.Tensor, ...]]) -> list[torch.Tensor]:
        free = [t.clone().requires_grad_() for t in (*cloud.tensors[:3], torch.zeros(6).to(pose))]
        moved = GaussianCloud(*free[:3], cloud.densities)
        # Along rigid motions: off them an inverse and a transpose are not the same.
        generators = torch.as_tensor(np.asarray(twist_generators()))
        matrix = pose @ (torch.eye(4).to(pose) + torch.einsum("n,nab->ab", free[3], generators))
        means, depths, conics = numbers(moved, matrix)
        parts = zip(weights, (means, depths[:, None], 1e3 * conics), strict=True)
        total = torch.stack([(weight * part).sum() for weight, part in parts]).sum()
        return list(torch.autograd.grad(total, free))

    theirs = gradients(lambda moved, matrix: project(moved, k, matrix)[1:])
    own = gradients(lambda moved, matrix: ours(moved, intrinsic, matrix))
    for mine, other in zip(own, theirs, strict=True):
        assert relative(mine, other) < 1e-9


def test_far_away_the_projection_is_parallel() -> None:
    _, _, pose = view()
    distance = 1e6
    pose[:3, 3] = torch.tensor([0.0, 0.0, distance])
    k = torch.tensor([[1.3, 0.0, 50.0], [0.0, 1.2, 40.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    far = k.clone()
    far[0, 0], far[1, 1] = distance * k[0, 0], distance * k[1, 1]
    cloud = random_cloud(60)
    _, means, _, conics = project(cloud, k, pose, "ortho")
    own_means, _, own_conics = ours(cloud, far.numpy(), pose)
    torch.testing.assert_close(own_means, means, rtol=0.0, atol=2e-2)
    assert relative(own_conics, conics) < 1e-3


def test_footprints_reach_as_far_as_gsplat_says() -> None:
    intrinsic, k, pose = view()
    cloud = random_cloud(200, smallest=0.3)
    behind = cloud.means - 2000.0 * pose[2, :3]
    both = GaussianCloud.concatenate([cloud, GaussianCloud(behind, *cloud.tensors[1:])])
    radii, means, *_ = project(both, k, pose)
    inverse = torch.as_tensor(inverse_intrinsic(intrinsic))
    low, high = footprint_boxes(footprint_coefficients(both, inverse, pose, 3.33)[0], 3.33)
    assert bool((low[200:] > high[200:]).all())
    assert int(radii[200:].max()) == 0
    within = (radii[:200] > 0).all(1)  # the rest lies left of or above what gsplat calls a picture
    assert int(within.sum()) > 100
    half = ((high - low) / 2.0)[:200][within]
    centre = ((high + low) / 2.0)[:200][within]
    # EWA's footprint is the limit of a small Gaussian's; radii are rounded up to whole pixels.
    assert bool((half < radii[:200][within] + 0.01).all())
    assert bool((half > radii[:200][within] - 1.01).all())
    assert float((centre - means[:200][within]).abs().max()) < 0.05


def tile_sets(order: torch.Tensor, first: torch.Tensor) -> list[list[int]]:
    edges = first.tolist()
    return [order[a:b].tolist() for a, b in itertools.pairwise(edges)]


def test_tiles() -> None:
    """Ours lie between gsplat's of boxes rounded down and of boxes a pixel wider, in its order."""
    intrinsic, _, pose = view()
    cloud = random_cloud(150, smallest=3.0)
    inverse = torch.as_tensor(inverse_intrinsic(intrinsic))
    coefficients, _ = footprint_coefficients(cloud, inverse, pose, 4.5)
    lists = list_tiles(coefficients, SIZE, 4.5)
    own = tile_sets(lists.order, lists.first)
    low, high = footprint_boxes(coefficients, 4.5)
    across, down = tile_counts(SIZE)
    number = torch.arange(1, len(low) + 1, dtype=torch.float32)
    sets = []
    half = (high - low) / 2.0
    for radii in (half.floor(), half.ceil() + 1.0):
        centre = (low + high) / 2.0 + 0.5
        _, keys, order = judge._isect_tiles(
            centre[None], radii[None].int(), number[None], TILE, across, down
        )
        offsets = judge._isect_offset_encode(keys, 1, across, down).reshape(-1)
        sets.append(tile_sets(order, torch.cat([offsets, torch.tensor([len(order)])])))
    assert sum(map(len, own)) > 500
    for mine, least, most in zip(own, *sets, strict=True):
        assert mine == sorted(mine)
        assert set(least) <= set(mine) <= set(most)
    assert any(len(mine) < len(most) for mine, most in zip(own, sets[1], strict=True))


@pytest.fixture
def _its_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the gsplat backend list tiles with the plain-torch functions."""
    functions = (judge._isect_tiles, judge._isect_offset_encode)
    monkeypatch.setattr(gsplat_backend, "_functions", lambda: functions)


@pytest.mark.usefixtures("_its_tiles")
def test_gathering_with_its_tiles_equals_scattering() -> None:
    cloud = random_cloud(60, dtype=torch.float32, smallest=3.0)
    intrinsic, pose = camera(40)
    inverse, matrix, size = inverse_intrinsic(intrinsic), torch.as_tensor(pose).float(), (40, 34)
    centre = torch.tensor([1.0, 2.0, 3.0])
    scattered = warp_backend.rasterize(cloud, inverse, matrix, size, 4.5)
    moved = warp_backend.rasterize_with_jacobian(cloud, inverse, matrix, size, centre, 4.5)[1]
    for lister in (list_tiles, gsplat_backend.gsplat_tiles):
        image = warp_backend.rasterize(cloud, inverse, matrix, size, 4.5, lister=lister)
        assert relative(image, scattered) < 1e-6
        jacobian = warp_backend.rasterize_with_jacobian(
            cloud, inverse, matrix, size, centre, 4.5, lister=lister
        )[1]
        assert relative(jacobian, moved) < 5e-6


@pytest.mark.usefixtures("_its_tiles")
def test_bodies_with_its_tiles() -> None:
    clouds = tuple(random_cloud(20, seed=n, dtype=torch.float32, smallest=3.0) for n in (1, 2))
    intrinsic, pose = camera(40)
    shift = np.eye(4)
    shift[:3, 3] = 3.0, -2.0, 5.0
    places = [[np.eye(4), shift]] * 2
    about = (Bodies(clouds), *placed([intrinsic] * 2, [pose, pose @ shift], places, (40, 34)))
    centre = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    image, jacobian = gsplat_bodies.rasterize_with_jacobian(*about, centre, 4.5)
    torch.testing.assert_close(gsplat_bodies.rasterize(*about, 4.5), image)
    others = rasterize_bodies_with_jacobian(*about, centre, backend="warp")
    assert relative(image, others[0]) < 1e-5
    assert relative(jacobian, others[1]) < 1e-4


# One small Gaussian, some pixels wide: what the renderers draw, not what their set-up says.


CLOSE_SIZE, REACH = (80, 76), 6.0
Drawn = tuple[torch.Tensor, torch.Tensor]
Draw = Callable[[GaussianCloud, np.ndarray, torch.Tensor, np.ndarray], Drawn]
"""The picture and its Jacobian of a cloud, by its intrinsic, its pose and a centre."""


def pixels() -> torch.Tensor:
    """The places (2, rows, columns) of the close-up's pixels: u, v."""
    v, u = torch.meshgrid(*(torch.arange(n) for n in reversed(CLOSE_SIZE)), indexing="ij")
    return torch.stack([u, v])


def close_up() -> tuple[GaussianCloud, np.ndarray, torch.Tensor]:
    _, _, pose = view()
    cloud = GaussianCloud(
        torch.tensor([[12.0, -7.0, 9.0]], dtype=torch.float64),
        torch.tensor([[0.03, 0.05, 0.08]], dtype=torch.float64),
        torch.tensor([[0.6, -0.3, 0.5, 0.2]], dtype=torch.float64),
        torch.tensor([0.02], dtype=torch.float64),
    )
    x, y, z = (pose[:3, :3] @ cloud.means[0] + pose[:3, 3]).tolist()
    focal = 80000.0
    intrinsic = np.array([[focal, 0, 0], [0, 1.02 * focal, 0], [0, 0, 1.0]])
    intrinsic[:2, 2] = 40.3 - focal * x / z, 37.6 - 1.02 * focal * y / z
    return cloud, intrinsic, pose


def alone(backend: str, dtype: torch.dtype) -> Draw:
    def draw(cloud: GaussianCloud, k: np.ndarray, pose: torch.Tensor, centre: np.ndarray) -> Drawn:
        about = (cloud.to(dtype=dtype), k, pose, CLOSE_SIZE)
        image = rasterize(*about, cutoff=REACH, backend=backend)
        both = rasterize_with_jacobian(*about, centre, cutoff=REACH, backend=backend)
        torch.testing.assert_close(image, both[0])
        return both

    return draw


def as_body(cloud: GaussianCloud, k: np.ndarray, pose: torch.Tensor, centre: np.ndarray) -> Drawn:
    about = (Bodies((cloud,)), *placed([k], [pose.numpy()], [np.eye(4)], CLOSE_SIZE))
    how = {"cutoff": REACH, "backend": "warp"}
    image, jacobian = rasterize_bodies_with_jacobian(*about, torch.from_numpy(centre), **how)
    torch.testing.assert_close(rasterize_bodies(*about, **how), image)
    return image[0, 0], jacobian[0, 0]


def as_gathered_body(
    cloud: GaussianCloud, k: np.ndarray, pose: torch.Tensor, centre: np.ndarray
) -> Drawn:
    """As on a GPU."""
    with without_host_reads():
        return as_body(cloud, k, pose, centre)


RENDERERS = pytest.mark.parametrize(
    "draw",
    [alone("torch", torch.float64), alone("warp", torch.float32), as_body, as_gathered_body],
    ids=["torch", "warp", "bodies", "bodies gathered"],
)


@RENDERERS
def test_what_is_drawn_of_a_small_gaussian(draw: Draw) -> None:
    cloud, intrinsic, pose = close_up()
    image, _ = draw(cloud, intrinsic, pose, np.zeros(3))
    _, means, _, conics = project(cloud, torch.as_tensor(intrinsic), pose)
    du, dv = pixels() - means[0, :, None, None]
    a, b, c = conics[0].tolist()
    _, precisions = judge._quat_scale_to_covar_preci(cloud.quaternions, cloud.scales)
    source = -pose[:3, :3].T @ pose[:3, 3]
    ray = (cloud.means[0] - source) / (cloud.means[0] - source).norm()
    peak = float(cloud.densities) * math.sqrt(2.0 * math.pi / float(ray @ precisions[0] @ ray))
    expected = peak * torch.exp(-0.5 * (a * du * du + 2.0 * b * du * dv + c * dv * dv))
    assert 10 < int((expected > 0.5 * peak).sum()) < 2000
    assert float((image - expected).abs().max()) < 5e-4 * peak


@RENDERERS
def test_how_what_is_drawn_moves(draw: Draw) -> None:
    """The derivative images move the picture's middle as gsplat moves its mean."""
    cloud, intrinsic, pose = close_up()
    centre = np.array([4.0, -2.0, 7.0])
    image, jacobian = draw(cloud, intrinsic, pose, centre)
    places = pixels().to(image.dtype) - torch.tensor([40.3, 37.6])[:, None, None]
    total = image.double().sum()
    middle = (places * image).double().sum((1, 2)) / total
    moved = (places * jacobian[:, None]).double().sum((2, 3)) / total
    brighter = jacobian.double().sum((1, 2)) / total
    moved = moved - brighter[:, None] * middle

    generators = translation(centre) @ twist_generators() @ translation(-centre)
    k = torch.as_tensor(intrinsic)
    free = pose.clone().requires_grad_()
    mean = project(cloud, k, free)[1][0]
    by_pose = [torch.autograd.grad(mean[n], free, retain_graph=True)[0] for n in (0, 1)]
    tangents = pose @ torch.as_tensor(np.asarray(generators))
    expected = torch.stack([(tangents * g).sum((1, 2)) for g in by_pose], 1)
    # That this is the convention of poses: a finite step along each.
    for n in range(6):
        step = np.zeros(6)
        step[n] = 1e-5
        there = torch.as_tensor(compose_about(pose.numpy(), step, centre))
        change = (project(cloud, k, there)[1][0] - mean.detach()) / 1e-5
        torch.testing.assert_close(change, expected[n], rtol=1e-3, atol=1e-2)
    scale = expected.abs().amax(1)
    assert bool(((moved - expected).abs().amax(1) < 2e-3 * scale).all())


@pytest.mark.parametrize("backend", ["torch", "warp"])
def test_voxels_follow_its_precision(backend: str) -> None:
    cloud = random_cloud(1, smallest=6.0)
    grid = np.eye(4)
    grid[:3, :3] *= 1.5
    grid[:3, 3] = cloud.means[0].numpy() - 20.0
    dtype = torch.float64 if backend == "torch" else torch.float32
    volume = voxelize(
        cloud.to(dtype=dtype), grid, (27, 28, 29), cutoff=6.0, widen=False, backend=backend
    )
    k, j, i = torch.meshgrid(*(torch.arange(n) for n in (29, 28, 27)), indexing="ij")
    offset = 1.5 * torch.stack([i, j, k], -1) - 20.0
    _, precisions = judge._quat_scale_to_covar_preci(cloud.quaternions, cloud.scales)
    square = torch.einsum("kjia,ab,kjib->kji", offset.double(), precisions[0], offset.double())
    expected = float(cloud.densities) * torch.exp(-0.5 * square)
    assert relative(volume.double(), expected) < 1e-5
