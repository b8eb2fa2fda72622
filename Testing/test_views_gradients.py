"""Gradient correlation against scipy's own derivatives, and what it must not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from host_reads import counted_host_reads
from scipy import ndimage

from RadGSRegLib.tensors import without_host_reads
from RadGSRegLib.views import gradient_correlation

SIGMAS = (1.0, 2.0)


def _picture(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((60, 70))
    return np.asarray(ndimage.gaussian_filter(noise, 2.0))


def _score(a: np.ndarray, b: np.ndarray, weight: np.ndarray | None = None) -> float:
    weight = np.ones(a.shape) if weight is None else weight
    tensors = [torch.from_numpy(x.astype(np.float32)) for x in (weight, a, b)]
    return float(gradient_correlation(*tensors, SIGMAS))


def test_it_is_the_correlation_of_derivatives_over_scales() -> None:
    a, b = _picture(1), _picture(1) + 0.5 * _picture(2)
    weight = np.random.default_rng(3).random(a.shape)
    wanted = []
    for sigma in SIGMAS:
        for axis in (0, 1):
            x, y = (
                np.gradient(
                    ndimage.gaussian_filter(p, sigma, mode="nearest", truncate=3.0), axis=axis
                )
                for p in (a, b)
            )
            covariance = np.cov(x.ravel(), y.ravel(), aweights=weight.ravel())
            wanted.append(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
    assert _score(a, b, weight) == pytest.approx(np.mean(wanted), abs=2e-4)


def test_gain_offset_and_a_slow_slope_hardly_matter() -> None:
    a = _picture(4)
    slope = np.linspace(0.0, 0.5, a.shape[1])
    assert _score(a, 3.0 * a - 2.0) == pytest.approx(1.0, abs=1e-5)
    assert _score(a, -a) == pytest.approx(-1.0, abs=1e-5)
    assert _score(a, a + slope) > 0.99
    assert abs(_score(a, _picture(5))) < 0.3


def test_only_weighted_pixels_count_and_a_flat_picture_scores_nothing() -> None:
    a, weight = _picture(6), np.zeros((60, 70))
    weight[10:40, 10:40] = 1.0
    other = a.copy()
    other[50:] = 7.0
    assert _score(a, other, weight) == pytest.approx(1.0, abs=1e-5)
    assert _score(a, np.zeros_like(a)) == pytest.approx(0.0, abs=1e-6)


def test_pictures_taken_together_score_as_each_alone_and_nothing_is_read() -> None:
    a, b = (np.stack([_picture(seed) for seed in seeds]) for seeds in ((1, 2, 3), (1, 5, 3)))
    weight = np.random.default_rng(4).random(a.shape)
    tensors = [torch.from_numpy(x.astype(np.float32)) for x in (weight, a, b)]
    with without_host_reads(), counted_host_reads() as heard:
        together = gradient_correlation(*tensors, SIGMAS)
    assert not +heard
    alone = [_score(*each) for each in zip(a, b, weight, strict=True)]
    assert together.numpy() == pytest.approx(alone, abs=1e-5)
