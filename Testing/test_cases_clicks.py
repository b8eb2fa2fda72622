"""What clicks and masks of a case mean: centres in the world and in the CT."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ball import CENTRE_CT, POSE, RADIUS, ball_case

from RadGSRegLib.cases import clicked_centre, middle_of_views
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Rigid

CENTRE_WORLD = Rigid(POSE).apply(CENTRE_CT)


def _views(*clicks: tuple[float, float] | None, names: str = "ab") -> list:
    views = dict(zip("ab", ball_case().views, strict=True))
    return [
        replace(views[name], center_px=click) for name, click in zip(names, clicks, strict=True)
    ]


def test_clicks_mean_the_point_where_their_rays_meet() -> None:
    np.testing.assert_allclose(
        clicked_centre(_views((160.0, 150.0), (160.0, 150.0))), CENTRE_WORLD, atol=1e-9
    )


def test_one_click_means_no_point() -> None:
    assert clicked_centre(_views((160.0, 150.0), None)) is None


def test_clicks_far_from_each_other_are_refused_where_asked() -> None:
    views = _views((160.0, 150.0), (160.0, 290.0))
    assert clicked_centre(views) is not None
    with pytest.raises(InputError, match=r"rays pass each other \d+ mm apart; check center_px"):
        clicked_centre(views, furthest_mm=20.0)


def test_parallel_views_are_refused() -> None:
    views = _views((160.0, 150.0), (160.0, 150.0), names="aa")
    for centre in (clicked_centre, middle_of_views):
        with pytest.raises(InputError, match=r"parallel.*give views from different sides"):
            centre(views)


def test_middles_of_views_meet_beside_the_ball() -> None:
    centre = middle_of_views(_views(None, None))
    for view in ball_case().views:
        np.testing.assert_allclose(view.camera.project(centre[None])[0], (159.5, 149.5), atol=0.01)


def test_a_case_knows_its_mask_centre_and_surface() -> None:
    case = ball_case()
    assert case.mask.sum() == (case.labels.array == 22).sum()
    np.testing.assert_allclose(case.centre_ct, CENTRE_CT, atol=1e-9)
    away = np.linalg.norm(case.surface_ct - CENTRE_CT, axis=1)
    assert away.max() < RADIUS
    assert away.min() > RADIUS - 1.5 * np.sqrt(3.0)


def test_a_label_that_is_nowhere_is_refused() -> None:
    case = replace(ball_case(), label=7)
    assert not case.mask.any()
    for ask in (lambda: case.centre_ct, lambda: case.surface_ct):
        with pytest.raises(InputError, match="7: is not in the segmentation; check the label"):
            ask()
