"""The trials of `bench_bounds.py` that register, reconstruct, segment or look at phantoms.

Phantoms with an even seed are realistic, the others hard.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from bench_alternatives import mirrored
from bounds_outcome import Outcome
from numpy.typing import NDArray

from RadGSRegLib import pipeline
from RadGSRegLib.cases import Case, View
from RadGSRegLib.geometry import Volume, transform_points
from RadGSRegLib.measures import SUCCESS_MM, mtre
from RadGSRegLib.networks import learned_start, load_model
from RadGSRegLib.networks.shipped import shipped_weights
from RadGSRegLib.phantom import LABELS, make_phantom, random_spine
from RadGSRegLib.registration.verdict import judge
from RadGSRegLib.segmentation import segment_vertebra
from RadGSRegLib.simulation import SimulationParameters, simulate_case, simulate_phantom_case
from RadGSRegLib.views import guess_sign, prepare_views
from RadGSRegLib.views.air import air_sign

Array = NDArray[np.float64]
register_module = importlib.import_module("RadGSRegLib.registration.register")


@dataclass(frozen=True)
class Given:
    """What is registered, the pose (4, 4) that is right, and a start (4, 4) where one is used."""

    case: Case
    pose: Array
    start: Array | None = None


def _with_views(case: Case, change: Callable[[View], View]) -> Case:
    return replace(case, views=tuple(change(view) for view in case.views))


@lru_cache(maxsize=8)
def _phantom(seed: int, realism: str = "", primary_deg: float = 15.0) -> Any:
    name = realism or ("hard" if seed % 2 else "realistic")
    parameters = replace(SimulationParameters.preset(name), primary_deg=primary_deg)
    return simulate_phantom_case(seed, parameters)


def _plain(seed: int, realism: str = "") -> Given:
    simulated = _phantom(seed, realism)
    return Given(simulated.case, np.array(simulated.truth["ct_to_world"]))


def _above(seed: int) -> Given:
    """The label of the level above, whose own pose is right."""
    simulated = _phantom(seed)
    neighbours = simulated.truth["neighbours"]
    levels = sorted(int(label) for label in neighbours)
    label = max((n for n in levels if n < simulated.case.label), default=levels[0])
    return Given(replace(simulated.case, label=label), np.array(neighbours[str(label)]))


def _vessel(seed: int) -> Given:
    """The target's label alone, and a vessel of 350 HU before it in the CT."""
    given = _plain(seed)
    case = given.case
    k, j, i = np.indices(case.ct.array.shape)
    index = np.column_stack([i.ravel(), j.ravel(), k.ravel()]).astype(float)
    points = case.ct.physical_points(index)
    bone = points[case.mask.ravel()]
    x, y = np.median(bone[:, 0]) + 3.0, bone[:, 1].min() - 11.0
    from_axis = np.hypot(points[:, 0] - x, points[:, 1] - y).reshape(case.ct.array.shape)
    tube = (from_axis < 9.0) & (case.labels.array == 0)
    noise = np.random.default_rng(seed).normal(0.0, 15.0, tube.shape)
    ct = case.ct.with_array(np.where(tube, 350.0 + noise, case.ct.array).astype(np.float32))
    labels = np.where(case.mask, case.labels.array, 0).astype(case.labels.array.dtype)
    return replace(given, case=replace(case, ct=ct, labels=case.labels.with_array(labels)))


def _mirrored(seed: int) -> Given:
    """The first picture mirrored; clean ones look best."""
    given = _plain(seed, "hard" if seed % 2 else "clean")
    first, *others = given.case.views
    return replace(given, case=replace(given.case, views=(mirrored(first), *others)))


def _inverted(seed: int) -> Given:
    """The first of two pictures of one device with the other polarity."""
    given = _plain(seed)
    first, *others = given.case.views
    pixels = (first.pixels.max() + first.pixels.min() - first.pixels).astype(np.float32)
    views = (replace(first, pixels=pixels), *others)
    return replace(given, case=replace(given.case, views=views))


def _exchanged(seed: int) -> Given:
    """Three pictures, of which two are exchanged."""
    aside = _phantom(seed, "realistic", 300.0).case.views[0]
    given = _plain(seed, "realistic")
    a, b = given.case.views
    views = (
        replace(a, pixels=b.pixels, center_px=b.center_px),
        replace(b, pixels=a.pixels, center_px=a.center_px),
        replace(aside, name="oblique"),
    )
    return replace(given, case=replace(given.case, views=views))


