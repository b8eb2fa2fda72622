"""Where the vertebra may be: the detector's maps, places in space from known maps, its use."""

from __future__ import annotations

from dataclasses import replace

import network_scenes as scenes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import triangulate
from RadGSRegLib.networks import bounds, load_model, looking, save_model, see, start
from RadGSRegLib.networks.anchors import project
from RadGSRegLib.networks.crops import make_frame
from RadGSRegLib.networks.detector import (
    STRIDE,
    Detector,
    DetectorConfig,
    is_lateral,
    log_shares,
    sample_map,
)
from RadGSRegLib.networks.places import Sighting, sight
from RadGSRegLib.networks.settle import Settled
from RadGSRegLib.views import prepare_view

CONFIG = DetectorConfig(size_px=96, pixel_mm=2.5, width=4)
SMALL = DetectorConfig(size_px=32, pixel_mm=6.0, width=4)
_SIGMA_PX = 2.5


def _sighting(
    points: list[list[float]],
    angles: tuple[float, ...] = (4.0, 93.0),
    middle: tuple[float, float, float] = (0.0, 0.0, 0.0),
    shares: tuple[float, ...] = (),
) -> Sighting:
    """What a perfect detector sees of points in the world: a Gaussian about each projection."""
    frame = make_frame(scenes.cameras(angles), middle, size_px=96, pixel_mm=2.5)
    places = torch.tensor(points, dtype=torch.float64) - torch.from_numpy(frame.box_to_world[:3, 3])
    places = places @ torch.from_numpy(frame.box_to_world[:3, :3])
    intrinsics, extrinsics = frame.intrinsics(), frame.extrinsics()
    pixels = project(places.float()[None], intrinsics[None], extrinsics[None])[0]
    cells = STRIDE * torch.arange(96 // STRIDE) + 0.5 * (STRIDE - 1)
    weights = torch.tensor(shares or [1.0] * len(points)).log()
    v, u = torch.meshgrid(cells, cells, indexing="ij")
    away = (u - pixels[..., 0, None, None]) ** 2 + (v - pixels[..., 1, None, None]) ** 2
    logs = torch.logsumexp(weights[:, None, None] - 0.5 * away / _SIGMA_PX**2, dim=1)
    return Sighting(logs, intrinsics, extrinsics, 96, 2.5, frame.box_to_world)


@pytest.mark.parametrize("views", [1, 2, 3])
def test_maps_have_half_the_size_and_any_number_of_views(views):
    torch.manual_seed(0)
    detector = scenes.shaken(Detector(CONFIG))
    logits = detector(
        torch.randn(views, 2, 96, 64), torch.ones(views, 96, 64), torch.arange(views) % 2.0
    )
    assert logits.shape == (views, 48, 32)
    assert logits.isfinite().all()
    logs = log_shares(logits)
    assert torch.allclose(logs.exp().sum((-2, -1)), torch.ones(views), atol=1e-4)
    # No place is ruled out by one view alone, however sure it is.
    assert log_shares(1e4 * logits).min() > -13.0


def test_frontal_and_lateral_views_are_told_apart():
    frame = make_frame(scenes.cameras((4.0, 93.0, 30.0)), [0.0, 0.0, 0.0])
    assert is_lateral(frame.extrinsics()).tolist() == [0.0, 1.0, 0.0]


def test_a_map_is_read_where_its_cells_are():
    v, u = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    maps = (3.0 * u - v)[None]
    # The middle of cell (column 5, row 7) of stride 2.
    assert sample_map(maps, torch.tensor([[[10.5, 14.5]]]), 32)[0, 0] == pytest.approx(8.0)


point = st.lists(st.floats(-60.0, 60.0), min_size=3, max_size=3)


@settings(max_examples=40, deadline=None)
@given(point, st.sampled_from([(4.0, 93.0), (-10.0, 40.0), (0.0, 95.0, 45.0)]))
def test_the_place_of_known_maps_is_exact(where, angles):
    middle = (5.0, -8.0, 12.0)
    found, scores = _sighting([where], angles, middle).places(3)
    # On a grid of 5 mm, from cells of 5 mm.
    assert np.linalg.norm(found[0] - where) < 1.5
    assert (np.diff(scores) <= 0).all()


@settings(max_examples=25, deadline=None)
@given(point, st.floats(24.0, 40.0), st.floats(-15.0, 15.0))
def test_each_of_several_vertebrae_is_a_place(where, step, aside):
    points = [where, [where[0] + aside, where[1], where[2] + np.copysign(step, -where[2])]]
    found, scores = _sighting(points, shares=(0.7, 0.3)).places(4)
    for wanted, place in zip(points, found, strict=False):
        assert np.linalg.norm(place - wanted) < 1.5
    # What is only seen by one view each is far behind.
    assert (scores[2:] < scores[1] - 1.0).all()
    apart = np.linalg.norm(found[:, None] - found[None], axis=-1) + 1e3 * np.eye(len(found))
    assert apart.min() >= bounds.APART_MM - 1e-6


def test_a_rough_start_chooses_between_equals():
    points = [[0.0, 0.0, 32.0], [0.0, 0.0, -32.0]]
    for wanted in points:
        near = np.array(wanted) + [20.0, -15.0, 10.0]
        found, _ = replace(_sighting(points), near_world=near).places(2)
        assert np.linalg.norm(found[0] - wanted) < 2.0
        assert len(found) == 2


def test_places_outside_any_picture_are_none():
    sighting = _sighting([[0.0, 0.0, 0.0]])
    assert sighting.score_at(np.array([0.0, 0.0, 500.0])) == -np.inf
    assert sighting.score_at(np.zeros(3)) > -0.5


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="multiple of 16"):
        DetectorConfig(size_px=90)


