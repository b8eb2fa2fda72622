"""Modes of shape: learned from volumes, kept with a model, bent to X-rays."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import network_scenes as scenes
import numpy as np
import pytest
import torch
from host_reads import counted_host_reads

from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.gaussians import GaussianCloud, rasterize, voxelize
from RadGSRegLib.networks import bend as bend_module
from RadGSRegLib.networks import load_model, save_model, see, start
from RadGSRegLib.networks.anchors import Anchors
from RadGSRegLib.networks.bend import _positions, bend
from RadGSRegLib.networks.crops import make_frame
from RadGSRegLib.networks.model import RadGSReg
from RadGSRegLib.networks.recm import Deformation, Prediction
from RadGSRegLib.networks.settle import FINELY, ROUGHLY, Settled
from RadGSRegLib.networks.shapes import Shapes
from RadGSRegLib.networks.start import _likely
from RadGSRegLib.system import Progress, parallel, preferring
from RadGSRegLib.tensors import without_host_reads
from RadGSRegLib.training.shapes import ShapeOptions, learn_shapes
from RadGSRegLib.training.template import EDGE_MM, SPACING_MM, index_to_box
from RadGSRegLib.views import prepare_view, prepare_views

EDGE = round(EDGE_MM / SPACING_MM)


def anchors(free: bool = False) -> Anchors:
    return Anchors(scenes.lopsided_cloud(), reach_mm=8.0, embedding=2, free=free)


def wide_and_long(anchors: Anchors) -> Shapes:
    """Two modes: wider along x, and longer along z."""
    shapes = Shapes(2, len(anchors))
    shapes.modes[0, :, 0] = anchors.means[:, 0] / 120.0
    shapes.modes[1, :, 2] = anchors.means[:, 2] / 80.0
    return shapes


def decoded(anchors: Anchors, raw: torch.Tensor, pose: torch.Tensor | None = None) -> GaussianCloud:
    poses = (torch.eye(4) if pose is None else pose)[None]
    return anchors.decode(raw, poses, torch.ones(1, 3))[0].detach()


def volume(cloud: GaussianCloud) -> torch.Tensor:
    return voxelize(cloud, index_to_box(SPACING_MM), (EDGE, EDGE, EDGE))


def test_shapes_that_were_not_learned_are_the_anchors():
    raw = Shapes(3, 60).raw(torch.randn(2, 3))
    assert raw.shape == (2, 60, 11)
    assert not raw.any()


def test_the_nearest_shape_is_found_back():
    shapes = wide_and_long(anchors())
    wanted = torch.tensor([1.5, -2.0])
    found = shapes.nearest(shapes.raw(wanted[None])[0, :, :3])
    # The ridge draws it towards the mean.
    assert torch.allclose(found, wanted, rtol=0.4)
    assert (found.abs() < wanted.abs()).all()


@pytest.mark.parametrize("free", [False, True])
def test_a_vertebra_is_bent_and_moved_to_what_the_xrays_show(free):
    body = anchors(free)
    with torch.no_grad():
        body.base += 0.02 * torch.randn(body.base.shape, generator=torch.Generator().manual_seed(2))
    shapes = wide_and_long(body)
    true = decoded(anchors(), shapes.raw(torch.tensor([[1.5, -2.0]])))
    views = [prepare_view(view) for view in scenes.xrays(cloud=true)]
    frame = make_frame([view.camera for view in views], [0.0] * 3, size_px=64, pixel_mm=2.0)
    to_box = torch.from_numpy(np.linalg.inv(frame.box_to_world)).float()
    moved = to_box.clone()
    moved[:3, 3] += torch.tensor([1.5, -1.0, 1.0])
    start = Deformation(moved[None], torch.ones(1, 3), torch.zeros(1, 60, 11))
    start_of = Prediction(start, start, torch.zeros(1))
    found = bend(start_of, body, shapes, frame, views, (1, 1)).prediction
    box_to_world = frame.box_to_world
    after = body.decode(found.effect.raw, found.effect.poses, found.effect.stretch)[0].detach()
    before = body.decode(start.raw, start.poses, start.stretch)[0].detach()

    def error(cloud: GaussianCloud) -> float:
        seen = cloud.transformed(box_to_world).means
        return float((seen - true.means).norm(dim=1).mean())

    assert error(before) > 2.5
    assert error(after) < 0.4
    assert torch.equal(found.factual.poses, start.poses)


def test_what_the_views_do_not_say_stays_as_in_the_population():
    body = anchors()
    shapes = wide_and_long(body)
    views = [prepare_view(view) for view in scenes.xrays()]
    blank = [replace(v, valid=np.zeros_like(v.valid)) for v in views]
    frame = make_frame([view.camera for view in views], [0.0] * 3, size_px=64, pixel_mm=2.0)
    # Stretched along z by a tenth: what RecM says is where the fit begins.
    stretched = Deformation(
        torch.eye(4)[None], torch.tensor([[1.0, 1.0, 1.1]]), torch.zeros(1, 60, 11)
    )
    prediction = Prediction(stretched, stretched, torch.zeros(1))

    def length(views) -> float:
        raw = bend(prediction, body, shapes, frame, views, (1, 1)).prediction.effect.raw
        return float((decoded(body, raw).means[:, 2] / body.means[:, 2]).median())

    begun = float(shapes.nearest(_positions(stretched, body))[1])
    assert begun > 0.5
    # Without anything to be seen, only the prior draws: towards the mean, which is the anchors.
    assert abs(length(blank) - 1.0) < 0.02


def test_a_step_of_bending_reads_no_number(monkeypatch: pytest.MonkeyPatch):
    body = anchors()
    views = [prepare_view(view) for view in scenes.xrays()]
    frame = make_frame([view.camera for view in views], [0.0] * 3, size_px=64, pixel_mm=2.0)
    start = Deformation(torch.eye(4)[None], torch.ones(1, 3), torch.zeros(1, 60, 11))
    prediction = Prediction(start, start, torch.zeros(1))

    def reads(steps: int) -> Counter[str]:
        monkeypatch.setattr(bend_module.bounds, "BEND_STEPS", steps)
        with preferring("torch"), without_host_reads(), counted_host_reads() as heard:
            bend(prediction, body, wide_and_long(body), frame, views, (1, 1))
        return Counter(heard)

    reads(1)
    few, more = reads(2), reads(5)
    # torch's Adam counts its steps on the CPU, for each of the two unknowns.
    assert more - few == Counter(item=3 * 2)


def test_bending_can_be_cancelled():
    body = anchors()
    views = [prepare_view(view) for view in scenes.xrays()]
    frame = make_frame([view.camera for view in views], [0.0] * 3, size_px=64, pixel_mm=2.0)
    start = Deformation(torch.eye(4)[None], torch.ones(1, 3), torch.zeros(1, 60, 11))
    prediction = Prediction(start, start, torch.zeros(1))
    stop = Progress(lambda *told: False)
    with pytest.raises(Cancelled):
        bend(prediction, body, wide_and_long(body), frame, views, (1, 1), stop)


def test_modes_are_learned_that_hold_for_vertebrae_never_seen():
    body = anchors()
    true = wide_and_long(body)
    generator = torch.Generator().manual_seed(5)
    volumes = [
        volume(decoded(body, true.raw(torch.randn(1, 2, generator=generator)))) for _ in range(12)
    ]
    kept = [one.numpy().astype(np.float16) for one in volumes]
    options = ShapeOptions(modes=2, epochs=10)
    learned = learn_shapes(body, kept, options, seed=1)
    unseen = volume(decoded(body, true.raw(torch.tensor([[1.2, -1.0]]))))
    best = _fitted(body, learned, unseen)
    alone = (volume(decoded(body, learned.raw(torch.zeros(1, 2)))) - unseen).square().sum()
    assert best < 0.25 * alone
    # The same seed gives the same modes, bit by bit.
    again = learn_shapes(body, kept, options, seed=1)
    assert torch.equal(again.modes, learned.modes)
    # Most variance first.
    sizes = learned.modes.flatten(1).norm(dim=1)
    assert sizes[0] >= sizes[1] > 0


def _fitted(body: Anchors, shapes: Shapes, target: torch.Tensor) -> float:
    """The least squared difference that a grid of coefficients reaches."""
    steps = torch.linspace(-2.4, 2.4, 7)
    return min(
        float((volume(decoded(body, shapes.raw(torch.tensor([[a, b]])))) - target).square().sum())
        for a in steps
        for b in steps
    )


def test_learning_ends_when_it_is_told_to():
    body = anchors()
    told = iter([False, False, True])
    kept = [volume(body.cloud()).numpy().astype(np.float16)] * 12
    options = ShapeOptions(modes=2, epochs=2)
    assert learn_shapes(body, kept, options, enough=lambda: next(told)) is None
    assert next(told, None) is None


def test_an_empty_volume_and_few_gaussians_are_no_trouble():
    few = scenes.lopsided_cloud(5)
    body = Anchors(few, reach_mm=8.0, embedding=2, free=False)
    kept = [volume(few).numpy().astype(np.float16), np.zeros((EDGE, EDGE, EDGE), np.float16)]
    learned = learn_shapes(body, kept, ShapeOptions(modes=1, epochs=1))
    assert torch.isfinite(learned.modes).all()


def test_too_few_vertebrae_are_refused():
    few = [np.zeros((EDGE, EDGE, EDGE), np.float16)]
    with pytest.raises(InputError, match="1 vertebrae are too few for 2 modes"):
        learn_shapes(anchors(), few, ShapeOptions(modes=2))


@pytest.mark.parametrize("wrong", [{"modes": -1}, {"epochs": 0}, {"rate": 0.0}, {"smooth": -1.0}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(InputError, match="shapes"):
        ShapeOptions(**wrong)


def test_a_model_keeps_its_modes_in_half_precision(tmp_path):
    torch.manual_seed(0)
    model = RadGSReg(scenes.TINY, scenes.lopsided_cloud(300))
    shapes = wide_and_long(model.recm.anchors)
    path = tmp_path / "population.safetensors"
    save_model(path, model.with_shapes(shapes), {})
    again = load_model(path)
    assert again.config.modes == 2
    assert again.shapes is not None
    assert torch.equal(again.shapes.modes, shapes.modes.half().float())
    assert not torch.equal(again.shapes.modes, shapes.modes)
    assert torch.equal(again.shapes.mean, shapes.mean)


def test_bending_works_where_the_networks_are_elsewhere():
    """The model's own tensors stay where they are, and the answer goes where they are."""
    body = anchors().double()
    shapes = wide_and_long(body).double()
    views = [prepare_view(view) for view in scenes.xrays()]
    frame = make_frame([view.camera for view in views], [0.0] * 3, size_px=64, pixel_mm=2.0)
    start = Deformation(
        torch.eye(4).double()[None], torch.ones(1, 3).double(), torch.zeros(1, 60, 11).double()
    )
    prediction = Prediction(start, start, torch.zeros(1))
    found = bend(prediction, body, shapes, frame, views, (1, 1)).prediction
    assert found.effect.raw.dtype == torch.float64
    assert body.means.dtype == torch.float64