def _any_way(seed: int) -> Given:
    """A patient who may lie in any way."""
    given = _plain(seed)
    return replace(given, case=replace(given.case, patient_axes=None))


def _from_a_start(seed: int) -> Given:
    """A rough start, and no clicks."""
    simulated = _phantom(seed)
    case = _with_views(simulated.case, lambda view: replace(view, center_px=None))
    start = np.array(simulated.start_ct_to_world)
    return Given(case, np.array(simulated.truth["ct_to_world"]), start)


def _beside(seed: int) -> Given:
    """Clicks that meet 60 mm beside the vertebra."""
    given = _plain(seed)
    at = transform_points(given.pose, given.case.centre_ct[None]) + [60.0, 0.0, 0.0]

    def clicked(view: View) -> View:
        return replace(view, center_px=tuple(view.camera.project(at)[0]))

    return replace(given, case=_with_views(given.case, clicked))


def _small(seed: int, share: float) -> Given:
    """A bone of a share of a vertebra's size, in X-rays of finer pixels."""
    phantom = make_phantom(random_spine(seed), 1.5, "L3")
    smaller = np.diag([share, share, share, 1.0])

    def shrunk(volume: Volume) -> Volume:
        return replace(volume, index_to_physical=smaller @ volume.index_to_physical)

    usual = SimulationParameters.preset("realistic")
    parameters = replace(
        usual,
        pixel_mm=share * usual.pixel_mm,
        spine_mm=share * usual.spine_mm,
        vertebra_mm=share * usual.vertebra_mm,
        gas=(0, 0),
    )
    ct, labels = shrunk(phantom.ct), shrunk(phantom.labels)
    made = simulate_case(
        ct, labels, LABELS["L3"], parameters, seed, label_names=phantom.label_names
    )
    return Given(made.case, np.array(made.truth["ct_to_world"]))


GIVEN: dict[str, Callable[[int], Given]] = {
    "as it is": _plain,
    "level above": _above,
    "learned": _plain,
    "vessel": _vessel,
    "mirrored": _mirrored,
    "inverted": _inverted,
    "exchanged": _exchanged,
    "any way": _any_way,
    "from a start": _from_a_start,
    "beside": _beside,
    "small": partial(_small, share=0.6),
    "tiny": partial(_small, share=0.4),
}
"""What is registered, by the name of the trial."""


@lru_cache(maxsize=64)
def given(run: str, seed: int) -> Given:
    """Make what a trial registers, once."""
    return GIVEN[run](seed)


@lru_cache(maxsize=1)
def _model() -> Any:
    path = shipped_weights()
    assert path is not None, "the shipped weights are not there"
    return load_model(path)


@lru_cache(maxsize=64)
def registered(seed: int) -> tuple[Any, Any]:
    """A phantom's registration, and its vertebra's Gaussians in the CT frame."""
    case = given("as it is", seed).case
    registration = pipeline.register_case(case)
    return registration, pipeline.posed_prior(case, registration).transformed(
        np.linalg.inv(registration.ct_to_world)
    )


def _register(seed: int, run: str) -> Outcome:
    trial = given(run, seed)
    case, proposers = trial.case, []
    if run == "learned":
        case = _with_views(case, lambda view: replace(view, center_px=None))
        proposers = [learned_start(case, _model()).proposer()]
    done = pipeline.register_case(case, trial.start, proposers=proposers)
    wrong = mtre(case.surface_ct, done.ct_to_world, trial.pose) >= SUCCESS_MM
    scores = [value for value in done.quality.values() if isinstance(value, float)]
    return Outcome(done.status, done.ct_to_world[:3, 3], np.array(scores), wrong)


JUDGED = ("as it is", "level above", "mirrored", "inverted", "beside", "from a start")


@lru_cache(maxsize=64)
def _weighed(run: str, seed: int) -> tuple[Any, bool]:
    """What speaks for the pose that a registration ends with, and whether that is wrong."""
    heard: list[Any] = []
    usual = register_module.judge

    def judge_heard(evidence: Any) -> Any:
        heard.append(evidence)
        return usual(evidence)

    with patch.object(register_module, "judge", judge_heard):
        done = _register(seed, run)
    return heard[-1], done.wrong


