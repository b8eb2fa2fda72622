"""Bone told from soft tissue: two volumes of the same X-rays, of all tissue and of drawn bones.

Of all tissue, from the X-rays as they are, the volume is sharp, but wrong curves of a display make
soft tissue uneven, and some of it as dense as bone. Of bones that a network drew in each X-ray it
is coarse and streaky: what is drawn wrongly differs from view to view. Both are wrong in different
places, so bone is what both say: denser than soft tissue, and where bones were drawn. The network
decides where bone may be and no more; every detail is that of the X-rays (measured:
docs/experiments/standard.md, "Volumes").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..geometry import Array, Volume
from ..reconstruction import Box, Deadline, cube
from ..system import Progress
from ..views import PreparedView, ViewFilter
from . import bounds
from .beams import whole_beams
from .coarse import coarse_bones
from .drawing import values_at
from .types import BeamOptions

# With fewer views nothing is reconstructed (`reconstruct_beam`).
LEAST_DRAWN = 3


@dataclass(frozen=True)
class DrawnBones:
    """How much bone was drawn: ``voxels`` (K, J, I) on ``grid``, in any one unit.

    ``drawn`` and ``left_out`` name the views whose bones these are, and those that are unlike all
    that the network knows. ``finished``: nothing was left out because time was up.
    """

    voxels: Tensor
    grid: Box
    drawn: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    finished: bool = True

    @property
    def enough(self) -> bool:
        """Whether there are views enough to believe anything."""
        return len(self.drawn) >= max(len(self.left_out), LEAST_DRAWN)


@dataclass(frozen=True)
class Bone:
    """Bone of a volume: ``volume`` holds by how much bone exceeds soft tissue, 1/mm.

    ``tissue_per_mm``: the attenuation of soft tissue in the volume; ``agreement``: the correlation
    of what is denser than that with what was drawn, NaN where either is nothing.
    """

    volume: Volume
    tissue_per_mm: float
    agreement: float

    def said(self) -> dict[str, Any]:
        """Return what is known of it as JSON values."""
        agreement = None if np.isnan(self.agreement) else self.agreement
        return {"agreement": agreement, "tissue_per_mm": self.tissue_per_mm}


def drawn_bones(
    views: Sequence[PreparedView],
    bones: ViewFilter,
    centre_world: Array,
    options: BeamOptions,
    report: Progress,
    until: Deadline,
) -> DrawnBones:
    """Draw the bones of all views, and reconstruct coarse voxels of them.

    ``centre_world`` (3,) mm; nothing finer is begun once ``until`` has passed.
    """
    standard = []
    for number, view in enumerate(views):
        report(0.4 * number / len(views), "drawing the bones")
        standard.append(bones(view))
    familiar = [view for view in standard if not view.unlike and view.valid.any()]
    drawn = tuple(view.name for view in familiar)
    left_out = tuple(view.name for view in standard if view.name not in drawn)
    if not familiar:
        grid = cube(centre_world, bounds.REGION_MM, bounds.REGION_MM / 2.0)
        return DrawnBones(torch.zeros(2, 2, 2), grid, drawn, left_out)
    shown = whole_beams(familiar, centre_world, options.pixels, options.device)
    coarse = coarse_bones(shown, centre_world, report.part(0.4, 1.0), until)
    return DrawnBones(coarse.voxels, coarse.grid, drawn, left_out, coarse.finished)


def bone_of(tissue: Volume, drawn: DrawnBones) -> Bone:
    """Tell bone in a volume of all tissue (1/mm) from what is as dense and where none was drawn.

    Soft tissue is the median of what is not air in the half of the volume with the least bone
    drawn. What exceeds it (by as much as bone does, `bounds.BONE_ABOVE_TISSUE`) counts wholly where
    as much bone was drawn as where bone is usual, and less in proportion where less was.
    """
    size = tissue.array.shape
    index = np.indices(size).reshape(3, -1)[::-1]
    matrix = tissue.index_to_physical
    places_world = (matrix[:3, :3] @ index + matrix[:3, 3:]).T
    amount = values_at(drawn.voxels, drawn.grid, places_world).cpu().numpy().reshape(size)
    amount = np.maximum(amount, 0.0)
    values = np.asarray(tissue.array, dtype=np.float32)
    soft = (amount <= np.median(amount)) & (values > bounds.TISSUE_SHARE * bounds.TISSUE_MU)
    level = float(np.median(values[soft])) if soft.any() else bounds.TISSUE_MU
    excess = np.maximum(values - bounds.BONE_ABOVE_TISSUE * level, 0.0)
    # The mean of what is drawn, weighted by itself: what is usual where there is bone, however
    # much else the volume holds.
    usual = float(np.square(amount).sum()) / max(float(amount.sum()), 1e-12)
    whole = bounds.WHOLLY_BONE * usual
    share = np.minimum(amount / whole, 1.0) if whole > 0.0 else np.zeros_like(amount)
    return Bone(
        tissue.with_array((excess * share).astype(np.float32)), level, _correlation(excess, amount)
    )


def _correlation(first: Array, second: Array) -> float:
    a, b = first.ravel() - first.mean(), second.ravel() - second.mean()
    power = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / power if power > 1e-12 else float("nan")
