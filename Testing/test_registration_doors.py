"""A guest through each of registration's doors: none of them needs an edit of the library."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from registration_scenes import (
    QUICK,
    bodies,
    error_mm,
    one_thread,
    scene,
    simulated,
    truth,
    with_views,
)

from RadGSRegLib.drr import project_volume, project_volume_with_jacobian
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Volume, affine, compose_about
from RadGSRegLib.registration import (
    Arrangement,
    Candidate,
    Comparison,
    Drawing,
    GivenPoses,
    Places,
    Prior,
    Proposal,
    RefineOptions,
    Scene,
    StretchedGaussNewton,
    Tried,
    register,
    register_case,
    single_body,
)
from RadGSRegLib.registration.bodies import BodySource
from RadGSRegLib.registration.options import Fidelity
from RadGSRegLib.registration.proposers import Alternative, Proposer
from RadGSRegLib.registration.residual import Residual
from RadGSRegLib.registration.steps import Stepper
from RadGSRegLib.registration.windows import StageView
from RadGSRegLib.system import Progress
from RadGSRegLib.views import Window

Array = NDArray[np.float64]

TWIST = np.array([0.03, -0.02, 0.03, 2.0, -1.5, 1.0])
GIVEN = Places(1, 2, 1, keep=1, survivors=1)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    one_thread()


def _near() -> Array:
    """A pose (4, 4) a few degrees and millimetres from the truth."""
    return compose_about(truth(simulated()), TWIST, bodies().centre_ct)


def _known(pose: Array) -> GivenPoses:
    return GivenPoses([Candidate(pose, 0.5, (1, 1))], GIVEN)


# Bodies


@dataclass(frozen=True)
class OnlyVoxels:
    """The target's voxels alone, at every stage: no Gaussians, no neighbours, no background."""

    def __post_init__(self) -> None:
        assert bodies().target_excess is not None

    centre_ct = property(lambda self: bodies().centre_ct)
    radius_mm = property(lambda self: bodies().radius_mm)
    surface_points_ct = property(lambda self: bodies().surface_points_ct)
    neighbour_centres_ct: Sequence[Array] = ()
    background: None = None

    def as_in_ct(self, ct_to_world: Array) -> Arrangement:
        return Arrangement(ct_to_world, ())

    def moved(self, arrangement: Arrangement, step: Array) -> Arrangement:
        return Arrangement(compose_about(arrangement.ct_to_world, step, self.centre_ct), ())

    def step_mm(self, step: Array) -> float:
        return float(self.radius_mm * np.linalg.norm(step[:3]) + np.linalg.norm(step[3:]))

    def pictures(
        self,
        intrinsics: ArrayLike,
        ct_to_camera: ArrayLike,
        size: tuple[int, int],
        fidelity: Fidelity,
        arrangement: Arrangement | None = None,
    ) -> torch.Tensor:
        excess = bodies().target_excess
        pairs = zip(np.asarray(intrinsics), np.asarray(ct_to_camera), strict=True)
        return torch.stack([project_volume(excess, k, pose, size) for k, pose in pairs])[:, None]

    def drawing(
        self,
        views: Sequence[StageView],
        arrangements: Sequence[Arrangement],
        options: RefineOptions,
    ) -> Drawing:
        images, slopes = [], []
        for view, arrangement in zip(views, arrangements, strict=True):
            camera = view.window.camera
            to_camera = view.world_to_camera @ arrangement.ct_to_world
            image, slope = project_volume_with_jacobian(
                bodies().target_excess, camera.intrinsic, to_camera, camera.size, self.centre_ct
            )
            images.append(image)
            slopes.append(slope)
        image = torch.stack(images)
        nothing = torch.zeros_like(image)
        return Drawing(
            image, image, nothing, torch.stack(slopes), np.stack([np.eye(6)] * len(views))
        )

    def prior(self, arrangement: Arrangement, options: RefineOptions) -> Prior | None:
        return None

    def largest_shift_mm(self, arrangement: Arrangement) -> float:
        return 0.0


def test_bodies_of_another_kind_are_registered() -> None:
    voxels: BodySource = OnlyVoxels()
    there = Scene(voxels, scene().views)
    done = register(there, [_known(_near())], options=QUICK)
    assert error_mm(simulated(), _near()) > 2.0
    assert error_mm(simulated(), done.ct_to_world) < 1.0
    assert done.quality["neighbour_shift_mm"] == 0.0


@dataclass(frozen=True)
class Grown(Arrangement):
    """A pose, and how much larger than the mean the vertebra is."""

    scale: float = 1.0


