"""Search, whole registrations and reconstructions: on the device and on the CPU, and how fast."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import registration_scenes
import torch
from measuring import devices, kernel_work, scenes, stages
from measuring.parts import Notes
from measuring.timing import timed
from setting import Setting, options_on, with_device

from RadGSRegLib import pipeline
from RadGSRegLib.geometry import transform_points
from RadGSRegLib.reconstruction import ReconstructionOptions
from RadGSRegLib.registration import RegistrationOptions
from RadGSRegLib.simulation import SimulatedCase, simulate_phantom_case
from RadGSRegLib.system import one_torch_thread

CPU = torch.device("cpu")
# mm: how far a pose on the device may be from that on the CPU.
SAME_POSE = 0.02
# For a test: one pose is followed, in one round.
BRIEF = replace(
    registration_scenes.QUICK,
    click_places=replace(registration_scenes.QUICK.click_places, candidates=2, survivors=1),
    fine=replace(registration_scenes.QUICK.fine, rounds=1),
)


@lru_cache(maxsize=8)
def case_of(setting: Setting, number: int) -> SimulatedCase:
    """A case of the phantom's."""
    seed, realism = setting.cases[number]
    if setting.tiny:
        return registration_scenes.simulated(realism)
    return simulate_phantom_case(seed, realism, spacing_mm=setting.spacing_mm)


def apart_mm(points: Any, a: Any, b: Any) -> float:
    """The largest distance of points (N, 3) between two poses (4, 4)."""
    points = np.asarray(points)
    moved = transform_points(np.asarray(a), points) - transform_points(np.asarray(b), points)
    return float(np.linalg.norm(moved, axis=1).max())


def observed(run: Callable[[], Any]) -> tuple[Any, str]:
    """What a run returns, and where it ran: what the library says, else where its kernels were."""
    with kernel_work.listening() as heard:
        result = run()
    said = getattr(result, "ran_on", None)
    launched = sorted({device for *_, device in heard})
    kernels = f"not reported; kernels on {' and '.join(launched) or 'nothing'}"
    return result, str(said) if said else kernels


def search(setting: Setting, notes: Notes) -> None:
    """Pictures of many poses, and the search around a click."""
    device, rounds = setting.device, setting.rounds
    with one_torch_thread():
        pictures = stages.bodies(setting.poses, 48, setting.spacing_mm, device)[0]
        milliseconds = timed(pictures.run, device, rounds)["ms"]
        where = devices.on(pictures.run())
        notes.figure(f"pictures of {setting.poses} poses, on {where}", milliseconds, "ms")
        whole, count = stages.search(setting.search_steps, setting.spacing_mm, device)
        notes.figure(f"search of {count} poses", timed(whole.run, device, rounds)["ms"], "ms")
        best, notes.ran_on = observed(whole.run)
        here, _ = stages.search(setting.search_steps, setting.spacing_mm, CPU)
        truth = here.run().candidates[0]
    scene, _ = scenes.scene(2, 128, setting.spacing_mm)
    points = scene.bodies.surface_points_ct
    error = apart_mm(points, best.candidates[0].ct_to_world, truth.ct_to_world)
    notes.check("search, its likeliest pose, mm", error, SAME_POSE)


def registration(setting: Setting, notes: Notes) -> None:
    """Whole registrations from clicks: poses as on the CPU, and warm seconds."""
    there: list[float] = []
    here: list[float] = []
    for number, (seed, realism) in enumerate(setting.cases):
        simulated = case_of(setting, number)
        run = _registering(setting, simulated, setting.device)
        if number == 0 and not setting.tiny:
            run()  # compiles what it needs
        done, notes.ran_on = observed(lambda run=run: _timed(run, setting.device, there))
        if not setting.tiny:
            _timed(run, setting.device, there)
        truth = _timed(_registering(setting, simulated, CPU), CPU, here)
        name, points = f"{realism} {seed}", simulated.truth["points_ct"]
        error = apart_mm(points, done.ct_to_world, truth.ct_to_world)
        notes.check(f"pose of {name}, mm", error, SAME_POSE)
        notes.check(f"verdict of {name} differs", float(done.status != truth.status), 0.0)
        true_mm = apart_mm(points, done.ct_to_world, simulated.truth["ct_to_world"])
        notes.figure(f"error of {name} ({done.status})", true_mm, "mm")
        notes.figure(f"registration of {name}, warm", there[-1], "s")
        stages = ", ".join(f"{stage} {spent:.3f}" for stage, spent in done.timing_s.items())
        notes.remarks.append(f"stages of {name}, s: {stages}")
    notes.figure("registration, warm, median", float(np.median(there)), "s")
    notes.figure("registration on the CPU, median", float(np.median(here)), "s")


def _registering(
    setting: Setting, simulated: SimulatedCase, device: torch.device
) -> Callable[[], Any]:
    """A whole registration of a case on a device, where the library takes one."""
    options = options_on(BRIEF if setting.tiny else RegistrationOptions(), device)
    return partial(with_device(pipeline.register_case, device), simulated.case, options=options)


def _timed(run: Callable[[], Any], device: torch.device, into: list[float]) -> Any:
    devices.synchronize(device)
    began = time.perf_counter()
    done = run()
    devices.synchronize(device)
    into.append(time.perf_counter() - began)
    return done


def reconstruction(setting: Setting, notes: Notes) -> None:
    """A registered vertebra's Gaussians adjusted to the X-rays."""
    simulated = case_of(setting, 0)
    pose = np.asarray(simulated.truth["ct_to_world"])
    scene = scenes.anatomy(setting.spacing_mm)
    prior = scene.bodies.target.fine.transformed(np.eye(4))
    options = ReconstructionOptions(
        device=setting.device.type,
        prior_steps=setting.prior_steps,
        pixel_mm=2.4 if setting.tiny else 1.2,
        spacing_mm=2.0 if setting.tiny else 1.0,
    )
    moved = prior.transformed(pose @ _centred(simulated, scene))
    centre = transform_points(pose, np.asarray(simulated.truth["pivot_ct"])[None])[0]
    spent: list[float] = []
    run = partial(
        pipeline.reconstruct,
        simulated.case.views,
        prior_cloud=moved,
        centre_world=centre,
        options=options,
    )
    if not setting.tiny:
        run()
    done = _timed(run, setting.device, spent)
    notes.ran_on = devices.on(*done.cloud.tensors)
    notes.figure(f"reconstruction in {setting.prior_steps} steps", spent[-1], "s")
    finite = np.isfinite(done.volume.array).all()
    notes.check("reconstruction, voxels that are not finite", float(not finite), 0.0)


def _centred(simulated: SimulatedCase, scene: Any) -> Any:
    """The translation (4, 4) that puts one phantom's vertebra where another's is."""
    matrix = np.eye(4)
    matrix[:3, 3] = np.asarray(simulated.truth["pivot_ct"]) - scene.bodies.centre_ct
    return matrix