def test_a_model_that_knows_shapes_sees_the_one_that_is_there():
    model: RadGSReg = scenes.tiny_model()
    shapes = wide_and_long(model.recm.anchors)
    true = decoded(model.recm.anchors, shapes.raw(torch.tensor([[2.0, -2.0]])))
    views = [replace(view, center_px=(243.5, 243.5)) for view in scenes.xrays(cloud=true)]
    stiff = see(views, model)
    bent = see(views, model.with_shapes(shapes))

    def drawn(cloud: GaussianCloud) -> torch.Tensor:
        camera = views[0].camera
        return rasterize(cloud, camera.intrinsic, camera.world_to_camera, camera.size)

    wanted = drawn(true)
    misses = [float((drawn(seen.cloud_world) - wanted).square().sum()) for seen in (stiff, bent)]
    assert misses[1] < 0.3 * misses[0]
    assert bent.score == stiff.score


def test_there_is_always_a_likeliest_place():
    model = scenes.tiny_model()
    views = [replace(view, center_px=(243.5, 243.5)) for view in scenes.xrays()]
    seen = see(views, model, fit=False)

    def kept(*scores: float) -> list[float]:
        # 30 mm apart, as neighbouring levels are.
        places = [
            replace(seen, score=score, centre_world=seen.centre_world + 30.0 * n)
            for n, score in enumerate(scores)
        ]
        return [one.score for one in _likely(places)]

    assert kept(0.5, 0.1, 0.3) == [0.5, 0.3]
    assert kept(0.1, 0.5, 0.3, 0.15) == [0.5, 0.3, 0.1]
    assert kept(-0.3, -0.1) == [-0.1, -0.3]
    assert kept(0.0) == [0.0]


