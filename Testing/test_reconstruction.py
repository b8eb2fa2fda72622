"""Reconstruction by optimisation: losses, calibration, with a prior and from X-rays alone."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from gaussian_scenes import random_cloud
from torch import Tensor

from RadGSRegLib.cases import View, options_from
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.gaussians import GaussianCloud, rasterize, voxelize
from RadGSRegLib.geometry import Camera, Volume
from RadGSRegLib.reconstruction import ReconstructionOptions, reconstruct_from_views, with_prior
from RadGSRegLib.reconstruction.backdrop import Backdrop
from RadGSRegLib.reconstruction.box import box_of_cloud, cube
from RadGSRegLib.reconstruction.calibration import calibrate
from RadGSRegLib.reconstruction.density_control import DensityControl, halves
from RadGSRegLib.reconstruction.free_cloud import FreeCloud
from RadGSRegLib.reconstruction.losses import image_losses, ssim_map, total_variation
from RadGSRegLib.reconstruction.observation import observe
from RadGSRegLib.views import guess_sign, prepare_view

CENTRE = np.array([12.0, -140.0, 35.0])
QUICK = ReconstructionOptions(
    pixel_mm=2.0, spacing_mm=2.0, box_mm=64.0, fresh_steps=60, fresh_count=600, most=1200
)
WITH_PRIOR = ReconstructionOptions(pixel_mm=1.5, spacing_mm=2.0, prior_steps=16)


def bone(count: int = 400, seed: int = 0) -> GaussianCloud:
    """A body and an arch behind it, of small Gaussians, about CENTRE."""
    generator = torch.Generator().manual_seed(seed)
    n = count // 2
    body = torch.randn(n, 3, generator=generator)
    body *= 15.0 / body.norm(dim=1, keepdim=True) * torch.rand(n, 1, generator=generator) ** 0.2
    arch = (torch.rand(count - n, 3, generator=generator) - 0.5) * torch.tensor([44.0, 8.0, 8.0])
    arch += torch.tensor([0.0, 22.0, 4.0])
    means = torch.cat([body, arch]) + torch.as_tensor(CENTRE, dtype=torch.float32)
    return GaussianCloud(
        means,
        1.5 + torch.rand(count, 3, generator=generator),
        torch.randn(count, 4, generator=generator),
        0.01 + 0.02 * torch.rand(count, generator=generator),
    )


def camera(angle_deg: float, tilt_deg: float = 0.0, edge: int = 160) -> Camera:
    """A C-arm 750 mm from CENTRE, 1 mm pixels at the detector."""
    a, b = np.deg2rad([angle_deg, tilt_deg])
    forward = np.array([np.sin(a) * np.cos(b), np.cos(a) * np.cos(b), np.sin(b)])
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = np.array([0.0, 0.0, 750.0]) - pose[:3, :3] @ CENTRE
    middle = (edge - 1) / 2.0
    intrinsic = np.array([[1124.0, 0.0, middle], [0.0, 1124.0, middle], [0.0, 0.0, 1.0]])
    return Camera(intrinsic, pose, edge, edge)


def picture(cloud: GaussianCloud, seen_by: Camera) -> np.ndarray:
    image = rasterize(cloud, seen_by.intrinsic, seen_by.world_to_camera, seen_by.size)
    return image.numpy()


def exact_views(cloud: GaussianCloud, count: int) -> list[View]:
    """Line integrals from ``count`` directions over half a turn, no two in one plane."""
    views = []
    for k in range(count):
        seen_by = camera(180.0 * k / count + 5.0, 12.0 * (-1) ** k)
        views.append(View(str(k), picture(cloud, seen_by), seen_by, (1.0, 1.0), "attenuation"))
    return views


def display_views(cloud: GaussianCloud, dark_bone: bool = True) -> list[View]:
    """AP and LA through a curve, a slope, a neighbour's shadow and noise."""
    generator = np.random.default_rng(3)
    shift = torch.tensor([4.0, 3.0, 34.0])
    other = GaussianCloud(cloud.means + shift, *cloud.tensors[1:])
    views = []
    for name, angle in (("AP", 3.0), ("LA", 92.0)):
        seen_by = camera(angle, 6.0)
        line = picture(cloud, seen_by) + picture(other, seen_by)
        rows, columns = np.mgrid[0:160, 0:160] / 160.0
        line = line + 1.5 + 0.6 * columns - 0.4 * rows**2
        line = line + 0.01 * generator.standard_normal(line.shape)
        shown = 4000.0 * np.tanh(0.5 * line)
        pixels = (5000.0 - shown if dark_bone else shown).astype(np.float32)
        views.append(View(name, pixels, seen_by, (1.0, 1.0), "display"))
    return views


