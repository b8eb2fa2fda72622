"""What is measured: clouds, a CT's bodies, X-rays of them, on a device and in any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from gaussian_scenes import camera, random_cloud
from numpy.typing import NDArray

from RadGSRegLib.cases import Case, View
from RadGSRegLib.drr import project_volume
from RadGSRegLib.gaussians import GaussianCloud
from RadGSRegLib.geometry import Camera, Rigid, Volume, carm_camera
from RadGSRegLib.phantom import LABELS, Phantom, make_phantom, random_spine
from RadGSRegLib.registration import RegistrationOptions, RigidBodies, Scene, case_bodies
from RadGSRegLib.training.subjects import Subject, make_subject
from RadGSRegLib.views import prepare_views

Array = NDArray[np.float64]
LABEL = LABELS["L3"]
SPINE = 11
_FIELD_MM = 300.0


@dataclass(frozen=True)
class Shot:
    """A cloud before a camera: what a rasterizer is asked. ``camera``: intrinsic (3, 3) and
    cloud_to_camera (4, 4); ``size`` (columns, rows)."""

    cloud: GaussianCloud
    intrinsic: Array
    pose: Array
    size: tuple[int, int]

    def with_gradients(self) -> Shot:
        """The same with gradients wanted."""
        leaves = (tensor.clone().requires_grad_() for tensor in self.cloud.tensors)
        return replace(self, cloud=GaussianCloud(*leaves))

    def on(self, device: torch.device, dtype: torch.dtype) -> Shot:
        """The same elsewhere, or in another precision."""
        return replace(self, cloud=self.cloud.to(device, dtype))


def shot(count: int, pixels: int, device: torch.device, seed: int = 0) -> Shot:
    """A vertebra-like box of so many Gaussians of 1.5 to 3 mm, seen with so many pixels (squared)
    over 150 mm at the detector."""
    cloud = random_cloud(count, seed=seed, dtype=torch.float32).to(device)
    return Shot(cloud, *camera(pixels), (pixels, pixels))


def grid(voxels: int, extent_mm: float = 128.0) -> Array:
    """index_to_cloud (4, 4) of a cube of so many voxels along each edge, about the origin."""
    step = extent_mm / voxels
    matrix = np.diag([step, step, step, 1.0])
    matrix[:3, 3] = -0.5 * extent_mm + 0.5 * step
    return matrix


@lru_cache(maxsize=2)
def phantom(spacing_mm: float) -> Phantom:
    """A lumbar spine around L3."""
    return make_phantom(random_spine(SPINE), spacing_mm, "L3")


@lru_cache(maxsize=2)
def subject(spacing_mm: float) -> Subject:
    """The phantom's vertebra, to be simulated many times."""
    built = phantom(spacing_mm)
    return make_subject(built.ct, built.labels, LABEL, "phantom")


@lru_cache(maxsize=2)
def bodies(spacing_mm: float) -> RigidBodies:
    """The bodies of the phantom's L3."""
    built = phantom(spacing_mm)
    case = Case(built.ct, built.labels, LABEL, (), label_names=built.label_names)
    return case_bodies(case, RegistrationOptions())


def around(count: int, pixels: int) -> list[Camera]:
    """Cameras of a C-arm at so many angles over half a turn, looking at where the phantom is."""
    spacing = _FIELD_MM / pixels
    angles = np.linspace(0.0, 180.0, count, endpoint=False) + 4.0
    size = (pixels, pixels)
    return [carm_camera(1124.0, 750.0, a, 3.0, size, (spacing, spacing)) for a in angles]


@lru_cache(maxsize=4)
def scene(
    views: int, pixels: int, spacing_mm: float, device: torch.device | str = "cpu"
) -> tuple[Scene, Array]:
    """The phantom before so many X-rays of so many pixels (squared), and its true ct_to_world.

    The bodies are on the device. Pictures show bone alone; made for timing, not for truth.
    """
    ct_to_world = np.eye(4)
    ct_to_world[:3, 3] = -bodies(spacing_mm).centre_ct
    bone = _bone(spacing_mm)
    shots = []
    for number, view in enumerate(around(views, pixels)):
        pose = view.world_to_camera @ ct_to_world
        picture = project_volume(bone, view.intrinsic, pose, view.size, step_mm=spacing_mm).numpy()
        edge = _FIELD_MM / pixels
        shots.append(View(str(number), picture, view, (edge, edge), "attenuation", None))
    there = bodies(spacing_mm).to(device)
    return Scene(there, tuple(prepare_views(shots))), ct_to_world


@lru_cache(maxsize=2)
def _bone(spacing_mm: float) -> Volume:
    """Line attenuation of all bone, roughly (1/mm)."""
    ct = phantom(spacing_mm).ct
    return ct.with_array(np.clip(ct.array - 150.0, 0.0, None).astype(np.float32) * 2e-5)


def centre_of(ct_to_world: Array, scene: Scene) -> Array:
    """Where the target's centre is in the world (3,)."""
    return Rigid(ct_to_world).apply(scene.bodies.centre_ct)


def bytes_of(tensors: Sequence[torch.Tensor]) -> int:
    """How much tensors hold."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
