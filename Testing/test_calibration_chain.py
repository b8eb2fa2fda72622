"""Views of several fixtures in one world."""

from __future__ import annotations

import numpy as np
import pytest
from bead_scenes import pixels_of, random_camera, two_plates
from scipy.spatial.transform import Rotation
from test_calibration_resection import near

from RadGSRegLib.calibration import Resection, Sighting, Spots, chained
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array, Camera, affine

FIXTURES = {"A": two_plates(1), "B": two_plates(2), "C": two_plates(3)}


def poses() -> dict[str, Array]:
    """Where the fixtures stand in the world of A."""
    out = {"A": np.eye(4)}
    for number, name in enumerate("BC"):
        turn = Rotation.random(random_state=number).as_matrix()
        out[name] = affine(turn, [20.0 + 30 * number, -25.0, 10.0])
    return out


def shown(name: str, fixture: str, camera: Camera, noise_px: float = 0.1) -> tuple[str, Sighting]:
    """A fixture in a view (its camera in the world), with a start in the fixture's frame."""
    pose = poses()[fixture]
    own = Camera(camera.intrinsic, camera.world_to_camera @ pose, *camera.size)
    beads = FIXTURES[fixture]
    seed = sum(map(ord, name + fixture))
    pixels = pixels_of(own, beads.centres_mm)
    pixels = pixels + np.random.default_rng(seed).normal(0, noise_px, pixels.shape)
    spots = Spots(pixels, np.full(14, 6.0), np.ones(14))
    pairs = np.column_stack([np.arange(14)] * 2)
    return fixture, Sighting(name, beads, spots, pairs, near(own, seed))


PLAN = [("1", "A"), ("1", "B"), ("2", "B"), ("2", "C"), ("3", "C"), ("4", "A")]


def cameras() -> dict[str, Camera]:
    return {name: random_camera(int(name)) for name in "1234"}


def test_exact_chains_give_all_cameras_in_one_world() -> None:
    truth = cameras()
    made = chained([shown(view, fixture, truth[view], 0.0) for view, fixture in PLAN])
    assert [view.name for view in made.views] == list("1234")
    for view in made.views:
        assert view.camera.world_to_camera == pytest.approx(
            truth[view.name].world_to_camera, abs=1e-4
        )
        assert view.camera.intrinsic == pytest.approx(truth[view.name].intrinsic, abs=1e-2)
    for name, pose in poses().items():
        assert made.fixture_to_world[name] == pytest.approx(pose, abs=1e-4)
    assert len(made.views[0].pairs) == 28
    assert len(made.views[2].pairs) == 14


def test_doubt_grows_along_the_chain() -> None:
    truth = cameras()
    made = chained([shown(view, fixture, truth[view]) for view, fixture in PLAN])
    far = {v.name: float(np.sqrt(np.trace(v.covariance[3:6, 3:6]))) for v in made.views}
    assert far["3"] > far["1"]
    for view in made.views:
        off = np.linalg.norm(view.camera.source_world - truth[view.name].source_world)
        assert off < 4 * far[view.name]
        assert view.rms_px < 0.3


def test_shared_intrinsics_of_a_chain() -> None:
    truth = {
        name: Camera(random_camera(1).intrinsic, camera.world_to_camera, *camera.size)
        for name, camera in cameras().items()
    }
    made = chained(
        [shown(view, fixture, truth[view]) for view, fixture in PLAN],
        Resection(shared_intrinsics=True),
    )
    assert len({view.camera.focal_px for view in made.views}) == 1
    assert made.views[0].camera.focal_px == pytest.approx(truth["1"].focal_px, rel=3e-3)


def test_views_that_nothing_joins_are_named() -> None:
    truth = cameras()
    plan = [("1", "A"), ("2", "B"), ("3", "B"), ("4", "A")]
    with pytest.raises(InputError, match=r'^2, 3: cannot be put into the world of "A"'):
        chained([shown(view, fixture, truth[view]) for view, fixture in plan])


def test_a_fixture_twice_in_a_view_is_refused() -> None:
    camera = random_camera(1)
    with pytest.raises(InputError, match="twice"):
        chained([shown("1", "A", camera), shown("1", "A", camera)])
    assert chained([]).views == []