def bent(cloud: GaussianCloud, amount: float) -> GaussianCloud:
    """Wider in x, lower in z."""
    centre = torch.as_tensor(CENTRE, dtype=torch.float32)
    stretch = torch.tensor([1.0 + amount, 1.0, 1.0 - amount])
    return GaussianCloud((cloud.means - centre) * stretch + centre, *cloud.tensors[1:])


def error(volume: Volume, truth: GaussianCloud) -> float:
    """Root mean square difference over the root mean square truth, on the volume's grid."""
    wanted = voxelize(truth, volume.index_to_physical, volume.size).numpy()
    return float(np.linalg.norm(volume.array - wanted) / np.linalg.norm(wanted))


def same(a: GaussianCloud, b: GaussianCloud) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) for x, y in zip(a.tensors, b.tensors, strict=True)
    )


# Losses


def test_ssim_is_monais(generator: torch.Generator) -> None:
    a = torch.rand(40, 33, generator=generator, dtype=torch.float64)
    b = (a + 0.2 * torch.rand(40, 33, generator=generator, dtype=torch.float64)).clamp(0, 1)
    metrics = pytest.importorskip("monai.metrics.regression", reason="monai is not installed")
    value, _ = metrics.compute_ssim_and_cs(
        a[None, None],
        b[None, None],
        spatial_dims=2,
        kernel_size=(11, 11),
        kernel_sigma=(1.5, 1.5),
        data_range=1.0,
        kernel_type="gaussian",
        k1=0.01,
        k2=0.03,
    )
    assert torch.allclose(ssim_map(a, b), value[0, 0].to(a.dtype), atol=1e-5)


def test_ssim_refuses_what_it_cannot_compare() -> None:
    with pytest.raises(ValueError, match="at least 11"):
        ssim_map(torch.zeros(8, 40), torch.zeros(8, 40))
    with pytest.raises(ValueError, match="one shape"):
        ssim_map(torch.zeros(12, 40), torch.zeros(40, 12))


def test_losses_see_only_weighted_pixels(generator: torch.Generator) -> None:
    a = torch.rand(30, 30, generator=generator)
    b = a.clone()
    weight = torch.ones(30, 30)
    weight[:, 20:] = 0.0
    b[:, 20:] = 5.0
    assert all(float(loss) == pytest.approx(0.0, abs=1e-5) for loss in image_losses(a, b, weight))
    b[:, :10] += 0.1
    l1, dssim = image_losses(a, b, weight)
    assert float(l1) == pytest.approx(0.05, abs=1e-4)
    assert float(dssim) > 0.0


def test_total_variation_by_hand() -> None:
    ramp = torch.arange(4.0).expand(3, 5, 4)
    assert float(total_variation(ramp)) == pytest.approx(1.0 / 3.0)


