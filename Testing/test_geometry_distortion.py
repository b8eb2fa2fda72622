"""Where a picture shows a point, and where it should be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from RadGSRegLib.geometry import Distortion, distort, undistort

WEAK = st.floats(-0.05, 0.05)


@given(WEAK, WEAK, WEAK, WEAK, st.integers(0, 1000))
def test_undistorted_is_the_inverse(k1: float, k2: float, s1: float, s2: float, seed: int) -> None:
    distortion = Distortion((500.0, 480.0), 512.0, (k1, k2), (s1, s2))
    points = np.random.default_rng(seed).uniform(0, 1023, (40, 2))
    assert np.abs(undistort(distort(points, distortion), distortion) - points).max() < 1e-9


def test_a_point_by_hand() -> None:
    distortion = Distortion((100.0, 200.0), 100.0, (0.1, 0.05), (0.0, 0.0))
    assert distort([[150.0, 200.0]], distortion)[0] == pytest.approx(
        [100.0 + 50.0 * (1 + 0.1 * 0.25 + 0.05 * 0.0625), 200.0]
    )
    turned = Distortion((100.0, 200.0), 100.0, spiral=(np.pi / 2, 0.0))
    assert distort([[200.0, 200.0]], turned)[0] == pytest.approx([100.0, 300.0])


def test_the_centre_and_no_points_stay() -> None:
    distortion = Distortion((100.0, 200.0), 100.0, (0.1, 0.0), (0.2, 0.0))
    assert undistort([[100.0, 200.0]], distortion) == pytest.approx(np.array([[100.0, 200.0]]))
    assert undistort(np.zeros((0, 2)), distortion).shape == (0, 2)


def test_a_fold_is_refused() -> None:
    with pytest.raises(ValueError, match="folds"):
        undistort([[300.0, 200.0]], Distortion((100.0, 200.0), 100.0, (-0.5, 0.0)))
