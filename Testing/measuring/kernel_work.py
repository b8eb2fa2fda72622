"""What each launch of a kernel computes: pairs and samples counted, operations read off its source.

A product, a sum, a quotient, a root and a comparison count as 1 each. What is done once per row
of a footprint, or once per ray, is left out: it is a few hundredths of the whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import warp as wp
from torch import Tensor

import RadGSRegLib
from RadGSRegLib.drr import warp_kernels as march
from RadGSRegLib.gaussians import warp_kernels as splat
from RadGSRegLib.gaussians import warp_motion_kernel as motion
from RadGSRegLib.gaussians import warp_voxel_kernels as voxels
from RadGSRegLib.gaussians.tiles import TILE

from . import ray_work
from .pairs import Pairs, footprint_pairs, ray_samples, voxel_pairs

_NUMBER = r"(?<![\w.])\d+(?:\.\d*)?(?:e[-+]?\d+)?f?(?![\w.])"


def operations(source: str) -> int:
    """How many arithmetic operations straight C code does with its floats; whole numbers, places in
    arrays and constants are free."""
    text = re.sub(r"//[^\n]*", " ", source)
    text = re.sub(r"const (?:int|float\s*\*)\s[^;]*;", " ", text)
    text = re.sub(r"\[[^\]]*\]", "", text)
    text = re.sub(r"\((?:float|int|long long)\)", "", text)
    text = re.sub(rf"{_NUMBER}\s*/\s*{_NUMBER}", "0.5f", text)
    # A sign is no difference.
    text = re.sub(r"([=(?:,*/])\s*-", r"\1 ", text)
    return len(re.findall(r"[-+*/]=?|[<>]=?|\bsqrtf\b", text))


def loop_body(source: str) -> str:
    """What lies within the innermost loop of a kernel's source."""
    begin = source.index(splat.LOOP) + len(splat.LOOP)
    depth, end = 1, begin
    while depth:
        depth += {"{": 1, "}": -1}.get(source[end], 0)
        end += 1
    return source[begin : end - 1]


def sample_body(source: str) -> str:
    """What a march does at a sample inside the volume."""
    text = source[source.index("for (int n = n_first") :]
    text = text[text.index("{") + 1 :]
    text = re.sub(r"if \(cells.*?continue;\s*\}", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"\} else \{.*?: 0\.0f;\s*\}", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"if \(i >= 0.*?\{", "", text, count=1, flags=re.DOTALL)
    return text[: text.index("}")]


# Per Gaussian: three products of matrices (45 each, and one of them twice), products of a matrix
# and a vector (15), of two vectors (inner 5, outer 9), and single numbers.
SET_UP = 249
# Per Gaussian whose reach is wanted: the conic 12, its middle 8, its level 4, its halves 8, corners
# 6, comparisons 4.
REACH = 42
# Per sample: nine to find it, and for each of eight corners a share, its weight and the sum.
SPREAD = 53


# Of a launch's threads and inputs: pairs or samples, and operations.
Work = Callable[[int, Sequence[Any]], tuple[Pairs, float]]


@dataclass
class Launches:
    """What kernels computed: ``operations``; ``data_bytes``, each array of a launch once;
    ``pairs`` by kernel; ``devices`` of the launches; ``unknown`` kernels were not counted."""

    operations: float = 0.0
    data_bytes: float = 0.0
    pairs: dict[str, Pairs] = field(default_factory=dict)
    devices: Counter[str] = field(default_factory=Counter)
    kernels: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)

    @property
    def needed(self) -> int:
        """Pairs and samples that had to be computed."""
        return sum(pairs.needed for pairs in self.pairs.values())

    @property
    def visited(self) -> int:
        """Pairs and samples that were."""
        return sum(pairs.visited for pairs in self.pairs.values())


@lru_cache(maxsize=1)
def all_kernels() -> dict[str, Any]:
    """All kernels of the library by "package.module.name"."""
    package = Path(RadGSRegLib.__file__).parent
    out = {}
    for path in sorted(package.rglob("*.py")):
        if "@wp.kernel" in path.read_text(encoding="utf-8"):
            name = ".".join(path.relative_to(package).with_suffix("").parts)
            for own, value in vars(import_module(f"RadGSRegLib.{name}")).items():
                if isinstance(value, wp.Kernel):
                    out[f"{name}.{own}"] = value
    return out


