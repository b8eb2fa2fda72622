"""The vertebrae of a CT as a row: their order, which lie beside which, and what may never be.

A spine's vertebrae neither change places nor grow into one another. A fit in which they do is
wrong, however well it explains the X-rays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from ..cases import Case
from ..errors import InputError
from ..geometry import Array, Rigid, cut, mask_box, surface_points, transform_points
from ..vertebrae import LEVELS, vertebra_level
from . import bounds


def in_order(case: Case, labels: Sequence[int]) -> list[int]:
    """Return labels in their order along the spine, from the head down, as their names say.

    Where names are no levels, as their centres lie in the CT. Raises InputError where named levels
    lie in another order in the CT than their names say: two of them are swapped.
    """
    centres_ct = {label: _centre_ct(case, label) for label in labels}
    by_place = sorted(labels, key=lambda label: -float(centres_ct[label][2]))
    levels = {label: vertebra_level(case.label_names.get(label, "")) for label in labels}
    named = [label for label in by_place if levels[label] in LEVELS]
    ranks = [LEVELS.index(str(levels[label])) for label in named]
    for (upper, rank), (lower, next_rank) in zip(
        zip(named, ranks, strict=True), zip(named[1:], ranks[1:], strict=True), strict=False
    ):
        if rank >= next_rank:
            names = case.label_names[upper], case.label_names[lower]
            raise InputError(
                "segmentation",
                f"{names[0]} lies above {names[1]} in the CT",
                "one of the two labels is wrong; name them as they lie",
            )
    return by_place


def _centre_ct(case: Case, label: int) -> Array:
    return np.asarray(surface_points(case.labels, case.labels.array == label).mean(axis=0))


def out_of_order(centres_ct: Sequence[Array], poses: Sequence[Array]) -> list[int]:
    """Return of vertebrae in their order the numbers of those that lie beside another one in
    another order, or much nearer to it, than in the CT.

    ``centres_ct`` (3,) mm, ``poses`` (4, 4) ct_to_world.
    """
    wrong: set[int] = set()
    for n in range(len(poses) - 1):
        in_ct = centres_ct[n + 1] - centres_ct[n]
        upper, lower = (
            Rigid(poses[k]).apply(np.asarray(centres_ct[k])[None])[0] for k in (n, n + 1)
        )
        now = poses[n][:3, :3].T @ (lower - upper)
        if float(now @ in_ct) < bounds.LEAST_STEP * float(in_ct @ in_ct):
            wrong |= {n, n + 1}
    return sorted(wrong)


def overlap_share(case: Case, poses: Mapping[int, Array], upper: int, lower: int) -> float:
    """Return the share of one vertebra's surface that lies deeper than `bounds.DEEP_MM` in another
    one, beyond what does so in the CT."""
    mask = case.labels.array == lower
    box = mask_box(mask, case.labels.spacing, 1.0)
    inside = cut(case.labels, box)
    depth_mm = ndimage.distance_transform_edt(mask[box], sampling=inside.spacing[::-1])
    points_ct = surface_points(case.labels, case.labels.array == upper)
    upper_to_lower = Rigid(poses[lower]).inverse().matrix @ poses[upper]

    def share(points: Array) -> float:
        indices = transform_points(inside.physical_to_index, points)[:, ::-1].T
        there = ndimage.map_coordinates(depth_mm, indices, order=1, cval=0.0)
        return float((there > bounds.DEEP_MM).mean())

    return max(share(transform_points(upper_to_lower, points_ct)) - share(points_ct), 0.0)
