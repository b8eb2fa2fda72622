"""A pose that something else goes on from, with less of what only judges it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..cases import Case
from ..geometry import Array
from ..system import Progress
from ..views import ViewFilter
from .of_case import case_alternatives, case_proposers
from .options import RegistrationOptions
from .register import register
from .scale import fitted, scaled
from .scene import scene_of


def unjudged_pose(
    case: Case,
    start_ct_to_world: ArrayLike | None,
    given: RegistrationOptions,
    progress: Progress,
    filters: Sequence[ViewFilter],
    device: torch.device | str,
) -> Array:
    """Return the pose (4, 4) that a registration of the case has, without trying what else may be
    the case where that only judges it.

    Raises as `register_case` does.
    """
    options = scaled(fitted(given, case))
    scene = scene_of(case, options, filters, device)
    if start_ct_to_world is not None:
        scene = replace(scene, start_ct_to_world=np.array(start_ct_to_world, dtype=float))
    asked = case_proposers(case, start_ct_to_world, options)
    # What else may be the case decides only whether a first one of several proposers is enough.
    choosing = len(asked) > 1
    others = case_alternatives(case, start_ct_to_world, scene, options, asked) if choosing else ()
    done = register(scene, asked, alternatives=others, options=options, progress=progress)
    return done.ct_to_world
