"""A longer spine seen from further off, which looks nearly the same.

How far all cameras stand is told only by how large each vertebra looks: the least certain of all
that is refined, and what refinement is slowest in.
"""

from __future__ import annotations

import numpy as np

from ..geometry import translation
from ..multilevel import Setup, Shown, Unknowns


def stretched(
    unknowns: Unknowns, shown: Shown, setup: Setup, share: float, held: int | None = None
) -> Setup:
    """Return the setup longer by a share: centres and sources further from a point by that share,
    so that all centres are shown where they were.

    The point is the middle of the targets, or the source of the view that is ``held``.
    """
    centres_world = np.array(
        [
            pose[:3, :3] @ piece.centre_ct + pose[:3, 3]
            for pose, piece in zip(setup.ct_to_world, unknowns.pieces, strict=True)
        ]
    )
    views = setup.views(shown.views)
    middle_world = centres_world[: len(unknowns.targets)].mean(axis=0)
    if held is not None:
        middle_world = views[held].camera.source_world
    poses = setup.ct_to_world.copy()
    poses[:, :3, 3] += share * (centres_world - middle_world)
    cameras = [
        # The world moved towards the middle is the camera moved away from it.
        shift @ translation(share * (middle_world - view.camera.source_world))
        for view, shift in zip(views, setup.world_to_nominal, strict=True)
    ]
    return Setup(np.array(cameras), poses)
