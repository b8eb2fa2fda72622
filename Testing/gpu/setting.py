"""Where and how large everything is measured, and what the parts are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from measuring import devices
from measuring.parts import Notes, Surroundings, Work


@dataclass(frozen=True)
class Setting:
    """A device and sizes. ``cases`` are (seed, realism) of phantoms; ``rounds`` of timings."""

    device: torch.device
    tiny: bool
    gaussians: int
    pixels: int
    voxels: int
    spacing_mm: float
    search_steps: int
    poses: int
    cases: tuple[tuple[int, str], ...]
    pairs: int
    batch: int
    training_steps: int
    prior_steps: int
    rounds: int

    def tensor(self, array: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """A tensor on the device."""
        return torch.as_tensor(array, dtype=dtype).to(self.device)


def setting_of(size: str, device: str) -> Setting:
    """The setting of a size, on a device ("cpu", "cuda", "auto")."""
    full = Setting(
        device=devices.chosen(device),
        tiny=False,
        gaussians=10_000,
        pixels=128,
        voxels=128,
        spacing_mm=1.5,
        search_steps=4,
        poses=512,
        cases=((71, "clean"), (72, "realistic"), (73, "realistic"), (74, "hard")),
        pairs=64,
        batch=12,
        training_steps=40,
        prior_steps=30,
        rounds=7,
    )
    if size == "full":
        return full
    return replace(
        full,
        tiny=True,
        gaussians=300,
        pixels=32,
        voxels=16,
        spacing_mm=4.0,
        search_steps=1,
        poses=4,
        cases=((71, "clean"),),
        pairs=2,
        batch=2,
        training_steps=3,
        prior_steps=2,
        rounds=1,
    )


def parts_of(size: str, device: str) -> dict[str, Work]:
    """The parts by name."""
    import part_gsplat
    import part_jobs
    import part_kernels
    import part_learning
    import part_simulation

    setting = setting_of(size, device)
    works: dict[str, Callable[[Setting, Notes], None]] = {
        "machine": part_kernels.machine,
        "kernels": part_kernels.kernels,
        "timings": part_kernels.timings,
        "search": part_jobs.search,
        "registration": part_jobs.registration,
        "reconstruction": part_jobs.reconstruction,
        "simulation": part_simulation.simulation,
        "networks": part_learning.networks,
        "training": part_learning.training,
        "gsplat": part_gsplat.gsplat,
    }
    return {name: partial(work, setting) for name, work in works.items()}


def around(device: str) -> Surroundings:
    """Watch memory, and whether the device still answers."""
    place = devices.chosen(device)

    def peak_mib() -> Callable[[], float]:
        watching = devices.watch(place)
        peak = watching.__enter__()

        def ends() -> float:
            watching.__exit__(None, None, None)
            return peak.mib

        return ends

    def usable() -> bool:
        try:
            devices.synchronize(place)
        except RuntimeError:
            return False
        return True

    return Surroundings(peak_mib, usable)
