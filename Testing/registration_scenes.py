"""Small cases on the phantom, and quick settings, that several tests of the registration share.

A 2 mm phantom of one vertebra with its neighbours' edges, X-rays of 244 pixels, and a search over
fewer rotations than a user's, in coarser windows: each registration takes a second or two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from RadGSRegLib.cases import Case, View
from RadGSRegLib.geometry import Camera, carm_camera, transform_points
from RadGSRegLib.phantom import LABELS, Phantom, make_phantom, random_spine
from RadGSRegLib.registration import RegistrationOptions, RigidBodies, Scene, scene_of
from RadGSRegLib.simulation import SimulatedCase, SimulationParameters, simulate_case

Array = NDArray[np.float64]

TARGET = LABELS["L3"]

_DEFAULT = RegistrationOptions()

QUICK = replace(
    _DEFAULT,
    rotation_range_deg=12.5,
    start_rotation_range_deg=12.5,
    start_range_mm=20.0,
    click_places=replace(_DEFAULT.click_places, candidates=4, survivors=2),
    start_places=replace(_DEFAULT.start_places, count=3, candidates=2, keep=2, survivors=1),
    fine_cloud_mm=4.5,
    coarse=replace(_DEFAULT.coarse, pixel_mm=2.4),
    middle=replace(_DEFAULT.middle, pixel_mm=1.6),
    fine=replace(_DEFAULT.fine, pixel_mm=1.2, rounds=2),
)
"""For cases from `simulated`, whose spine is turned by up to 8 degrees about each axis."""


def one_thread() -> None:
    """Small images gain nothing from threads, and tests run beside other work."""
    torch.set_num_threads(1)


@lru_cache(maxsize=4)
def phantom(region: str | tuple[str, ...] = "L3", spacing_mm: float = 2.0) -> Phantom:
    """A lumbar spine cut to a region."""
    return make_phantom(random_spine(11), spacing_mm, region)


def simulated(
    realism: str = "clean",
    seed: int = 2,
    region: str | tuple[str, ...] = "L3",
    **changes: Any,
) -> SimulatedCase:
    """A case of the phantom's L3, moved by up to 8 degrees and 20 mm about each axis."""
    return _simulated(realism, seed, region, tuple(sorted(changes.items())))


@lru_cache(maxsize=8)
def _simulated(
    realism: str, seed: int, region: str | tuple[str, ...], changes: tuple[tuple[str, Any], ...]
) -> SimulatedCase:
    """The same, once however its defaults are written."""
    parameters = replace(
        SimulationParameters.preset(realism),
        **{
            "size_px": 244,
            "pixel_mm": 1.22,
            "center_px": 5.0,
            "spine_deg": 8.0,
            "start_deg": 8.0,
            "start_mm": 12.0,
            **dict(changes),
        },
    )
    built = phantom(region)
    return simulate_case(
        built.ct, built.labels, TARGET, parameters, seed, label_names=built.label_names
    )


def scene(realism: str = "clean") -> Scene:
    """The scene of a simulated case."""
    return _scene(realism)


@lru_cache(maxsize=2)
def _scene(realism: str) -> Scene:
    return scene_of(simulated(realism).case, _DEFAULT)


def bodies(realism: str = "clean") -> RigidBodies:
    """The bodies of a simulated case."""
    return scene(realism).bodies


def truth(case: SimulatedCase) -> Array:
    """The true ct_to_world (4, 4)."""
    return np.asarray(case.truth["ct_to_world"])


def error_mm(case: SimulatedCase, ct_to_world: Array) -> float:
    """Mean distance of the vertebra's surface from where it truly is."""
    points = np.asarray(case.truth["points_ct"])
    apart = transform_points(ct_to_world, points) - transform_points(truth(case), points)
    return float(np.linalg.norm(apart, axis=1).mean())


def with_views(case: Case, change: Callable[[View], View]) -> Case:
    """The case with every view changed."""
    return replace(case, views=tuple(change(view) for view in case.views))


def camera(
    *, mirrored: bool = False, principal: tuple[float, float] | None = None, primary: float = 20.0
) -> Camera:
    """A C-arm's camera of 200 x 180 pixels of 1.2 mm, 1124 mm to the detector."""
    upright = carm_camera(1124.0, 750.0, primary, 5.0, (200, 180), (1.2, 1.2), principal)
    if not mirrored:
        return upright
    intrinsic = upright.intrinsic.copy()
    intrinsic[0, 0] *= -1.0
    return replace(upright, intrinsic=intrinsic)
