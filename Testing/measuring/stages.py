"""Kernels and stages of the registration, each ready to be run again and again at a given size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from RadGSRegLib.cases import View
from RadGSRegLib.drr import project_volume, project_volume_with_jacobian
from RadGSRegLib.gaussians import (
    Bodies,
    GaussianCloud,
    rasterize,
    rasterize_bodies,
    rasterize_bodies_with_jacobian,
    rasterize_with_jacobian,
    voxelize,
)
from RadGSRegLib.geometry import Volume
from RadGSRegLib.registration import (
    Arrangements,
    LocallyNormalized,
    Refiner,
    RegistrationOptions,
    SearchOptions,
    StretchedGaussNewton,
    evaluate_each,
)
from RadGSRegLib.registration.proposers import ClickSearch, Tried
from RadGSRegLib.system import Progress, worker_count
from RadGSRegLib.tensors import Lenses
from RadGSRegLib.training.samples import SampleOptions, draw_samples
from RadGSRegLib.views import LocalNormalization, prepare_view, window

from . import scenes

CENTRE = np.array([1.0, 2.0, 3.0])
OPTIONS = RegistrationOptions()
# Of a target and two neighbours, all of which move, with the background.
UNKNOWNS = 24


@dataclass(frozen=True)
class Stage:
    """Something to be measured.

    ``threads``: on how many it computes; ``given``: the tensors that it has to read, however it is
    done, beside what ``run`` returns and so has to write.
    """

    name: str
    run: Callable[[], Any]
    threads: int
    given: tuple[Tensor, ...] = ()

    def least_bytes(self) -> int:
        """What has to be read and written at least once."""
        return scenes.bytes_of(self.given) + scenes.bytes_of(flat(self.run()))


def flat(value: Any) -> list[Tensor]:
    """The tensors of what a stage returns."""
    every = value if isinstance(value, (tuple, list)) else (value,)
    return [each for each in every if isinstance(each, Tensor)]


def rasterizer(count: int, pixels: int, device: torch.device) -> list[Stage]:
    """Forward, backward, and image with Jacobian of the rasterizer."""
    shot = scenes.shot(count, pixels, device)
    scene = (shot.cloud, shot.intrinsic, shot.pose, shot.size)
    leaves = shot.with_gradients()
    matrix = torch.as_tensor(shot.pose, dtype=torch.float32, device=device).requires_grad_()
    image = rasterize(leaves.cloud, shot.intrinsic, matrix, shot.size)
    weight = torch.rand_like(image)
    wanted = (*leaves.cloud.tensors, matrix)
    backward = partial(torch.autograd.grad, image, wanted, weight, retain_graph=True)
    jacobian = partial(rasterize_with_jacobian, *scene, CENTRE)
    threads, given = worker_count(), tuple(shot.cloud.tensors)
    return [
        Stage("rasterizer, forward", partial(rasterize, *scene), threads, given),
        Stage("rasterizer, backward", backward, threads, (*given, weight)),
        Stage("rasterizer, image and Jacobian", jacobian, threads, given),
    ]


def loop(pixels: int, device: torch.device) -> Stage:
    """One Gaussian that reaches every pixel: the rasterizer's innermost loop and little else."""
    cloud = GaussianCloud(
        torch.zeros(1, 3), torch.full((1, 3), 1000.0), torch.eye(1, 4), torch.full((1,), 0.01)
    ).to(device)
    shot = scenes.shot(1, pixels, device)
    pose = shot.pose.copy()
    pose[2, 3] = 9000.0
    run = partial(rasterize, cloud, shot.intrinsic, pose, shot.size)
    return Stage("rasterizer, forward, one wide Gaussian", run, 1, tuple(cloud.tensors))


def voxelizer(count: int, voxels: int, device: torch.device) -> list[Stage]:
    """Forward and backward of the voxelizer."""
    shot = scenes.shot(count, 16, device)
    matrix, size = scenes.grid(voxels), (voxels,) * 3
    leaves = shot.with_gradients().cloud
    volume = voxelize(leaves, matrix, size)
    weight = torch.rand_like(volume)
    backward = partial(torch.autograd.grad, volume, leaves.tensors, weight, retain_graph=True)
    threads, given = worker_count(), tuple(shot.cloud.tensors)
    return [
        Stage("voxelizer, forward", partial(voxelize, shot.cloud, matrix, size), threads, given),
        Stage("voxelizer, backward", backward, threads, (*given, weight)),
    ]


