"""X-rays made ready: one sign, what is valid, how noisy, and windows that lie where they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from host_reads import counted_host_reads
from hypothesis import given
from hypothesis import strategies as st
from registration_scenes import camera
from scipy import ndimage

from RadGSRegLib.cases import Intensity, View
from RadGSRegLib.errors import InputError
from RadGSRegLib.tensors import without_host_reads
from RadGSRegLib.views import PreparedView, Windows, bounds, prepare_view, window, windows

ROWS, COLUMNS = 180, 200


def _attenuation(seed: int = 0) -> np.ndarray:
    """Line integrals of about 2 to 5, smooth over some pixels."""
    noise = np.random.default_rng(seed).standard_normal((ROWS, COLUMNS))
    return (3.5 + 10.0 * ndimage.gaussian_filter(noise, 6.0)).astype(np.float32)


def _view(pixels: np.ndarray, intensity: Intensity) -> View:
    return View("AP", pixels.astype(np.float32), camera(), (1.2, 1.2), intensity)


def _disc(radius: float) -> np.ndarray:
    v, u = np.indices((ROWS, COLUMNS))
    return np.hypot(v - ROWS / 2, u - COLUMNS / 2) < radius


def test_attenuation_keeps_its_order_and_its_sign() -> None:
    pixels = _attenuation()
    done = prepare_view(_view(pixels, "attenuation"))
    assert done.sign == 1
    assert done.valid.all()
    assert np.corrcoef(done.pixels.ravel(), pixels.ravel())[0, 1] > 0.99999
    assert np.percentile(done.pixels, [0.5, 99.5]) == pytest.approx([0.0, 1.0], abs=1e-3)


@pytest.mark.parametrize("photons", [1.0, 3e4])
def test_transmission_becomes_attenuation(photons: float) -> None:
    pixels = _attenuation()
    counts = photons * np.exp(-pixels)
    done = prepare_view(_view(counts, "transmission"))
    assert done.sign == 1
    direct = prepare_view(_view(pixels, "attenuation"))
    # All but the counts below the floor of one in a thousand.
    assert np.quantile(np.abs(done.pixels - direct.pixels), 0.998) < 5e-3


def test_transmission_without_any_count_behind_the_collimator() -> None:
    open_field = _disc(70.0)
    counts = np.where(open_field, 2e4 * np.exp(-_attenuation()), 0.0)
    done = prepare_view(_view(counts, "transmission"))
    assert np.isfinite(done.pixels).all()
    assert not done.valid[~open_field].any()
    assert done.valid[_disc(60.0)].all()


def test_transmission_without_any_counts_is_refused() -> None:
    with pytest.raises(InputError, match=r'^view "AP": no pixel has a positive value'):
        prepare_view(_view(-_attenuation(), "transmission"))


@pytest.mark.parametrize("bone", [1.0, -1.0])
def test_display_has_no_known_sign(bone: float) -> None:
    pixels = np.rint(128 + bone * 40 * (_attenuation() - 3.5))
    done = prepare_view(_view(pixels, "display"))
    assert done.sign == 0
    assert np.corrcoef(done.pixels.ravel(), pixels.ravel())[0, 1] > 0.9999


@pytest.mark.parametrize("stuck", [0.0, 255.0])
def test_collimator_and_burnt_out_air_are_not_valid(stuck: float) -> None:
    pixels = np.clip(128 + 40 * (_attenuation() - 3.5), 1, 254)
    open_field = _disc(75.0)
    done = prepare_view(_view(np.where(open_field, pixels, stuck), "display"))
    assert not done.valid[~open_field].any()
    # The edge itself is blurred, so a little more goes; what is farther in stays.
    assert done.valid[_disc(68.0)].all()


def test_both_a_collimator_and_burnt_out_air() -> None:
    pixels = np.clip(128 + 40 * (_attenuation() - 3.5), 1, 254)
    outside, air = ~_disc(80.0), np.zeros((ROWS, COLUMNS), dtype=bool)
    air[60:90, 60:80] = True
    done = prepare_view(_view(np.where(outside, 0.0, np.where(air, 255.0, pixels)), "display"))
    assert not done.valid[outside | air].any()
    assert done.valid.mean() > 0.4


def test_a_few_saturated_pixels_stay_valid() -> None:
    pixels = np.clip(128 + 40 * (_attenuation() - 3.5), 1, 254)
    pixels[40:46, 50:56] = 255.0
    pixels[120, 20:60] = 0.0
    assert prepare_view(_view(pixels, "display")).valid.all()


def test_attenuation_has_no_collimator() -> None:
    pixels = _attenuation()
    pixels[:, :40] = 0.0
    assert prepare_view(_view(pixels, "attenuation")).valid.all()


@pytest.mark.parametrize("relative", [0.005, 0.02, 0.1])
def test_noise_is_measured_within_a_fifth(relative: float) -> None:
    clean = _attenuation(3)
    clean[60:62] += 0.5
    sigma = relative * float(np.ptp(clean))
    noisy = clean + sigma * np.random.default_rng(8).standard_normal(clean.shape)
    done = prepare_view(_view(noisy, "attenuation"))
    low, high = np.percentile(noisy, [0.5, 99.5])
    assert done.noise * (high - low) == pytest.approx(sigma, rel=0.2)


@given(gain=st.floats(1e-3, 1e4), offset=st.floats(-100.0, 100.0))
def test_the_scale_of_the_pixels_does_not_matter(gain: float, offset: float) -> None:
    pixels = _attenuation().astype(np.float64)
    one = prepare_view(_view(pixels, "attenuation"))
    other = prepare_view(_view(gain * (pixels + offset), "attenuation"))
    assert np.abs(one.pixels - other.pixels).max() < 2e-3


def _prepared(
    pixels: np.ndarray, valid: np.ndarray | None = None, **of_camera: object
) -> PreparedView:
    seen = np.ones(pixels.shape, dtype=bool) if valid is None else valid
    return PreparedView("AP", camera(**of_camera), pixels.astype(np.float32), seen, 1)


def _on_scale(values: np.ndarray, view: PreparedView) -> np.ndarray:
    """Values as the view's ``pixels`` show them."""
    low, high = np.percentile(view.values[view.valid], bounds.VIEW_PERCENTILES)
    return (values - low) / (high - low)


