"""X-rays of which an export has cut off the ends of the range: dense bone is not taken for air."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from registration_scenes import QUICK, error_mm, one_thread, simulated, with_views

from RadGSRegLib.cases import View
from RadGSRegLib.registration import register_case as register
from RadGSRegLib.views import prepare_views
from RadGSRegLib.views.air import air_sign

one_thread()

WINDOWS = [(5.0, 95.0), (2.0, 98.0), (0.0, 95.0), (10.0, 90.0)]
SCENES = [("clean", ("L2", "L3", "L4"), 1), ("realistic", "L3", 3), ("realistic", "L3", 5)]


def _exported(view: View, window: tuple[float, float], sign: int) -> View:
    """A view of known attenuation as 8 bits of a window, percentiles; +1 shows bone bright."""
    low, high = np.percentile(view.pixels, window)
    share = np.clip((view.pixels - low) / (high - low), 0.0, 1.0)
    grey = np.rint(255.0 * (share if sign > 0 else 1.0 - share)).astype(np.float32)
    return replace(view, pixels=grey, intensity="display")


@pytest.mark.parametrize(("realism", "region", "seed"), SCENES)
@pytest.mark.parametrize("window", WINDOWS)
def test_cut_off_ends_are_never_taken_for_air_at_the_wrong_end(
    realism: str, region: str | tuple[str, ...], seed: int, window: tuple[float, float]
) -> None:
    known = simulated(realism, seed, region, display=False).case.views
    for sign in (1, -1):
        exported = [_exported(view, window, sign) for view in known]
        assert all(air_sign(view.pixels) in (0, sign) for view in exported)
        assert all(view.sign in (0, sign) for view in prepare_views(exported))


def test_a_case_whose_range_was_cut_off_is_registered() -> None:
    case = simulated("realistic", 1, display=False)
    cut = with_views(case.case, lambda view: _exported(view, (5.0, 95.0), -1))
    done = register(cut, None, QUICK)
    assert error_mm(case, done.ct_to_world) < 1.0
    assert done.status == "ok"