def projector(pixels: int, spacing_mm: float, device: torch.device) -> list[Stage]:
    """Forward, backward by voxels and pose, and image with Jacobian of the projector; a vertebra's
    voxels."""
    excess = scenes.bodies(spacing_mm).target_excess
    assert excess is not None
    voxels = torch.from_numpy(np.ascontiguousarray(excess.array, np.float32)).to(device)
    camera = scenes.around(1, pixels)[0]
    # As near as a registration looks, and with the vertebra in the middle.
    intrinsic = camera.intrinsic.copy()
    intrinsic[:2, :2] *= 2.0
    pose = camera.world_to_camera @ _centring(excess)
    centre = -_centring(excess)[:3, 3]
    size, to_physical = camera.size, {"index_to_physical": excess.index_to_physical}
    leaf = voxels.clone().requires_grad_()
    matrix = torch.as_tensor(pose, dtype=torch.float32, device=device).requires_grad_()
    image = project_volume(leaf, intrinsic, matrix, size, **to_physical)
    weight = torch.rand_like(image)
    forward = partial(project_volume, voxels, intrinsic, pose, size, **to_physical)
    backward = partial(torch.autograd.grad, image, (leaf, matrix), weight, retain_graph=True)
    jacobian = partial(
        project_volume_with_jacobian, voxels, intrinsic, pose, size, centre, **to_physical
    )
    threads = worker_count()
    return [
        Stage("projector, forward", forward, threads, (voxels,)),
        Stage("projector, backward", backward, threads, (voxels, weight)),
        Stage("projector, image and Jacobian", jacobian, threads, (voxels,)),
    ]


def _centring(volume: Volume) -> Any:
    """The translation (4, 4) that brings a volume's middle to the origin."""
    matrix = np.eye(4)
    middle = volume.physical_points([[0.5 * (n - 1) for n in volume.size]])[0]
    matrix[:3, 3] = -middle
    return matrix


def bodies(views: int, pixels: int, spacing_mm: float, device: torch.device) -> list[Stage]:
    """Pictures of the phantom's vertebrae, each apart, without and with Jacobians."""
    own = scenes.bodies(spacing_mm)
    parts = [own.target, *own.neighbours]
    whole = Bodies(tuple(part.fine.to(device) for part in parts))
    cameras = scenes.around(views, pixels)
    intrinsics = np.stack([camera.intrinsic for camera in cameras])
    intrinsics[:, :2, :2] *= 2.0
    centred = np.eye(4)
    centred[:3, 3] = -own.centre_ct
    poses = np.stack([camera.world_to_camera @ centred for camera in cameras])
    lenses = Lenses.of(intrinsics, (pixels, pixels), device)
    still = torch.eye(4, dtype=torch.float64, device=device).expand(len(parts), 4, 4)
    scene = (whole, lenses, torch.from_numpy(poses).to(device), still)
    given = (whole.table,)
    centre = torch.from_numpy(own.centre_ct).to(device)
    jacobian = partial(rasterize_bodies_with_jacobian, *scene, centre)
    return [
        Stage("bodies, images", partial(rasterize_bodies, *scene), 1, given),
        Stage("bodies, images and Jacobians", jacobian, 1, given),
    ]


def normalisation(pixels: int, sigma_share: float, device: torch.device) -> list[Stage]:
    """Local normalisation of a picture, and its derivative pushed and pulled; the neighbourhood is
    such a share of the picture."""
    picture = torch.rand(pixels, pixels, device=device)
    valid = torch.ones_like(picture)
    normalizer = LocalNormalization(valid, sigma_share * pixels)
    normalized = normalizer.contrast(picture).normalized(0.1)
    jacobian = torch.rand(UNKNOWNS, pixels, pixels, device=device)
    weights = torch.rand_like(picture)

    def normalise() -> Tensor:
        return normalizer.contrast(picture).normalized(0.1).image

    return [
        Stage("local normalisation", normalise, 1, (picture, valid)),
        Stage(
            f"local normalisation, {UNKNOWNS} derivatives pushed",
            partial(normalized.push, jacobian),
            1,
            (jacobian, normalized.image),
        ),
        Stage(
            "local normalisation, weights pulled",
            partial(normalized.pull, weights),
            1,
            (weights, normalized.image),
        ),
    ]