class OneShapeMode(OnlyVoxels):
    """A mean vertebra, a tenth smaller than the patient's, with its size among the unknowns."""

    mean = 0.9
    _step = 0.01

    def as_in_ct(self, ct_to_world: Array) -> Arrangement:
        return Grown(ct_to_world, ())

    def moved(self, arrangement: Arrangement, step: Array) -> Arrangement:
        assert isinstance(arrangement, Grown)
        pose = compose_about(arrangement.ct_to_world, step[:6], self.centre_ct)
        return Grown(pose, (), arrangement.scale + float(step[6:].sum()))

    def step_mm(self, step: Array) -> float:
        return super().step_mm(step[:6]) + self.radius_mm * abs(float(step[6:].sum()))

    def _sized(self, scale: float) -> Volume:
        excess, factor = bodies().target_excess, self.mean * scale
        assert excess is not None
        return Volume(
            excess.array,
            affine(factor * np.eye(3), (1 - factor) * self.centre_ct) @ excess.index_to_physical,
        )

    def drawing(
        self,
        views: Sequence[StageView],
        arrangements: Sequence[Arrangement],
        options: RefineOptions,
    ) -> Drawing:
        images, slopes = [], []
        for view, arrangement in zip(views, arrangements, strict=True):
            assert isinstance(arrangement, Grown)
            camera = view.window.camera
            place = camera.intrinsic, view.world_to_camera @ arrangement.ct_to_world, camera.size
            image, slope = project_volume_with_jacobian(
                self._sized(arrangement.scale), *place, self.centre_ct
            )
            larger = project_volume(self._sized(arrangement.scale + self._step), *place)
            images.append(image)
            slopes.append(torch.cat([slope, (larger - image)[None] / self._step]))
        image = torch.stack(images)
        motions = np.stack([np.eye(7)] * len(views))
        return Drawing(image, image, torch.zeros_like(image), torch.stack(slopes), motions)

    def prior(self, arrangement: Arrangement, options: RefineOptions) -> Prior | None:
        assert isinstance(arrangement, Grown)
        # A standard deviation of a tenth, as weak as the neighbours' prior.
        precision, off = 2e-4 / 0.1**2, arrangement.scale - 1.0
        only = np.eye(7)[6]
        return Prior(precision * off**2, -precision * off * only, np.diag(precision * only))


def test_a_shape_mode_is_fitted_with_the_pose() -> None:
    modes: BodySource = OneShapeMode()
    done = register(Scene(modes, scene().views), [_known(_near())], options=QUICK)
    assert isinstance(done.arrangement, Grown)
    assert done.arrangement.scale == pytest.approx(1.0 / OneShapeMode.mean, abs=0.02)
    assert error_mm(simulated(), done.ct_to_world) < 1.0


def test_a_cloud_alone_is_registered_with_the_usual_stages() -> None:
    whole = bodies()
    cloud = single_body(whole.target.fine, whole.centre_ct, whole.surface_points_ct, 1500)
    done = register(Scene(cloud, scene().views), [_known(_near())], options=QUICK)
    assert error_mm(simulated(), done.ct_to_world) < 1.5


# Proposers


@dataclass
class FromBefore:
    """The pose of the frame before, as in a sequence; remembers what it was told."""

    pose: Array
    name: str = "frame before"
    views_needed: int = 1
    heard: Tried | None = None

    def propose(self, scene: Scene, tried: Tried, progress: Progress) -> Proposal:
        self.heard = tried
        return Proposal([Candidate(self.pose, 0.0, (1,) * len(scene.views))], GIVEN)


def test_a_proposer_of_another_kind_is_asked() -> None:
    case = simulated().case
    bare = with_views(case, lambda view: replace(view, center_px=None))
    before: Proposer = FromBefore(_near())
    done = register_case(bare, None, QUICK, proposers=[before])
    assert error_mm(simulated(), done.ct_to_world) < 0.5
    assert done.status == "ok"
    # It convinced, so the search around it was not needed.
    assert done.timing_s["frame before"] > 0
    assert "search" not in done.timing_s


def test_a_later_proposer_hears_what_was_tried() -> None:
    far = truth(simulated()).copy()
    far[:3, 3] += [0.0, 0.0, 60.0]
    first, second = _known(far), FromBefore(_near())
    done = register(scene(), [first, second], options=QUICK)
    assert second.heard is not None
    assert list(second.heard.candidates) == list(first.candidates)
    assert second.heard.best is not None
    assert error_mm(simulated(), done.ct_to_world) < 0.5


class Slow:
    """Thinks for a while, and proposes nothing; as `GivenPoses` it is called "learned"."""

    name = "learned"
    views_needed = 1

    def propose(self, scene: Scene, tried: Tried, progress: Progress) -> Proposal:
        time.sleep(0.2)
        return Proposal((), GIVEN)


def test_proposers_of_one_name_share_its_time() -> None:
    slow: Proposer = Slow()
    done = register(scene(), [slow, _known(_near())], options=QUICK)
    assert done.timing_s["learned"] >= 0.2


