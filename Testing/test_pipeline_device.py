"""The main job on a device: the same as on the CPU, and nothing of it elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from another_device import DEVICE, another_device
from registration_scenes import QUICK, bodies, one_thread, simulated

from RadGSRegLib import pipeline
from RadGSRegLib.geometry import transform_points
from RadGSRegLib.methods import register_published
from RadGSRegLib.networks import load_model, shipped_weights
from RadGSRegLib.reconstruction import ReconstructionOptions
from RadGSRegLib.registration.clouds import block_cloud
from RadGSRegLib.tensors import without_host_reads


def test_the_main_job_as_a_gpu_computes_it_gives_the_same() -> None:
    """From the search to the reconstruction nothing hangs on what only a CPU may look at."""
    one_thread()
    case, prior = simulated().case, block_cloud(bodies().target_excess, 6.0)
    options = pipeline.PipelineOptions(
        QUICK, ReconstructionOptions(prior_steps=2, spacing_mm=3.0, pixel_mm=2.4)
    )
    plain = pipeline.run(case, options=options, prior_ct=prior)
    with without_host_reads():
        masked = pipeline.run(case, options=options, prior_ct=prior)
    assert masked.registration.status == plain.registration.status == "ok"
    poses = [run.registration.ct_to_world for run in (plain, masked)]
    moved = [transform_points(pose, bodies().surface_points_ct) for pose in poses]
    assert np.linalg.norm(moved[0] - moved[1], axis=1).mean() < 0.01
    apart = np.abs(masked.volume_world.array - plain.volume_world.array)
    assert apart.max() < 0.02 * plain.volume_world.array.max()


def test_the_main_job_stays_on_its_device() -> None:
    """Search, stages, evidence and the reconstruction; `test_gaussians_fit` has the fit."""
    one_thread()
    fit = ReconstructionOptions(device="meta", prior_steps=1, spacing_mm=3.0)
    options = pipeline.PipelineOptions(QUICK, fit)
    prior = block_cloud(bodies().target_excess, 9.0)
    with another_device():
        done = pipeline.run(simulated().case, options=options, prior_ct=prior.to(DEVICE))
    assert done.cloud_world.device == DEVICE
    stages = done.timing_s.keys() - {"total"}
    assert done.ran_on == {**dict.fromkeys(stages, "meta"), "prepare": "cpu"}


@pytest.mark.parametrize("refine", [True, False])
def test_the_published_order_stays_on_its_device(refine: bool) -> None:
    """RecM, RegM, and what judges or refines their pose."""
    one_thread()
    weights = shipped_weights()
    assert weights is not None
    options = pipeline.PipelineOptions(QUICK, ReconstructionOptions(device="meta"))
    with another_device():
        model = load_model(weights).to(DEVICE)
        done = register_published(simulated().case, model, options=options, refine=refine)
    assert done.cloud_world.device == DEVICE
    stages = done.timing_s.keys() - {"total"}
    assert {"reconstruct", "align"} <= stages
    assert done.ran_on == {**dict.fromkeys(stages, "meta"), "prepare": "cpu"}