cameras = st.fixed_dictionaries(
    {
        "mirrored": st.booleans(),
        "principal": st.tuples(st.floats(60.0, 140.0), st.floats(50.0, 130.0)),
        "primary": st.floats(-180.0, 180.0),
    }
)
points = st.tuples(*[st.floats(-40.0, 40.0)] * 3).map(np.array)


@given(of_camera=cameras, point=points, pixel_mm=st.floats(0.7, 3.0), half=st.floats(20.0, 60.0))
def test_window_is_centred_on_the_point_and_as_fine_as_it_says(
    of_camera: dict, point: np.ndarray, pixel_mm: float, half: float
) -> None:
    view = _prepared(_attenuation(), **of_camera)
    part = window(view, point, half, pixel_mm, 1.0)
    assert part.pixel_mm == pixel_mm
    assert tuple(part.image.shape) == (part.camera.rows, part.camera.columns)
    assert part.image.shape == part.valid.shape
    middle = np.array([(part.camera.columns - 1) / 2, (part.camera.rows - 1) / 2])
    assert part.camera.project(point[None])[0] == pytest.approx(middle, abs=1e-6)
    assert middle[0] * pixel_mm >= half - 1e-9
    # A step of one pixel's width along either image axis, at the point's depth, is one pixel.
    for row, axis in ((0, "x"), (1, "y")):
        side = point + pixel_mm * view.camera.world_to_camera[row, :3]
        step = part.camera.project(side[None])[0] - middle
        wanted = np.zeros(2)
        wanted[row] = -1.0 if axis == "x" and of_camera["mirrored"] else 1.0
        assert step == pytest.approx(wanted, abs=1e-6)


