"""What many rays of many X-rays meet: mass lengths, by one launch for all of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import Array, Camera
from ..system import flat_array, launch_in_parts, start_warp
from .drawing import Drawn, Ellipsoid, Trunk, Wire
from .materials import DENSITY
from .voxels import SceneOnDevice, Voxels

start_warp()

import warp as wp  # noqa: E402

from . import noise_kernel  # noqa: E402
from . import ray_kernels as kernels  # noqa: E402

# Kernels, and how many sums along each ray they write.
_PIECES, _REST = (kernels.pieces, 4), (kernels.rest, 2)

_FAR = 1e9


@dataclass(frozen=True)
class MassLengths:
    """Along the rays of P pictures: ``soft``, ``bone`` and ``steel`` (P, rows, columns) g/cm^2, and
    ``excess`` (P, rows, columns), the line integrals of the target alone."""

    soft: Tensor
    bone: Tensor
    steel: Tensor
    excess: Tensor


@dataclass(frozen=True)
class _Tables:
    """What the kernels read of each picture, padded to equal numbers; see `ray_kernels`."""

    bodies: NDArray[np.float32]
    sizes: NDArray[np.int32]
    addresses: NDArray[np.uint64]


@torch.no_grad()
def mass_lengths(
    cases: Sequence[tuple[SceneOnDevice, Drawn]], every: int | None = None
) -> MassLengths:
    """Follow all rays of drawn cases: P pictures, the views of the first case first.

    Pixels are square. ``every``: how many pixels along each axis share a ray through the rest
    of the body (each picture's `SceneOnDevice.every` unless given). Raises ValueError for scenes on
    several devices and for cameras with unlike numbers of pixels.
    """
    cameras = [camera for _, drawn in cases for camera in drawn.cameras.values()]
    device, size = cases[0][0].device, cameras[0].size
    if any(scene.device != device for scene, _ in cases):
        raise ValueError("scenes of one batch lie on one device")
    if any(camera.size != size for camera in cameras):
        raise ValueError("cameras of one batch have equally many pixels")
    lens = np.array([[c.intrinsic[0, 0], *c.intrinsic[:2, 2]] for c in cameras], dtype=np.float32)
    pieces: list[list[tuple[Voxels, Array]]] = []
    rests: list[list[tuple[Voxels, Array]]] = []
    solids, trunks, wires = [], [], []
    shared: list[int] = []
    for scene, drawn in cases:
        rest = scene.bare if drawn.trunk is None else scene.embedded
        for camera in drawn.cameras.values():
            ct_to_camera = {n: camera.world_to_camera @ m for n, m in drawn.ct_to_world.items()}
            pieces.append([(v, ct_to_camera[n]) for n, v in scene.vertebrae.items()])
            rests.append([(rest, ct_to_camera[0])])
            solids.append(_ellipsoid_rows(drawn.ellipsoids, camera))
            trunks.append(_trunk_row(drawn.trunk, camera))
            wires.append(_wire_rows(drawn.wires, camera))
            away = float(np.linalg.norm(drawn.centre_world - camera.source_world))
            shared.append(every or scene.every(away / camera.intrinsic[0, 0]))
    fine = _follow(
        _PIECES,
        size,
        1,
        lens,
        _tables(pieces, cameras),
        _padded(solids),
        _padded(wires),
        device,
    )
    coarse = _through_rests(rests, trunks, cameras, lens, shared, device)
    # From (g/cm^3) mm to g/cm^2.
    return MassLengths(
        0.1 * (fine[:, 0] + coarse[:, 0]),
        0.1 * (fine[:, 1] + coarse[:, 1]),
        0.1 * DENSITY["iron"] * fine[:, 2],
        fine[:, 3],
    )


@torch.no_grad()
def detect(signal: Tensor, scale: Tensor, electronic: Tensor, seeds: Tensor) -> Tensor:
    """Add the noise of detection to signals (P, rows, columns).

    ``scale`` (P,): photons to a unit (0: no noise is added); ``electronic`` (P,): the deviation of
    the read-out, photons; ``seeds`` (P,) int32.
    """
    signal = signal.contiguous()
    result = torch.empty_like(signal)
    inputs = [
        flat_array(signal),
        flat_array(scale.contiguous()),
        flat_array(electronic.contiguous()),
        flat_array(seeds, torch.int32),
        signal[0].numel(),
    ]
    out = flat_array(result)
    kernel = noise_kernel.add_noise
    launch_in_parts(kernel, signal.numel(), lambda begin: [*inputs, begin, out], result)
    return result


def _through_rests(
    rests: list[list[tuple[Voxels, Array]]],
    trunks: list[NDArray[np.float32]],
    cameras: list[Camera],
    lens: NDArray[np.float32],
    shared: list[int],
    device: torch.device,
) -> Tensor:
    """Soft tissue and bone (P, 2, rows, columns) of the rest of each picture, whose rays are
    ``shared`` by so many pixels along each axis."""
    size = columns, rows = cameras[0].size
    out = torch.empty((len(cameras), 2, rows, columns), dtype=torch.float32, device=device)
    # Those of a kind together: no picture depends on what else is in the batch.
    for every in sorted(set(shared)):
        kind = [n for n, own in enumerate(shared) if own == every]
        tables = _tables([rests[n] for n in kind], [cameras[n] for n in kind])
        solids = np.stack([trunks[n] for n in kind])[:, None]
        wires = np.zeros((len(kind), 1, kernels.WIRE), np.float32)
        sums = _follow(_REST, size, every, lens[kind], tables, solids, wires, device)
        if every > 1:
            sums = torch.nn.functional.interpolate(
                sums, scale_factor=every, mode="bilinear", align_corners=False
            )
        out[kind] = sums[..., :rows, :columns]
    return out


def _follow(
    kind: tuple[Any, int],
    size: tuple[int, int],
    every: int,
    lens: NDArray[np.float32],
    tables: _Tables,
    solids: NDArray[np.float32],
    wires: NDArray[np.float32],
    device: torch.device,
) -> Tensor:
    """Run a kernel, given with how many sums it writes, over all rays; threads take disjoint ranges
    of them."""
    kernel, planes = kind
    pictures = kernels.Pictures()
    pictures.columns, pictures.rows = (-(-n // every) for n in size)
    pictures.every, pictures.bodies = every, tables.bodies.shape[1]
    pictures.ellipsoids, pictures.wires = solids.shape[1], wires.shape[1]
    shape = (len(lens), planes, pictures.rows, pictures.columns)
    sums = torch.empty(shape, dtype=torch.float32, device=device)

    def numbers(array: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device)

    kept = [numbers(lens), numbers(tables.bodies), numbers(solids), numbers(wires)]
    sizes = torch.from_numpy(tables.sizes).to(device)
    addresses = torch.from_numpy(tables.addresses.view(np.int64)).to(device)
    inputs = [
        pictures,
        flat_array(kept[0]),
        flat_array(kept[1]),
        flat_array(sizes, torch.int32),
        wp.from_torch(addresses.view(-1), dtype=wp.uint64),
        flat_array(kept[2]),
        flat_array(kept[3]),
    ]
    result = flat_array(sums)
    count = len(lens) * pictures.rows * pictures.columns
    launch_in_parts(kernel, count, lambda begin: [*inputs, begin, result], sums)
    return sums


def _tables(bodies: list[list[tuple[Voxels, Array]]], cameras: list[Camera]) -> _Tables:
    """The rows of all pictures' bodies, each given with its ct_to_camera (4, 4)."""
    most = max(len(row) for row in bodies)
    out = np.zeros((len(bodies), most, kernels.BODY), dtype=np.float32)
    out[..., 12:16] = [_FAR, -_FAR, _FAR, -_FAR]
    sizes = np.ones((len(bodies), most, 3), dtype=np.int32)
    addresses = np.zeros((len(bodies), most, 2), dtype=np.uint64)
    for picture, (row, camera) in enumerate(zip(bodies, cameras, strict=True)):
        index_to_camera = np.stack([matrix @ voxels.index_to_physical for voxels, matrix in row])
        steps = np.array([voxels.step for voxels, _ in row])
        part = out[picture, : len(row)]
        part[:, :12] = np.linalg.inv(index_to_camera)[:, :3].reshape(-1, 12)
        corners = np.stack([_corners(voxels) for voxels, _ in row])
        turns, shifts = index_to_camera[:, :3, :3], index_to_camera[:, None, :3, 3]
        corners_camera = corners @ turns.transpose(0, 2, 1) + shifts
        nearest = corners_camera[..., 2].min(1)
        depth = np.maximum(corners_camera[..., 2], 1e-3)
        pixels = corners_camera[..., :2] / depth[..., None] * camera.intrinsic[0, 0]
        pixels += camera.intrinsic[:2, 2]
        part[:, 12:16:2], part[:, 13:16:2] = pixels.min(1), pixels.max(1)
        part[nearest < 1.0, 12:16] = [-_FAR, _FAR, -_FAR, _FAR]
        part[:, 16] = steps
        part[:, 17] = np.maximum(np.floor(nearest / steps), 1.0)
        sizes[picture, : len(row)] = [voxels.size for voxels, _ in row]
        addresses[picture, : len(row)] = [
            (voxels.data.data_ptr(), voxels.cells.data_ptr()) for voxels, _ in row
        ]
    return _Tables(out, sizes, addresses)


def _corners(voxels: Voxels) -> Array:
    """The corners (8, 3) of a part, index."""
    return np.array(list(product(*((0.0, n - 1.0) for n in voxels.size))))


def _ellipsoid_rows(solids: Sequence[Ellipsoid], camera: Camera) -> NDArray[np.float32]:
    rows = np.zeros((len(solids), kernels.ELLIPSOID), dtype=np.float32)
    camera_to_world, source = camera.world_to_camera[:3, :3].T, camera.source_world
    for row, (centre, axes, radii, density) in zip(rows, solids, strict=True):
        shape = axes / radii[:, None]
        row[: 3 * len(shape)] = (shape @ camera_to_world).ravel()
        row[9 : 9 + len(shape)] = shape @ (source - centre)
        row[12] = density
    return rows


def _trunk_row(trunk: Trunk | None, camera: Camera) -> NDArray[np.float32]:
    if trunk is None:
        return np.zeros(kernels.ELLIPSOID, dtype=np.float32)
    solid = (trunk.centre, trunk.axes, trunk.radii, trunk.density)
    row: NDArray[np.float32] = _ellipsoid_rows([solid], camera)[0]
    row[8] = trunk.radii.min() / 3.0
    return row


def _wire_rows(wires: Sequence[Wire], camera: Camera) -> NDArray[np.float32]:
    rows = np.zeros((len(wires), kernels.WIRE), dtype=np.float32)
    turn, shift = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3]
    for row, (start, end, radius, hollow) in zip(rows, wires, strict=True):
        length = np.linalg.norm(end - start)
        along = (end - start) / length
        across = np.linalg.svd(along[None])[2][1:]
        row[:9] = (np.concatenate([across, along[None]]) @ turn.T).ravel()
        row[9:12] = turn @ start + shift
        row[12:] = length, radius, hollow
    return rows


def _padded(rows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """One table of all pictures' rows; what is padded is zero and adds nothing."""
    most = max(1, *(len(row) for row in rows))
    out: NDArray[np.float32] = np.zeros((len(rows), most, rows[0].shape[1]), dtype=np.float32)
    for whole, row in zip(out, rows, strict=True):
        whole[: len(row)] = row
    return out
