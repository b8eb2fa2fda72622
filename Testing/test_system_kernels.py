"""What kernels are given: memory as they read it, on their device, no more than they can count."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gaussian_scenes import blob, camera, leaves, placed, random_cloud

from RadGSRegLib.drr import occupied_cells, project_volume, project_volume_with_jacobian
from RadGSRegLib.gaussians import (
    Bodies,
    GaussianCloud,
    rasterize,
    rasterize_bodies_with_jacobian,
    tiles,
    voxelize,
    warp_backend,
)
from RadGSRegLib.geometry import Volume, inverse_intrinsic
from RadGSRegLib.system import BLOCK, flat_array, launch, launch_serially, start_warp
from RadGSRegLib.tensors import Lenses, without_host_reads

start_warp()

import warp as wp  # noqa: E402

SIZE = (40, 34)


@wp.kernel
def add_one(numbers: wp.array(dtype=float)) -> None:  # type: ignore[valid-type]
    i = wp.tid()
    numbers[i] = numbers[i] + 1.0


def test_memory_that_a_kernel_would_misread_is_refused() -> None:
    table = torch.zeros(4, 6)
    for gaps in (
        table[:, 0],
        table.T,
        table[:, :3],
        table[0].expand(4, 6),
        torch.ones(()).expand(5),
    ):
        with pytest.raises(ValueError, match="strides"):
            flat_array(gaps)
    for dtype in (torch.float64, torch.float16, torch.int32):
        with pytest.raises(ValueError, match=f"reads torch.float32 was given {dtype}"):
            flat_array(table.to(dtype))
    with pytest.raises(ValueError, match=r"reads torch.int32 was given torch.int64"):
        flat_array(torch.arange(3), torch.int32)
    with pytest.raises(ValueError, match="2147483648 numbers at once"):
        flat_array(torch.empty(2**31, device="meta"))
    for dtype in (torch.float32, torch.int32, torch.uint8):
        tensor = torch.arange(6).reshape(2, 3).to(dtype)
        array = flat_array(tensor, dtype)
        array.numpy()[4] = 9
        assert tensor[1, 1] == 9  # the same memory
    assert flat_array(torch.empty(0, 12)).shape == (0,)


def test_a_launch_is_where_its_arrays_are() -> None:
    tensor = torch.zeros(5)
    array = flat_array(tensor)
    launch(add_one, 5, [array], tensor)
    assert tensor.tolist() == [1.0] * 5
    with pytest.raises(ValueError, match="add_one was given 2147483648 threads"):
        launch(add_one, 2**31, [array], tensor)
    array.device = "cuda:0"
    with pytest.raises(ValueError, match="argument 0 of add_one is on cuda:0, the launch on cpu"):
        launch(add_one, 5, [array], tensor)
    assert tensor.tolist() == [1.0] * 5


def test_a_launch_on_a_gpu_is_on_torchs_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.zeros(5)
    array = flat_array(tensor)
    gpu = SimpleNamespace(is_cuda=True, device="cuda:0")
    told: list[dict[str, object]] = []
    monkeypatch.setattr(
        wp, "stream_from_torch", lambda device: SimpleNamespace(device=device, name="torch's")
    )
    monkeypatch.setattr(wp, "launch", lambda kernel, **how: told.append(how))
    with pytest.raises(ValueError, match="argument 0 of add_one is on cpu, the launch on cuda:0"):
        launch(add_one, 5, [array], gpu)  # type: ignore[arg-type]
    assert told == []
    array.device = "cuda:0"
    launch(add_one, 5, [array], gpu)  # type: ignore[arg-type]
    assert (told[0]["dim"], told[0]["block_dim"]) == (5, BLOCK)
    assert told[0]["stream"].name == "torch's"  # type: ignore[attr-defined]


def test_what_adds_without_atomics_stays_on_the_cpu() -> None:
    gpu = SimpleNamespace(is_cuda=True, device="cuda:0")
    with pytest.raises(ValueError, match="add_one adds without atomics"):
        launch_serially(add_one, 1, [], gpu)  # type: ignore[arg-type]
    tensor = torch.zeros(2)
    launch_serially(add_one, 2, [flat_array(tensor)], tensor)
    assert tensor.tolist() == [1.0, 1.0]


def test_more_pairs_than_can_be_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    intrinsic, pose = camera(40)
    cloud = random_cloud(60, dtype=torch.float32, smallest=3.0)
    scene = (cloud, inverse_intrinsic(intrinsic), torch.as_tensor(pose).float(), SIZE, 4.5)
    warp_backend.rasterize(*scene, lister=tiles.list_tiles)
    monkeypatch.setattr(tiles, "_MOST", 100)
    with pytest.raises(ValueError, match="pairs of Gaussian and tile in one image, at most 100"):
        warp_backend.rasterize(*scene, lister=tiles.list_tiles)


def test_pixels_gather_nothing_from_empty_lists() -> None:
    intrinsic, pose = camera(40)
    cloud = random_cloud(3, dtype=torch.float32)
    away = GaussianCloud(cloud.means + 5000.0, *cloud.tensors[1:])
    scene = (inverse_intrinsic(intrinsic), torch.as_tensor(pose).float(), SIZE)
    for empty in (cloud.select(torch.zeros(3, dtype=torch.bool)), away):
        image = warp_backend.rasterize(empty, *scene, 4.5, lister=tiles.list_tiles)
        assert image.shape == (34, 40)
        assert float(image.abs().max()) == 0.0


def gapped(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers with gaps between them, and in another order where there are rows."""
    if tensor.dim() > 1:
        tensor = tensor.transpose(0, 1).contiguous().transpose(0, 1)
    wide = torch.stack([tensor, torch.full_like(tensor, 7.0)], -1)
    out = wide[..., 0]
    assert not out.is_contiguous()
    return out


