"""Whole views as the network of levels is shown them in training, and what they tell of levels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..networks import LEVEL_CLASSES, STRIDE, DetectorConfig, is_lateral, project
from ..vertebrae import LABEL_SCHEMES, LEVELS
from ..views import ranks_and_contrast
from . import bounds
from .samples import Sample
from .whole_views import disguised

UNTOLD = LEVEL_CLASSES.index("untold")
# A hill about a vertebra's centre, one standard deviation.
_SIGMA_MM = 5.0
_NUMBERS = {level: number for number, level in LABEL_SCHEMES["verse"].items()}
SACRUM, LAST_RIB = _NUMBERS["S1"], _NUMBERS["T12"]
# Half of how much of the spine shutters leave, and how far from the middle of the picture.
_SHUTTERS_MM = (40.0, 90.0)
_SHUTTERS_OFF_MM = 45.0
# Where the last ribs lie beside the centroid of T12, in the box's axes: what has to be in the
# picture for them to be told from none.
_RIBS_MM = ((40.0, 8.0, -8.0), (-40.0, 8.0, -8.0))


def class_of(number: int) -> int:
    """Return which of `LEVEL_CLASSES` a vertebra with this VerSe label is."""
    level = LABEL_SCHEMES["verse"][number]
    if level in LEVEL_CLASSES:
        return LEVEL_CLASSES.index(level)
    above = LEVELS.index(level) < LEVELS.index("T12")
    return LEVEL_CLASSES.index("above" if above else "untold")


@dataclass(frozen=True)
class LevelsShown:
    """What the network is shown: ``pictures`` (N, 2, H, W), ``valid`` (N, H, W), ``lateral`` (N,);
    and what it is to say: ``wanted`` (N, h, w), 1 at a vertebra's centre, falling off around it,
    ``classes`` (N, h, w) of the vertebra there, and ``told`` (N,): 1 where the picture tells
    levels, 0 where it does not, -1 where an anchor is cut by the border, so that neither is taught.
    """

    pictures: Tensor
    valid: Tensor
    lateral: Tensor
    wanted: Tensor
    classes: Tensor
    told: Tensor


def show_levels(
    samples: Sequence[Sample],
    config: DetectorConfig,
    size_px: int,
    generator: np.random.Generator | None,
) -> LevelsShown:
    """Show views of samples, all views of all samples in one row, ``size_px`` wide and high.

    The samples' labels are VerSe's. With a ``generator`` pictures are disguised
    (`whole_views.disguised`) and half of them cut by shutters; without one, the middle is taken as
    it is.
    """
    images, valid, extrinsics = (
        torch.cat([getattr(s, name).cpu() for s in samples])
        for name in ("images", "valid", "extrinsics")
    )
    images, valid, matrices = disguised(images, valid, len(samples), config, size_px, generator)
    if generator is not None:
        valid = valid * _shutters(len(images), len(samples), config, size_px, generator)
    wanted, classes, told = [], [], []
    views = len(images) // len(samples)
    for n, sample in enumerate(samples):
        places, numbers = sample.centres, [int(label) for label in sample.labels]
        ribs = torch.zeros(0, 3)
        if LAST_RIB in numbers:
            ribs = places[numbers.index(LAST_RIB)] + torch.tensor(_RIBS_MM)
        points = torch.cat([places, ribs])
        pixels = project(points[None], sample.intrinsics[None], sample.extrinsics[None])[0]
        for view in range(views):
            at = n * views + view
            moved = torch.linalg.solve(matrices[at][:, :2], (pixels[view] - matrices[at][:, 2]).T).T
            away = away_mm(moved, valid[at], config.pixel_mm)
            told.append(tells(numbers, away))
            kinds = torch.tensor([class_of(number) for number in numbers])
            hills, of = _hills(moved[: len(places)], kinds, config.pixel_mm, size_px)
            wanted.append(hills)
            classes.append(of if told[-1] else torch.full_like(of, UNTOLD))
    return LevelsShown(
        ranks_and_contrast(images, valid, config.pixel_mm),
        valid,
        is_lateral(extrinsics),
        torch.stack(wanted),
        torch.stack(classes),
        torch.tensor(told),
    )


def _shutters(
    count: int, samples: int, config: DetectorConfig, size: int, rng: np.random.Generator
) -> Tensor:
    """What shutters above and below leave (count, H, W) of the pictures of half of the samples: so
    that many pictures show neither sacrum nor ribs."""
    rows = np.arange(size) - (size - 1) / 2.0
    out = np.ones((samples, count // samples, size, size), dtype=np.float32)
    for case in out:
        if rng.random() < 0.5:
            continue
        half = rng.uniform(*_SHUTTERS_MM) / config.pixel_mm
        middle = rng.uniform(-1.0, 1.0) * _SHUTTERS_OFF_MM / config.pixel_mm
        for view in case:
            away = np.abs(rows - middle - rng.normal(0.0, 6.0) / config.pixel_mm)
            view *= (away < half)[:, None]
    return torch.from_numpy(out.reshape(count, size, size))


def away_mm(pixels: Tensor, valid: Tensor, pixel_mm: float) -> Tensor:
    """Return how far pixels (N, 2) = (column, row) lie outside what a picture (H, W) shows, mm; 0
    inside."""
    rows, columns = torch.nonzero(valid > 0, as_tuple=True)
    if len(rows) == 0:
        return torch.full((len(pixels),), torch.inf)
    real = torch.stack([columns, rows], dim=-1).to(pixels)
    nearest = torch.cdist(pixels, real).amin(-1)
    # A place between pixels that are shown is shown.
    return torch.where(nearest < 1.0, 0.0, nearest * pixel_mm)


def tells(numbers: Sequence[int], away: Tensor) -> int:
    """Say whether a view tells levels (1), does not (0), or an anchor is cut by its border (-1).

    ``away`` as from `away_mm`, of the vertebrae with VerSe labels ``numbers``, and after them of
    points on the ribs of T12 where that is among them.
    """
    cut = False
    if SACRUM in numbers:
        sacrum = float(away[list(numbers).index(SACRUM)])
        if sacrum == 0.0:
            return 1
        cut |= sacrum < bounds.ANCHOR_CUT_MM
    if LAST_RIB in numbers:
        last = float(away[list(numbers).index(LAST_RIB)])
        ribs = away[len(numbers) :]
        if last == 0.0 and bool((ribs == 0.0).any()):
            return 1
        cut |= last < bounds.ANCHOR_CUT_MM
    return -1 if cut else 0


def _hills(pixels: Tensor, kinds: Tensor, pixel_mm: float, size_px: int) -> tuple[Tensor, Tensor]:
    """Hills (h, w) about pixels (N, 2), the highest at each cell, and the kind (h, w) of it."""
    cells = STRIDE * torch.arange(size_px // STRIDE) + 0.5 * (STRIDE - 1)
    sigma = _SIGMA_MM / pixel_mm
    along = torch.exp(-0.5 * ((cells - pixels[:, :, None]) / sigma) ** 2)
    hills = along[:, 1, :, None] * along[:, 0, None, :]
    highest, which = hills.max(dim=0)
    return highest, kinds[which]


def levels_loss(there: Tensor, classes: Tensor, shown: LevelsShown) -> Tensor:
    """Return the loss of a network's logits (N, h, w) and (N, C, h, w): cross entropy of the
    distribution of centres over each picture, of whether there is one in a cell, and of their
    classes, at centres alone."""
    # Invalid pixels show nothing, and a centre behind a collimator is not asked for.
    real = functional.avg_pool2d(shown.valid[:, None], STRIDE)[:, 0]
    wanted = shown.wanted * (real > 0)
    each = functional.binary_cross_entropy_with_logits(there, wanted, reduction="none")
    weight = real * (1.0 + bounds.CENTRES_WEIGHT * wanted)
    share = (weight * each).sum() / weight.sum().clamp_min(1.0)
    # The distribution over the picture, as the detector learns it: sharp where the share is vague.
    sums = wanted.sum((-2, -1))
    log = functional.log_softmax(there.flatten(1), dim=1).view_as(there)
    where = -((wanted * log).sum((-2, -1)) / sums.clamp_min(1.0))[sums > 1.0]
    where = where.mean() if len(where) else share.new_zeros(())
    sure = wanted * (wanted > 0.3) * (shown.told >= 0)[:, None, None]
    of = functional.cross_entropy(classes, shown.classes, reduction="none")
    return where + 2.0 * share + (sure * of).sum() / sure.sum().clamp_min(1.0)
