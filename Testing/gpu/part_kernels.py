"""The machine, every kernel against the float64 reference on the CPU, and how fast they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import part_simulation
import torch
from gaussian_scenes import blob, camera, placed, relative
from measuring import devices, kernel_work, scenes, stages
from measuring.ceilings import ceiling_of, ceiling_runs
from measuring.parts import Notes
from measuring.standings import table_of
from measuring.timing import median_ms, take_turns
from peer_report import machine as described
from setting import Setting
from torch import Tensor

from RadGSRegLib import gaussians
from RadGSRegLib.drr import (
    Voxels,
    occupied_cells,
    project_pictures,
    project_pictures_with_jacobian,
    project_volume,
    project_volume_with_jacobian,
)
from RadGSRegLib.gaussians import DEFAULT_CUTOFF, warp_backend, warp_voxel_kernels
from RadGSRegLib.gaussians.tiles import list_tiles
from RadGSRegLib.gaussians.voxel_setup import index_coefficients
from RadGSRegLib.geometry import exp_se3, inverse_intrinsic
from RadGSRegLib.system import flat_array, launch, one_torch_thread, worker_count
from RadGSRegLib.tensors import Lenses, without_host_reads
from RadGSRegLib.views import LocalNormalization

CPU = torch.device("cpu")
CENTRE = stages.CENTRE
SIZE = (45, 37)
# Largest difference over the largest value. float32 against float64; a pixel or sample at the edge
# of a footprint or voxel may fall to either side.
_ROUNDING = 1e-6
IMAGE, GRADIENT, JACOBIAN, EDGES = 1e-4, 1e-3, 5e-4, 5e-3

T = TypeVar("T")


def machine(setting: Setting, notes: Notes) -> None:
    """What the machine is, and what it can do at most."""
    device = setting.device
    notes.ran_on = device.type
    notes.facts = {"device": device.type, **devices.card(device), **described(worker_count())}
    notes.facts["packages"] = ", ".join(
        f"{name} {version}"
        for name, version in notes.facts["packages"].items()
        if version != "not installed"
    )
    threads = 1 if device.type == "cuda" else worker_count()
    runs = ceiling_runs(device, threads, quick=setting.tiny)
    times = take_turns(runs, device, rounds=setting.rounds)
    ceiling = ceiling_of(times, device, threads)
    notes.figure("product of matrices, float32", ceiling.operations_per_s / 1e9, "Gop/s")
    for size, rate in ceiling.bytes_per_s.items():
        notes.figure(f"triad in {size / 2**20:g} MiB", rate / 1e9, "GB/s")


def _compare(
    notes: Notes, what: str, values: Sequence[Tensor], truths: Sequence[Tensor], limit: float
) -> None:
    """The worst of several tensors, each against its truth."""
    errors = [
        relative(value.detach().double().cpu(), truth.detach().double())
        for value, truth in zip(values, truths, strict=True)
    ]
    notes.check(what, max(errors), limit)


def kernels(setting: Setting, notes: Notes) -> None:
    """Every function on the device in float32 against the reference on the CPU in float64."""
    with kernel_work.listening() as heard:
        kinds = {
            _rasterizer(setting, notes),
            _bodies(setting, notes),
            _voxelizer(setting, notes),
            _projector(setting, notes),
            _pictures(setting, notes),
            _normalisation(setting, notes),
            part_simulation.compare(setting, notes),
        }
    notes.ran_on = kinds.pop() if len(kinds) == 1 else "mixed"
    ran = {kernel_work.name_of(kernel) for kernel, *_ in heard}
    idle = sorted(set(kernel_work.all_kernels()) - ran)
    notes.figure("kernels that ran", len(ran), "")
    notes.figure("kernels that did not", len(idle), "")
    notes.remarks += [f"did not run here: {name}" for name in idle]


def _both(setting: Setting, run: Callable[[torch.device, torch.dtype], T]) -> tuple[T, T]:
    """What a function yields on the device in float32, and on the CPU in float64."""
    return run(setting.device, torch.float32), run(CPU, torch.float64)


def _rasterizer(setting: Setting, notes: Notes) -> str:
    shot = scenes.shot(100 if setting.tiny else 1500, 40, CPU)
    intrinsic, pose = shot.intrinsic, shot.pose

    def run(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        moved = shot.on(device, dtype).with_gradients().cloud
        matrix = torch.as_tensor(pose, dtype=dtype, device=device).requires_grad_()
        image = gaussians.rasterize(moved, intrinsic, matrix, SIZE)
        weight = torch.linspace(0.5, 1.5, image.numel(), dtype=dtype, device=device)
        gradients = torch.autograd.grad(image, (*moved.tensors, matrix), weight.view_as(image))
        plain = moved.detach()
        again = gaussians.rasterize(plain, intrinsic, pose, SIZE)
        jacobian = gaussians.rasterize_with_jacobian(plain, intrinsic, pose, SIZE, CENTRE)
        return image, gradients, jacobian, again

    ours, truth = _both(setting, run)
    # As on CUDA, wherever this is.
    single, inverse = shot.on(setting.device, torch.float32).cloud, inverse_intrinsic(intrinsic)
    matrix, centre = setting.tensor(pose), setting.tensor(CENTRE)
    tiled = [
        warp_backend.rasterize(single, inverse, matrix, SIZE, DEFAULT_CUTOFF, lister=list_tiles),
        *warp_backend.rasterize_with_jacobian(
            single, inverse, matrix, SIZE, centre, DEFAULT_CUTOFF, lister=list_tiles
        ),
    ]
    wanted = [truth[0], *truth[2]]
    _compare(notes, "rasterizer, image and Jacobian by tiles", tiled, wanted, JACOBIAN)
    _compare(notes, "rasterizer, image", [ours[0]], [truth[0]], IMAGE)
    _compare(notes, "rasterizer, gradients", ours[1], truth[1], GRADIENT)
    _compare(notes, "rasterizer, image and Jacobian", ours[2], truth[2], JACOBIAN)
    # On some processors sums are rounded as memory happens to lie.
    rounding = _ROUNDING * float(ours[0].abs().max()) if setting.device.type == "cpu" else 0.0
    apart = (ours[0] - ours[3]).abs() > rounding
    bits = float(apart.sum())
    notes.check("rasterizer, pixels that differ in a second run", bits, 0.0)
    return devices.on(ours[0], *ours[1], *ours[2])


def _bodies(setting: Setting, notes: Notes) -> str:
    intrinsic, pose = camera(40)
    turned = pose @ exp_se3([0.2, -0.7, 0.1, 4.0, -3.0, 9.0])
    intrinsics, poses = np.stack([intrinsic] * 2), np.stack([pose, turned])
    moved = np.stack([np.eye(4), exp_se3([0.1, 0.0, -0.2, 3.0, 2.0, -5.0])])

    def run(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
        clouds = (scenes.shot(60, 16, CPU, seed=seed).cloud.to(device, dtype) for seed in (1, 2))
        scene = placed(intrinsics, poses, moved, SIZE, device)
        arguments = (gaussians.Bodies(tuple(clouds)), *scene)
        centre = torch.from_numpy(CENTRE).to(device)
        return gaussians.rasterize_bodies(*arguments), *gaussians.rasterize_bodies_with_jacobian(
            *arguments, centre
        )

    ours, truth = _both(setting, run)
    _compare(notes, "bodies, images", ours[:2], truth[:2], IMAGE)
    _compare(notes, "bodies, Jacobians", ours[2:], truth[2:], JACOBIAN)
    # As on CUDA, wherever this is.
    with without_host_reads():
        gathered = run(setting.device, torch.float32)
        again = run(setting.device, torch.float32)
    _compare(notes, "bodies, gathered", gathered, truth, JACOBIAN)
    bits = float(sum((one != two).sum() for one, two in zip(gathered, again, strict=True)))
    notes.check("bodies, numbers that differ in a second run", bits, 0.0)
    return devices.on(*ours)


def _voxelizer(setting: Setting, notes: Notes) -> str:
    shot, size = scenes.shot(100, 16, CPU), (20, 23, 17)

    def run(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        moved = shot.on(device, dtype).with_gradients().cloud
        volume = gaussians.voxelize(moved, scenes.grid(20, 100.0), size)
        weight = torch.linspace(0.5, 1.5, volume.numel(), dtype=dtype, device=device)
        return volume, torch.autograd.grad(volume, moved.tensors, weight.view_as(volume))

    ours, truth = _both(setting, run)
    _compare(notes, "voxelizer, volume", [ours[0]], [truth[0]], IMAGE)
    rows = _filled_by_rows(shot.on(setting.device, torch.float32).cloud, size)
    _compare(notes, "voxelizer, volume by rows", [rows], [truth[0]], IMAGE)
    _compare(notes, "voxelizer, gradients", ours[1], truth[1], GRADIENT)
    return devices.on(ours[0], *ours[1])


def _filled_by_rows(cloud: gaussians.GaussianCloud, size: tuple[int, int, int]) -> Tensor:
    """The volume as on CUDA, wherever the cloud is."""
    ni, nj, nk = size
    matrix = torch.as_tensor(scenes.grid(20, 100.0), dtype=torch.float32, device=cloud.device)
    coefficients = index_coefficients(cloud, matrix, True).contiguous()
    volume = torch.zeros(nk, nj, ni + warp_voxel_kernels.LANES, device=cloud.device)
    grid = warp_voxel_kernels.grid_of(size, DEFAULT_CUTOFF**2)
    inputs = [flat_array(coefficients), len(cloud), flat_array(volume), grid]
    launch(warp_voxel_kernels.fill_rows, nk * nj, inputs, volume)
    return volume[:, :, :ni]


def _projector(setting: Setting, notes: Notes) -> str:
    volume, (intrinsic, pose) = blob(), camera(40)
    volume.array[5:9, 6:18, 7:16] = 0.0
    cells = occupied_cells(volume)
    to_physical = {"index_to_physical": volume.index_to_physical}

    def run(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        voxels = torch.from_numpy(volume.array).to(device, dtype).requires_grad_()
        matrix = torch.as_tensor(pose, dtype=dtype, device=device).requires_grad_()
        image = project_volume(voxels, intrinsic, matrix, SIZE, **to_physical)
        weight = torch.linspace(0.5, 1.5, image.numel(), dtype=dtype, device=device)
        gradients = torch.autograd.grad(image, (voxels, matrix), weight.view_as(image))
        still = voxels.detach()
        jacobians = [
            project_volume_with_jacobian(
                still, intrinsic, pose, SIZE, CENTRE, occupied=occupied, **to_physical
            )[1]
            for occupied in (None, cells)
        ]
        return image, gradients, jacobians

    ours, truth = _both(setting, run)
    _compare(notes, "projector, image", [ours[0]], [truth[0]], IMAGE)
    _compare(notes, "projector, gradients", ours[1], truth[1], EDGES)
    _compare(notes, "projector, Jacobians", ours[2], truth[2], EDGES)
    return devices.on(ours[0], *ours[1], *ours[2])


def _pictures(setting: Setting, notes: Notes) -> str:
    """Two pictures in one launch, of a volume that they share and of one for each."""
    volumes = [blob(seed) for seed in (1, 2)]
    for volume in volumes:
        volume.array[5:9, 6:18, 7:16] = 0.0
    intrinsic, pose = camera(40)
    poses = np.stack([pose, pose @ exp_se3([0.2, -0.7, 0.1, 4.0, -3.0, 9.0])])

    def run(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
        shared = Voxels.of(volumes[0], occupied=True)
        own = torch.stack([torch.from_numpy(volume.array) for volume in volumes])
        each = Voxels(own, shared.index_to_physical, shared.spacing_mm)
        to_camera = torch.from_numpy(poses).to(device)
        about = Lenses.of([intrinsic] * 2, SIZE, device), to_camera
        centre = torch.from_numpy(CENTRE).to(device)
        drawn: list[Tensor] = []
        for voxels in (shared, each):
            here = replace(voxels, values=voxels.values.to(dtype)).to(device)
            drawn += (
                project_pictures(here, *about),
                *project_pictures_with_jacobian(here, *about, centre),
            )
        return tuple(drawn)

    ours, truth = _both(setting, run)
    images = [[drawn[n] for n in (0, 1, 3, 4)] for drawn in (ours, truth)]
    _compare(notes, "projector, pictures together", *images, IMAGE)
    _compare(notes, "projector, their Jacobians", ours[2::3], truth[2::3], EDGES)
    return devices.on(*ours)


def _normalisation(setting: Setting, notes: Notes) -> str:
    generator = torch.Generator().manual_seed(0)
    picture, weights = torch.rand(2, 60, 50, generator=generator)
    jacobian = torch.rand(6, 60, 50, generator=generator)
    valid = torch.ones(60, 50)
    valid[:9] = 0.0
    results = []
    for device in (setting.device, CPU):
        normalizer = LocalNormalization(valid.to(device), 8.0)
        normalized = normalizer.contrast(picture.to(device)).normalized(0.1)
        pushed, pulled = normalized.push(jacobian.to(device)), normalized.pull(weights.to(device))
        results.append([normalized.image, pushed, pulled])
    ours, truth = results
    _compare(notes, "local normalisation, pushed, pulled", ours, truth, IMAGE)
    return devices.on(*ours)


def timings(setting: Setting, notes: Notes) -> None:
    """How long kernels and stages take, how far that is from the machine's floor."""
    device, spacing = setting.device, setting.spacing_mm
    with one_torch_thread():
        every = [
            *stages.rasterizer(setting.gaussians, setting.pixels, device),
            *stages.bodies(2, setting.pixels, spacing, device),
            *stages.voxelizer(setting.gaussians, setting.voxels, device),
            *stages.projector(setting.pixels, spacing, device),
            *stages.normalisation(setting.pixels, 0.07, device),
        ]
        table = table_of(every, device, rounds=setting.rounds, quick=setting.tiny)
        for row in table.rows:
            notes.figure(row.stage.name, 1e3 * row.seconds, "ms")
            if not row.uncounted:
                notes.figure(f"{row.stage.name}, above the floor", row.times_the_floor, "times")
        outputs = [out for stage in every for out in stages.flat(stage.run())]
        notes.ran_on = devices.on(*outputs)
        _two_views(setting, notes)


def _two_views(setting: Setting, notes: Notes) -> None:
    shot = scenes.shot(setting.gaussians, setting.pixels, setting.device)
    leaves = shot.with_gradients().cloud
    poses = [setting.tensor(shot.pose @ exp_se3([0.0, a, 0.0, 0.0, 0.0, 0.0])) for a in (0.0, 1.5)]

    def forward(cloud: Any) -> list[Tensor]:
        return [gaussians.rasterize(cloud, shot.intrinsic, pose, shot.size) for pose in poses]

    def backward() -> object:
        images = forward(leaves)
        return torch.autograd.grad(sum(image.sum() for image in images), leaves.tensors)

    what = f"two views of {setting.gaussians:,} Gaussians, {setting.pixels} x {setting.pixels}"
    for name, run in (("forward", partial(forward, shot.cloud)), ("and backward", backward)):
        notes.figure(f"{what}, {name}", median_ms(run, setting.device, setting.rounds), "ms")