def drawn(cloud: GaussianCloud) -> torch.Tensor:
    intrinsic, pose = camera(40)
    return rasterize(cloud, intrinsic, pose, SIZE, backend="warp")


def voxels(cloud: GaussianCloud) -> torch.Tensor:
    grid = np.diag([5.0, 5.0, 5.0, 1.0])
    grid[:3, 3] = -40.0
    return voxelize(cloud, grid, (16, 15, 14), backend="warp")


@pytest.mark.parametrize("compute", [drawn, voxels])
def test_clouds_and_gradients_with_gaps(compute: Callable[[GaussianCloud], torch.Tensor]) -> None:
    cloud = random_cloud(40, dtype=torch.float32, smallest=3.0)
    spread = GaussianCloud(*(gapped(t) for t in cloud.tensors))
    whole = leaves(cloud)
    image = compute(whole)
    assert torch.equal(compute(spread), image.detach())
    weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(2))
    expected = torch.autograd.grad(image, whole.tensors, weights)
    again = compute(whole)
    for gradient, other in zip(
        torch.autograd.grad(again, whole.tensors, gapped(weights)), expected, strict=True
    ):
        assert torch.equal(gradient, other)
    # The gradient of a sum is one number, expanded.
    summed = torch.autograd.grad(compute(whole).sum(), whole.tensors)
    ones = torch.autograd.grad(compute(whole), whole.tensors, torch.ones_like(image))
    for gradient, other in zip(summed, ones, strict=True):
        assert torch.equal(gradient, other)


def test_volumes_and_gradients_with_gaps() -> None:
    volume = blob(dtype=np.float32)
    intrinsic, pose = camera(40)
    scene = (intrinsic, pose, SIZE)
    frame = {"index_to_physical": volume.index_to_physical, "backend": "warp"}
    whole = torch.from_numpy(volume.array).requires_grad_()
    image = project_volume(whole, *scene, **frame)
    assert torch.equal(project_volume(gapped(whole.detach()), *scene, **frame), image.detach())
    turned = Volume(np.asfortranarray(volume.array), volume.index_to_physical)
    assert torch.equal(project_volume(turned, *scene, backend="warp"), image.detach())
    weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(2))
    expected = torch.autograd.grad(image, whole, weights)[0]
    again = torch.autograd.grad(project_volume(whole, *scene, **frame), whole, gapped(weights))[0]
    assert torch.equal(again, expected)
    cells = occupied_cells(volume)
    plain = project_volume_with_jacobian(volume, *scene, np.zeros(3), occupied=cells)
    spread = project_volume_with_jacobian(volume, *scene, np.zeros(3), occupied=gapped(cells))
    assert torch.equal(plain[0], spread[0])
    assert torch.equal(plain[1], spread[1])


def test_bodies_with_gaps() -> None:
    intrinsic, pose = camera(40)
    cloud = random_cloud(30, dtype=torch.float32, smallest=3.0)
    spread = GaussianCloud(*(gapped(t) for t in cloud.tensors))
    lenses, *poses = placed([intrinsic] * 2, [pose] * 2, [[np.eye(4)]] * 2, SIZE)
    centre = torch.zeros(3, dtype=torch.float64)
    turned = Lenses(gapped(lenses.intrinsics), SIZE), *(gapped(p) for p in poses), gapped(centre)
    for as_on_a_gpu in (nullcontext, without_host_reads):
        with as_on_a_gpu():
            plain = rasterize_bodies_with_jacobian(Bodies((cloud,)), lenses, *poses, centre)
            again = rasterize_bodies_with_jacobian(Bodies((spread,)), *turned)
        assert torch.equal(plain[0], again[0])
        assert torch.equal(plain[1], again[1])
