"""The pairs that training draws from: each made once, by its number, and kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..gaussians import GaussianCloud
from ..networks import ViewBatch, make_batch
from ..views import WHOLLY_VALID
from . import bounds
from .ahead import each
from .kept import keep, read_kept
from .samples import Sample, SampleOptions, draw_sample, draw_samples
from .subjects import Subject

VALIDATION = 10**6
"""Numbers of pairs from here on are for validation alone."""

# What vertebrae may take of the memory; those beyond it are taken apart anew when they are needed.
_KEPT_BYTES = 2**30
# So many vertebrae are asked for at a time, which bounds what is in memory beyond that.
_TOGETHER = 16
_SHIFT_MM = 5.0


class Source(Protocol):
    """Somewhere that subjects, or X-rays with known poses, come from."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def axes_known(self) -> bool:
        """Whether its subjects know the anchors' axes, as a phantom's do."""

    @property
    def simulated(self) -> bool:
        """Whether its X-rays are simulated: those of several sources may then be made together."""

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
    simulated: bool = True

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
    ``device``: where X-rays are simulated, and where their pictures stay.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        options: SampleOptions,
        seed: int,
        folder: Path | None,
        workers: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if not sources:
            raise InputError("training data", "there is none", "give a case, CTs or phantoms")
        self.sources = list(sources)
        self.options = options
        self.seed = seed
        self.folder = folder
        self.device = torch.device(device)
        self._samples: dict[int, Sample] = {}
        self._subjects: dict[int, Subject] = {}
        self._last: tuple[int, Subject] | None = None
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
            if index in self._subjects:
                return self._subjects[index]
            if self._last is None or self._last[0] != index:
                self._last = (index, self.sources[index].subject(self.options.whole))
            subject = self._last[1]
            # Sources are visited in turn: what came first is what is wanted again first.
            if sum(known.nbytes for known in self._subjects.values()) < _KEPT_BYTES:
                self._subjects[index] = subject
            return subject

    def sample(self, number: int) -> Sample:
        """Return the pair of a number."""
        return self.samples([number])[0]

    def samples(self, numbers: Sequence[int]) -> list[Sample]:
        """Return the pairs of several numbers; those that are new are made together."""
        new = []
        for number in dict.fromkeys(numbers):
            if number not in self._samples:
                coming = self._coming.pop(number, None)
                if coming is None:
                    new.append(number)
                else:
                    self._samples[number] = coming.result()
        self._samples.update(self._fetch(new))
        return [self._samples[number] for number in numbers]

    def prefetch(self, numbers: Iterable[int]) -> None:
        """Begin to make pairs that will be wanted soon; does nothing without workers."""
        if self._executor is None:
            return
        for number in numbers:
            if number not in self._samples and number not in self._coming:
                self._coming[number] = self._executor.submit(self._fetch_alone, number)

    def close(self) -> None:
        """End the workers; what they have not begun is dropped."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None
            self._coming.clear()

    def _fetch_alone(self, number: int) -> Sample:
        return self._fetch([number])[number]

    def _fetch(self, numbers: Sequence[int]) -> dict[int, Sample]:
        known = {number: self._read(number) for number in numbers}
        made = self._make([number for number, sample in known.items() if sample is None])
        return made | {number: sample for number, sample in known.items() if sample is not None}

    def _make(self, numbers: Sequence[int]) -> dict[int, Sample]:
        seeds = {n: int(np.random.default_rng([self.seed, n]).integers(2**31)) for n in numbers}
        made: dict[int, Sample] = {}
        together = [n for n in numbers if self.sources[self.source_of(n)].simulated]
        for first in range(0, len(together), _TOGETHER):
            part = together[first : first + _TOGETHER]
            subjects = [self.subject(n) for n in part]
            drawn = draw_samples(subjects, self.options, [seeds[n] for n in part], self.device)
            made.update(zip(part, drawn, strict=True))
        for number in numbers:
            if number not in made:
                source = self.sources[self.source_of(number)]
                sample = source.sample(self.subject(number), self.options, seeds[number])
                made[number] = sample.to(self.device)
            path = self._path(number)
            if path is not None:
                keep(path, made[number].to_arrays())
                # What is read back must be what was used before a kill.
                made[number] = self._read(number) or made[number]
        return made

    def _path(self, number: int) -> Path | None:
        return None if self.folder is None else self.folder / f"{self.seed}-{number}.npz"

    def _read(self, number: int) -> Sample | None:
        path = self._path(number)
        arrays = None if path is None else read_kept(path)
        return None if arrays is None else Sample.from_arrays(arrays, self.device)


@dataclass(frozen=True)
class Batch:
    """What a training step works on.

    ``views``: bone bright; ``targets`` (B, V, H, W) line integrals of the vertebra alone;
    ``centred_to_box`` (B, 4, 4) the truth; ``anchors_to_centred`` (B, 4, 4) where the anchors'
    axes are in the subject's centred CT axes; ``points`` (B, P, 3) mm, the vertebra's surface in
    centred CT axes; ``ct`` (B, K, J, I) the vertebra as RegM sees it; ``own``: the vertebrae
    in the anchors' axes, where RecM is told them (none elsewhere); ``before``: the patient's
    vertebra as its CT shows it, where it is deformed (nothing elsewhere).
    """

    views: ViewBatch
    targets: Tensor
    centred_to_box: Tensor
    anchors_to_centred: Tensor
    points: Tensor
    ct: Tensor
    own: tuple[GaussianCloud, ...] = ()
    before: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0, 0))

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device."""
        moved: Batch = each(self, lambda tensor: tensor.to(device))
        return moved

    def to_register(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return what RegM has to move: its cubes, true poses (B, 4, 4) and surface points, which
        are those of the CT also where the vertebra is deformed by now."""
        if not len(self.before):
            return self.ct, self.centred_to_box, self.points
        points = in_anchor_axes(self.points, self.anchors_to_centred)
        return self.before, self.centred_to_box @ self.anchors_to_centred, points

    def first(self, count: int) -> Batch:
        """Return the first ``count`` cases."""
        some: Batch = each(replace(self, own=()), lambda tensor: tensor[:count])
        return replace(some, own=self.own[:count])


def in_anchor_axes(points: Tensor, anchors_to_centred: Tensor) -> Tensor:
    """Turn points (B, P, 3) of centred CT axes into the anchors' axes."""
    offset = points - anchors_to_centred[:, None, :3, 3]
    return offset @ anchors_to_centred[:, :3, :3]


def stack_samples(
    samples: Sequence[Sample], pixel_mm: float, generator: np.random.Generator | None
) -> tuple[ViewBatch, Tensor, Tensor]:
    """Stack views (bone bright), targets and centred_to_box of samples.

    With a ``generator`` each box is moved anew by up to `_SHIFT_MM` along each axis, which gives
    new pairs from known ones at almost no cost.
    """
    device = samples[0].images.device
    images, valid, targets, intrinsics, extrinsics, poses = (
        torch.stack([getattr(sample, name) for sample in samples]).to(device)
        for name in ("images", "valid", "targets", "intrinsics", "extrinsics", "centred_to_box")
    )
    if generator is not None:
        shift = generator.uniform(-_SHIFT_MM, _SHIFT_MM, (len(samples), 3))
        images, valid, targets, intrinsics, extrinsics, poses = _moved_box(
            images,
            valid,
            targets,
            intrinsics,
            extrinsics,
            poses,
            torch.from_numpy(shift).float().to(device),
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
    place = torch.eye(4, device=shift.device).repeat(len(shift), 1, 1)
    place[:, :3, 3] = shift
    extrinsics = extrinsics @ place[:, None]
    poses = poses.clone()
    poses[:, :3, 3] -= shift
    size = images.shape[-1]
    middle = torch.einsum("bvij,bvj->bvi", intrinsics, extrinsics[..., :3, 3])
    offset = middle[..., :2] / middle[..., 2:] - (size - 1) / 2.0
    intrinsics = intrinsics.clone()
    intrinsics[..., :2, 2] -= offset
    theta = torch.zeros(*offset.shape[:2], 2, 3, device=shift.device)
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