def _with_detector():
    torch.manual_seed(0)
    return scenes.tiny_model(replace(scenes.TINY, detector=SMALL))


def test_x_rays_are_looked_at_about_a_point_in_the_world():
    detector = scenes.shaken(Detector(SMALL))
    prepared = [prepare_view(view) for view in scenes.xrays((4.0, 93.0, 50.0))]
    sighting = sight(prepared, detector, np.array([10.0, 5.0, -5.0]))
    assert sighting.logs.shape == (3, 24, 24)
    assert np.allclose(sighting.box_to_world[:3, 3], [10.0, 5.0, -5.0])
    found, _ = sighting.places(5)
    assert 0 < len(found) <= 5
    assert np.isfinite(found).all()


def test_a_wide_detector_is_seen_whole():
    detector = Detector(SMALL)
    views = scenes.xrays()
    wide = [v.camera.window(-160.0, -160.0, 808, 808) for v in views]
    wider = [
        prepare_view(replace(v, camera=c, pixels=np.pad(v.pixels, 160)))
        for v, c in zip(views, wide, strict=True)
    ]
    near = sight([prepare_view(v) for v in views], detector, np.zeros(3))
    far = sight(wider, detector, np.zeros(3))
    # 198 mm and 329 mm at the middle, in pixels of 6 mm, whole blocks of 16.
    assert (near.size_px, far.size_px) == (48, 64)
    assert near.score_at(np.array([0.0, 0.0, 155.0])) == -np.inf
    assert far.score_at(np.array([0.0, 0.0, 155.0])) > -np.inf


def test_a_start_without_a_click_looks_where_the_detector_says(monkeypatch):
    wanted = np.array([22.0, -14.0, 31.0])
    asked = []

    def known(views, detector, centre, reference=None, near=None):
        asked.append((centre, near))
        return _sighting([wanted.tolist()])

    monkeypatch.setattr(looking, "sight", known)
    looked = []
    inner = looking.crop_prepared

    def crop(views, centres, reference=None, **sizes):
        looked.extend(np.asarray(centre) for centre in centres)
        return inner(views, centres, reference, **sizes)

    monkeypatch.setattr(looking, "crop_prepared", crop)
    monkeypatch.setattr(start, "settle", lambda *asked: Settled(np.eye(4), 0.5))
    model, views = _with_detector(), scenes.xrays()
    seen = see(views, model)
    assert np.linalg.norm(looked[0] - wanted) < 1.0
    # Untrained, RecM moves nothing.
    assert np.linalg.norm(seen.centre_world - wanted) < 1.0
    cameras = [view.camera for view in views]
    middle = triangulate(cameras, [(243.5, 243.5)] * 2)[0]
    assert np.allclose(asked[0][0], middle)
    # Around a start, and not at all where clicks say it.
    near = np.array([5.0, 0.0, 0.0])
    see(views, model, (near, np.eye(3)))
    assert np.allclose(asked[1], [near, near])
    clicked = [replace(view, center_px=(243.5, 243.5)) for view in views]
    see(clicked, model)
    assert len(asked) == 2


def test_a_detector_goes_with_the_model_and_may_be_missing(tmp_path):
    model = scenes.shaken(_with_detector())
    save_model(tmp_path / "with.safetensors", model, {})
    again = load_model(tmp_path / "with.safetensors")
    assert again.config.detector == SMALL
    pictures = torch.randn(2, 2, 32, 32)
    seen = pictures, torch.ones(2, 32, 32), torch.tensor([0.0, 1.0])
    assert torch.equal(model.detector(*seen), again.detector(*seen))

    save_model(tmp_path / "without.safetensors", scenes.tiny_model(), {})
    bare = load_model(tmp_path / "without.safetensors")
    assert bare.detector is None
    assert bare.config.detector is None
    assert np.isfinite(see(scenes.xrays(), bare).centre_world).all()
    assert bare.with_detector(SMALL).config.detector == SMALL
    assert again.with_detector(CONFIG).config.detector == SMALL
