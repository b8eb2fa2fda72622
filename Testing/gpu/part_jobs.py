"""Search, whole registrations and reconstructions: right, and how fast.

Both are checked against the truth, and registrations against the CPU's poses; all say where their
kernels ran. On the CPU they compute as on a GPU, with nothing read by the host on the way.
"""

from __future__ import annotations

import contextlib
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
from measuring.timing import median_ms
from setting import Setting

from RadGSRegLib import pipeline
from RadGSRegLib.geometry import transform_points
from RadGSRegLib.measures import is_silent_failure, mtre
from RadGSRegLib.reconstruction import ReconstructionOptions
from RadGSRegLib.registration import RegistrationOptions, RigidBodies
from RadGSRegLib.simulation import SimulatedCase, simulate_phantom_case
from RadGSRegLib.system import one_torch_thread
from RadGSRegLib.tensors import without_host_reads

# The true pose is among those that the search tries; the next likeliest three are 2.0 mm away or
# more (mTRE, full size; 6.4 mm in a test's).
LIKELIEST_MM = 1.0
# Rounding alone moves a pose by 0.01 mm.
AS_ON_CPU_MM = 0.02
# For a test: a single pose is followed, in one round.
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


def observed(run: Callable[[], Any]) -> tuple[Any, str]:
    """What a run returns, and where its kernels ran."""
    with kernel_work.listening() as heard:
        result = run()
    launched = sorted({device for *_, device in heard})
    return result, f"kernels on {' and '.join(launched) or 'nothing'}"


def search(setting: Setting, notes: Notes) -> None:
    """Pictures of many poses, and the search around a click."""
    device, rounds = setting.device, setting.rounds
    with one_torch_thread():
        pictures = stages.bodies(setting.poses, 48, setting.spacing_mm, device)[0]
        milliseconds = median_ms(pictures.run, device, rounds)
        where = devices.on(pictures.run())
        notes.figure(f"pictures of {setting.poses} poses, on {where}", milliseconds, "ms")
        whole, count = stages.search(setting.search_steps, setting.spacing_mm, device)
        notes.figure(f"search of {count} poses", median_ms(whole.run, device, rounds), "ms")
        proposed, notes.ran_on = observed(whole.run)
    scene, truth = scenes.scene(2, 128, setting.spacing_mm)
    error = mtre(scene.bodies.surface_points_ct, proposed.candidates[0].ct_to_world, truth)
    notes.check("search, error of its likeliest pose, mm", error, LIKELIEST_MM)


def registration(setting: Setting, notes: Notes) -> None:
    """Whole registrations from clicks: as on the CPU, how far off, none `ok` and wrong, seconds."""
    spent: list[float] = []
    options = BRIEF if setting.tiny else RegistrationOptions()
    there = contextlib.nullcontext if setting.device.type == "cuda" else without_host_reads
    for number, (seed, realism) in enumerate(setting.cases):
        simulated = case_of(setting, number)
        on_host = partial(pipeline.register_case, simulated.case, options=options)
        run = partial(on_host, device=setting.device)
        with there():
            if number == 0 and not setting.tiny:
                run()  # compiles what it needs
            done, notes.ran_on = observed(lambda run=run: _timed(run, setting.device, spent))
            if not setting.tiny:
                _timed(run, setting.device, spent)
        name, truth = f"{realism} {seed}", simulated.truth
        own = on_host()
        apart_mm = mtre(truth["points_ct"], done.ct_to_world, own.ct_to_world)
        notes.check(f"registration of {name}, mm from the CPU's pose", apart_mm, AS_ON_CPU_MM)
        notes.check(f"registration of {name}, another status", float(done.status != own.status), 0)
        error = mtre(truth["points_ct"], done.ct_to_world, truth["ct_to_world"])
        wrong = is_silent_failure(done.status, error)
        notes.check(f"registration of {name}, `ok` and wrong", float(wrong), 0.0)
        notes.figure(f"error of {name} ({done.status})", error, "mm")
        notes.figure(f"registration of {name}, warm", spent[-1], "s")
        parts = ", ".join(f"{stage} {seconds:.3f}" for stage, seconds in done.timing_s.items())
        notes.remarks.append(f"stages of {name}, s: {parts}")
    notes.figure("registration, warm, median", float(np.median(spent)), "s")


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
    bodies = scenes.bodies(setting.spacing_mm)
    prior = bodies.target.fine.transformed(np.eye(4))
    options = ReconstructionOptions(
        device=setting.device.type,
        prior_steps=setting.prior_steps,
        pixel_mm=2.4 if setting.tiny else 1.2,
        spacing_mm=2.0 if setting.tiny else 1.0,
    )
    moved = prior.transformed(pose @ _centred(simulated, bodies))
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


def _centred(simulated: SimulatedCase, bodies: RigidBodies) -> Any:
    """The translation (4, 4) that puts one phantom's vertebra where another's is."""
    matrix = np.eye(4)
    matrix[:3, 3] = np.asarray(simulated.truth["pivot_ct"]) - bodies.centre_ct
    return matrix
