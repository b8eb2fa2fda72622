"""Many pictures of voxels in one launch: as one at a time, and as the reference in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gaussian_scenes import blob, camera, relative
from host_reads import counted_host_reads
from hypothesis import given, settings
from hypothesis import strategies as st
from measuring.kernel_work import launches

from RadGSRegLib.drr import (
    Voxels,
    occupied_cells,
    project_pictures,
    project_pictures_with_jacobian,
    project_volume,
    project_volume_with_jacobian,
    warp_backend,
)
from RadGSRegLib.drr.grid_rays import depth_lattice, depth_planes
from RadGSRegLib.geometry import Volume, compose_about, exp_se3
from RadGSRegLib.tensors import Lenses, without_host_reads

SIZE = (36, 30)
CENTRE = np.array([4.0, -3.0, 6.0])
ABOUT = torch.from_numpy(CENTRE)


def views(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Intrinsics and poses that look at the blob from all sides, one of them half past it."""
    intrinsic, pose = camera(36, 60.0)
    rng = np.random.default_rng(seed)
    scales = np.ones((count, 3, 1))
    scales[:, :2, 0] = rng.uniform(0.8, 1.2, (count, 2))
    # The field is 40 mm wide where the blob is, and that about as much.
    twists = rng.uniform(-1.0, 1.0, (count, 6)) * [1.5, 1.5, 1.5, 5.0, 5.0, 5.0]
    twists[-1, 3] = 15.0
    return intrinsic * scales, compose_about(np.broadcast_to(pose, (count, 4, 4)), twists, CENTRE)


def scene(count: int, seed: int = 0) -> tuple[Lenses, torch.Tensor]:
    intrinsics, poses = views(count, seed)
    return Lenses.of(intrinsics, SIZE), torch.from_numpy(poses)


def stacked(volumes: list[Volume]) -> Voxels:
    first = Voxels.of(volumes[0])
    values = torch.stack([Voxels.of(v).values for v in volumes])
    return Voxels(values, first.index_to_physical, first.spacing_mm)


@given(seed=st.integers(0, 10_000), count=st.integers(1, 4), shared=st.booleans())
@settings(max_examples=15, deadline=None)
def test_pictures_are_what_the_reference_projects(seed: int, count: int, shared: bool) -> None:
    lenses, poses = scene(count, seed)
    volumes = [blob(seed + n) for n in range(1 if shared else count)]
    rough = [Volume(v.array.astype(np.float32), v.index_to_physical) for v in volumes]
    exact, single = (
        (Voxels.of(given[0]) if shared else stacked(given)) for given in (volumes, rough)
    )
    truth, slopes = project_pictures_with_jacobian(exact, lenses, poses, ABOUT)
    assert truth.dtype == torch.float64
    for n, (k, pose) in enumerate(zip(*views(count, seed), strict=True)):
        alone = project_volume(volumes[0 if shared else n], k, pose, SIZE)
        assert float(alone.max()) > 0.0
        assert relative(truth[n], alone) < 1e-12
    image, jacobian = project_pictures_with_jacobian(single, lenses, poses, ABOUT)
    assert image.dtype == torch.float32
    assert relative(image.double(), truth) < 3e-5
    # A sample on the face between two voxels may take either slope: up to 5e-4 in 400 scenes.
    assert float((jacobian - slopes).abs().mean() / slopes.abs().mean()) < 3e-3
    assert relative(project_pictures(exact, lenses, poses), truth) < 1e-12
    assert relative(project_pictures(single, lenses, poses).double(), truth) < 3e-5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_picture_is_as_if_alone(dtype: type) -> None:
    """One volume for all or one for each, whatever the number of threads."""
    volumes = [blob(n, dtype) for n in range(3)]
    for n, other in enumerate(volumes):
        other.array[3 * n : 3 * n + 4] = 0.0
    lenses, poses = scene(3)
    own = project_pictures_with_jacobian(stacked(volumes), lenses, poses, ABOUT)
    shared = project_pictures_with_jacobian(Voxels.of(volumes[1]), lenses, poses, ABOUT)
    cells = Voxels.of(volumes[1], occupied=True)
    quick = project_pictures_with_jacobian(cells, lenses, poses, ABOUT)
    assert torch.equal(quick[0], shared[0])
    assert torch.equal(quick[1], shared[1])
    assert torch.equal(
        project_pictures(cells, lenses, poses),
        project_pictures(Voxels.of(volumes[1]), lenses, poses),
    )
    for n, (k, pose) in enumerate(zip(*views(3), strict=True)):
        for many, volume in ((own, volumes[n]), (shared, volumes[1])):
            alone = project_volume_with_jacobian(volume, k, pose, SIZE, CENTRE)
            assert torch.equal(many[0][n], alone[0])
            assert relative(many[1][n], alone[1]) < 1e-5


