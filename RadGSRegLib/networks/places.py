"""Where in space a vertebra may be, from what each view says about where its centre projects."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..geometry import Array, invert_rigid, transform_points
from ..views import PreparedView
from . import bounds
from .anchors import project
from .detector import MULTIPLE, Detector, DetectorConfig, look, sample_map
from .views import crop_prepared


@dataclass(frozen=True)
class Sighting:
    """What a detector sees.

    ``logs`` (V, h, w): the logarithm of the distribution over each view's picture, whose cameras
    are ``intrinsics`` (V, 3, 3) and ``extrinsics`` (V, 4, 4) box_to_camera, and which is
    ``size_px`` wide and high, with pixels of ``pixel_mm`` at the box's middle. ``box_to_world``
    (4, 4). ``near_world``: the point (3,) mm that the vertebra is known to be roughly near (None:
    nothing is known).
    """

    logs: Tensor
    intrinsics: Tensor
    extrinsics: Tensor
    size_px: int
    pixel_mm: float
    box_to_world: Array
    near_world: Array | None = None

    def scores(self, points_box: Tensor) -> Tensor:
        """Score places (P, 3) in the frame's box: the mean over the views of the
        logarithm there, less what a rough start holds against them. -inf where a view's picture
        ends."""
        pixels = project(points_box[None], self.intrinsics[None], self.extrinsics[None])[0]
        score = sample_map(self.logs, pixels, self.size_px).mean(0)
        inside = ((pixels > -0.5) & (pixels < self.size_px - 0.5)).all(-1).all(0)
        if self.near_world is not None:
            near = transform_points(invert_rigid(self.box_to_world), self.near_world[None])
            away = points_box - torch.from_numpy(near).to(points_box)
            score = score - 0.5 * (away / bounds.NEAR_MM).square().sum(-1)
        return torch.where(inside, score, -torch.inf)

    def score_at(self, point_world: Array) -> float:
        """`scores` of one point (3,) in the world."""
        point = transform_points(invert_rigid(self.box_to_world), point_world[None])
        return float(self.scores(torch.from_numpy(point).float())[0])

    def places(self, count: int) -> tuple[Array, Array]:
        """Return the ``count`` likeliest points (K, 3) mm in the world, `bounds.APART_MM` or more
        from each other, and their scores (K,), the best first; fewer where there are no more."""
        steps = int(0.5 * self.size_px * self.pixel_mm / bounds.GRID_MM)
        axis = torch.arange(-steps, steps + 1) * bounds.GRID_MM
        grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
        score = self.scores(grid.reshape(-1, 3)).view(grid.shape[:3])
        around = functional.max_pool3d(score[None, None], 3, stride=1, padding=1)[0, 0]
        peaks = torch.argwhere((score >= around) & score.isfinite())
        order = score[tuple(peaks.T)].argsort(descending=True, stable=True)
        points: list[Array] = []
        values: list[float] = []
        for index in peaks[order].tolist():
            if len(points) == count:
                break
            point, value = _refined(score, index, axis)
            if all(np.linalg.norm(point - other) >= bounds.APART_MM for other in points):
                points.append(point)
                values.append(value)
        rank = np.argsort(-np.array(values), kind="stable")
        world = transform_points(self.box_to_world, np.array(points).reshape(-1, 3))
        return world[rank], np.array(values)[rank]


def _refined(score: Tensor, index: Sequence[int], axis: Tensor) -> tuple[Array, float]:
    """Place a peak between grid points: the maximum of the quadratic through its 26 neighbours."""
    place = np.asarray(index)
    point = axis[place].double().numpy()
    value = float(score[tuple(place)])
    if (place < 1).any() or (place > len(axis) - 2).any():
        return point, value
    low = place - 1
    part = score[tuple(slice(n, n + 3) for n in low)].double().numpy().ravel()
    if not np.isfinite(part).all():
        return point, value
    coefficients = _FIT @ part
    gradient = coefficients[1:4]
    xx, yy, zz, xy, xz, yz = coefficients[4:]
    hessian = np.array([[2 * xx, xy, xz], [xy, 2 * yy, yz], [xz, yz, 2 * zz]])
    if np.linalg.eigvalsh(hessian).max() > -1e-6:
        return point, value
    step = np.clip(np.linalg.solve(hessian, -gradient), -1.0, 1.0)
    return point + bounds.GRID_MM * step, max(value, float(_basis(step[None])[0] @ coefficients))


def _basis(x: Array) -> Array:
    """Return the monomials (N, 10) up to degree two of points (N, 3)."""
    a, b, c = x.T
    return np.stack([np.ones(len(x)), a, b, c, a * a, b * b, c * c, a * b, a * c, b * c], axis=1)


_AROUND = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=3)))
_FIT = np.linalg.pinv(_basis(_AROUND))


def sight(
    views: Sequence[PreparedView],
    detector: Detector,
    centre_world: Array,
    reference: Array | None = None,
    near_world: Array | None = None,
) -> Sighting:
    """Look with a detector at X-rays about ``centre_world`` (3,) mm; see `crops.make_frame`.

    Raises ValueError for views that are parallel or look along the spine.
    """
    config = detector.config
    size = picture_px(views, centre_world, config)
    batch, (frame,) = crop_prepared(
        views,
        [centre_world],
        reference,
        size_px=size,
        pixel_mm=config.pixel_mm,
        device=next(detector.parameters()).device,
    )
    return Sighting(
        look(detector, batch.pictures[0], batch.valid[0], batch.extrinsics[0]),
        batch.intrinsics[0].cpu(),
        batch.extrinsics[0].cpu(),
        size,
        config.pixel_mm,
        frame.box_to_world,
        near_world,
    )


def picture_px(views: Sequence[PreparedView], centre_world: Array, config: DetectorConfig) -> int:
    """Return how many pixels show all of the widest view: the configured size up to twice that."""
    widest = 0.0
    for view in views:
        camera = view.camera
        depth = float(transform_points(camera.world_to_camera, centre_world[None])[0, 2])
        widest = max(widest, max(camera.size) * abs(depth / camera.intrinsic[0, 0]))
    blocks = int(np.ceil(widest / config.pixel_mm / MULTIPLE))
    return int(np.clip(MULTIPLE * blocks, config.size_px, 2 * config.size_px))
