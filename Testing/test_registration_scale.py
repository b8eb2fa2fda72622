"""Lengths that follow from the bone's thickness."""

from __future__ import annotations

import numpy as np
import pytest
from registration_scenes import simulated

from RadGSRegLib.registration import RegistrationOptions, fitted, scaled
from RadGSRegLib.registration.scale import thickness_mm


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 0.5), (0.8, 0.4, 1.0)])
@pytest.mark.parametrize("diameter", [10.0, 14.0])
def test_a_rods_thickness_is_its_diameter(
    diameter: float, spacing: tuple[float, float, float]
) -> None:
    x, y, z = spacing
    k, j, i = np.indices((round(70 / z), round(24 / y), round(24 / x)))
    mask = np.hypot((i * x) - 12, (j * y) - 12) < diameter / 2
    mask &= (k * z > 5) & (k * z < 65)
    assert thickness_mm(mask, spacing) == pytest.approx(diameter, rel=0.12)


def test_a_lumbar_vertebra_keeps_its_lengths_and_a_thin_bone_has_shorter_ones() -> None:
    case = simulated().case
    options = fitted(RegistrationOptions(), case)
    assert options.bone_scale == 1.0
    assert scaled(options) is options
    thin = scaled(RegistrationOptions(bone_scale=0.5))
    plain = RegistrationOptions()
    assert thin.fine.pixel_mm == 0.5 * plain.fine.pixel_mm
    assert thin.fine.refine.neighbourhoods_mm == (3.0,)
    assert thin.search.blur_mm == 0.5 * plain.search.blur_mm
    assert thin.coarse_cloud_mm == 0.5 * plain.coarse_cloud_mm
    # How far off people and neighbours are does not depend on the bone.
    assert thin.start_range_mm == plain.start_range_mm
    assert thin.fine.refine.neighbour_translation_mm == plain.fine.refine.neighbour_translation_mm
    assert scaled(thin) is thin


def test_a_scale_that_is_asked_for_is_kept() -> None:
    case = simulated().case
    assert fitted(RegistrationOptions(bone_scale=0.7), case).bone_scale == 0.7
