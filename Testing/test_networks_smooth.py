"""Smooth changes of a patient's vertebra: their modes, and what X-rays make of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import network_scenes as scenes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from RadGSRegLib.gaussians import GaussianCloud
from RadGSRegLib.networks import RadGSReg, bounds, see
from RadGSRegLib.networks.anchors import Anchors
from RadGSRegLib.networks.smooth import smooth_shapes

REACH_MM = 8.0


def moves(cloud: GaussianCloud) -> torch.Tensor:
    """The modes' displacements (K, N, 3), mm."""
    anchors = Anchors(cloud, reach_mm=REACH_MM, embedding=1, free=False)
    shapes = smooth_shapes(anchors)
    assert not shapes.mean.any()
    assert not shapes.modes[..., 3:].any()
    return REACH_MM * shapes.modes[..., :3].double()


@settings(max_examples=10, deadline=None)
@given(st.integers(20, 400), st.integers(0, 10**6))
def test_no_change_moves_the_vertebra_as_a_whole(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    means = torch.from_numpy(rng.normal(0.0, [20.0, 15.0, 12.0], (count, 3))).float()
    still = scenes.lopsided_cloud(count)
    cloud = GaussianCloud(means, still.scales, still.quaternions, still.densities)
    offsets = moves(cloud)
    assert len(offsets) <= bounds.SMOOTH_MODES
    arms = means.double() - means.double().mean(0)
    # Neither shift nor turn, of any mode; and the likeliest first.
    assert offsets.mean(1).abs().max() < 1e-4
    assert torch.linalg.cross(arms.expand_as(offsets), offsets).mean(1).abs().max() < 1e-3
    sizes = offsets.square().sum((1, 2))
    assert (sizes[:-1] >= sizes[1:] - 1e-4).all()


def test_changes_are_as_large_and_as_smooth_as_is_said() -> None:
    """All modes together have the variances of the process, but for the rigid motions."""
    cloud = scenes.lopsided_cloud(150)
    offsets = moves(cloud)
    alike = torch.einsum("kna,kma->nm", offsets, offsets) / 3.0
    # Six of the directions in which 150 points may go are rigid, and those of much variance.
    deviations = alike.diagonal().sqrt()
    assert 0.6 * bounds.SMOOTH_CHANGE_MM < float(deviations.mean()) < bounds.SMOOTH_CHANGE_MM
    apart = torch.cdist(cloud.means, cloud.means)
    correlation = alike / (deviations[:, None] * deviations)
    near, far = (correlation[part].mean() for part in ((apart > 0) & (apart < 6.0), apart > 30.0))
    assert near > 0.7
    assert abs(far) < 0.3


def patient() -> RadGSReg:
    """An untrained model of a patient whose vertebra is `scenes.lopsided_cloud`."""
    recm = replace(scenes.TINY.recm, residual=False, stretch=False)
    return scenes.tiny_model(replace(scenes.TINY, recm=recm, patient=True)).eval()


def clicked(cloud: GaussianCloud) -> list:
    return [replace(view, center_px=(243.5, 243.5)) for view in scenes.xrays(cloud=cloud)]


def changed_by(size_mm: float) -> GaussianCloud:
    """The patient's vertebra after a smooth change (mean size), of none of the modes alone."""
    still = scenes.lopsided_cloud()
    rng = np.random.default_rng(7)
    modes = moves(still)
    offsets = torch.einsum("kna,k->na", modes, torch.from_numpy(rng.normal(size=len(modes))))
    offsets = (offsets * size_mm / offsets.norm(dim=1).mean()).float()
    return replace(still, means=still.means + offsets)


def test_a_vertebra_that_has_changed_is_seen_changed() -> None:
    model, changed, still = patient(), changed_by(3.0), scenes.lopsided_cloud()
    assert model.changes() is not None
    seen = see(clicked(changed), model)
    away = (seen.cloud_world.means - changed.means).norm(dim=1).mean()
    assert away < 0.5 * (still.means - changed.means).norm(dim=1).mean()
    assert seen.change_mm == pytest.approx(3.0, rel=0.4)
    assert f"{seen.change_mm:.1f} mm" in seen.changed
    # RecM's own answer and its score stay what they were.
    alone = see(clicked(changed), model, fit=False)
    assert alone.change_mm is None
    assert alone.changed == ""
    assert seen.alone is not None
    assert torch.equal(seen.alone.effect.poses, alone.prediction.effect.poses)


def test_a_vertebra_that_has_not_changed_is_shown_as_the_ct_has_it() -> None:
    model = patient()
    seen = see(clicked(changed_by(0.4)), model)
    assert 0.0 < seen.change_mm < bounds.LEAST_CHANGE_MM
    assert seen.changed == ""
    assert not seen.prediction.effect.raw.any()
    still = model.recm.anchors.cloud()
    # Distances within it are the CT's.
    apart = torch.pdist(seen.cloud_world.means)
    assert torch.allclose(apart, torch.pdist(still.means), atol=1e-2)


def test_only_a_known_vertebra_can_be_said_to_have_changed() -> None:
    population = scenes.tiny_model()
    assert population.changes() is None
    assert see(clicked(scenes.lopsided_cloud()), population).change_mm is None


def test_modes_are_made_once_and_anew_for_other_gaussians(tmp_path: Path) -> None:
    model = patient()
    first = model.changes()
    assert model.changes() is first
    model.recm.set_anchors(scenes.lopsided_cloud(80))
    again = model.changes()
    assert again is not first
    assert again.modes.shape[1] == 80
