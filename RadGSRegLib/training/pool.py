"""The pairs that training draws from: each made once, by its number, and kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..networks import ViewBatch, make_batch
from ..views import WHOLLY_VALID
from . import bounds
from .kept import keep, read_kept
from .samples import Sample, SampleOptions, draw_sample
from .subjects import Subject

VALIDATION = 10**6
"""Numbers of pairs from here on are for validation alone."""

_KEPT_SUBJECTS = 16
_SHIFT_MM = 5.0


class Source(Protocol):
    """Somewhere that subjects, or X-rays with known poses, come from."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def axes_known(self) -> bool:
        """Whether its subjects know the anchors' axes, as a phantom's do."""

    def subject(self, wide: bool = False) -> Subject:
        """Return the vertebra; with more around it, and coarser, if ``wide`` (`make_subject`)."""

    def sample(self, subject: Subject, options: SampleOptions, seed: int) -> Sample:
        """Return a pair of X-rays of it."""


@dataclass(frozen=True)
class Simulated:
    """A source whose X-rays are simulated."""

    name: str
    load: Callable[[bool], Subject]
    """Makes the vertebra, given whether it is to be a wide one."""
    axes_known: bool = False

    def subject(self, wide: bool = False) -> Subject:
        """Return the vertebra."""
        return self.load(wide)

    def sample(self, subject: Subject, options: SampleOptions, seed: int) -> Sample:
        """Return a simulated pair; the same seed gives the same."""
        return draw_sample(subject, options, seed)


class SamplePool:
    """Pairs by number: the same number always gives the same pair, whatever came before.

    ``folder`` (None: memory alone) keeps them for the next run too. ``workers`` threads make those
    that `prefetch` asks for ahead of time, which changes nothing but how long one waits.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        options: SampleOptions,
        seed: int,
        folder: Path | None,
        workers: int = 0,
    ) -> None:
        if not sources:
            raise InputError("training data", "there is none", "give a case, CTs or phantoms")
        self.sources = list(sources)
        self.options = options
        self.seed = seed
        self.folder = folder
        self._samples: dict[int, Sample] = {}
        self._subjects: OrderedDict[int, Subject] = OrderedDict()
        self._lock = threading.Lock()
        self._coming: dict[int, Future[Sample]] = {}
        self._executor = ThreadPoolExecutor(workers) if workers > 0 else None

    def source_of(self, number: int) -> int:
        """Return which source a pair belongs to."""
        return number % len(self.sources)

    def subject(self, number: int) -> Subject:
        """Return the vertebra of a pair."""
        index = self.source_of(number)
        with self._lock:
            if index not in self._subjects:
                self._subjects[index] = self.sources[index].subject(self.options.whole)
                while len(self._subjects) > _KEPT_SUBJECTS:
                    self._subjects.popitem(last=False)
            self._subjects.move_to_end(index)
            return self._subjects[index]

    def sample(self, number: int) -> Sample:
        """Return the pair of a number."""
        if number not in self._samples:
            coming = self._coming.pop(number, None)
            self._samples[number] = self._fetch(number) if coming is None else coming.result()
        return self._samples[number]

    def prefetch(self, numbers: Iterable[int]) -> None:
        """Begin to make pairs that will be wanted soon; does nothing without workers."""
        if self._executor is None:
            return
        for number in numbers:
            if number not in self._samples and number not in self._coming:
                self._coming[number] = self._executor.submit(self._fetch, number)

    def close(self) -> None:
        """End the workers; what they have not begun is dropped."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None
            self._coming.clear()

    def _fetch(self, number: int) -> Sample:
        return self._read(number) or self._make(number)

    def _make(self, number: int) -> Sample:
        source = self.sources[self.source_of(number)]
        seed = int(np.random.default_rng([self.seed, number]).integers(2**31))
        sample = source.sample(self.subject(number), self.options, seed)
        path = self._path(number)
        if path is not None:
            keep(path, sample.to_arrays())
            # What is read back must be what was used before a kill.
            sample = self._read(number) or sample
        return sample

    def _path(self, number: int) -> Path | None:
        return None if self.folder is None else self.folder / f"{self.seed}-{number}.npz"

    def _read(self, number: int) -> Sample | None:
        path = self._path(number)
        arrays = None if path is None else read_kept(path)
        return None if arrays is None else Sample.from_arrays(arrays)


