"""A predicted vertebra moved as one piece to where the X-rays agree best with it.

The network says where a vertebra is to a few millimetres, at the two millimetres per pixel that it
sees. Its Gaussians are then what any vertebra is to the registration's refinement: a body that is
rendered and compared with the X-rays themselves. No CT is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..gaussians import GaussianCloud, coarsen
from ..reconstruction.box import box_of_cloud
from ..registration.anatomy import Anatomy, Body
from ..registration.model import Arrangement, BodyClouds, RenderModel
from ..registration.refine import RefineOptions
from ..registration.register import Job, Level
from ..system.progress import Progress
from ..views.prepare import PreparedView

Array = NDArray[np.float64]

_GAUSSIANS = 1500
_VOXEL_MM = 3.0

# With every pixel's residual counted in full, and where there is hardly any contrast too, five
# millimetres and ten degrees are found back far more often.
ROUGHLY = Level(
    2.0,
    1.0,
    RefineOptions(iterations=8, robust_scale=10.0, contrast_floor=0.5, margin_mm=0.0, fine=True),
    background=False,
    rounds=2,
)
FINELY = Level(
    1.0,
    0.9,
    RefineOptions(fine=True, iterations=8, neighbourhoods_mm=(6.0,)),
    background=False,
    rounds=2,
)


@dataclass(frozen=True)
class Settled:
    """``step_world`` (4, 4) moves the predicted Gaussians, world mm, to where they agree best;
    ``score``: how well, at most 1."""

    step_world: Array
    score: float


def settle(
    cloud_world: GaussianCloud,
    centre_world: Array,
    views: Sequence[PreparedView],
    signs: tuple[int, ...],
    progress: Progress | None = None,
    levels: Sequence[Level] = (ROUGHLY, FINELY),
) -> Settled:
    """Move a cloud (world mm, turning about ``centre_world``) rigidly to fit the views.

    To be called within `system.one_torch_thread`, as all that a registration computes.
    ``signs``: +1 per view where bone is bright, else -1; ``levels``: one after the other. Raises
    Cancelled when ``progress`` says so.
    """
    report = progress or Progress()
    job = Job(_as_model(cloud_world, centre_world), list(views))
    arrangement = Arrangement.as_in_ct(np.eye(4), job.model)
    score = 0.0
    for n, level in enumerate(levels):
        part = report.part(n / len(levels), (n + 1) / len(levels))
        found = job.refine(level, arrangement, signs, part).refined
        arrangement, score = found.arrangement, found.score
    return Settled(arrangement.ct_to_world, score)


def _as_model(cloud_world: GaussianCloud, centre_world: Array) -> RenderModel:
    """The cloud as the only body there is; its "CT frame" is the world at the predicted pose."""
    still = cloud_world.detach().to("cpu")
    volume = box_of_cloud(still, _VOXEL_MM).voxelize(still)
    array = np.asarray(volume.array)
    occupied = np.argwhere(array > 0.1 * array.max())
    points = volume.physical_points(occupied[:, ::-1].astype(float))
    body = Body("vertebra", volume, np.asarray(centre_world, dtype=float))
    few = coarsen(still, _GAUSSIANS)
    clouds = BodyClouds(body.name, body.centre_ct, few, few)
    return RenderModel(Anatomy(body, (), points), clouds, (), None)
