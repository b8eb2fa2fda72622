"""A predicted cloud settles where the X-rays show it."""

from __future__ import annotations

import network_scenes as scenes
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from RadGSRegLib.errors import Cancelled
from RadGSRegLib.geometry import transform_points
from RadGSRegLib.networks.settle import settle
from RadGSRegLib.system import Progress
from RadGSRegLib.views import prepare_view


def _off_by(degrees: float, millimetres: float) -> np.ndarray:
    step = np.eye(4)
    step[:3, :3] = Rotation.from_rotvec(
        np.radians(degrees) * np.array([0.6, -0.48, 0.64])
    ).as_matrix()
    step[:3, 3] = millimetres * np.array([-0.48, 0.64, 0.6])
    return step


@pytest.mark.parametrize("angles", [(4.0, 93.0), (0.0, 90.0, 45.0)])
def test_a_cloud_that_is_off_is_moved_back(angles):
    views = [prepare_view(view) for view in scenes.xrays(angles)]
    off = _off_by(6.0, 4.0)
    predicted = scenes.lopsided_cloud().transformed(off)
    found = settle(predicted, off[:3, 3], views, (1,) * len(views))
    points = scenes.lopsided_cloud().means.double().numpy()
    before = np.linalg.norm(transform_points(off, points) - points, axis=1).mean()
    after = np.linalg.norm(transform_points(found.step_world @ off, points) - points, axis=1).mean()
    assert before > 3.0
    assert after < 0.2
    assert found.score > 0.95


def test_the_polarity_counts():
    views = [prepare_view(view) for view in scenes.xrays()]
    cloud = scenes.lopsided_cloud()
    assert settle(cloud, np.zeros(3), views, (1, 1)).score > 0.95
    assert settle(cloud, np.zeros(3), views, (-1, -1)).score < 0.5


def test_it_can_be_cancelled():
    views = [prepare_view(view) for view in scenes.xrays()]
    with pytest.raises(Cancelled):
        settle(scenes.lopsided_cloud(), np.zeros(3), views, (1, 1), Progress(lambda *told: False))