@given(of_camera=cameras, point=points, blur_mm=st.sampled_from([0.0, 0.5, 2.0]))
def test_what_a_window_shows_is_where_its_camera_sees_it(
    of_camera: dict, point: np.ndarray, blur_mm: float
) -> None:
    v, u = np.indices((ROWS, COLUMNS))
    # A plane survives blur and interpolation unchanged.
    view = _prepared(0.003 * u - 0.002 * v + 0.4, **of_camera)
    part = window(view, point, 25.0, 1.5, blur_mm)
    rows, columns = np.indices(part.image.shape).reshape(2, -1)
    rays = part.camera.ray_directions(np.column_stack([columns, rows]).astype(float))
    depth = rays @ part.camera.view_direction_world
    pixels = view.camera.project(view.camera.source_world + 700.0 * rays / depth[:, None])
    inside = (np.abs(pixels - [COLUMNS / 2, ROWS / 2]) < [COLUMNS / 2 - 12, ROWS / 2 - 12]).all(1)
    wanted = 0.003 * pixels[:, 0] - 0.002 * pixels[:, 1] + 0.4
    shown = part.image.numpy().ravel()[inside]
    assert shown == pytest.approx(_on_scale(wanted[inside], view), abs=2e-4)
    assert part.valid.numpy().ravel()[inside].all()


@given(
    of_camera=cameras,
    point=points,
    blur_mm=st.sampled_from([0.0, 0.5, 1.8]),
    masked=st.booleans(),
)
def test_a_window_is_scipys_blur_and_interpolation(
    of_camera: dict, point: np.ndarray, blur_mm: float, masked: bool
) -> None:
    pixels, seen = _attenuation(), np.ones((ROWS, COLUMNS), dtype=bool)
    if masked:
        seen = _disc(60.0)
    view = _prepared(pixels, seen, **of_camera)
    part = window(view, point, 30.0, 1.5, blur_mm)
    middle = view.camera.project(point[None])[0]
    step = (view.camera.project(point[None] + view.camera.world_to_camera[0, :3])[0] - middle)[0]
    step = 1.5 * abs(step)
    sigma = np.sqrt(max((blur_mm * step / 1.5) ** 2 - 0.3**2, 0.0))
    count = part.camera.rows
    away = step * (np.arange(count) - (count - 1) / 2)
    positions = np.stack(np.meshgrid(middle[1] + away, middle[0] + away, indexing="ij"))

    def sampled(image: np.ndarray) -> np.ndarray:
        if sigma > 0.25:
            image = ndimage.gaussian_filter(image, sigma, mode="constant", truncate=3.0)
        return ndimage.map_coordinates(image, positions, order=1, mode="constant")

    weight = sampled(seen.astype(float))
    wanted = sampled(seen * view.pixels.astype(float)) / np.maximum(weight, 1e-6)
    valid = part.valid.numpy() > 0
    assert (valid == (weight > 0.7))[np.abs(weight - 0.7) > 1e-4].all()
    assert part.image.numpy()[valid] == pytest.approx(wanted[valid], abs=2e-5)


def _some_centres() -> torch.Tensor:
    centres = [[0.0, 0.0, 0.0], [30.0, -12.0, 8.0], [-25.0, 4.0, 60.0], [200.0, 0.0, 0.0]]
    return torch.tensor(centres, dtype=torch.float64)


@pytest.mark.parametrize("blur_mm", [0.0, 0.5, 1.8])
def test_windows_taken_together_are_what_each_is_alone(blur_mm: float) -> None:
    view = _prepared(_attenuation(), _disc(60.0))
    together = windows(view, _some_centres(), 30.0, 1.5, blur_mm)
    assert len(together) == 4
    for n, centre in enumerate(_some_centres()):
        alone = window(view, centre.numpy(), 30.0, 1.5, blur_mm)
        part = together.part(torch.tensor([n]))
        torch.testing.assert_close(part.image[0], alone.image, atol=2e-6, rtol=0.0)
        assert torch.equal(part.valid[0], alone.valid)
        assert float(part.noise) == pytest.approx(alone.noise, rel=1e-6)
        np.testing.assert_allclose(part.lenses.intrinsics[0], alone.camera.intrinsic, rtol=1e-12)
        assert part.lenses.size == alone.camera.size
        np.testing.assert_allclose(part.world_to_camera[0], alone.camera.world_to_camera)
    back = Windows.stacked([together.part(slice(0, 1)), together.part(slice(1, 4))])
    assert torch.equal(back.image, together.image)
    with pytest.raises(ValueError, match="unlike"):
        Windows.stacked([together, windows(view, _some_centres(), 30.0, 1.4, blur_mm)])


