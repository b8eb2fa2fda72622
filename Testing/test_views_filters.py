"""Guests at the door for better views: they take part wherever X-rays are prepared."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from network_scenes import tiny_model, xrays
from registration_scenes import QUICK, bodies, error_mm, one_thread, simulated, truth
from test_reconstruction import CENTRE, bone, exact_views

from RadGSRegLib import pipeline
from RadGSRegLib.cases import View
from RadGSRegLib.geometry import Camera, compose_about
from RadGSRegLib.networks import see
from RadGSRegLib.networks.views import crop_prepared
from RadGSRegLib.reconstruction import ReconstructionOptions, reconstruct_from_views
from RadGSRegLib.reconstruction.box import cube
from RadGSRegLib.reconstruction.calibration import calibrate
from RadGSRegLib.reconstruction.observation import observe
from RadGSRegLib.registration import Candidate, GivenPoses, Places, register_case
from RadGSRegLib.registration.clouds import block_cloud
from RadGSRegLib.views import PreparedView, ViewFilter, prepare_view, prepare_views, window

STEP = np.array([0.03, -0.02, 0.03, 2.0, -1.5, 1.0])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    one_thread()


@dataclass(frozen=True)
class Masked:
    """A rectangle of pixels about the vertebra's centre that hides metal."""

    half_px: int
    name: str = "metal"

    def __call__(self, view: PreparedView) -> PreparedView:
        column, row = np.round(view.camera.project(CENTRE[None])[0]).astype(int)
        reach = self.half_px
        valid = view.valid.copy()
        valid[row - reach : row + reach + 1, column - reach : column + reach + 1] = False
        return replace(view, valid=valid)


class Inverted:
    """Dark bone from bright bone, and no word of the scale any more."""

    name = "inversion"

    def __call__(self, view: PreparedView) -> PreparedView:
        return replace(
            view, values=-view.values, sign=-view.sign, gain_known=False, offset_known=False
        )


class Unwarped:
    """Every second pixel, with the camera that belongs to them."""

    name = "unwarping"

    def __call__(self, view: PreparedView) -> PreparedView:
        values, valid = (np.ascontiguousarray(x[::2, ::2]) for x in (view.values, view.valid))
        rows, columns = values.shape
        camera = view.camera.window(0.0, 0.0, columns, rows, 2.0)
        return replace(view, values=values, valid=valid, camera=camera)


@pytest.fixture(scope="module")
def views() -> tuple[View, ...]:
    """A bone before a slope, so that no two pixels are alike."""
    v, u = np.indices((160, 160), dtype=np.float32)
    slope = 0.2 + 0.001 * u + 0.0007 * v
    return tuple(replace(view, pixels=view.pixels + slope) for view in exact_views(bone(), 2))


def _hidden(valid: torch.Tensor, camera: Camera) -> bool:
    """Whether a window's pixel at the vertebra's centre does not count."""
    column, row = np.round(camera.project(CENTRE[None])[0]).astype(int)
    return not bool(valid[row, column])


def test_no_filter_is_the_default(views: tuple[View, ...]) -> None:
    plain, without = prepare_view(views[0]), prepare_views(views, ())[0]
    assert (plain.values == without.values).all()
    assert plain.valid.all()
    assert (plain.sign, plain.gain_known, plain.offset_known) == (1, True, True)