def test_a_proposer_that_needs_more_views_is_not_asked() -> None:
    greedy = FromBefore(_near(), views_needed=3)
    done = register(scene(), [greedy, _known(_near())], options=QUICK)
    assert greedy.heard is None
    assert error_mm(simulated(), done.ct_to_world) < 0.5
    with pytest.raises(InputError, match="at least 3 X-rays are needed to find the pose, not 2"):
        register(scene(), [greedy], options=QUICK)


@dataclass(frozen=True)
class Twin:
    """Proposes the best pose itself as an alternative."""

    name: str = "twin"
    views_needed: int = 1
    reason: str = "a twin fits as well"
    clear_score: float = 0.8

    def scene(self, scene: Scene) -> Scene:
        return scene

    def propose(self, scene: Scene, tried: Tried, progress: Progress) -> Proposal:
        assert tried.best is not None
        return Proposal([Candidate(tried.best.ct_to_world, 0.5, tried.best.signs)], GIVEN)


def test_a_rival_as_good_as_the_pose_takes_its_ok_away() -> None:
    case = simulated("realistic")
    pose = compose_about(truth(case), TWIST, bodies("realistic").centre_ct)
    there = scene("realistic")
    signs = tuple(view.sign or 1 for view in there.views)
    known = GivenPoses([Candidate(pose, 0.5, signs)], GIVEN)
    alone = register(there, [known], options=QUICK)
    # Where the pose is beyond doubt no alternative is asked.
    assert alone.quality["weakest_score"] < 0.8
    assert (alone.status, alone.quality["level_lead"]) == ("ok", 1.0)
    twin: Alternative = Twin()
    beside = register(there, [known], alternatives=[twin], options=QUICK)
    assert beside.quality["twin_lead"] < 0.02
    assert (beside.status, beside.reason) == ("uncertain", "a twin fits as well")
    unasked = register(there, [known], alternatives=[Twin(views_needed=3)], options=QUICK)
    assert "twin_lead" not in unasked.quality


# Residuals


class PlainDifference:
    """Pixels as they are, for X-rays in units of attenuation: scaled to the window's deviation."""

    def prepare(self, window: Window, sign: int, options: RefineOptions) -> tuple[Any, ...]:
        image = sign * window.image
        return ((image - image.mean()) / image.std(),)

    def kind(self, term: torch.Tensor) -> Hashable:
        return tuple(term.shape)

    def compare(
        self,
        terms: Sequence[torch.Tensor],
        images: torch.Tensor,
        weight: torch.Tensor,
        options: RefineOptions,
    ) -> Comparison:
        observed = torch.stack(list(terms))
        scale = images.std((-2, -1), keepdim=True) + 1e-6
        rendered = (images - images.mean((-2, -1), keepdim=True)) / scale

        def centred(x: torch.Tensor) -> torch.Tensor:
            return (x - x.mean((-2, -1), keepdim=True)) / scale

        both = (weight * observed * rendered).sum((-2, -1))
        size = (weight * observed**2).sum((-2, -1)) * (weight * rendered**2).sum((-2, -1))
        score = both / size.sqrt().clamp_min(1e-9)
        return Comparison(observed - rendered, weight, score, centred, centred)


def test_a_residual_of_another_kind_compares() -> None:
    plain: Residual = PlainDifference()
    options = replace(QUICK, fine=replace(QUICK.fine, rounds=1))
    done = register(scene(), [_known(_near())], plain, options=options)
    assert error_mm(simulated(), done.ct_to_world) < error_mm(simulated(), _near())
    usual = register(scene(), [_known(_near())], options=options)
    assert (done.ct_to_world != usual.ct_to_world).any()


# Steppers


class SteepestDescent:
    """Along the gradient, scaled by the diagonal: slow, and honest about it."""

    made = 0

    def __init__(self, length: float = 0.5) -> None:
        self.length = length
        type(self).made += 1

    def renewed(self) -> SteepestDescent:
        return SteepestDescent(self.length)

    def step(self, gradient: Array, matrix: Array) -> Array:
        return np.asarray(self.length * gradient / np.maximum(np.diag(matrix), 1e-12))

    def learn(self, step: Array, fall: float, before: Array, after: Array) -> bool:
        self.length *= 1.2 if fall > 0 else 0.3
        return fall > 0


def test_a_stepper_of_another_kind_steps() -> None:
    stepper: Stepper = SteepestDescent()
    assert isinstance(stepper.renewed(), SteepestDescent)
    made = SteepestDescent.made
    done = register(scene(), [_known(_near())], stepper=SteepestDescent, options=QUICK)
    assert SteepestDescent.made > made + 3
    assert error_mm(simulated(), done.ct_to_world) < error_mm(simulated(), _near())
    usual = register(scene(), [_known(_near())], stepper=StretchedGaussNewton, options=QUICK)
    assert (done.ct_to_world != usual.ct_to_world).any()