def test_gradients_of_the_losses(generator: torch.Generator) -> None:
    target = torch.rand(12, 11, generator=generator, dtype=torch.float64)
    image = torch.rand(12, 11, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.rand(12, 11, generator=generator, dtype=torch.float64)

    def both(x: Tensor) -> Tensor:
        return torch.stack(image_losses(x, target, weight)).sum()

    assert torch.autograd.gradcheck(both, (image,))


# Parts


def test_halves_keep_mass_centre_and_covariance() -> None:
    cloud = bone(20)
    cloud = GaussianCloud(*(t.double() for t in cloud.tensors))
    a, b = halves(cloud)
    assert torch.allclose(a.masses() + b.masses(), cloud.masses())
    assert torch.allclose((a.means + b.means) / 2, cloud.means)
    offset = (b.means - a.means) / 2
    whole = a.covariances() + offset[:, :, None] * offset[:, None, :]
    assert torch.allclose(whole, cloud.covariances())


def test_density_control_drops_the_faint_and_the_lost() -> None:
    cloud = bone(10)
    means, densities = cloud.means.clone(), cloud.densities.clone()
    means[0] += 500.0
    densities[1] *= 1e-4
    cloud = GaussianCloud(means, cloud.scales, cloud.quaternions, densities)
    keep = DensityControl(most=100).keep(cloud, CENTRE - 60.0, CENTRE + 60.0)
    assert keep.tolist() == [False, False, *[True] * 8]


def test_density_control_splits_where_gradients_are_large_and_not_too_many() -> None:
    gradients = torch.tensor([1.0, 9.0, 1.0, 8.0, 1.0, 7.0])
    assert DensityControl(most=100, split_share=0.5).to_split(gradients).tolist() == [1, 3, 5]
    assert DensityControl(most=8, split_share=0.5).to_split(gradients).tolist() == [1, 3]
    assert DensityControl(most=6).to_split(gradients).tolist() == []


def test_a_free_cloud_is_its_start_and_every_number_moves() -> None:
    start = bone(30)
    free = FreeCloud(start, narrowest_mm=0.3)
    for got, wanted in zip(free.cloud().tensors, start.tensors, strict=True):
        assert torch.allclose(got, wanted, rtol=1e-4)
    view = camera(20.0)
    target = torch.from_numpy(picture(bone(30, seed=1), view))
    for _ in range(2):
        cloud = free.cloud()
        image = rasterize(cloud, view.intrinsic, view.world_to_camera, view.size)
        free.step((image - target).abs().mean(), 1.0)
    for got, wanted in zip(free.cloud().tensors, start.tensors, strict=True):
        assert bool(
            (got != wanted).flatten(1).any(1).all() if got.dim() > 1 else (got != wanted).all()
        )
    kept = torch.arange(5, 30)
    memory = free.optimizer.state[free.tensors[0]]["exp_avg"][kept].clone()
    free.keep(kept, start.select(torch.arange(3)))
    state = free.optimizer.state[free.tensors[0]]["exp_avg"]
    assert len(free.cloud()) == 28
    assert torch.equal(state[:25], memory)
    assert not state[25:].any()


def test_narrow_gaussians_of_a_free_cloud_can_move_by_a_part_of_a_step() -> None:
    start = bone(4)
    scales = torch.tensor([2.0, 2.0, 4.0, 8.0])[:, None].expand(4, 3)
    start = GaussianCloud(start.means, scales, start.quaternions, start.densities)
    moved = []
    for slower in (0.0, 1.5):
        free = FreeCloud(start, narrowest_mm=0.3, slower=slower)
        before = [tensor.detach().clone() for tensor in free.tensors]
        cloud = free.cloud()
        free.step(sum(tensor.square().sum() for tensor in cloud.tensors), 1.0)
        moved.append([now - old for now, old in zip(free.tensors, before, strict=True)])
    share = (torch.tensor([2.0, 2.0, 4.0, 8.0]) / 8.0) ** 1.5
    for whole, part in zip(*moved, strict=True):
        wanted = share.view(-1, *[1] * (whole.ndim - 1)) * whole
        assert bool(whole.any())
        assert torch.allclose(part, wanted, rtol=1e-2, atol=1e-6)


def test_a_backdrop_is_whatever_is_quadratic(generator: torch.Generator) -> None:
    rows, columns = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    quadratic = 3.0 + 0.1 * rows - 0.2 * columns + 0.01 * rows * columns + 0.003 * columns**2
    weight = (torch.rand(20, 30, generator=generator) > 0.3).float()
    assert torch.allclose(Backdrop(weight).of(quadratic), quadratic, atol=1e-3)
    noise = torch.rand(20, 30, generator=generator)
    backdrop = Backdrop(weight)
    left = noise - backdrop.of(noise)
    assert float(backdrop.of(left).abs().max()) < 1e-4


def test_a_window_shows_what_the_view_shows() -> None:
    cloud = bone()
    box = cube(CENTRE, 64.0, 2.0)
    view = exact_views(cloud, 2)[0]
    seen = observe(prepare_view(view), box.corners, 1.2)
    image = torch.from_numpy(picture(cloud, seen.camera))
    assert seen.offset_known
    assert float((seen.image - image).abs().max()) < 0.05 * float(image.max())
    uv = seen.camera.project(box.corners)
    assert uv.min() >= -1e-6
    assert (uv.max(0) <= np.array(seen.camera.size)).all()


def test_a_view_that_looks_elsewhere_is_refused() -> None:
    view = prepare_view(exact_views(bone(), 2)[0])
    with pytest.raises(InputError, match="next to nothing"):
        observe(view, cube(CENTRE + [0.0, 0.0, 300.0], 64.0, 2.0).corners, 1.5)
    behind = CENTRE - 800.0 * view.camera.view_direction_world
    with pytest.raises(InputError, match="behind the source"):
        observe(view, cube(behind, 64.0, 2.0).corners, 1.5)


@pytest.mark.parametrize("dark_bone", [True, False])
def test_calibration_undoes_curve_slope_and_polarity(dark_bone: bool) -> None:
    cloud = bone()
    box = box_of_cloud(cloud, 2.0)
    for view in display_views(cloud, dark_bone):
        seen = observe(prepare_view(view), box.corners, 1.2)
        rendered = torch.from_numpy(picture(cloud, seen.camera))
        target = calibrate(seen, rendered, 1.2)
        assert (target.gain < 0) == dark_bone
        sign = guess_sign(seen.image, seen.valid, seen.camera, CENTRE, 1.2)
        assert sign == (-1 if dark_bone else 1)
        l1, _ = image_losses(target.image / target.scale, rendered / target.scale, target.weight)
        assert float(l1) < 0.1


def test_calibration_trusts_nothing_where_nothing_fits() -> None:
    cloud = bone()
    view = exact_views(cloud, 2)[0]
    upside = replace(view, pixels=-view.pixels)
    seen = observe(prepare_view(upside), box_of_cloud(cloud, 2.0).corners, 1.5)
    target = calibrate(seen, torch.from_numpy(picture(cloud, seen.camera)), 1.5)
    assert not bool(target.weight.any())


# With a prior


def test_a_prior_that_is_right_stays() -> None:
    cloud = bone()
    done = reconstruct_from_views(
        display_views(cloud), prior_cloud=cloud, centre_world=CENTRE, options=WITH_PRIOR
    )
    assert error(done.volume, cloud) < 0.02
    assert done.quality["prior"] == "ct"
    assert json.loads(json.dumps(done.quality)) == done.quality


@pytest.mark.parametrize("kind", ["display", "attenuation"])
def test_a_vertebra_that_has_changed_its_shape_is_followed(kind: str) -> None:
    prior = bone()
    truth = bent(prior, 0.12)
    views = display_views(truth) if kind == "display" else exact_views(truth, 3)
    options = replace(WITH_PRIOR, anchor=0.01)
    done = reconstruct_from_views(views, prior_cloud=prior, centre_world=CENTRE, options=options)
    assert done.quality["change_allowed"] > 0.0
    assert error(done.volume, truth) < 0.85 * error(
        box_of_cloud(prior, WITH_PRIOR.spacing_mm).voxelize(prior), truth
    )


def test_one_view_changes_no_prior() -> None:
    prior = bone()
    views = display_views(bent(prior, 0.1))[:1]
    done = reconstruct_from_views(views, prior_cloud=prior, centre_world=CENTRE, options=WITH_PRIOR)
    assert same(done.cloud, prior)
    assert "fewer than two" in done.quality["reason"]


def test_no_time_leaves_the_prior() -> None:
    prior = bone()
    options = replace(WITH_PRIOR, time_limit_s=0.0)
    done = reconstruct_from_views(
        display_views(bent(prior, 0.1)), prior_cloud=prior, centre_world=CENTRE, options=options
    )
    assert same(done.cloud, prior)
    assert done.quality["stopped_early"]


def test_the_box_of_a_prior_holds_it() -> None:
    cloud = bone()
    volume = box_of_cloud(cloud, 2.0).voxelize(cloud)
    held = float(volume.array.sum()) * 8.0
    assert held == pytest.approx(float(cloud.mass()), rel=5e-3)
    assert np.allclose(volume.direction, np.eye(3))
    assert np.allclose(volume.spacing, 2.0)


# From X-rays alone


def test_more_views_are_better() -> None:
    truth = bone()
    errors = []
    for count in (2, 4, 8):
        done = reconstruct_from_views(exact_views(truth, count), centre_world=CENTRE, options=QUICK)
        assert done.quality["background"] == "none"
        assert done.quality["absolute_scale"]
        errors.append(error(done.volume, truth))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.3


def test_fresh_from_display_views_with_a_trunk() -> None:
    truth = bone()
    done = reconstruct_from_views(display_views(truth), centre_world=CENTRE, options=QUICK)
    assert done.quality["background"] == "smooth"
    assert not done.quality["absolute_scale"]
    wanted = voxelize(truth, done.volume.index_to_physical, done.volume.size).numpy()
    assert np.corrcoef(done.volume.array.ravel(), wanted.ravel())[0, 1] > 0.4
    assert all(view["ssim"] > 0.6 for view in done.quality["views"].values())


@pytest.mark.parametrize("with_prior", [True, False])
def test_the_same_seed_gives_the_same_result(with_prior: bool) -> None:
    prior = bone()
    views = exact_views(bent(prior, 0.1), 3)
    options = replace(QUICK, fresh_steps=45, prior_steps=6)
    runs = [
        reconstruct_from_views(
            views,
            prior_cloud=prior if with_prior else None,
            centre_world=CENTRE,
            options=replace(options, seed=seed),
        )
        for seed in ((4, 4) if with_prior else (4, 4, 5))
    ]
    assert same(runs[0].cloud, runs[1].cloud)
    assert np.array_equal(runs[0].volume.array, runs[1].volume.array)
    if not with_prior:
        assert not same(runs[0].cloud, runs[2].cloud)


@pytest.mark.parametrize("with_prior", [True, False])
def test_it_stops_when_asked(with_prior: bool) -> None:
    said: list[float] = []

    def stop_half_way(fraction: float, message: str) -> bool:
        said.append(fraction)
        return fraction < 0.4

    prior = bone()
    with pytest.raises(Cancelled):
        reconstruct_from_views(
            exact_views(prior, 2),
            prior_cloud=prior if with_prior else None,
            centre_world=CENTRE,
            options=replace(QUICK, prior_steps=6),
            progress=stop_half_way,
        )
    assert said == sorted(said)
    assert said[-1] < 0.9


# Options and input


@pytest.mark.parametrize(
    "bad",
    [
        {"pixel_mm": 0.0},
        {"spacing_mm": float("nan")},
        {"fresh_steps": 0},
        {"weight_tv": -1.0},
        {"box_mm": 3.0},
        {"most": 10},
        {"background": "bumpy"},
        {"anchor": "much"},
        {"no_such": 1},
    ],
)
def test_bad_options_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="reconstruction options"):
        options_from(ReconstructionOptions, bad, "reconstruction options", ReconstructionOptions())


