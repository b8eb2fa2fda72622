"""Whole spines of phantoms to learn levels on: with ribs above, the pelvis below, cut or not."""

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from ..geometry import Volume, transform_points
from ..phantom import make_phantom, random_spine, region_box
from ..simulation import SOFT_LIMIT_HU
from ..vertebrae import LABEL_SCHEMES
from .kept import keep, read_kept
from .pool import Simulated, Source
from .subjects import Subject, make_subject

_NUMBERS = {level: number for number, level in LABEL_SCHEMES["verse"].items()}
SACRUM = _NUMBERS["S1"]
# What stands for S1 where vertebrae have their centroids, in the sacrum's frame: the sacrum's label
# is all of it.
_S1_MM = np.array([[0.0, 6.0, -14.0]])
# Ribs and pedicles are the least that tells levels.
SPACING_MM = 3.0
# How high a vertebra above T12 is, disc included.
_ABOVE_MM = 32.0
# Shares of trunks that begin with T12, with T11 (whose upper half alone is in some), T10 and T9:
# nothing but the ribs may say which vertebra bears the last ones.
_THORACIC = (0.2, 0.1, 0.3, 0.4)
# Of the CTs, so many end within the spine, so that its end in a picture tells nothing.
_CUT = 0.45
_CUT_AT_AN_END = 0.6
_LEAST_SLICES = 30
# Of varied trunks: how dense bone is, in densities of the phantom's, and shades of up to so many HU
# by their width, mm. The published CT of a trunk has about 0.7 of the phantoms' bone in its X-rays.
_DENSITY = (0.4, 1.1)
_SHADES_HU = {8.0: 50.0, 20.0: 70.0, 50.0: 50.0}
_AIR_HU = -300.0


def spine_sources(
    count: int,
    seed: int,
    *,
    cuts: int = 8,
    pairs: int = 6,
    folder: Path | None = None,
    spacing_mm: float = SPACING_MM,
    varied: bool = False,
) -> list[Source]:
    """List ``count`` random trunks, each ``cuts`` times: whole, or cut above and below within the
    spine, about one of its vertebrae. ``folder`` keeps the CTs, whose voxels are ``spacing_mm``.
    ``varied``: none is cut, bone is as dense as it may be, and soft tissue uneven (`_varied`).

    Each is listed ``pairs`` times, one after the other, so that its pairs can be made in a row:
    taking it apart takes longer than a pair.
    """
    return [
        Simulated(
            f"spine {number}, cut {cut}",
            partial(_of_any_width, _Trunk(number, spacing_mm, varied), cut, folder),
        )
        for cut in range(cuts)
        for number in range(seed, seed + count)
        for _ in range(pairs)
    ]


@dataclass(frozen=True)
class _Trunk:
    number: int
    spacing_mm: float
    varied: bool


def _of_any_width(trunk: _Trunk, cut: int, folder: Path | None, wide: bool) -> Subject:
    return _spine_subject(trunk, cut, folder)


@lru_cache(maxsize=1)
def _spine_subject(trunk: _Trunk, cut: int, folder: Path | None) -> Subject:
    """A vertebra of a trunk with what is around it: always a wide one."""
    number = trunk.number
    ct, labels, s1_to_ct = _trunk(number, trunk.spacing_mm, folder)
    rng = np.random.default_rng([number, cut, 92])
    if trunk.varied:
        ct = _varied(ct, np.random.default_rng([number, cut, 93]))
    else:
        ct, labels = _cut(ct, labels, rng)
    there = [int(n) for n in np.unique(labels.array) if n not in (0, SACRUM)]
    label = int(rng.choice(there))
    subject = make_subject(ct, labels, label, f"spine {number}, cut {cut}", wide=True)
    centroids = dict(subject.centroids)
    if SACRUM in centroids:
        centroids[SACRUM] = transform_points(s1_to_ct, _S1_MM)[0]
    return replace(subject, centroids=centroids)


def _varied(ct: Volume, rng: np.random.Generator) -> Volume:
    """The CT with bone of another density, and with shades in what is not air."""
    hu = ct.array.astype(np.float32)
    for width_mm, most_hu in _SHADES_HU.items():
        cells = [max(int(n * ct.spacing.min() / width_mm), 2) for n in hu.shape]
        coarse = rng.standard_normal(cells).astype(np.float32)
        strength = rng.uniform(0.0, most_hu)
        fine = torch.nn.functional.interpolate(
            torch.from_numpy(coarse)[None, None], size=hu.shape, mode="trilinear"
        )
        hu += np.where(hu > _AIR_HU, strength * fine[0, 0].numpy(), 0.0)
    bone = ct.array > SOFT_LIMIT_HU
    factor = rng.uniform(*_DENSITY)
    hu[bone] = SOFT_LIMIT_HU + factor * np.maximum(hu[bone] - SOFT_LIMIT_HU, 0.0)
    # What was soft stays so: shades are no bone.
    hu[~bone] = np.minimum(hu[~bone], SOFT_LIMIT_HU)
    return ct.with_array(hu)


def _trunk(
    number: int, spacing_mm: float, folder: Path | None
) -> tuple[Volume, Volume, np.ndarray]:
    """CT, labels and the sacrum's frame in the CT of a trunk."""
    path = None if folder is None else folder / f"trunk-{number}-{spacing_mm:g}.npz"
    kept = None if path is None else read_kept(path)
    if kept is not None:
        matrix = kept["index_to_physical"]
        return Volume(kept["ct"], matrix), Volume(kept["labels"], matrix), kept["sacrum"]
    rng = np.random.default_rng([number, 91])
    spine = random_spine(number)
    lower, upper = region_box(spine, "trunk")
    thoracic = int(rng.choice(len(_THORACIC), p=_THORACIC))
    upper = upper + np.array([0.0, 0.0, _ABOVE_MM * max(thoracic - 1, 0)])
    made = make_phantom(spine, spacing_mm, (lower, upper), thoracic=thoracic)
    if path is not None:
        arrays = {
            "ct": made.ct.array,
            "labels": made.labels.array,
            "index_to_physical": made.ct.index_to_physical,
            "sacrum": made.poses["S1"],
        }
        keep(path, arrays)
    return made.ct, made.labels, made.poses["S1"]


def _cut(ct: Volume, labels: Volume, rng: np.random.Generator) -> tuple[Volume, Volume]:
    """The CT between two discs, some of the time; what is left of other vertebrae has no label."""
    slices = ct.array.shape[0]
    heights = {
        int(n): float(np.argwhere(labels.array == n)[:, 0].mean())
        for n in np.unique(labels.array)
        if n
    }
    z = np.sort([height for n, height in heights.items() if n != SACRUM])
    low, high = 0, slices
    if rng.random() < _CUT:
        if rng.random() < _CUT_AT_AN_END:
            below = int(rng.integers(0, 4))
            # Below the lowest one the disc is half a step away.
            low = int(z[0] - 0.5 * (z[1] - z[0]) if below == 0 else z[below - 1 : below + 1].mean())
        if rng.random() < _CUT_AT_AN_END:
            above = len(z) - int(rng.integers(1, 4))
            high = int(z[above - 1 : above + 1].mean())
    if high - low < _LEAST_SLICES:
        low, high = 0, slices
    part = labels.array[low:high].copy()
    for number, height in heights.items():
        if not low + 2 <= height < high - 2:
            part[part == number] = 0
    matrix = ct.index_to_physical.copy()
    matrix[:3, 3] = ct.physical_points(np.array([[0.0, 0.0, low]]))[0]
    return Volume(ct.array[low:high], matrix), Volume(part, matrix)
