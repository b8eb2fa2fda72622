"""Segment from a click: a point inside a vertebral body in, a mask of that vertebra out."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from ..errors import InputError
from ..geometry import Volume, transform_points
from ..system import Progress, ProgressCallable
from . import bounds
from .boundary import distances_on_ct, find_mask, template_position
from .deform import deform
from .image import cut_patch
from .pose import Placement, place
from .template import CLIP_HU, SPACING_MM, body_half, in_body

SOURCE = "point"

_HALF_MM = np.array([90.0, 105.0, 85.0])  # what a vertebra anywhere around the click may fill
_BLUR_MM = 1.0
_REMEDY = "click inside the body of a vertebra"


@dataclass(frozen=True)
class VertebraSegmentation:
    """``mask`` (bool, on the CT's grid) of one whole vertebra.

    ``status`` is ``uncertain`` where the result should be looked at twice; ``notes`` say why.
    ``quality``: ``placement`` and ``fit`` are correlations with the CT (overall and local, at most
    1), ``inside`` the share of the vertebra that lies within the CT.
    """

    mask: Volume
    status: Literal["ok", "uncertain"]
    quality: dict[str, Any]
    notes: tuple[str, ...] = field(default=())


def segment_vertebra(
    ct: Volume, point_lps: ArrayLike, *, progress: ProgressCallable | None = None
) -> VertebraSegmentation:
    """Segment the vertebra whose body holds a point.

    The phantom's mean lumbar anatomy is placed around the click by search, bent to the CT, and its
    surface moved to the bone's edge; neighbours are part of the model and so keep apart. Nothing is
    trained, and the same input gives the same mask. Made for T12 to L5, also cut by the edge of the
    CT, which is then noted (docs/limits.md).

    Args:
        ct: HU.
        point_lps: (3,) mm in the CT's own frame, inside the vertebra's body.
        progress: told of the share done; may cancel.

    Returns:
        The mask on the CT's grid, with a status and notes.

    Raises:
        InputError: where the point is not inside a vertebral body.
        Cancelled: when ``progress`` says so.

    Example:
        >>> from RadGSRegLib.segmentation import segment_vertebra
        >>> vertebra = segment_vertebra(case.ct, case.centre_ct)  # doctest: +SKIP
        >>> vertebra.status  # doctest: +SKIP
        'ok'
        >>> segment_vertebra(case.ct, [0.0, 0.0, 9999.0])
        Traceback (most recent call last):
        ...
        RadGSRegLib.errors.InputError: ...
    """
    report = Progress(progress)
    report(0.0, "looking at the point")
    point = _checked(ct, point_lps)
    patch = cut_patch(ct, point, _HALF_MM, SPACING_MM, CLIP_HU, _BLUR_MM)
    placements = place(patch, point, report.part(0.05, 0.5))
    best = placements[0]
    if best.score < bounds.LEAST_SCORE:
        raise InputError(SOURCE, "no vertebra can be made out around it", _REMEDY)
    bent = deform(patch, best, report.part(0.5, 0.9))
    report(0.9, "finding the bone's edge")
    if bent.score < bounds.LEAST_FIT:
        raise InputError(SOURCE, "no vertebra can be made out around it", _REMEDY)
    _check_in_body(best, template_position(best, bent, point[None])[0])
    box = distances_on_ct(ct, best, bent)
    array = np.zeros(ct.array.shape, dtype=bool)
    if box is not None:
        array[box.slices] = find_mask(ct, box)
    if not _near(ct, array, point):
        raise InputError(SOURCE, "is not inside a vertebral body", _REMEDY)

    inner = bent.points[best.template.target < 0]
    at = transform_points(ct.physical_to_index, inner)
    inside = float(((at > -0.5) & (at < np.array(ct.size) - 0.5)).all(1).mean())
    notes = []
    if inside < bounds.LEAST_INSIDE:
        raise InputError(
            SOURCE, "only a small part of its vertebra is in the CT", "choose a vertebra inside it"
        )
    if inside < bounds.WHOLE_INSIDE or _cut_area(ct, array) > bounds.CUT_MM2:
        notes.append("the vertebra is cut by the edge of the CT")
    if best.score < bounds.SURE_SCORE or bent.score < bounds.SURE_FIT:
        notes.append("the fit is poor; check the mask")
    quality = {
        "placement": round(best.score, 3),
        "fit": round(bent.score, 3),
        "inside": round(inside, 3),
    }
    report(1.0, "done")
    return VertebraSegmentation(
        ct.with_array(array), "uncertain" if notes else "ok", quality, tuple(notes)
    )


def _checked(ct: Volume, point_lps: ArrayLike) -> NDArray[np.float64]:
    """The point, if there may be a vertebral body around it."""
    point = np.asarray(point_lps, dtype=float)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise InputError(SOURCE, "is not three finite numbers", "give X,Y,Z in mm (LPS)")
    index = transform_points(ct.physical_to_index, point)
    if (index < -0.5).any() or (index > np.array(ct.size) - 0.5).any():
        raise InputError(SOURCE, "lies outside the CT", _REMEDY)
    extent = ct.spacing * np.array(ct.size)
    if extent.min() < bounds.LEAST_EXTENT_MM or ct.spacing.max() > bounds.MOST_SPACING_MM:
        raise InputError(
            "CT", "is too small or too coarse for a vertebra", "30 mm at 6 mm or finer are needed"
        )
    near = ct.crop(np.floor(index - 8.0 / ct.spacing), np.ceil(index + 8.0 / ct.spacing) + 1)
    smooth = gaussian_filter(near.array.astype(np.float32), 2.0 / near.spacing[::-1])
    at = np.rint(transform_points(near.physical_to_index, point)).astype(int)
    at = np.clip(at, 0, np.array(near.size) - 1)
    hu = float(smooth[at[2], at[1], at[0]])
    if hu < bounds.FAT_HU:
        raise InputError(SOURCE, "lies in fat or air, not in bone", _REMEDY)
    return point


def _cut_area(ct: Volume, mask: NDArray[np.bool_]) -> float:
    """How much of the mask lies on the outermost voxels of the CT, mm2."""
    area = 0.0
    for axis, step in enumerate(ct.spacing[::-1]):
        face = float(ct.spacing.prod() / step)
        area += face * sum(int(np.take(mask, end, axis).sum()) for end in (0, -1))
    return area


def _near(ct: Volume, mask: NDArray[np.bool_], point: NDArray[np.float64]) -> bool:
    """Whether the mask comes as close to the point as a hand, and the mask's edge, are exact."""
    index = transform_points(ct.physical_to_index, point)
    reach = bounds.NEAR_MM / ct.spacing
    part = ct.with_array(mask).crop(np.floor(index - reach), np.ceil(index + reach) + 1)
    voxels = part.physical_points(np.argwhere(part.array)[:, ::-1])
    apart = np.linalg.norm(voxels - point, axis=1).min(initial=np.inf)
    return bool(apart <= max(bounds.NEAR_MM, 0.9 * float(np.linalg.norm(ct.spacing))))


def _check_in_body(placement: Placement, at: NDArray[np.float64]) -> None:
    if not in_body(placement.template.level, at):
        behind = at[1] > body_half(placement.template.level)[1]
        where = "in the vertebra's canal or arch" if behind else "beside the vertebral body"
        raise InputError(SOURCE, f"lies {where}", _REMEDY)