def test_options_through_json() -> None:
    options = ReconstructionOptions(seed=3, box_mm=80.0)
    values = json.loads(json.dumps(asdict(options)))
    assert options_from(ReconstructionOptions, values, "file") == options


def test_bad_input_is_refused() -> None:
    views = exact_views(bone(20), 2)
    with pytest.raises(InputError, match="none to reconstruct"):
        reconstruct_from_views([], centre_world=CENTRE)
    with pytest.raises(InputError, match="finite"):
        reconstruct_from_views(views, centre_world=[0.0, float("inf"), 0.0])
    empty = bone(20).select(torch.zeros(20, dtype=torch.bool))
    with pytest.raises(InputError, match="holds no Gaussian"):
        reconstruct_from_views(views, prior_cloud=empty, centre_world=CENTRE)
    dark = [replace(view, pixels=np.zeros_like(view.pixels)) for view in views]
    with pytest.raises(InputError, match="nothing that absorbs"):
        reconstruct_from_views(dark, centre_world=CENTRE, options=QUICK)


def test_a_block_of_a_change_misses_no_gaussian() -> None:
    prior = random_cloud(2000, seed=1, dtype=torch.float32)
    offsets = 0.7 * torch.randn(2000, 3, generator=torch.Generator().manual_seed(2))
    moved = GaussianCloud(prior.means + offsets, *prior.tensors[1:])
    generator, size = np.random.default_rng(3), (32,) * 3
    for _ in range(3):
        block = with_prior._random_block(prior, generator)
        whole = voxelize(moved, block, size) - voxelize(prior, block, size)
        assert float(whole.abs().max()) > 0.0
        assert torch.equal(with_prior._change_in_block(prior, moved, block), whole)
