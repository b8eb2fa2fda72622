"""A guest through each of registration's doors: none of them needs an edit of the library."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
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

from RadGSRegLib import tensors
from RadGSRegLib.drr import Voxels, project_pictures, project_pictures_with_jacobian
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Volume, affine, compose_about
from RadGSRegLib.registration import (
    Arrangement,
    Arrangements,
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
from RadGSRegLib.registration.background import RenderedBackground
from RadGSRegLib.registration.bodies import BodySource
from RadGSRegLib.registration.options import Fidelity
from RadGSRegLib.registration.proposers import Alternative, Proposer
from RadGSRegLib.registration.residual import Residual
from RadGSRegLib.registration.steps import Stepper
from RadGSRegLib.system import Progress
from RadGSRegLib.views import Windows

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
    device = property(lambda self: torch.device("cpu"))

    @property
    def centre(self) -> torch.Tensor:
        return torch.from_numpy(self.centre_ct)

    def as_in_ct(self, ct_to_world: Array) -> Arrangement:
        return Arrangement(ct_to_world, ())

    def moved(self, arrangements: Arrangements, steps: torch.Tensor) -> Arrangements:
        moved = tensors.compose_about(arrangements.ct_to_world, steps[:, :6], self.centre)
        return replace(arrangements, ct_to_world=moved)

    def step_mm(self, steps: torch.Tensor) -> torch.Tensor:
        return self.radius_mm * steps[:, :3].norm(dim=1) + steps[:, 3:6].norm(dim=1)

    def pictures(
        self,
        lenses: tensors.Lenses,
        ct_to_camera: torch.Tensor,
        fidelity: Fidelity,
        arrangements: Arrangements | None = None,
    ) -> torch.Tensor:
        excess = bodies().target_excess
        assert excess is not None
        return project_pictures(Voxels.of(excess), lenses, ct_to_camera)[:, None]

    def drawing(
        self,
        windows: Windows,
        background: RenderedBackground | None,
        arrangements: Arrangements,
        options: RefineOptions,
    ) -> Drawing:
        excess = bodies().target_excess
        assert excess is not None
        to_camera = windows.world_to_camera @ arrangements.ct_to_world
        image, slopes = project_pictures_with_jacobian(
            Voxels.of(excess), windows.lenses, to_camera, self.centre
        )
        motions = torch.eye(6, dtype=torch.float64).expand(len(image), 6, 6)
        return Drawing(image, image, torch.zeros_like(image), slopes, motions)

    def prior(self, arrangements: Arrangements, options: RefineOptions) -> Prior | None:
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


class OneShapeMode(OnlyVoxels):
    """A mean vertebra, a tenth smaller than the patient's, with its size among the unknowns."""

    mean = 0.9
    _step = 0.01

    def as_in_ct(self, ct_to_world: Array) -> Arrangement:
        return Arrangement(ct_to_world, (), np.ones(1))

    def moved(self, arrangements: Arrangements, steps: torch.Tensor) -> Arrangements:
        moved = super().moved(arrangements, steps)
        return replace(moved, further=arrangements.further + steps[:, 6:].sum(1, keepdim=True))

    def step_mm(self, steps: torch.Tensor) -> torch.Tensor:
        return super().step_mm(steps) + self.radius_mm * steps[:, 6:].sum(1).abs()

    def _sized(self, scale: float) -> Voxels:
        excess, factor = bodies().target_excess, self.mean * scale
        assert excess is not None
        sized = affine(factor * np.eye(3), (1 - factor) * self.centre_ct)
        return Voxels.of(Volume(excess.array, sized @ excess.index_to_physical))

    def drawing(
        self,
        windows: Windows,
        background: RenderedBackground | None,
        arrangements: Arrangements,
        options: RefineOptions,
    ) -> Drawing:
        images, slopes = [], []
        to_camera = windows.world_to_camera @ arrangements.ct_to_world
        for n, scale in enumerate(arrangements.further[:, 0].tolist()):
            index = torch.tensor([n])
            place = windows.lenses.part(index), to_camera[index]
            image, slope = project_pictures_with_jacobian(self._sized(scale), *place, self.centre)
            larger = project_pictures(self._sized(scale + self._step), *place)
            images.append(image)
            slopes.append(torch.cat([slope, (larger - image)[:, None] / self._step], 1))
        image = torch.cat(images)
        motions = torch.eye(7, dtype=torch.float64).expand(len(image), 7, 7)
        return Drawing(image, image, torch.zeros_like(image), torch.cat(slopes), motions)

    def prior(self, arrangements: Arrangements, options: RefineOptions) -> Prior | None:
        # A standard deviation of a tenth, as weak as the neighbours' prior.
        precision, off = 2e-4 / 0.1**2, arrangements.further - 1.0
        only = torch.eye(7, dtype=torch.float64)[6]
        cost = precision * off[:, 0] ** 2
        return Prior(cost, -precision * off * only, torch.diag(precision * only))


def test_a_shape_mode_is_fitted_with_the_pose() -> None:
    modes: BodySource = OneShapeMode()
    done = register(Scene(modes, scene().views), [_known(_near())], options=QUICK)
    assert done.arrangement is not None
    assert done.arrangement.further[0] == pytest.approx(1.0 / OneShapeMode.mean, abs=0.02)
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

    def prepare(
        self, windows: Windows, signs: torch.Tensor, options: RefineOptions
    ) -> tuple[Any, ...]:
        image = signs[:, None, None] * windows.image
        mean, deviation = image.mean((1, 2), keepdim=True), image.std((1, 2), keepdim=True)
        return ((image - mean) / deviation,)

    def part(self, term: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return term[index]

    def compare(
        self,
        term: torch.Tensor,
        images: torch.Tensor,
        weight: torch.Tensor,
        options: RefineOptions,
    ) -> Comparison:
        scale = images.std((-2, -1), keepdim=True) + 1e-6
        rendered = (images - images.mean((-2, -1), keepdim=True)) / scale

        def centred(x: torch.Tensor) -> torch.Tensor:
            return (x - x.mean((-2, -1), keepdim=True)) / scale

        both = (weight * term * rendered).sum((-2, -1))
        size = (weight * term**2).sum((-2, -1)) * (weight * rendered**2).sum((-2, -1))
        score = both / size.sqrt().clamp_min(1e-9)
        return Comparison(term - rendered, weight, score, centred, centred)


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

    def __init__(self, length: torch.Tensor | float = 0.5) -> None:
        self.length = length
        type(self).made += 1

    def renewed(self) -> SteepestDescent:
        return SteepestDescent(self.length)

    def part(self, index: torch.Tensor) -> SteepestDescent:
        assert isinstance(self.length, torch.Tensor)
        return SteepestDescent(self.length[index])

    def step(self, gradient: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        self.length = self.length * torch.ones_like(gradient[:, :1])
        diagonal = matrix.diagonal(dim1=1, dim2=2)
        return self.length * gradient / diagonal.clamp_min(1e-12)

    def learn(
        self,
        step: torch.Tensor,
        fall: torch.Tensor,
        before: torch.Tensor,
        after: torch.Tensor,
        among: torch.Tensor,
    ) -> torch.Tensor:
        change = torch.where(among, torch.where(fall > 0, 1.2, 0.3), 1.0)
        self.length = self.length * change[:, None]
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