def name_of(kernel: Any) -> str:
    """The kernel's name in `all_kernels`."""
    known = all_kernels().items()
    return next((name for name, value in known if value is kernel), str(kernel.key))


@contextmanager
def listening() -> Iterator[list[tuple[Any, int, Sequence[Any], str]]]:
    """Write down every launch within: kernel, threads, inputs, device."""
    launch, heard = wp.launch, []

    def listened(kernel: Any, dim: int, inputs: Sequence[Any] = (), **more: Any) -> Any:
        stream = more.get("stream")
        device = "cpu" if stream is None else "cuda"
        heard.append((kernel, dim, list(inputs), device))
        return launch(kernel, dim=dim, inputs=inputs, **more)

    with mock.patch.object(wp, "launch", listened):
        yield heard


def launches(run: Callable[[], object]) -> Launches:
    """Run something once, and say what kernels computed in it."""
    with listening() as heard:
        run()
    out = Launches()
    for kernel, dim, inputs, device in heard:
        name = name_of(kernel)
        out.devices[device] += 1
        out.kernels[name] += 1
        work = _WORK.get(name)
        if work is None:
            out.unknown[name] += 1
            continue
        pairs, operations = work(dim, inputs)
        out.operations += operations
        arrays = [a for a in inputs if isinstance(a, wp.array)]
        out.data_bytes += sum(a.capacity for a in arrays)
        # Setting up is no pair.
        if work is not _set_up:
            out.pairs[name] = out.pairs.get(name, Pairs(0, 0)) + pairs
    return out


def _of(pairs: Pairs, each: int) -> tuple[Pairs, float]:
    return pairs, float(each * pairs.needed)


def _rows(array: Any, width: int) -> Tensor:
    return wp.to_torch(array).view(-1, width)


def _set_up(dim: int, inputs: Sequence[Any]) -> tuple[Pairs, float]:
    return Pairs(dim, dim), (SET_UP + (REACH if inputs[-1] is not None else 0)) * dim


def _footprints(picture: Any, coefficients: Tensor) -> Pairs:
    """Of the rows of a band alone."""
    shifted = coefficients.clone()
    shifted[:, 1] -= picture.row_begin
    size = (picture.columns, picture.row_end - picture.row_begin)
    return footprint_pairs(shifted, size, picture.cut2**0.5)


def _scattered(each: int) -> Work:
    def work(dim: int, inputs: Sequence[Any]) -> tuple[Pairs, float]:
        return _of(_footprints(inputs[-1], _rows(inputs[0], 12)[:dim]), each)

    return work


def _backward(dim: int, inputs: Sequence[Any]) -> tuple[Pairs, float]:
    first = inputs[3]
    return _of(_footprints(inputs[4], _rows(inputs[0], 12)[first : first + dim]), BACKWARD)


