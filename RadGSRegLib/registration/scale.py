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


def bone_scale(case: CtCase) -> float:
    """Return how much smaller than a lumbar vertebra's the lengths for a case's bone are, at most 1.

    Raises InputError where the label is nowhere.
    """
    case.centre_ct  # noqa: B018
    thickness = thickness_mm(case.mask, case.ct.spacing)
    return float(np.clip((thickness / VERTEBRA_THICKNESS_MM) ** SCALE_POWER, LEAST_SCALE, 1.0))


def scaled(options: RegistrationOptions, scale: float) -> RegistrationOptions:
    """Return options whose Gaussians, pixels, blurs and neighbourhoods are ``scale`` times as long.

    How far off clicks, starts and neighbours may be does not change with the bone.
    """
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
