"""Volume metrics against MONAI, and against shapes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from RadGSRegLib.drr import SOFT_TISSUE_HU, hu_to_attenuation
from RadGSRegLib.geometry import Volume, exp_se3, transform_points
from RadGSRegLib.measures import (
    box_of,
    psnr,
    reconstruction_quality,
    resample,
    scale_to_unit,
    ssim,
)


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    k, j, i = np.mgrid[:20, :23, :26] / 26.0
    a = np.clip(np.exp(-8 * ((k - 0.4) ** 2 + (j - 0.4) ** 2 + (i - 0.5) ** 2)), 0, 1)
    return a, np.clip(a + 0.1 * rng.normal(size=a.shape), 0, 1)


def test_ssim_and_psnr_equal_monai(pair: tuple[np.ndarray, np.ndarray]) -> None:
    monai = pytest.importorskip("monai.metrics", reason="MONAI is not installed")
    a, b = (torch.as_tensor(v)[None, None] for v in pair)
    expected = monai.SSIMMetric(spatial_dims=3, win_size=11, kernel_sigma=1.5)(b, a)
    assert ssim(pair[1], pair[0]) == pytest.approx(float(expected), abs=2e-5)
    expected = monai.PSNRMetric(max_val=1.0)(b, a)
    assert psnr(pair[1], pair[0]) == pytest.approx(float(expected), abs=1e-4)


def test_equal_volumes_are_perfect(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert ssim(pair[0], pair[0]) == pytest.approx(1.0)
    assert psnr(pair[0], pair[0]) == np.inf
    assert ssim(*pair) < 0.95


def test_refusals() -> None:
    with pytest.raises(ValueError, match="11 voxels"):
        ssim(np.zeros((10, 20, 20)), np.zeros((10, 20, 20)))
    with pytest.raises(ValueError, match="shapes differ"):
        psnr(np.zeros((3, 3)), np.zeros((3, 4)))


def test_scaling_to_the_unit_range() -> None:
    assert np.array_equal(scale_to_unit([2.0, 3.0, 4.0]), [0.0, 0.5, 1.0])
    assert not scale_to_unit(np.full(4, 7.0)).any()


def test_resampling_follows_the_transform() -> None:
    rng = np.random.default_rng(3)
    grid = np.diag([1.5, 0.8, 1.0, 1.0])
    grid[:3, :3] = exp_se3([0.2, -0.1, 0.3, 0, 0, 0])[:3, :3] @ grid[:3, :3]
    moving = Volume(rng.random((9, 10, 11)), grid)
    like = Volume(np.zeros((4, 5, 6)), exp_se3([0.1, 0.0, 0.1, 2.0, 3.0, 2.0]))
    frame = exp_se3([0.05, 0.02, -0.1, 1.0, 0.5, 0.5])
    got = resample(moving, like, frame, order=0)
    inside = 0
    for k, j, i in np.ndindex(like.array.shape):
        point = transform_points(frame, like.physical_points([[i, j, k]]))
        index = transform_points(moving.physical_to_index, point)[0]
        nearest = np.floor(index + 0.5).astype(int)
        if ((index > 0) & (index < np.array(moving.size) - 1)).all():
            inside += 1
            assert got[k, j, i] == moving.array[tuple(nearest[::-1])]
    assert inside > 20


def test_a_reconstruction_equal_to_the_moved_vertebra_is_perfect() -> None:
    k, j, i = np.mgrid[:30, :30, :30]
    body = ((k - 15) ** 2 + (j - 15) ** 2 + (i - 15) ** 2) < 100
    ct = Volume(np.where(body, 300.0 + 20 * k, -900.0).astype(np.float32), np.eye(4))
    labels = Volume(body.astype(np.uint8) * 5, np.eye(4))
    shift = exp_se3([0, 0, 0, 40.0, -3.0, 7.0])
    above_soft_tissue = hu_to_attenuation(ct.array) - hu_to_attenuation(SOFT_TISSUE_HU)
    attenuation = Volume(np.where(body, above_soft_tissue, 0.0), shift)
    quality = reconstruction_quality(attenuation, ct, labels, 5, shift)
    assert quality["ssim"] == pytest.approx(1.0, abs=1e-6)
    assert quality["psnr_db"] > 90
    worse = reconstruction_quality(attenuation, ct, labels, 5, exp_se3([0, 0, 0, 44.0, -3.0, 7.0]))
    assert worse["ssim"] < 0.9
    with pytest.raises(ValueError, match="inside the volume"):
        reconstruction_quality(attenuation, ct, labels, 5, np.eye(4) + 0)


def test_the_box_is_widened_at_the_border_too() -> None:
    mask = np.zeros((20, 12, 30), dtype=bool)
    mask[0:2, 11, 5:29] = True
    assert box_of(mask, 11) == (slice(0, 11), slice(1, 12), slice(5, 29))