def test_the_number_of_threads_changes_no_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    lenses, poses = scene(3)
    voxels = stacked([blob(n, np.float32) for n in range(3)])
    results = []
    for threads in (1, 2, 7):
        monkeypatch.setattr(warp_backend, "worker_count", lambda threads=threads: threads)
        results.append(project_pictures_with_jacobian(voxels, lenses, poses, ABOUT))
    for image, jacobian in results[1:]:
        assert torch.equal(image, results[0][0])
        assert torch.equal(jacobian, results[0][1])


def test_one_launch_and_no_look_at_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp_backend, "worker_count", lambda: 1)
    lenses, poses = scene(3)
    voxels = Voxels.of(blob(dtype=np.float32), occupied=True)
    with without_host_reads(), counted_host_reads() as reads:
        project_pictures(voxels, lenses, poses)
        project_pictures_with_jacobian(voxels, lenses, poses, ABOUT, step_mm=0.7)
    assert not reads
    work = launches(lambda: project_pictures_with_jacobian(voxels, lenses, poses, ABOUT))
    assert work.kernels == {"drr.warp_kernels.project_with_moments": 1}
    one_by_one = [
        launches(
            lambda n=n: project_pictures_with_jacobian(
                voxels, lenses.part(slice(n, n + 1)), poses[n : n + 1], ABOUT
            )
        )
        for n in range(3)
    ]
    assert work.visited == sum(each.visited for each in one_by_one) > 0
    assert work.needed == sum(each.needed for each in one_by_one) < work.visited


@given(seed=st.integers(0, 10_000), step=st.floats(0.05, 20.0))
def test_planes_are_those_of_each_pictures_lattice(seed: int, step: float) -> None:
    """In front of the source, around it and behind it."""
    rng = np.random.default_rng(seed)
    poses = exp_se3(rng.standard_normal((5, 6)) * [2.0, 2.0, 2.0, 50.0, 50.0, 500.0])
    to_camera = poses @ blob().index_to_physical
    planes = depth_planes(torch.from_numpy(to_camera), (20, 24, 22), step)
    assert planes.dtype == torch.int32
    for (first, stop), matrix in zip(planes.tolist(), to_camera, strict=True):
        lattice = depth_lattice(matrix, (20, 24, 22), step)
        if lattice.first == lattice.stop:
            assert first == stop
        else:
            assert (first, stop) == (lattice.first, lattice.stop)


def test_poses_that_are_no_numbers_end_at_once() -> None:
    lenses, poses = scene(3)
    poses[0, 0, 0], poses[1, 2, 3] = np.nan, np.inf
    voxels = Voxels.of(blob(dtype=np.float32))
    image = project_pictures(voxels, lenses, poses)
    assert float(image[:2].nan_to_num().abs().max()) == 0.0
    assert float(image[2].abs().max()) == float(
        project_pictures(voxels, lenses.part(slice(2, 3)), poses[2:]).abs().max()
    )


def test_what_does_not_go_together_is_refused() -> None:
    lenses, poses = scene(2)
    volume = blob(dtype=np.float32)
    voxels = Voxels.of(volume, occupied=True)
    with pytest.raises(ValueError, match="2 lenses need as many poses"):
        project_pictures(voxels, lenses, poses[:1])
    with pytest.raises(ValueError, match="2 pictures need as many volumes, or one, not 3"):
        project_pictures(stacked([volume] * 3), lenses, poses)
    with pytest.raises(ValueError, match="voxels on cpu need lenses and poses there"):
        project_pictures(voxels, lenses, poses.to("meta"))
    with pytest.raises(ValueError, match="a step is positive"):
        project_pictures(voxels, lenses, poses, step_mm=0.0)
    matrix = voxels.index_to_physical
    with pytest.raises(ValueError, match="three axes"):
        Voxels(torch.zeros(3, 3), matrix, 1.0)
    with pytest.raises(ValueError, match="index_to_physical"):
        Voxels(voxels.values, matrix[:3], 1.0)
    for cells in (occupied_cells(volume)[1:], occupied_cells(volume).bool()):
        with pytest.raises(ValueError, match="occupied cells"):
            Voxels(voxels.values, matrix, 1.0, cells)
    with pytest.raises(ValueError, match="occupied cells"):
        Voxels(voxels.values[None], matrix, 1.0, voxels.occupied)


def test_voxels_go_to_another_device() -> None:
    voxels = Voxels.of(blob(), occupied=True)
    assert voxels.to("cpu") is voxels
    assert voxels.values.dtype == torch.float64
    assert voxels.spacing_mm == pytest.approx(1.5)
    moved = voxels.to("meta")
    assert moved.device.type == "meta"
    assert moved.occupied is not None
    assert moved.occupied.device.type == moved.physical_to_index.device.type == "meta"
