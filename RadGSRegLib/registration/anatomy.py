"""From a CT with labels to what casts shadows: the target vertebra, its neighbours, other bone."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..cases import Case
from ..drr import SOFT_TISSUE_HU, hu_to_attenuation
from ..errors import InputError
from ..geometry import Array, Volume, centroid, cut, mask_box, surface_points
from .bounds import BONE_HU, LEAST_VOXELS
from .unlabelled import pieces_of


@dataclass(frozen=True)
class Body:
    """One rigid piece of bone: its excess attenuation over soft tissue (1/mm) in the CT frame."""

    name: str
    excess: Volume
    centre_ct: Array
    labelled: bool = True


@dataclass(frozen=True)
class Anatomy:
    """The target first, then movable neighbours (labelled), then all other bone as one piece."""

    target: Body
    neighbours: tuple[Body, ...]
    surface_points_ct: Array

    @property
    def centre_ct(self) -> Array:
        """The centroid of the target's mask, mm: what a click means, and where poses pivot."""
        return self.target.centre_ct


def build_anatomy(case: Case, *, reach_mm: float = 60.0) -> Anatomy:
    """Cut the case's CT into bodies; bone farther than ``reach_mm`` from the target is left out."""
    ct, labels = case.ct, np.asarray(case.labels.array)
    mask = labels == case.label
    box = mask_box(mask, ct.spacing, reach_mm)
    ct, labels, drawn = cut(ct, box), labels[box], mask[box]
    labels, mask = _with_shell(labels, case.label)
    distance = ndimage.distance_transform_edt(~mask, sampling=ct.spacing[::-1])
    near = distance <= reach_mm
    target = _body("target", ct, mask)
    if target is None:
        raise InputError(
            case.label_name,
            "this label of the segmentation covers no bone in the CT",
            "check that the segmentation belongs to the CT",
        )
    target = replace(target, centre_ct=centroid(ct, drawn))
    neighbours = []
    for value in np.unique(labels[near & (labels > 0)]):
        if value != case.label:
            body = _body(case.label_names.get(int(value), str(value)), ct, near & (labels == value))
            if body is not None:
                neighbours.append(body)
    free = near & (labels == 0)
    loose = free & (ct.array > BONE_HU) & ~ndimage.binary_dilation(labels > 0)
    if not neighbours:
        pieces, agent = pieces_of(ct, free, mask)
        for number, piece in enumerate(pieces, start=1):
            body = _body(f"bone {number}", ct, piece & free)
            if body is not None:
                neighbours.append(replace(body, labelled=False))
            loose &= ~piece
        loose &= ~agent
    rest = _body("other bone", ct, ndimage.binary_opening(loose))
    if rest is not None:
        neighbours.append(replace(rest, labelled=False))
    return Anatomy(target, tuple(neighbours), surface_points(ct, drawn))


def _with_shell(
    labels: NDArray[np.int_], target: int
) -> tuple[NDArray[np.int_], NDArray[np.bool_]]:
    """Labels grown by one voxel where nothing else is, and the target's mask.

    Half of the bone in a mask's outermost voxels lies outside the mask; left behind, it would stay
    with the background and pull the vertebra towards where the spine as a whole is.
    """
    grown = labels.copy()
    for value in [target, *np.unique(labels[(labels > 0) & (labels != target)])]:
        shell = ndimage.binary_dilation(labels == value) & (grown == 0)
        grown[shell] = value
    return grown, grown == target


def _body(name: str, ct: Volume, mask: NDArray[np.bool_]) -> Body | None:
    """The body inside ``mask``, on the mask's own box with a margin of empty voxels."""
    if np.count_nonzero(mask) < LEAST_VOXELS:
        return None
    box = mask_box(mask, ct.spacing, 2.0 * float(ct.spacing.max()))
    inside = cut(ct, box)
    above = hu_to_attenuation(inside.array) - float(hu_to_attenuation(SOFT_TISSUE_HU))
    excess = np.where(mask[box], np.maximum(above, 0.0), 0.0)
    if not (excess > 0).any():
        return None
    return Body(name, inside.with_array(excess.astype(np.float32)), centroid(ct, mask))
