"""The arrows of the pipeline, and the demo from end to end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ball import CENTRE_CT, POSE, ball_case

from RadGSRegLib import pipeline
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import transform_points
from RadGSRegLib.registration import build_anatomy


def test_the_clicks_say_where_to_look() -> None:
    case = ball_case()
    centre = transform_points(POSE, CENTRE_CT[None])[0]
    exact = tuple(replace(view, center_px=(160.0, 150.0)) for view in case.views)
    assert np.allclose(pipeline.centre_of_views(exact), centre, atol=1e-6)
    assert 0.5 < np.linalg.norm(pipeline.centre_of_views(case.views) - centre) < 4.0


def test_without_clicks_the_middles_of_the_images_do() -> None:
    bare = tuple(replace(view, center_px=None) for view in ball_case().views)
    middle = pipeline.centre_of_views(bare)
    for view in bare:
        # The rays through the middles (159.5, 149.5) meet up to half a pixel's worth of skew.
        assert np.allclose(view.camera.project(middle[None])[0], [159.5, 149.5], atol=0.6)


def test_parallel_views_meet_nowhere() -> None:
    view = ball_case().views[0]
    with pytest.raises(InputError, match="parallel"):
        pipeline.centre_of_views((view, view))


def test_the_vertebra_of_a_case() -> None:
    case = ball_case()
    vertebra = build_anatomy(case)
    assert np.allclose(vertebra.centre_ct, CENTRE_CT, atol=0.1)
    alone = case.surface_ct
    assert np.allclose(alone, vertebra.surface_points_ct)
    distances = np.linalg.norm(alone - CENTRE_CT, axis=1)
    assert np.allclose(distances, 17.0, atol=1.6)
