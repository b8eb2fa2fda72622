"""The examples in the docstrings of the public entries run, and say what comes of them."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import registration_scenes

from RadGSRegLib.registration import Registration
from RadGSRegLib.simulation import write_simulated_case

pytestmark = pytest.mark.usefixtures("brief_fit")

ENTRIES = [
    "bones.bone_axes",
    "bones.bone_mask",
    "bones.bone_surface",
    "bones.resliced",
    "bones.write_mesh",
    "calibration.calibrate",
    "calibration.find_ct_beads",
    "calibration.holder",
    "calibration.read_beads",
    "calibration.write_beads",
    "calibration.find_spots",
    "calibration.missing_beads",
    "calibration.spots_near",
    "calibration.sphere_shift_px",
    "calibration.triangulated",
    "calibration.match_beads",
    "calibration.resect",
    "cases.labels_of",
    "cases.read_case",
    "cases.read_run",
    "cases.read_views",
    "cases.write_case",
    "drr.Voxels",
    "drr.hu_to_attenuation",
    "drr.project_volume",
    "gaussians.GaussianCloud",
    "gaussians.fit_vertebra",
    "gaussians.rasterize",
    "gaussians.voxelize",
    "geometry.Camera",
    "geometry.Rigid",
    "geometry.Volume",
    "geometry.carm_camera",
    "measures.mtre",
    "measures.reconstruction_quality",
    "methods.register_published",
    "networks.learned_start",
    "networks.load_model",
    "pipeline.posed_prior",
    "pipeline.reconstruct",
    "pipeline.register_case",
    "pipeline.run",
    "multilevel.register_vertebrae",
    "multilevel.polyrigid_map",
    "multilevel.relative_motions",
    "registration.judge_case",
    "registration.register",
    "segmentation.segment_vertebra",
    "simulation.simulate_beads",
    "simulation.simulate_phantom_case",
    "tensors.Lenses",
    "tracking.track_case",
]


def entry(name: str) -> Any:
    """What a package's front door offers under a name."""
    room, _, what = name.rpartition(".")
    return getattr(import_module(f"RadGSRegLib.{room}"), what)


@lru_cache(maxsize=1)
def registration() -> Registration:
    """A registration at the true pose, so that no example waits for the registration of another."""
    simulated = registration_scenes.simulated()
    return Registration(
        status="ok",
        reason="the truth",
        ct_to_world=registration_scenes.truth(simulated),
        covariance=np.eye(6),
        centre_ct=simulated.case.centre_ct,
        quality={},
        timing_s={},
        parameters={},
        seed=0,
    )


def _folder(tmp_path: Path) -> str:
    return str(write_simulated_case(registration_scenes.simulated(), tmp_path / "case").parent)


# What examples begin with: a case with two X-rays, and what belongs to it.
GIVEN: dict[str, Callable[[Path], Any]] = {
    "case": lambda tmp_path: registration_scenes.simulated().case,
    "truth": lambda tmp_path: registration_scenes.simulated().truth,
    "registration": lambda tmp_path: registration(),
    "folder": _folder,
}


@pytest.mark.parametrize("name", ENTRIES)
def test_example_runs(name: str, tmp_path: Path) -> None:
    text = entry(name).__doc__
    given = {what: make(tmp_path) for what, make in GIVEN.items() if what in text}
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    example = doctest.DocTestParser().get_doctest(text, given, name, None, None)
    assert example.examples, f"{name} has no example"
    said: list[str] = []
    doctest.DocTestRunner(optionflags=flags).run(example, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("name", ENTRIES)
def test_docstring_is_whole(name: str) -> None:
    text = entry(name).__doc__
    first = text.split()[0]
    assert first[0].isupper()
    assert first.lower() not in {"a", "an", "the", "what", "how", "whether"}, "open with a verb"
    for part in ("Args:", "Example:"):
        assert part in text
    if not isinstance(entry(name), type):
        assert "Returns:" in text
