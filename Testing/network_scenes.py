"""Small networks, clouds and batches that several tests of the networks share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from RadGSRegLib.cases import View
from RadGSRegLib.gaussians import GaussianCloud, rasterize
from RadGSRegLib.geometry import Camera, carm_camera
from RadGSRegLib.networks.crops import make_frame
from RadGSRegLib.networks.decoder import DecoderConfig
from RadGSRegLib.networks.model import ModelConfig, RadGSReg
from RadGSRegLib.networks.recm import RecMConfig
from RadGSRegLib.networks.regm import RegMConfig
from RadGSRegLib.networks.views import ViewBatch, make_batch
from RadGSRegLib.phantom import LABELS, make_phantom, random_spine
from RadGSRegLib.training.config import PhaseShares, TrainingConfig
from RadGSRegLib.training.samples import SampleOptions
from RadGSRegLib.training.subjects import Subject, make_subject

TINY = ModelConfig(
    RecMConfig(size_px=32, pixel_mm=4.0, maps=3, hidden=24, embedding=4, per_anchor=16),
    RegMConfig(voxels=16, box_mm=96.0, width=2),
)

# With landmarks, and a decoder of vertebrae that it was not told about.
TELLS_SHAPES = replace(
    TINY,
    recm=replace(TINY.recm, residual=False, stretch=False, landmarks=16, passes=2),
    patient=False,
    decoder=DecoderConfig(spacing_mm=6.0, size=(16, 16, 16), middle_mm=(0.0, 0.0, 0.0), features=4),
)

# The same for a training's configuration file, with a detector.
TINY_NETWORKS = {
    "recm": {"size_px": 32, "pixel_mm": 4.0, "maps": 3, "hidden": 24, "per_anchor": 16},
    "regm": {"voxels": 16, "width": 2},
    "detector": {"size_px": 32, "pixel_mm": 7.5, "width": 4},
}

# A training of a patient's model that takes seconds.
SHORT_TRAINING = TrainingConfig(
    model=TINY,
    samples=SampleOptions(size_px=128, pixel_mm=1.0),
    shares=PhaseShares(0.5, 0.25, 0.25),
    steps=8,
    batch=3,
    pairs=6,
    first_pairs=4,
    render_every=2,
    joint_cases=2,
    gaussians=60,
    final_gaussians=120,
    validate=2,
    validate_every=4,
    checkpoint_every=4,
).for_patient()


def coarse_subject() -> Subject:
    """A phantom's L3 among its neighbours, in voxels of 3 mm."""
    phantom = make_phantom(random_spine(5), 3.0, "L3")
    return make_subject(phantom.ct, phantom.labels, LABELS["L3"], "phantom")


def lopsided_cloud(count: int = 60) -> GaussianCloud:
    """A cloud about the origin without any symmetry."""
    rng = np.random.default_rng(4)
    means = rng.normal(0.0, [14.0, 10.0, 7.0], (count, 3))
    means[: count // 3] += [18.0, -12.0, 9.0]
    means -= means.mean(axis=0)
    unit = rng.normal(size=(count, 4))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    tensors = (means, rng.uniform(2.0, 5.0, (count, 3)), unit, rng.uniform(0.01, 0.04, count))
    return GaussianCloud(*(torch.from_numpy(t).float() for t in tensors))


def cameras(angles: tuple[float, ...] = (4.0, 93.0)) -> list[Camera]:
    """C-arm cameras at primary angles."""
    return [carm_camera(1124, 750, a, 3.0, (488, 488), (0.61, 0.61)) for a in angles]


def rendered_batch(
    cloud: GaussianCloud,
    angles: tuple[float, ...] = (4.0, 93.0),
    config: RecMConfig = TINY.recm,
    sign: float = 1.0,
) -> ViewBatch:
    """A batch of one: X-rays of a cloud in the box's frame, at full resolution first."""
    factor = int(config.pixel_mm)
    size = config.size_px * factor
    frame = make_frame(cameras(angles), [0.0, 0.0, 0.0], size_px=size, pixel_mm=1.0)
    images = torch.stack(
        [rasterize(cloud, c.intrinsic, c.world_to_camera, c.size) for c in frame.cameras]
    )[None]
    return make_batch(
        sign * images,
        torch.ones_like(images),
        frame.intrinsics()[None],
        frame.extrinsics()[None],
        config.pixel_mm,
    )


def xrays(
    angles: tuple[float, ...] = (4.0, 93.0), cloud: GaussianCloud | None = None
) -> list[View]:
    """X-rays without a click of a cloud (`lopsided_cloud`), bone bright."""
    views = []
    for n, camera in enumerate(cameras(angles)):
        pixels = rasterize(
            cloud or lopsided_cloud(), camera.intrinsic, camera.world_to_camera, camera.size
        ).numpy()
        views.append(View(str(n), pixels, camera, (0.61, 0.61), "attenuation", None))
    return views


def shaken(model: torch.nn.Module, scale: float = 0.05) -> torch.nn.Module:
    """The model with all its weights moved, so that no last layer is zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += scale * torch.randn(weight.shape, generator=generator)
    return model


def tiny_model(config: ModelConfig = TINY) -> RadGSReg:
    """A small model around `lopsided_cloud`."""
    torch.manual_seed(0)
    return RadGSReg(config, lopsided_cloud())
