"""Vertebrae to train on: one label of one CT, taken apart once and simulated many times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from scipy import ndimage

from ..drr import excess_attenuation
from ..errors import InputError
from ..geometry import Array, Volume, surface_points
from ..simulation import Scene, SceneOnDevice, centroid, scene_on_device, take_apart

# What is farther from the vertebra than this does not reach into the crops by much.
_REACH_MM = 70.0
# Backdrops are seen through millimetre pixels.
_BACKDROP_MM = 2.5
# Whole views show this much, through pixels as coarse as these voxels.
_WIDE_REACH_MM = 170.0
_WIDE_MM = 3.0
_SURFACE_POINTS = 500


@dataclass(frozen=True)
class Subject:
    """One vertebra with its surroundings, in the CT's physical frame (LPS mm).

    ``ct`` (HU) and ``labels`` are cut to the surroundings; ``centroids`` (3,) of all labelled
    vertebrae's masks, ``centre_ct`` (3,) that of its own; ``coarse_mm``: the voxels in which what
    is around vertebrae is simulated; ``excess`` (1/mm) is what the vertebra adds to soft tissue
    (math.md 2).
    ``anchors_to_centred`` (4, 4): where the axes of shared anchors are in CT axes about that
    centre; the identity for a patient's own. ``undeformed_to_centred``:
    where a deformation took points (N, 3) of the vertebra that this one was made from, whose axes
    are about its own centre (None: it is none).
    """

    name: str
    ct: Volume
    labels: Volume
    label: int
    centroids: dict[int, Array]
    coarse_mm: float
    excess: Volume
    centre_ct: Array
    anchors_to_centred: Array = field(default_factory=lambda: np.eye(4))
    undeformed_to_centred: Callable[[Array], Array] | None = None
    _scenes: dict[str, SceneOnDevice] = field(default_factory=dict, repr=False, compare=False)

    @property
    def centroids_ct(self) -> Array:
        """The centroids (N, 3) of all labelled vertebrae, this one's first, the rest by label."""
        others = [c for n, c in sorted(self.centroids.items()) if n != self.label]
        return np.stack([self.centroids[self.label], *others])

    def take_apart(self) -> Scene:
        """Take the CT apart into its vertebrae and the rest, which is not kept."""
        return take_apart(self.ct, self.labels, self.coarse_mm)

    def on(self, device: torch.device | str) -> SceneOnDevice:
        """Return what all its X-rays share on a device, made once."""
        name = str(device)
        if name not in self._scenes:
            excess = {self.label: self.excess}
            self._scenes[name] = scene_on_device(self.ct, self.take_apart(), excess, device)
        return self._scenes[name]

    @cached_property
    def surface_count(self) -> int:
        """How many points the surface of its mask has."""
        return len(surface_points(self.labels, np.asarray(self.labels.array == self.label)))

    @property
    def nbytes(self) -> int:
        """The memory that it takes, with what is kept of it on devices."""
        own = self.ct.array.nbytes + self.labels.array.nbytes + self.excess.array.nbytes
        return own + sum(scene.nbytes for scene in self._scenes.values())

    def with_axes(self, anchors_to_centred: Array) -> Subject:
        """Return the same with other ``anchors_to_centred``."""
        return replace(self, anchors_to_centred=np.asarray(anchors_to_centred, dtype=float))

    @property
    def surface_points_ct(self) -> Array:
        """At most 500 points (N, 3) mm of the vertebra, spread over its outer voxels."""
        occupied = self.excess.array > 0
        kji = np.argwhere(occupied & ~ndimage.binary_erosion(occupied))
        # From the first to the last: they are in the order of height.
        kji = kji[np.linspace(0, len(kji) - 1, min(len(kji), _SURFACE_POINTS)).astype(int)]
        return self.excess.physical_points(kji[:, ::-1].astype(float))


def make_subject(
    ct: Volume, labels: Volume, label: int, name: str = "", *, wide: bool = False
) -> Subject:
    """Make a subject from a CT (HU) and its label map on the same grid.

    A ``wide`` one is for whole views: with more around it, in voxels of about 3 mm. Raises
    InputError where the grids differ or the label is absent or holds no bone.
    """
    if ct.array.shape != labels.array.shape:
        raise InputError(name or "label map", "lies on another grid than the CT", "resample it")
    mask = np.asarray(labels.array) == label
    if not mask.any():
        raise InputError(name or "label map", f"holds no label {label}")
    kji = np.argwhere(mask)
    pad = np.ceil((_WIDE_REACH_MM if wide else _REACH_MM) / ct.spacing)
    low, high = kji.min(axis=0)[::-1] - pad, kji.max(axis=0)[::-1] + 1 + pad
    part, around = ct.crop(low, high), labels.crop(low, high)
    if wide:
        part, around = _coarser(part, around)
    excess = excess_attenuation(part, around, label)
    if not (excess.array > 0).any():
        raise InputError(name or "label map", f"label {label} covers no bone in the CT")
    numbers = [int(n) for n in np.unique(around.array) if n != 0]
    centroids = {n: centroid(around, n) for n in numbers}
    coarse = _WIDE_MM if wide else _BACKDROP_MM
    return Subject(name, part, around, int(label), centroids, coarse, excess, centroids[int(label)])


def _coarser(ct: Volume, labels: Volume) -> tuple[Volume, Volume]:
    """Both on a grid of about `_WIDE_MM`: the CT averaged over blocks, the labels from the voxel at
    their middle."""
    steps = np.maximum(np.floor(_WIDE_MM / ct.spacing + 0.25).astype(int), 1)
    if steps.max() == 1:
        return ct, labels
    size = np.array(ct.size) // steps
    k, j, i = size[::-1]
    whole = ct.crop((0, 0, 0), size * steps).array.astype(np.float32)
    mean = whole.reshape(k, steps[2], j, steps[1], i, steps[0]).mean(axis=(1, 3, 5))
    middle = (steps - 1) // 2
    part = labels.crop((0, 0, 0), size * steps).array
    kept = part[middle[2] :: steps[2], middle[1] :: steps[1], middle[0] :: steps[0]]
    matrix = ct.index_to_physical.copy()
    matrix[:3, 3] = ct.physical_points((steps - 1)[None] / 2.0)[0]
    matrix[:3, :3] = matrix[:3, :3] * steps
    return Volume(mean, matrix), Volume(kept, matrix)
