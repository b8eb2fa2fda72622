"""Lengths that follow from the bone: what a vertebra needs blurs the shaft of a radius away."""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from ..cases import CtCase
from ..geometry import mask_box
from .bounds import LEAST_SCALE, SCALE_POWER, VERTEBRA_THICKNESS_MM
from .options import RegistrationOptions, Stage


def thickness_mm(mask: ArrayLike, spacing: ArrayLike) -> float:
    """Return how thick a bone is, mm: the diameter of a rod, and of most of a vertebral body.

    ``mask`` (K, J, I), ``spacing`` (3,) in the order I, J, K. From depths d below the surface:
    2 <d^3> / <d^2> / 0.6, in which thick parts count most.
    """
    inside, steps = np.asarray(mask, dtype=bool), np.asarray(spacing, dtype=float)
    inside = np.pad(inside[mask_box(inside, steps, 0.0)], 1)
    depth = ndimage.distance_transform_edt(inside, sampling=steps[::-1])[inside]
    depth = np.maximum(depth - 0.5 * steps.min(), 0.0)
    return float(2.0 * (depth**3).mean() / max((depth**2).mean(), 1e-9) / 0.6)


def fitted(options: RegistrationOptions, case: CtCase) -> RegistrationOptions:
    """Return options with the scale that follows from a case's bone, unless they have one.

    Raises InputError where the label is nowhere.
    """
    if options.bone_scale is not None:
        return options
    case.centre_ct  # noqa: B018 (refuses an empty label)
    thickness = thickness_mm(case.mask, case.ct.spacing)
    scale = (thickness / VERTEBRA_THICKNESS_MM) ** SCALE_POWER
    return replace(options, bone_scale=float(np.clip(scale, LEAST_SCALE, 1.0)))


def scaled(options: RegistrationOptions) -> RegistrationOptions:
    """Return options whose Gaussians, pixels, blurs and neighbourhoods are as long as `bone_scale`
    says, and which need no more of it.

    How far off clicks, starts and neighbours may be does not change with the bone.
    """
    scale = 1.0 if options.bone_scale is None else options.bone_scale
    if scale == 1.0:
        return options

    def stage(given: Stage) -> Stage:
        refine = given.refine
        return replace(
            given,
            pixel_mm=scale * given.pixel_mm,
            blur_mm=scale * given.blur_mm,
            refine=replace(
                refine,
                neighbourhoods_mm=tuple(scale * n for n in refine.neighbourhoods_mm),
                margin_mm=scale * refine.margin_mm,
            ),
        )

    search = options.search
    return replace(
        options,
        bone_scale=1.0,
        coarse_cloud_mm=scale * options.coarse_cloud_mm,
        fine_cloud_mm=scale * options.fine_cloud_mm,
        search=replace(
            search,
            pixel_mm=scale * search.pixel_mm,
            blur_mm=scale * search.blur_mm,
            neighbourhood_mm=scale * search.neighbourhood_mm,
        ),
        coarse=stage(options.coarse),
        middle=stage(options.middle),
        fine=stage(options.fine),
    )
