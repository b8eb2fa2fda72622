"""A predicted vertebra moved as one piece to where the X-rays agree best with it.

The network says where a vertebra is to a few millimetres, at the two millimetres per pixel that it
sees. Its Gaussians are then what any vertebra is to the registration's refinement: a body that is
rendered and compared with the X-rays themselves. No CT is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..gaussians import GaussianCloud
from ..geometry import Array
from ..reconstruction import box_of_cloud
from ..registration import (
    LocallyNormalized,
    RefineOptions,
    Refiner,
    RigidBodies,
    Scene,
    Stage,
    StretchedGaussNewton,
    single_body,
)
from ..system import Progress
from ..views import PreparedView
from . import bounds

_GAUSSIANS = 1500

# With every pixel's residual counted in full, and where there is hardly any contrast too, five
# millimetres and ten degrees are found back far more often.
ROUGHLY = Stage(
    2.0,
    1.0,
    RefineOptions(iterations=8, robust_scale=10.0, contrast_floor=0.5, margin_mm=0.0, fine=True),
    background=False,
    rounds=2,
)
FINELY = Stage(
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
    stages: Sequence[Stage] = (ROUGHLY, FINELY),
) -> Settled:
    """Move a cloud (world mm, turning about ``centre_world``) rigidly to fit the views.

    To be called within `system.one_torch_thread`, as all that a registration computes.
    ``signs``: +1 per view where bone is bright, else -1; ``stages``: one after the other. Raises
    Cancelled when ``progress`` says so.
    """
    report = progress or Progress()
    bodies = _body(cloud_world, centre_world)
    refiner = Refiner(Scene(bodies, tuple(views)), LocallyNormalized(), StretchedGaussNewton)
    arrangement = bodies.as_in_ct(np.eye(4))
    score = 0.0
    for n, stage in enumerate(stages):
        part = report.part(n / len(stages), (n + 1) / len(stages))
        (refined,) = refiner.refine_arrangements(stage, [arrangement], [signs], part)
        arrangement, score = refined.arrangement, refined.score
    return Settled(arrangement.ct_to_world, score)


def _body(cloud_world: GaussianCloud, centre_world: Array) -> RigidBodies:
    """The cloud as the only body there is, in the frame of the world at the predicted pose."""
    still = cloud_world.detach()
    volume = box_of_cloud(still, bounds.VOXEL_MM).voxelize(still)
    array = np.asarray(volume.array)
    occupied = np.argwhere(array > bounds.OCCUPIED_SHARE * array.max())
    points = volume.physical_points(occupied[:, ::-1].astype(float))
    return single_body(still, centre_world, points, _GAUSSIANS)