def _gathered(each: int) -> Work:
    def work(dim: int, inputs: Sequence[Any]) -> tuple[Pairs, float]:
        coefficients, _, _, first, _, picture, _ = inputs
        needed = _footprints(picture, _rows(coefficients, 12)).needed
        lengths = torch.diff(wp.to_torch(first).long())
        rows = torch.full((len(lengths) // picture.across,), TILE)
        rows[-1] = picture.row_end - TILE * (len(rows) - 1)
        columns = torch.full((picture.across,), TILE)
        columns[-1] = picture.columns - TILE * (picture.across - 1)
        pixels = (rows[:, None] * columns).flatten()
        return _of(Pairs(needed, int((lengths.cpu() * pixels).sum())), each)

    return work


def _gathered_bodies(each: int) -> Work:
    """Every pixel walks all Gaussians of its body: most fall to four comparisons, which are left
    out."""

    def work(dim: int, inputs: Sequence[Any]) -> tuple[Pairs, float]:
        coefficients, pictures = inputs[0], inputs[-1]
        every, size = _rows(coefficients, 12), (pictures.columns, pictures.rows)
        needed = footprint_pairs(every, size, pictures.cut2**0.5).needed
        return _of(Pairs(needed, len(every) * size[0] * size[1]), each)

    return work


def _slab(dim: int, inputs: Sequence[Any]) -> tuple[Pairs, float]:
    coefficients, _, grid, begin, end = inputs
    return _of(_voxels(_rows(coefficients, 10), grid, begin, end), VOXEL)


def _filled(dim: int, inputs: Sequence[Any]) -> tuple[Pairs, float]:
    coefficients, _, _, grid = inputs
    return _of(_voxels(_rows(coefficients, 10), grid, 0, grid.nk), VOXEL)


def _voxel_backward(dim: int, inputs: Sequence[Any]) -> tuple[Pairs, float]:
    coefficients, _, _, first, grid = inputs
    part = _rows(coefficients, 10)[first : first + dim]
    return _of(_voxels(part, grid, 0, grid.nk), VOXEL_BACKWARD)


def _voxels(coefficients: Tensor, grid: Any, begin: int, end: int) -> Pairs:
    shifted = coefficients.clone()
    shifted[:, 2] -= begin
    return voxel_pairs(shifted, (grid.ni, grid.nj, end - begin), grid.cut2**0.5)


def _marched(each: int) -> Work:
    def work(dim: int, inputs: Sequence[Any]) -> tuple[Pairs, float]:
        _, occupied, way, planes, matrix, directions, begin, _ = inputs
        shape = (way.nk, way.nj, way.ni)
        cells = None
        if occupied is not None:
            cells = wp.to_torch(occupied).view(*(n + 1 for n in shape))
        rays = wp.to_torch(directions).view(-1, 3, way.rays).mT
        matrices = _rows(matrix, 13)[:, :12].view(-1, 3, 4)
        total, end = Pairs(0, 0), begin + dim
        for n, (first, stop) in enumerate(_rows(planes, 2).tolist()):
            own = slice(max(begin - n * way.rays, 0), max(end - n * way.rays, 0))
            place = (first, stop, way.step)
            total += ray_samples(shape, matrices[n], rays[n][own], place, cells)
        return _of(total, each)

    return work


def _noise(dim: int, inputs: Sequence[Any]) -> tuple[Pairs, float]:
    return Pairs(0, 0), float(ray_work.NOISE * dim)


def _turned(dim: int, inputs: Sequence[Any]) -> tuple[Pairs, float]:
    """Every pixel of every value."""
    *_, values, _, _ = inputs
    return Pairs(0, 0), float(TURN * values.size)


def _whole_numbers(dim: int, inputs: Sequence[Any]) -> tuple[Pairs, float]:
    """Computes with none but whole numbers."""
    return Pairs(0, 0), 0.0


VALUE = operations(loop_body(splat._VALUE))
DERIVATIVE = operations(loop_body(splat._DERIVATIVE))
BACKWARD = operations(loop_body(splat._BACKWARD))
VOXEL = operations(loop_body(voxels._FORWARD))
VOXEL_BACKWARD = operations(loop_body(voxels._BACKWARD))
TURN = operations(motion._PIXEL)
SAMPLE = operations(sample_body(march._VALUE))
SAMPLE_MOMENTS = operations(sample_body(march._MOMENTS))

_WORK: dict[str, Work] = {
    "gaussians.warp_motion_kernel.turn": _turned,
    "gaussians.warp_setup_kernel.set_up": _set_up,
    "gaussians.warp_kernels.scatter_values": _scattered(VALUE),
    "gaussians.warp_kernels.scatter_derivatives": _scattered(DERIVATIVE),
    "gaussians.warp_kernels.gather_gradients": _backward,
    "gaussians.warp_gather_kernels.gather_values": _gathered(VALUE),
    "gaussians.warp_gather_kernels.gather_derivatives": _gathered(DERIVATIVE),
    "gaussians.warp_body_kernels.gather_body_values": _gathered_bodies(VALUE),
    "gaussians.warp_body_kernels.gather_body_derivatives": _gathered_bodies(DERIVATIVE),
    "gaussians.warp_voxel_kernels.scatter_slab": _slab,
    "gaussians.warp_voxel_kernels.fill_rows": _filled,
    "gaussians.warp_voxel_kernels.gather_gradients": _voxel_backward,
    "drr.warp_kernels.project": _marched(SAMPLE),
    "drr.warp_kernels.project_with_moments": _marched(SAMPLE_MOMENTS),
    "drr.warp_kernels.spread": _marched(SPREAD),
    "simulation.ray_kernels.pieces": partial(ray_work.followed, whole=False),
    "simulation.ray_kernels.rest": partial(ray_work.followed, whole=True),
    "simulation.noise_kernel.add_noise": _noise,
    "views.stuck_kernels.count": _whole_numbers,
    "views.stuck_kernels.join": _whole_numbers,
    "views.stuck_kernels.spread": _whole_numbers,
}