@pytest.mark.parametrize("blur_mm", [0.0, 0.5, 1.8])
def test_windows_of_whole_lines_read_nothing_and_show_the_same(blur_mm: float) -> None:
    """As on a GPU, where the host does not know which part of a picture is needed."""
    view = _prepared(_attenuation(), _disc(60.0))
    cut = windows(view, _some_centres(), 30.0, 1.5, blur_mm)
    centres = _some_centres()
    with without_host_reads(), counted_host_reads() as heard:
        whole = windows(view, centres, 30.0, 1.5, blur_mm)
    assert not +heard
    torch.testing.assert_close(whole.image, cut.image, atol=2e-6, rtol=0.0)
    assert torch.equal(whole.valid, cut.valid)
    assert torch.equal(whole.noise, cut.noise)


def test_where_nothing_is_valid_a_window_shows_the_nearest_pixels() -> None:
    pixels, seen = _attenuation(), np.ones((ROWS, COLUMNS), dtype=bool)
    seen[:, COLUMNS // 2 :] = False
    view = _prepared(pixels, seen)
    part = window(view, np.zeros(3), 40.0, 1.5, 0.5)
    assert torch.isfinite(part.image).all()
    assert 0.3 < float(part.valid.mean()) < 0.7
    low, high = float(view.pixels.min()), float(view.pixels.max())
    assert low - 1e-6 <= float(part.image.min()) <= float(part.image.max()) <= high + 1e-6
    # Wholly beside the picture: its edge, and none of it valid.
    aside = view.camera.camera_to_world[:3, 0] * 400.0
    beside = window(view, aside, 20.0, 1.5, 0.5)
    assert torch.isfinite(beside.image).all()
    assert not beside.valid.any()


def test_a_window_knows_what_is_outside_and_what_is_masked() -> None:
    valid = np.ones((ROWS, COLUMNS), dtype=bool)
    valid[:, 110:] = False
    # Slopes survive blur; what is masked is far out of their range.
    v, _ = np.indices((ROWS, COLUMNS))
    pixels = np.where(valid, 0.002 * v, 77.0)
    view = _prepared(pixels, valid)
    part = window(view, np.zeros(3), 150.0, 2.0, 2.0)
    columns = np.arange(part.camera.columns)
    at = part.camera.window(0, 0, 1, 1)
    in_view = view.camera.intrinsic @ np.linalg.inv(at.intrinsic)
    u = (in_view @ np.array([columns, np.zeros_like(columns), np.ones_like(columns)]))[0]
    seen = part.valid.numpy()[part.camera.rows // 2]
    assert not seen[(u < -2) | (u > 111)].any()
    assert seen[(u > 3) & (u < 107)].all()
    # Nothing of the masked values leaks into the valid part.
    shown = part.image.numpy()[part.valid.numpy() > 0]
    assert -0.02 < shown.min() < shown.max() < 1.02


def test_blur_lowers_the_noise_of_a_window_as_it_says() -> None:
    noise = 0.05 * np.random.default_rng(1).standard_normal((ROWS, COLUMNS))
    view = _prepared(noise)
    part = window(view, np.zeros(3), 50.0, 1.0, 2.0)
    assert part.noise == pytest.approx(float(part.image.std()), rel=0.2)


def test_a_mirrored_view_and_that_of_another_camera_are_as_if_made_anew() -> None:
    pixels = np.where(_disc(75.0), np.clip(128 + 40 * (_attenuation() - 3.5), 1, 254), 0.0)
    pixels[:, :80] *= 0.5
    view = prepare_view(_view(pixels, "display"))
    mirrored, moved = view.mirrored(), view.taken_by("LA", camera(primary=70.0))
    assert moved.name == "LA"
    assert (moved.camera.world_to_camera == camera(primary=70.0).world_to_camera).all()
    np.testing.assert_array_equal(mirrored.values, view.values[:, ::-1])
    np.testing.assert_array_equal(mirrored.valid, view.valid[:, ::-1])
    np.testing.assert_array_equal(moved.values, view.values)
    for changed in (mirrored, moved):
        anew = replace(changed, sign=1)
        assert "noise" in changed.__dict__
        assert "noise" not in anew.__dict__
        np.testing.assert_array_equal(changed.pixels, anew.pixels)
        assert changed.noise == pytest.approx(anew.noise, rel=1e-6)