def _judge(seed: int, run: str) -> Outcome:
    """Judge a registration that was made with the bounds as they are."""
    evidence, wrong = _weighed(run, seed)
    status = judge(evidence).status
    return Outcome(status, np.empty(0), np.array([evidence.confidence]), wrong)


def prepare(run: str, seed: int) -> None:
    """Make what a trial is given, with the bounds as they are."""
    if run in GIVEN:
        given(run, seed)
    elif run in ("prior", "another shape"):
        registered(seed)
    elif run.startswith("judged "):
        _weighed(run.removeprefix("judged "), seed)
    elif run == "air":
        _pictures(seed)


def _reconstruct(seed: int, stretch: float) -> Outcome:
    """Reconstruct with a prior that is stretched about its middle; without one for 0."""
    case = given("as it is", seed).case
    if stretch:
        registration, cloud = registered(seed)
        middle = cloud.means.mean(0)
        cloud = replace(cloud, means=middle + stretch * (cloud.means - middle))
        done = pipeline.reconstruct_registered(case, registration, prior_ct=cloud)
    else:
        done = pipeline.reconstruct(case.views)
    said = done.quality.get("reason") or str(done.quality["background"])
    values = done.volume.array.ravel() / done.volume.array.max()
    ssims = np.array([view["ssim"] for view in done.quality["views"].values()])
    return Outcome(said, values, ssims)


def _segment(seed: int) -> Outcome:
    case = given("as it is", seed).case
    done = segment_vertebra(case.ct, case.centre_ct)
    mask, truth = done.mask.array, case.labels.array == case.label
    dice = 2.0 * float((mask & truth).sum()) / float(mask.sum() + truth.sum())
    return Outcome(done.status, np.array([dice]), np.array([done.quality["fit"]]), dice < 0.8)


def exported(pixels: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Return a picture (rows, columns) as an export writes it: cut off at two percentiles."""
    lowest, highest = np.percentile(pixels, [low, high])
    return np.clip(pixels, lowest, highest).astype(np.float32)


WINDOWS = ((0, 100), (0, 99), (0, 95), (0, 80), (1, 99), (5, 95), (20, 80), (5, 100), (20, 100))


@lru_cache(maxsize=64)
def _pictures(seed: int) -> list[tuple[NDArray[np.float32], int]]:
    """Pictures of a phantom, in windows and either polarity, and the sign of bone in each: in its
    trunk, behind a round and a rectangular collimator, and as a bare bone."""
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (
        ("realistic", {}),
        ("realistic", {"collimator": ("round",)}),
        ("hard", {"collimator": ("rectangle",)}),
        ("realistic", {"trunk": False, "gas": (0, 0)}),
    )
    out = []
    for realism, changes in kinds:
        parameters = replace(SimulationParameters.preset(realism), display=False, **changes)
        for view in simulate_phantom_case(seed, parameters).case.views:
            for low, high in WINDOWS:
                shown = exported(view.pixels, low, high)
                out += [(shown, 1), (shown.max() + shown.min() - shown, -1)]
    return out


def _air(seed: int) -> Outcome:
    """Look for burnt-out air: how many signs are right, unknown, wrong."""
    signs = [air_sign(pixels) * sign for pixels, sign in _pictures(seed)]
    counts = np.array([signs.count(n) for n in (1, 0, -1)], dtype=float)
    return Outcome("right" if -1 not in signs else "ok", counts, wrong=-1 in signs)


def _polarity(seed: int) -> Outcome:
    """Guess the sign of bone at its centre, without a prior; of attenuation it is +1."""
    trial = given("as it is", seed)
    centre = transform_points(trial.pose, trial.case.centre_ct[None])[0]
    signs = []
    for shown in prepare_views(trial.case.views):
        image, valid = (torch.tensor(np.asarray(a, float)) for a in (shown.values, shown.valid))
        signs.append(guess_sign(image, valid, shown.camera, centre, 0.4))
    return Outcome(str(signs), np.empty(0))


RUNS: dict[str, Callable[[int], Outcome]] = {
    **{run: partial(_register, run=run) for run in GIVEN},
    "prior": partial(_reconstruct, stretch=1.0),
    "another shape": partial(_reconstruct, stretch=1.05),
    "fresh": partial(_reconstruct, stretch=0.0),
    **{f"judged {run}": partial(_judge, run=run) for run in JUDGED},
    "segment": _segment,
    "air": _air,
    "polarity": _polarity,
}