def test_places_that_come_together_are_one_and_only_close_ones_are_fitted_finely(monkeypatch):
    model = scenes.tiny_model()
    views = scenes.xrays()
    ends = iter([(0.0, 0.5), (1.0, 0.45), (30.0, 0.44), (60.0, 0.3)])
    asked = []

    def settled(cloud, centre, views, signs, report, stages):
        (stage,) = stages
        asked.append(stage)
        step = np.eye(4)
        if stage == ROUGHLY:
            place, score = next(ends)
            step[:3, 3] = np.array([place, 0.0, 0.0]) - centre
            return Settled(step, score)
        # Finely, the second place agrees better than the first.
        return Settled(step, 0.2 + 0.005 * float(centre[0]))

    monkeypatch.setattr(start, "settle", settled)
    monkeypatch.setattr(start.bounds, "PLACES", 4)
    monkeypatch.setattr(start.bounds, "APART_MM", 0.0)
    monkeypatch.setattr(parallel, "core_count", lambda: 1)
    found = start._places(views, prepare_views(views), model, None, Progress(), fit=True)
    assert asked == [ROUGHLY] * 4 + [FINELY] * 2
    assert [one.centre_world[0] for one in found] == pytest.approx([30.0, 0.0, 60.0])
    # Where nothing agrees at all, the best is fitted finely all the same.
    ends, asked = iter([(0.0, -0.1), (30.0, -0.3), (60.0, -0.2), (90.0, -0.4)]), []
    start._places(views, prepare_views(views), model, None, Progress(), fit=True)
    assert asked == [ROUGHLY] * 4 + [FINELY]