def test_filters_are_applied_in_their_order(views: tuple[View, ...]) -> None:
    guests: list[ViewFilter] = [Unwarped(), Masked(3)]
    done = prepare_views(views, guests)
    assert [view.values.shape[0] for view in done] == [view.pixels.shape[0] // 2 for view in views]
    # Seven pixels of the picture that comes out, not of the one that went in.
    assert [int((~view.valid).sum()) for view in done] == [49, 49]


def test_registration_sees_a_filter(views: tuple[View, ...]) -> None:
    plain, masked, dark, coarse = (
        prepare_view(views[0], guests) for guests in ((), [Masked(12)], [Inverted()], [Unwarped()])
    )
    windows = [window(view, CENTRE, 30.0, 1.5, 1.5) for view in (plain, masked, dark, coarse)]
    assert not _hidden(windows[0].valid, windows[0].camera)
    assert _hidden(windows[1].valid, windows[1].camera)
    assert dark.sign == -1
    assert torch.allclose(windows[2].image, 1.0 - windows[0].image, atol=0.02)
    # Another camera, but the same window of the world.
    assert np.allclose(windows[3].camera.projection, windows[0].camera.projection)
    assert float((windows[3].image - windows[0].image).abs().mean()) < 0.01


def test_a_registration_through_filters_ends_at_the_same_pose() -> None:
    case = simulated().case
    start = compose_about(truth(simulated()), STEP, case.centre_ct)
    given = [GivenPoses([Candidate(start, 0.5, (-1, -1))], Places(1, 2, 1, keep=1, survivors=1))]
    done = register_case(case, start, QUICK, proposers=given, filters=[Inverted()])
    assert error_mm(simulated(), done.ct_to_world) < 0.5


def test_the_scale_and_the_noise_follow_what_a_filter_masks(views: tuple[View, ...]) -> None:
    @dataclass(frozen=True)
    class Scratch:
        name: str = "scratch"

        def __call__(self, view: PreparedView) -> PreparedView:
            values = view.values.copy()
            values[:20] += 100.0
            valid = view.valid.copy()
            valid[:21] = False
            return replace(view, values=values, valid=valid)

    plain, scratched = prepare_view(views[0]), prepare_view(views[0], [Scratch()])
    assert np.abs(scratched.pixels - plain.pixels)[21:].max() < 0.05
    assert scratched.noise == pytest.approx(plain.noise, abs=1e-3)


def test_reconstruction_sees_a_filter(views: tuple[View, ...]) -> None:
    box = cube(CENTRE, 64.0, 2.0)
    plain, masked, dark = (
        observe(prepare_view(views[0], guests), box.corners, 1.2)
        for guests in ((), [Masked(12)], [Inverted()])
    )
    assert not _hidden(plain.valid, plain.camera)
    assert _hidden(masked.valid, masked.camera)
    assert (dark.sign, dark.gain_known, dark.offset_known) == (-1, False, False)
    # What is known to be dark is believed to be dark.
    assert float(calibrate(dark, plain.image, 1.2).weight.mean()) > 0.05
    assert float(calibrate(replace(dark, sign=1), plain.image, 1.2).weight.mean()) == 0.0
    options = ReconstructionOptions(fresh_steps=1, fresh_count=50, spacing_mm=4.0, box_mm=64.0)
    done = reconstruct_from_views(views, centre_world=CENTRE, options=options, filters=[Inverted()])
    assert not done.quality["absolute_scale"]
    assert set(done.quality["bone"].values()) == {"dark"}


def test_networks_see_a_filter(views: tuple[View, ...]) -> None:
    plain, masked, dark = (
        crop_prepared(prepare_views(views, guests), [CENTRE])[0]
        for guests in ((), [Masked(12)], [Inverted()])
    )
    middle = plain.size_px // 2
    assert plain.valid[0, :, middle, middle].all()
    assert not masked.valid[0, :, middle, middle].any()
    # A known polarity comes bone bright, whichever it was.
    shown = plain.valid[0] > 0
    for n in range(2):
        there = shown[n]
        pair = torch.stack([plain.pictures[0, n, 1][there], dark.pictures[0, n, 1][there]])
        assert float(torch.corrcoef(pair)[0, 1]) > 0.99


def test_a_learned_start_sees_a_filter() -> None:
    model, shown = tiny_model(), xrays()
    plain, twice = (
        see(shown, model, fit=False, filters=guests) for guests in ((), [Inverted()] * 2)
    )
    dark = see(shown, model, fit=False, filters=[Inverted()])
    assert plain.signs == twice.signs == (1, 1)
    assert dark.signs == (-1, -1)


def test_a_filter_whose_answer_does_not_hold_together_is_refused(views: tuple[View, ...]) -> None:
    class Cut:
        name = "cut"

        def __call__(self, view: PreparedView) -> PreparedView:
            return replace(view, values=view.values[1:])

    class Broken:
        name = "broken"

        def __call__(self, view: PreparedView) -> PreparedView:
            return replace(view, values=np.full_like(view.values, np.nan))

    with pytest.raises(ValueError, match=r'filter "cut" on view .* differ in size'):
        prepare_views(views, [Cut()])
    with pytest.raises(ValueError, match=r'filter "broken" .* not finite'):
        prepare_views(views, [Broken()])


class Counted:
    """Changes nothing and counts how often it is asked."""

    name = "count"

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, view: PreparedView) -> PreparedView:
        self.asked += 1
        return view


def test_the_main_job_hands_filters_to_both_of_its_parts() -> None:
    case, counted, asked = simulated().case, Counted(), []
    options = pipeline.PipelineOptions(
        QUICK, ReconstructionOptions(prior_steps=1, spacing_mm=3.0), filters=(counted,)
    )
    prior = block_cloud(bodies().target_excess, 6.0)
    pipeline.run(
        case,
        options=options,
        prior_ct=prior,
        on_registered=lambda _: asked.append(counted.asked),
    )
    assert asked == [len(case.views)]
    assert counted.asked == 2 * len(case.views)