@dataclass(frozen=True)
class Batch:
    """What a training step works on.

    ``views``: bone bright; ``targets`` (B, V, H, W) line integrals of the vertebra alone;
    ``centred_to_box`` (B, 4, 4) the truth; ``anchors_to_centred`` (B, 4, 4) where the anchors'
    axes are in the subject's centred CT axes; ``points`` (B, P, 3) mm, the vertebra's surface in
    centred CT axes; ``ct`` (B, K, J, I) the vertebra as RegM sees it.
    """

    views: ViewBatch
    targets: Tensor
    centred_to_box: Tensor
    anchors_to_centred: Tensor
    points: Tensor
    ct: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device."""
        return Batch(*(part.to(device) for part in vars(self).values()))

    def first(self, count: int) -> Batch:
        """Return the first ``count`` cases."""
        views, *rest = vars(self).values()
        first = ViewBatch(*(tensor[:count] for tensor in vars(views).values()))
        return Batch(first, *(tensor[:count] for tensor in rest))


def stack_samples(
    samples: Sequence[Sample], pixel_mm: float, generator: np.random.Generator | None
) -> tuple[ViewBatch, Tensor, Tensor]:
    """Stack views (bone bright), targets and centred_to_box of samples.

    With a ``generator`` each box is moved anew by up to `_SHIFT_MM` along each axis, which gives
    new pairs from known ones at almost no cost.
    """

    images, valid, targets, intrinsics, extrinsics, poses = (
        torch.from_numpy(np.stack([getattr(sample, name) for sample in samples]))
        for name in (
            "images",
            "valid",
            "targets",
            "intrinsics",
            "extrinsics",
            "centred_to_box",
        )
    )
    if generator is not None:
        shift = generator.uniform(-_SHIFT_MM, _SHIFT_MM, (len(samples), 3))
        images, valid, targets, intrinsics, extrinsics, poses = _moved_box(
            images, valid, targets, intrinsics, extrinsics, poses, torch.from_numpy(shift).float()
        )
    views = make_batch(images, valid, intrinsics, extrinsics, pixel_mm)
    factor = images.shape[-1] // views.size_px
    coarse = torch.nn.functional.avg_pool2d(targets, factor)
    signs = bone_signs(views.pictures[:, :, 1], coarse)
    bright = replace(views, pictures=views.pictures * signs[:, None, None, None, None])
    return bright, coarse, poses


def bone_signs(contrast: Tensor, targets: Tensor) -> Tensor:
    """Tell +1 where bone is bright, -1 where it is dark (B,), as the true targets tell."""
    least = bounds.TARGET_SHARE * targets.amax((-2, -1), keepdim=True)
    inside = (targets > least).to(targets.dtype)
    fine = targets - torch.nn.functional.avg_pool2d(
        targets, 9, stride=1, padding=4, count_include_pad=False
    )
    score = (fine * inside * contrast).sum((1, 2, 3))
    return torch.where(score >= 0, 1.0, -1.0)


def _moved_box(
    images: Tensor,
    valid: Tensor,
    targets: Tensor,
    intrinsics: Tensor,
    extrinsics: Tensor,
    poses: Tensor,
    shift: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The same crops about a point ``shift`` (B, 3) mm away: windows shift, geometry with them."""
    place = torch.eye(4).repeat(len(shift), 1, 1)
    place[:, :3, 3] = shift
    extrinsics = extrinsics @ place[:, None]
    poses = poses.clone()
    poses[:, :3, 3] -= shift
    size = images.shape[-1]
    middle = torch.einsum("bvij,bvj->bvi", intrinsics, extrinsics[..., :3, 3])
    offset = middle[..., :2] / middle[..., 2:] - (size - 1) / 2.0
    intrinsics = intrinsics.clone()
    intrinsics[..., :2, 2] -= offset
    theta = torch.zeros(*offset.shape[:2], 2, 3)
    theta[..., 0, 0] = theta[..., 1, 1] = 1.0
    theta[..., :, 2] = 2.0 * offset / size
    planes = torch.stack([images, valid, targets], dim=2).flatten(0, 1)
    grid = torch.nn.functional.affine_grid(
        theta.flatten(0, 1), list(planes.shape), align_corners=False
    )
    moved = torch.nn.functional.grid_sample(planes, grid, align_corners=False)
    moved = moved.unflatten(0, offset.shape[:2])
    real = (moved[:, :, 1] > WHOLLY_VALID).to(images.dtype)
    return moved[:, :, 0], real, moved[:, :, 2], intrinsics, extrinsics, poses


def numbers_of_step(seed: int, step: int, batch: int, known: int) -> NDArray[np.int64]:
    """Draw the pairs (batch,) of a step evenly among the first ``known``."""
    return np.random.default_rng([seed, step, 5]).integers(0, known, batch)
