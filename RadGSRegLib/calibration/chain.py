"""Views of several fixtures in one world, chained by the views that show two of them.

All views of one fixture are in its frame by construction. A fixture that is put elsewhere between
pictures, or that moves with the detector, counts as another one each time it stands elsewhere: give
it another name there. Whatever two fixtures are in one picture, with the same camera, joins them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..geometry import Array, Camera, affine, invert_rigid, orthonormalize
from .bundle import Problem
from .resection import (
    Resection,
    Sighting,
    block_of,
    calibrated_view,
    refuse_few,
    start_state,
    together,
)
from .types import Calibrated


@dataclass(frozen=True)
class Chained:
    """Views in the world of the first fixture.

    ``views``: one each, in the order of their first sightings; the pairs and residuals of a view
    are those of its sightings, one after the other. ``fixture_to_world``: (4, 4) of each fixture.
    """

    views: list[Calibrated]
    fixture_to_world: dict[str, Array]


def chained(sightings: Sequence[tuple[str, Sighting]], options: Resection | None = None) -> Chained:
    """Calibrate the cameras of all views in the world of the first fixture.

    From the first fixture outwards each view and each fixture is placed by the sightings that join
    them; then all are refined together, the poses of the fixtures too.

    Args:
        sightings: (fixture's name, sighting): each fixture's beads in each view that shows them,
            with a start in the fixture's own frame.
        options: as of `resect`; the fixtures' own starts need no more.

    Returns:
        The views and where the fixtures are.

    Raises:
        InputError: naming the views that nothing joins to the first fixture, or where the pairs do
            not fix what they should.
    """
    options = options or Resection()
    if not sightings:
        return Chained([], {})
    fixtures = list(dict.fromkeys(name for name, _ in sightings))
    views = list(dict.fromkeys(sighting.view for _, sighting in sightings))
    if len({(name, s.view) for name, s in sightings}) < len(sightings):
        raise InputError(sightings[0][1].view, "or another view gives a fixture's spots twice")
    refuse_few([sighting for _, sighting in sightings], options)
    cameras, poses = _tree(sightings, fixtures, views)
    blocks = [
        block_of(s, views.index(s.view), fixtures.index(name), s.bent_by(options))
        for name, s in sightings
    ]
    start = start_state(views, cameras, np.stack(poses), options)
    try:
        solved = Problem(blocks, options.prior, options.sphere_shift).refined(start)
    except (ValueError, np.linalg.LinAlgError) as error:
        raise InputError(", ".join(views), f"cannot be calibrated together: {error}") from error
    out = []
    for number, view in enumerate(views):
        own = [b for b, (_, s) in enumerate(sightings) if s.view == view]
        shown = [sightings[b][1] for b in own]
        out.append(calibrated_view(solved, number, shown, own, shown[0].bent_by(options)))
    return Chained(together(solved, out), dict(zip(fixtures, solved.state.fixtures, strict=True)))


def _tree(
    sightings: Sequence[tuple[str, Sighting]], fixtures: list[str], views: list[str]
) -> tuple[list[Camera], list[Array]]:
    """Each view's camera in the world and each fixture's pose, along the shortest chains.

    Where several sightings could place the next one, the one with most pairs does. Raises
    InputError for views that no chain reaches.
    """
    poses: dict[str, Array] = {fixtures[0]: np.eye(4)}
    cameras: dict[str, Camera] = {}
    ordered = sorted(sightings, key=lambda item: -len(item[1].pairs))
    queue: deque[tuple[bool, str]] = deque([(True, fixtures[0])])
    while queue:
        is_fixture, name = queue.popleft()
        for fixture, sighting in ordered:
            own = sighting.camera
            if is_fixture and fixture == name and sighting.view not in cameras:
                world_to_camera = own.world_to_camera @ invert_rigid(poses[fixture])
                cameras[sighting.view] = Camera(own.intrinsic, world_to_camera, *own.size)
                queue.append((False, sighting.view))
            if not is_fixture and sighting.view == name and fixture not in poses:
                moved = invert_rigid(cameras[name].world_to_camera) @ own.world_to_camera
                poses[fixture] = orthonormalize(affine(moved[:3, :3], moved[:3, 3]))
                queue.append((True, fixture))
    apart = [view for view in views if view not in cameras]
    if apart:
        raise InputError(
            ", ".join(apart),
            f'cannot be put into the world of "{fixtures[0]}": no picture shows a fixture of '
            "theirs together with one that is joined to it",
            "take a picture that shows both",
        )
    return [cameras[view] for view in views], [poses[name] for name in fixtures]
