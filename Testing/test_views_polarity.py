"""One polarity per device: from burnt-out air, and in the choices that a search has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from registration_scenes import camera
from scipy import ndimage

from RadGSRegLib.cases import View
from RadGSRegLib.views import prepare_views, sign_choices
from RadGSRegLib.views.air import air_sign

ROWS, COLUMNS = 180, 200


def _arm(*, burnt: bool = True) -> np.ndarray:
    """Attenuation (rows, columns) of a limb in air, up to 1, below 0 cut off where air is burnt."""
    across = (np.arange(COLUMNS) - COLUMNS / 2) / 60.0
    chord = np.sqrt(np.clip(1.0 - across**2, 0.0, None))
    noise = np.random.default_rng(0).standard_normal((ROWS, COLUMNS))
    picture = ndimage.gaussian_filter(np.tile(chord, (ROWS, 1)), 2.0) + 0.003 * noise - 0.05
    return np.clip(picture, 0.0 if burnt else -1.0, None).astype(np.float32)


def _collimated(picture: np.ndarray, value: float) -> np.ndarray:
    v, u = np.indices(picture.shape)
    closed = np.hypot(v - ROWS / 2, u - COLUMNS / 2) > 75.0
    return ndimage.gaussian_filter(np.where(closed, value, picture), 0.7).astype(np.float32)


def _view(pixels: np.ndarray, name: str = "AP", device: str = "") -> View:
    return View(name, pixels, camera(), (1.2, 1.2), "display", device=device)


def test_burnt_out_air_says_where_bone_is() -> None:
    arm = _arm()
    assert air_sign(arm) == 1
    assert air_sign(1.0 - arm) == -1
    assert air_sign(np.float32(40.0) * arm - 7.0) == 1


def test_what_is_not_air_says_nothing() -> None:
    assert air_sign(_arm(burnt=False)) == 0
    body = 0.3 + 0.4 * ndimage.gaussian_filter(
        np.random.default_rng(1).standard_normal((ROWS, COLUMNS)), 6.0
    )
    for closed in (0.0, 1.0):
        assert air_sign(_collimated(body.astype(np.float32), closed)) == 0


def test_a_cut_off_window_at_both_ends_says_nothing() -> None:
    v, u = np.indices((ROWS, COLUMNS))
    waves = np.sin(v / 14.0) * np.sin(u / 14.0)
    assert air_sign(np.clip(waves, -0.5, 0.5).astype(np.float32)) == 0


def test_the_air_in_one_view_settles_all_views_of_the_device() -> None:
    silent = _arm(burnt=False)
    views = [_view(1.0 - _arm(), "AP"), _view(1.0 - silent, "LA"), _view(silent, "other", "B")]
    assert [view.sign for view in prepare_views(views)] == [-1, -1, 0]
    against = [_view(1.0 - _arm(), "AP"), _view(_arm(), "LA")]
    assert [view.sign for view in prepare_views(against)] == [0, 0]
    known = replace(views[1], intensity="attenuation")
    assert [view.sign for view in prepare_views([views[0], known])] == [-1, 1]


@given(
    known=st.lists(st.sampled_from([-1, 0, 1]), min_size=2, max_size=6),
    devices=st.lists(st.sampled_from("ABCDE"), min_size=6, max_size=6),
)
def test_signs_keep_what_is_known_and_are_one_per_device(
    known: list[int], devices: list[str]
) -> None:
    plain = prepare_views([_view(_arm(burnt=False))])[0]
    pairs = list(zip(known, devices, strict=False))
    choices = sign_choices([replace(plain, sign=s, device=d) for s, d in pairs])
    unknown = {device for sign, device in pairs if sign == 0}
    assert len(choices) == len(set(choices)) == (2 ** len(unknown) if len(unknown) <= 3 else 2)
    for signs in choices:
        assert all(s in (-1, 1) and k in (0, s) for k, s in zip(known, signs, strict=True))
        for device in unknown:
            alike = {s for s, (k, d) in zip(signs, pairs, strict=True) if not k and d == device}
            assert len(alike) == 1


@pytest.mark.parametrize("unknown", [0, 2])
def test_two_views_of_one_device_are_never_of_two_polarities(unknown: int) -> None:
    plain = prepare_views([_view(_arm(burnt=False))] * 2)
    views = [replace(view, sign=0 if n < unknown else 1) for n, view in enumerate(plain)]
    assert all(len(set(signs)) == 1 for signs in sign_choices(views))
