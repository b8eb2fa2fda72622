"""A longer spine seen from further off, which looks nearly the same.

How far all cameras stand is told only by how large each vertebra looks: the least certain of all
that is refined, and what refinement is slowest in.
"""

from __future__ import annotations

import numpy as np

from ..geometry import translation
from .equations import Shown
from .unknowns import Setup, Unknowns


def stretched(unknowns: Unknowns, shown: Shown, setup: Setup, share: float) -> Setup:
    """Return the setup with all centres further from each other by a share, and all cameras that
    are not held further from them by the same share, so that centres are shown where they were."""
    centres = np.array(
        [
            pose[:3, :3] @ piece.centre_ct + pose[:3, 3]
            for pose, piece in zip(setup.ct_to_world, unknowns.pieces, strict=True)
        ]
    )
    middle = centres[: len(unknowns.targets)].mean(axis=0)
    poses = setup.ct_to_world.copy()
    poses[:, :3, 3] += share * (centres - middle)
    cameras = []
    for view, shift in zip(setup.views(shown.views), setup.world_to_nominal, strict=True):
        beam_world = middle - view.camera.source_world
        # The world further down the beam is the camera further up.
        cameras.append(shift @ translation(share * beam_world))
    return Setup(np.array(cameras), poses)
