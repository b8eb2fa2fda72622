"""Distortion of pictures: what it does to a point, and that it is undone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from RadGSRegLib.geometry import Distortion, distort, undistort

SMALL = st.floats(-0.06, 0.06)


@given(
    radial=st.tuples(SMALL, SMALL),
    spiral=st.tuples(SMALL, SMALL),
    places=st.lists(st.tuples(st.floats(0, 487), st.floats(0, 487)), min_size=1, max_size=9),
)
def test_what_is_distorted_is_undone(
    radial: tuple[float, float],
    spiral: tuple[float, float],
    places: list[tuple[float, float]],
) -> None:
    bend = Distortion((243.5, 240.0), 345.0, radial, spiral)
    points = np.array(places)
    assert np.abs(undistort(distort(points, bend), bend) - points).max() < 1e-9
    assert np.abs(distort(undistort(points, bend), bend) - points).max() < 1e-9


def test_the_numbers_mean_what_they_say() -> None:
    pincushion = Distortion((10.0, 20.0), 100.0, radial=(0.03, 0.0))
    assert distort([[110.0, 20.0]], pincushion) == pytest.approx(np.array([[113.0, 20.0]]))
    # Half as far out it is an eighth as many pixels.
    assert distort([[60.0, 20.0]], pincushion) == pytest.approx(np.array([[60.375, 20.0]]))
    # A positive spiral turns from columns towards rows.
    turned = distort([[110.0, 20.0]], Distortion((10.0, 20.0), 100.0, spiral=(0.1, 0.0)))
    wanted = [[10.0 + 100.0 * np.cos(0.1), 20.0 + 100.0 * np.sin(0.1)]]
    assert turned == pytest.approx(np.array(wanted))
    assert (distort([[10.0, 20.0]], pincushion) == [[10.0, 20.0]]).all()


def test_the_centre_and_no_points_stay() -> None:
    distortion = Distortion((100.0, 200.0), 100.0, (0.1, 0.0), (0.2, 0.0))
    assert undistort([[100.0, 200.0]], distortion) == pytest.approx(np.array([[100.0, 200.0]]))
    assert undistort(np.zeros((0, 2)), distortion).shape == (0, 2)


def test_a_fold_is_refused() -> None:
    with pytest.raises(ValueError, match="folds"):
        undistort([[300.0, 200.0]], Distortion((100.0, 200.0), 100.0, (-0.5, 0.0)))
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        distort([1.0, 2.0], Distortion((0.0, 0.0), 1.0))
