"""The volume projector against closed forms, finite differences and itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gaussian_scenes import blob, camera, random_cloud, relative
from hypothesis import given, settings
from hypothesis import strategies as st

from RadGSRegLib.drr import occupied_cells, project_volume, project_volume_with_jacobian
from RadGSRegLib.gaussians import rasterize, voxelize
from RadGSRegLib.geometry import Volume, compose_about

SIZE = (36, 30)
CENTRE = np.array([4.0, -3.0, 6.0])


def test_a_gaussian_voxelized_finely_projects_as_itself() -> None:
    cloud = random_cloud(20, smallest=6.0, dtype=torch.float32)
    grid = np.diag([2.0, 2.0, 2.0, 1.0])
    grid[:3, 3] = -140.0
    voxels = voxelize(cloud, grid, (141, 141, 141), cutoff=8.0).numpy()
    intrinsic, pose = camera(36)
    image = project_volume(Volume(voxels, grid), intrinsic, pose, SIZE)
    expected = rasterize(cloud, intrinsic, pose, SIZE, cutoff=8.0)
    # linear interpolation between 2 mm voxels lowers peaks by h^2 / (12 s^2)
    assert float((image - expected).abs().sum() / expected.sum()) < 0.01


def test_a_box_has_its_chords() -> None:
    array = np.zeros((30, 30, 30))
    array[5:25, 5:25, 5:25] = 0.02
    grid = np.diag([1.0, 1.0, 1.0, 1.0])
    grid[:3, 3] = [-14.5, -14.5, 735.5]
    intrinsic = np.array([[1000.0, 0, 10], [0, 1000.0, 10], [0, 0, 1]])
    image = project_volume(Volume(array, grid), intrinsic, np.eye(4), (21, 21))
    pixel = np.arange(21) - 10.0
    lengths = np.sqrt(1 + (pixel[:, None] ** 2 + pixel[None] ** 2) / 1e6)
    # trilinear edges are ramps of one voxel: together as long as the 20 voxels
    np.testing.assert_allclose(image, 0.02 * 20.0 * lengths, rtol=1e-3)


def test_warp_equals_the_reference() -> None:
    intrinsic, pose = camera(36, 60.0)
    truth = project_volume(blob(), intrinsic, pose, SIZE)
    image = project_volume(blob(dtype=np.float32), intrinsic, pose, SIZE)
    assert image.dtype == torch.float32
    assert relative(image.double(), truth) < 2e-5


def test_the_jacobian_follows_the_pose_convention() -> None:
    intrinsic, pose = camera(36, 60.0)
    image, jacobian = project_volume_with_jacobian(blob(), intrinsic, pose, SIZE, CENTRE)
    assert relative(image, project_volume(blob(), intrinsic, pose, SIZE)) < 1e-12
    rough = blob(dtype=np.float32)
    single = project_volume_with_jacobian(rough, intrinsic, pose, SIZE, CENTRE)[1]
    # a sample on the face between two voxels may take the slope of either
    assert relative(single.double(), jacobian) < 5e-3
    assert float((single - jacobian).abs().mean() / jacobian.abs().mean()) < 5e-5
    # The step is small because the slope changes wherever a sample crosses from voxel to voxel; and
    # held in depth because the lattice of samples stays.
    step = 1e-7
    for index in range(6):
        twist = np.zeros(6)
        twist[index] = step
        up = project_volume(
            blob(), intrinsic, compose_about(pose, twist, CENTRE), SIZE, step_mm=0.75
        )
        down = project_volume(
            blob(), intrinsic, compose_about(pose, -twist, CENTRE), SIZE, step_mm=0.75
        )
        expected = (up - down) / (2 * step)
        assert relative(jacobian[index], expected) < 1e-3


@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.002, 0.1, 1.0]))
@settings(max_examples=20, deadline=None)
def test_empty_cells_are_passed_over_without_a_trace(seed: int, share: float) -> None:
    generator = np.random.default_rng(seed)
    array = generator.random((9, 11, 10)).astype(np.float32)
    # Voxels at the faces too: what lies between them and the outside counts.
    array[generator.random(array.shape) >= share] = 0.0
    sparse = Volume(array, blob().index_to_physical)
    intrinsic, pose = camera(36, 60.0)
    pose = compose_about(pose, 0.3 * generator.standard_normal(6), CENTRE)
    cells = occupied_cells(sparse)
    assert cells.shape == (10, 12, 11)
    plain = project_volume_with_jacobian(sparse, intrinsic, pose, SIZE, CENTRE)
    quick = project_volume_with_jacobian(sparse, intrinsic, pose, SIZE, CENTRE, occupied=cells)
    assert torch.equal(plain[0], quick[0])
    assert torch.equal(plain[1], quick[1])
    if share > 0.01:
        assert float(plain[0].max()) > 0.0
        # The cells are what it goes by.
        nothing = torch.zeros_like(cells)
        none, _ = project_volume_with_jacobian(
            sparse, intrinsic, pose, SIZE, CENTRE, occupied=nothing
        )
        assert float(none.abs().max()) == 0.0


@pytest.mark.parametrize("backend", ["torch", "warp"])
def test_gradients_equal_finite_differences(backend: str) -> None:
    intrinsic, pose = camera(20, 60.0)
    size = (18, 16)
    exact = blob()
    dtype = torch.float64 if backend == "torch" else torch.float32
    voxels = torch.as_tensor(exact.array).to(dtype).requires_grad_()
    matrix = torch.as_tensor(pose).requires_grad_()
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(size[1], size[0], generator=generator, dtype=torch.float64)

    def loss(array: torch.Tensor, to_camera: torch.Tensor, name: str) -> torch.Tensor:
        image = project_volume(
            array,
            intrinsic,
            to_camera,
            size,
            index_to_physical=exact.index_to_physical,
            step_mm=0.75,
            backend=name,
        )
        return (image * weights.to(image.dtype)).sum()

    loss(voxels, matrix, backend).backward()
    assert voxels.grad is not None
    assert matrix.grad is not None
    direction = torch.randn(voxels.shape, generator=generator, dtype=torch.float64)
    array = torch.as_tensor(exact.array)
    # linear in the voxels: any step will do
    change = loss(array + direction, matrix.detach(), "torch") - loss(
        array, matrix.detach(), "torch"
    )
    assert float((voxels.grad.double() * direction).sum()) == pytest.approx(float(change), rel=1e-4)
    step = 1e-7
    expected = torch.zeros(3, 4, dtype=torch.float64)
    for place in np.ndindex(3, 4):
        up, down = torch.as_tensor(pose).clone(), torch.as_tensor(pose).clone()
        up[place] += step
        down[place] -= step
        expected[place] = (loss(array, up, "torch") - loss(array, down, "torch")) / (2 * step)
    assert relative(matrix.grad[:3], expected) < 1e-3


def test_a_finer_step_changes_little() -> None:
    intrinsic, pose = camera(36, 60.0)
    usual = project_volume(blob(), intrinsic, pose, SIZE)
    fine = project_volume(blob(), intrinsic, pose, SIZE, step_mm=0.1)
    assert float((usual - fine).abs().sum() / fine.sum()) < 1e-3


def test_a_volume_behind_the_source_casts_nothing() -> None:
    intrinsic, pose = camera(36)
    pose[2, 3] = -700.0
    for dtype in (np.float32, np.float64):
        assert float(project_volume(blob(dtype=dtype), intrinsic, pose, SIZE).abs().max()) == 0.0


def test_senseless_arguments_are_refused() -> None:
    intrinsic, pose = camera(36)
    with pytest.raises(ValueError, match="index_to_physical"):
        project_volume(torch.zeros(3, 3, 3), intrinsic, pose, SIZE)
    with pytest.raises(ValueError, match="size"):
        project_volume(blob(), intrinsic, pose, (3, 0))
    with pytest.raises(ValueError, match="step"):
        project_volume(blob(), intrinsic, pose, SIZE, step_mm=0.0)
    with pytest.raises(ValueError, match="backend"):
        project_volume(blob(), intrinsic, pose, SIZE, backend="glsl")
    with pytest.raises(ValueError, match="last row"):
        project_volume(blob(), intrinsic.T, pose, SIZE)
    cells = occupied_cells(blob())[1:]
    with pytest.raises(ValueError, match="occupied cells"):
        project_volume_with_jacobian(blob(), intrinsic, pose, SIZE, CENTRE, occupied=cells)
