"""Local normalisation: right means, blind to gain and offset, right slopes, blind to the mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from host_reads import counted_host_reads
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from RadGSRegLib.tensors import without_host_reads
from RadGSRegLib.views import LocalNormalization

ROWS, COLUMNS = 61, 74


def _picture(seed: int) -> torch.Tensor:
    """Structures of a few pixels, some noise, and a slope."""
    rng = np.random.default_rng(seed)
    image = 20.0 * ndimage.gaussian_filter(rng.standard_normal((ROWS, COLUMNS)), 3.0)
    image += 0.1 * rng.standard_normal(image.shape) + np.linspace(0, 2, COLUMNS)
    return torch.from_numpy(image.astype(np.float32))


def _mask(seed: int) -> torch.Tensor:
    """About two thirds of the picture valid, in large pieces."""
    rng = np.random.default_rng(1000 + seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal((ROWS, COLUMNS)), 6.0)
    return torch.from_numpy((smooth > np.quantile(smooth, 0.35)).astype(np.float32))


def _weights(row: int, column: int, sigma: float) -> np.ndarray:
    v, u = np.indices((ROWS, COLUMNS))
    return np.exp(-0.5 * ((v - row) ** 2 + (u - column) ** 2) / sigma**2)


@pytest.mark.parametrize("sigma", [1.5, 3.0, 4.0, 6.15, 9.0])
@pytest.mark.parametrize("masked", [False, True])
def test_mean_is_the_gaussian_mean_over_valid_pixels(sigma: float, masked: bool) -> None:
    image = _picture(1)
    valid = _mask(1) if masked else torch.ones(ROWS, COLUMNS)
    found = LocalNormalization(valid, sigma).mean(image).numpy()
    spread = float(image.std())
    rng = np.random.default_rng(4)
    inside = np.argwhere(valid.numpy() > 0)
    corners = [[0, 0], [0, COLUMNS - 1], [ROWS - 1, 0], [ROWS - 1, COLUMNS - 1]]
    chosen = [*rng.permutation(inside)[:60], *(c for c in corners if valid[c[0], c[1]] > 0)]
    errors = []
    for row, column in chosen:
        weight = _weights(row, column, sigma) * valid.numpy()
        errors.append(found[row, column] - (weight * image.numpy()).sum() / weight.sum())
    assert np.sqrt(np.mean(np.square(errors))) < 0.01 * spread
    assert np.abs(errors).max() < 0.04 * spread


def test_mean_of_a_constant_is_the_constant_up_to_the_edges() -> None:
    valid = _mask(2)
    mean = LocalNormalization(valid, 5.0).mean(torch.full((ROWS, COLUMNS), 3.5))
    assert torch.allclose(mean[valid > 0], torch.tensor(3.5), rtol=1e-4)


def test_deviation_of_white_noise_is_its_standard_deviation() -> None:
    noise = 0.7 * torch.randn(200, 200, generator=torch.Generator().manual_seed(3))
    found = LocalNormalization(torch.ones(200, 200), 6.0).deviation(noise)
    assert float(found.mean()) == pytest.approx(0.7, rel=0.03)


def test_a_stack_is_normalised_picture_by_picture() -> None:
    stack = torch.stack([_picture(n) for n in range(3)])
    normalizer = LocalNormalization(_mask(3), 4.0)
    together = normalizer.normalize(stack, 0.05)
    for n in range(3):
        assert torch.allclose(together[n], normalizer.normalize(stack[n], 0.05), atol=1e-5)


@given(
    seed=st.integers(0, 50),
    gain=st.floats(0.05, 20.0),
    offset=st.floats(-5.0, 5.0),
    negative=st.booleans(),
)
def test_gain_and_offset_change_nothing_but_the_sign(
    seed: int, gain: float, offset: float, negative: bool
) -> None:
    image, valid = _picture(seed), _mask(seed)
    normalizer = LocalNormalization(valid, 4.0)
    sign = -1.0 if negative else 1.0
    before = normalizer.normalize(image, 0.05)
    after = normalizer.normalize(sign * gain * (image + offset), 0.05 * gain)
    # Far from every valid pixel there is no neighbourhood, and the value means nothing.
    seen = valid > 0
    assert torch.allclose(after[seen], sign * before[seen], atol=2e-3)


def test_a_smooth_change_of_gain_and_offset_changes_little() -> None:
    image = _picture(7)
    slope = torch.linspace(0.7, 1.3, COLUMNS)[None, :]
    normalizer = LocalNormalization(torch.ones(ROWS, COLUMNS), 4.0)
    before = normalizer.normalize(image, 0.02)
    after = normalizer.normalize(slope * image + 3.0 * slope, 0.02)
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.99


@given(seed=st.integers(0, 50), sigma=st.sampled_from([1.5, 3.0, 6.0]))
def test_jacobian_is_the_slope_of_the_normalised_picture(seed: int, sigma: float) -> None:
    image, normalizer, floor = _picture(seed), LocalNormalization(_mask(seed), sigma), 0.1
    directions = torch.stack([_picture(seed + 100 + n) for n in range(3)])
    done = normalizer.contrast(image).normalized(floor)
    slopes = done.push(directions)
    assert torch.equal(done.image, normalizer.normalize(image, floor))
    step = 3e-3
    for direction, slope in zip(directions, slopes, strict=True):
        ahead = normalizer.normalize(image + step * direction, floor)
        back = normalizer.normalize(image - step * direction, floor)
        measured = (ahead - back) / (2.0 * step)
        assert float((measured - slope).norm() / slope.norm()) < 2e-3


@given(
    seed=st.integers(0, 50),
    garbage=st.floats(-1e4, 1e4),
    sigma=st.sampled_from([1.5, 4.0, 8.0]),
)
def test_masked_pixels_have_no_influence(seed: int, garbage: float, sigma: float) -> None:
    image, valid = _picture(seed), _mask(seed)
    direction = _picture(seed + 1)[None]
    normalizer = LocalNormalization(valid, sigma)
    soiled = torch.where(valid > 0, image, garbage * _picture(seed + 2))
    soiled_direction = torch.where(valid > 0, direction, torch.tensor(garbage))
    clean = normalizer.contrast(image).normalized(0.1)
    other = normalizer.contrast(soiled).normalized(0.1)
    seen = valid > 0
    assert torch.equal(clean.image[seen], other.image[seen])
    slope, soiled_slope = clean.push(direction)[0], other.push(soiled_direction)[0]
    assert torch.equal(slope[seen], soiled_slope[seen])
    assert torch.equal(normalizer.mean(image)[seen], normalizer.mean(soiled)[seen])


@given(seed=st.integers(0, 50), sigma=st.sampled_from([1.5, 3.0, 4.0, 6.15, 9.0]))
def test_pull_is_the_transpose_of_push(seed: int, sigma: float) -> None:
    valid = _mask(seed)
    done = LocalNormalization(valid, sigma).contrast(_picture(seed)).normalized(0.1)
    directions = torch.stack([_picture(seed + 100 + n) for n in range(3)])
    weights = valid * torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed))
    forwards = (weights * done.push(directions)).double().sum((-2, -1))
    backwards = (done.pull(weights) * directions).double().sum((-2, -1))
    size = float(weights.norm() * done.push(directions).norm())
    assert torch.allclose(forwards, backwards, atol=1e-5 * size)


def test_several_pictures_keep_each_their_own_mask() -> None:
    images = torch.stack([_picture(n) for n in range(3)])
    weights = torch.stack([_picture(n + 10) for n in range(3)])
    normalizer = LocalNormalization(torch.stack([_mask(n) for n in range(3)]), 4.0)
    together = normalizer.contrast(images).normalized(0.1)
    pulled = together.pull(weights)
    for n in range(3):
        alone = LocalNormalization(_mask(n), 4.0).contrast(images[n]).normalized(0.1)
        assert torch.allclose(together.image[n], alone.image, atol=1e-5)
        assert torch.allclose(pulled[n], alone.pull(weights[n]), atol=1e-4)
    some = torch.tensor([2, 0])
    part = normalizer.part(some).contrast(images[some]).normalized(0.1)
    assert torch.allclose(part.image, together.image[some], atol=1e-5)


def test_nothing_valid_and_flat_pictures_stay_finite() -> None:
    image = _picture(5)
    nothing = LocalNormalization(torch.zeros(ROWS, COLUMNS), 4.0)
    assert torch.isfinite(nothing.normalize(image, 0.1)).all()
    everything = LocalNormalization(torch.ones(ROWS, COLUMNS), 4.0)
    flat = everything.normalize(torch.full((ROWS, COLUMNS), 2.0), 1e-6)
    assert torch.isfinite(flat).all()


def test_normalisation_and_its_slopes_read_nothing() -> None:
    images, valid = torch.stack([_picture(1), _picture(2)]), torch.stack([_mask(1), _mask(2)])
    some = torch.tensor([1])
    with without_host_reads(), counted_host_reads() as heard:
        normalizer = LocalNormalization(valid, 4.0)
        done = normalizer.contrast(images).normalized(torch.full((2, 1, 1), 0.1))
        done.pull(valid * images)
        done.push(images[None])
        normalizer.part(some).normalize(images[some], 0.1)
    assert not +heard