def products(pixels: int, device: torch.device) -> list[Stage]:
    """What a Hessian and a search are made of: a product of derivatives, and Fourier transforms."""
    slopes = torch.rand(UNKNOWNS, pixels * pixels, device=device)
    templates = torch.rand(32, pixels, pixels, device=device)
    return [
        Stage(f"Hessian of {UNKNOWNS} derivatives", lambda: slopes @ slopes.mT, 1, (slopes,)),
        Stage("32 Fourier transforms", partial(torch.fft.rfft2, templates), 1, (templates,)),
    ]


def normal_equations(
    views: int,
    pixel_mm: float,
    spacing_mm: float,
    device: torch.device | str = "cpu",
    *,
    voxels: bool = False,
) -> list[Stage]:
    """Cost, gradient and Hessian of the middle stage (or of the fine one, which renders voxels) in
    so many views, and the same without the Hessian."""
    scene, ct_to_world = scenes.scene(views, 128, spacing_mm, device)
    stage = replace(OPTIONS.fine if voxels else OPTIONS.middle, pixel_mm=pixel_mm)
    refiner = Refiner(scene, LocallyNormalized(), StretchedGaussNewton)
    arrangement = scene.bodies.as_in_ct(ct_to_world)
    problem = refiner.problem(stage, arrangement, (1,) * views)
    there = Arrangements.of([arrangement], scene.bodies.device)
    hessian = evaluate_each(problem, there).hessian
    threads = 1 if views == 1 and not voxels else worker_count()
    given = tuple(t for g in problem.groups for t in (g.windows.image, g.windows.valid))
    tables = [body.fine for body in (scene.bodies.target, *scene.bodies.neighbours)]
    given = (*given, *(t for cloud in tables for t in cloud.tensors))
    name = "normal equations, " + ("voxels" if voxels else "Gaussians")
    return [
        Stage(
            f"{name}, kept Hessian",
            partial(evaluate_each, problem, there, hessian),
            threads,
            given,
        ),
        Stage(name, partial(evaluate_each, problem, there), threads, given),
    ]


def search(steps: int, spacing_mm: float, device: torch.device | str = "cpu") -> tuple[Stage, int]:
    """The search around a click in two views, and how many rotations it tries: (2 steps + 1)^3."""
    scene, ct_to_world = scenes.scene(2, 128, spacing_mm, device)
    turn_deg = 20.0
    ranges = SearchOptions(rotation_step_deg=turn_deg / max(steps, 1))
    options = replace(OPTIONS, search=ranges)
    proposer = ClickSearch(
        scenes.centre_of(ct_to_world, scene), np.eye(3), turn_deg if steps else 0.0, options
    )
    run = partial(proposer.propose, scene, Tried(), Progress())
    clouds = [body.coarse for body in (scene.bodies.target, *scene.bodies.neighbours)]
    pictures = tuple(torch.from_numpy(np.asarray(view.values)) for view in scene.views)
    given = (*pictures, *(t for cloud in clouds for t in cloud.tensors))
    return Stage("search", run, worker_count(), given), (2 * steps + 1) ** 3


def preparing(pixels: int, spacing_mm: float) -> list[Stage]:
    """What is done once with an X-ray of so many pixels, and once per stage with a window of it."""
    scene, ct_to_world = scenes.scene(1, pixels, spacing_mm)
    view = scene.views[0]
    shot = View("0", view.values, view.camera, (1.0, 1.0), "attenuation", None)
    centre = scenes.centre_of(ct_to_world, scene)
    half_mm = scene.bodies.radius_mm + 8.0
    given = (torch.from_numpy(np.asarray(view.values)),)

    def prepare() -> object:
        prepared = prepare_view(shot)
        return prepared.pixels, prepared.noise

    def windowed() -> Tensor:
        return window(view, centre, half_mm, OPTIONS.fine.pixel_mm, OPTIONS.fine.blur_mm).image

    return [
        Stage("an X-ray made ready", prepare, 1, given),
        Stage("a window of an X-ray", windowed, 1, given),
    ]


def simulation(pairs: int, spacing_mm: float, device: torch.device) -> Stage:
    """Pairs of X-rays for training, simulated together and made ready, 64 pixels."""
    subject = scenes.subject(spacing_mm)
    options = SampleOptions(size_px=64, pixel_mm=2.0, realism="realistic")
    subjects, seeds = [subject] * pairs, list(range(pairs))

    def run() -> list[Tensor]:
        drawn = draw_samples(subjects, options, seeds, device)
        return [t for sample in drawn for t in (sample.images, sample.valid, sample.targets)]

    own = subject.on(device)
    voxels = [own.bare, own.embedded, *own.vertebrae.values()]
    return Stage("simulated pairs", run, worker_count(), tuple(part.data for part in voxels))
