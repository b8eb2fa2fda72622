"""Many cases simulated together, on any device: the fast way to X-rays for training.

The physics is that of `case.simulate_case`, with the same draws from the same seed but for the
noise and the collimator. What the X-rays of one CT share is brought to the device once
(`voxels.scene_on_device`), and the views of all cases are one launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..system import Backends, on_warp
from .drawing import Drawn, Framing, draw_case
from .materials import mass_attenuation
from .parameters import SimulationParameters
from .pixels import CLEAN_KEV
from .voxels import SceneOnDevice

_RAYS = Backends("simulate pairs", on_warp(f"{__package__}.exposure"))


def batch_problem() -> str:
    """Say why `simulate_together` does not work on this machine; an empty string where it does."""
    return _RAYS.problems()["warp"]


@dataclass(frozen=True)
class Wanted:
    """A case to simulate: what `case.simulate_case` is asked for.

    ``surface``: how many points its mask's surface has, since choosing among them comes first of
    all that is drawn.
    """

    scene: SceneOnDevice
    label: int
    parameters: SimulationParameters
    seed: int
    surface: int
    frame: Framing | None = None


@dataclass(frozen=True)
class Simulated:
    """N cases of V views: ``pictures`` (N, V, rows, columns) as stored, ``displayed`` (N,) which of
    them are display values and not line integrals, ``excess`` (N, V, rows, columns) the targets'
    own line integrals, ``bone`` (N, V, rows, columns) those of all cortical bone, and what was
    ``drawn``."""

    pictures: Tensor
    displayed: Tensor
    excess: Tensor
    bone: Tensor
    drawn: list[Drawn]


@torch.no_grad()
def simulate_together(wanted: Sequence[Wanted]) -> Simulated:
    """Simulate cases whose scenes are on one device and whose cameras have equally many pixels.

    Each follows from its seed alone, whatever else is wanted. Raises ValueError for cases on
    several devices or with unlike pixels, and where only a part of the physics of a display is
    asked for: pictures have a spectrum and are displayed, or neither.
    """
    asked = [case.parameters for case in wanted]
    if len({p.pixel_mm for p in asked}) > 1:
        raise ValueError("detectors of one batch have pixels of the same size")
    if any(p.polychromatic != p.display for p in asked):
        raise ValueError("pictures of a batch have a spectrum and are displayed, or neither")
    drawn = []
    for case in wanted:
        rng = np.random.default_rng(case.seed)
        rng.permutation(case.surface)
        scene = case.scene
        drawn.append(
            draw_case(
                case.parameters, scene.centroids, case.label, rng, scene.surroundings, case.frame
            )
        )
    device = wanted[0].scene.device
    # Loads warp, which the rest of the room does without.
    exposure = _RAYS.choose("auto", device, torch.float32)
    lengths = exposure.mass_lengths([(c.scene, d) for c, d in zip(wanted, drawn, strict=True)])
    chains = exposure.Chains.of(
        [(c.parameters, d, c.seed) for c, d in zip(wanted, drawn, strict=True)], device
    )
    pictures = exposure.expose(lengths, chains)
    shape = (len(wanted), -1, *pictures.shape[-2:])
    displayed = torch.tensor([p.display for p in asked], device=device)
    bone = float(mass_attenuation("bone", CLEAN_KEV)) * lengths.bone
    return Simulated(
        pictures.view(shape), displayed, lengths.excess.view(shape), bone.view(shape), drawn
    )
