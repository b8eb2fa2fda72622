"""The coarse search: which rotation, and where, around a pose.

For each rotation on a grid the whole spine is rendered coarsely in each view and correlated with
the X-ray over all shifts at once. The correlation maps of the views are then read along a
grid of positions in space, so that only shifts on which the views agree count.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from scipy.fft import next_fast_len
from scipy.spatial.transform import Rotation
from torch import Tensor

from ...geometry import Array, translation
from ...system import Progress, side_by_side_reporting
from ...views import PreparedView, sign_choices, window
from ..bodies import BodySource
from ..bounds import TEMPLATE_FLOOR, TEMPLATE_SHARE, VISIBLE_SHARE
from ..options import RefineOptions, SearchOptions
from ..residual import LocallyNormalized
from ..scene import Scene
from ..windows import StageView
from .types import Candidate

# So many poses at a time, then one may cancel.
_POSES = 32


def rotation_grid(range_deg: float, step_deg: float) -> list[Array]:
    """Return rotations (3, 3) whose rotation vectors fill a cube of +- ``range_deg`` in steps."""
    steps = int(np.ceil(range_deg / step_deg))
    axis = np.linspace(-range_deg, range_deg, 2 * steps + 1) if steps else np.zeros(1)
    vectors = np.radians(list(itertools.product(axis, repeat=3)))
    return [Rotation.from_rotvec(v).as_matrix() for v in vectors]


def search(
    scene: Scene,
    reference_ct_to_world: Array,
    options: SearchOptions,
    progress: Progress | None = None,
) -> list[Candidate]:
    """Return candidates around a reference pose (4, 4), best first.

    The reference fixes the centre of both grids: rotations are applied before its own, about the
    target's centre; positions are searched around where it puts that centre.
    """
    report = progress or Progress()
    centre_ct = scene.bodies.centre_ct
    centre_world = scene.centre_world(reference_ct_to_world)
    half = scene.bodies.radius_mm + options.translation_range_mm
    stage = RefineOptions(neighbourhoods_mm=(options.neighbourhood_mm,))
    views = []
    for prepared in scene.views:
        part = window(prepared, centre_world, half, options.pixel_mm, options.blur_mm)
        terms = LocallyNormalized().prepare(part, 1, stage)
        views.append(StageView(part, part.camera.world_to_camera, terms))
    rotations = rotation_grid(options.rotation_range_deg, options.rotation_step_deg)
    poses = []
    for rotation in rotations:
        pose = np.eye(4)
        pose[:3, :3] = rotation @ reference_ct_to_world[:3, :3]
        pose[:3, 3] = centre_world - pose[:3, :3] @ centre_ct
        poses.append(pose)
    offsets_world = _offset_grid(options)
    shifts_px = [
        view.window.camera.project(centre_world + offsets_world)
        - view.window.camera.project(centre_world[None])
        for view in views
    ]
    searched = [
        Searched(view, of_view_px, options.neighbour_weight)
        for view, of_view_px in zip(views, shifts_px, strict=True)
    ]
    groups = [poses[first : first + _POSES] for first in range(0, len(poses), _POSES)]
    message = "searching rotations and positions"
    report(0.0, message)

    def of_group(group: list[Array], part: Progress) -> list[Candidate]:
        sampled = []
        for n, view in enumerate(searched):
            part(n / len(searched), message)
            sampled.append(view.correlations(scene.bodies, group))
        best = _agreeing_positions(sampled, offsets_world, scene.views, options)
        return [
            Candidate(translation(offset) @ group[pose], score, signs)
            for pose, score, offset, signs in best
        ]

    candidates = list(itertools.chain(*side_by_side_reporting(of_group, groups, report, message)))
    report(1.0, message)
    candidates.sort(key=lambda c: -c.score)
    return candidates


def _offset_grid(options: SearchOptions) -> Array:
    steps = int(np.ceil(options.translation_range_mm / options.translation_step_mm))
    axis = np.linspace(-options.translation_range_mm, options.translation_range_mm, 2 * steps + 1)
    return np.array(list(itertools.product(axis, repeat=3)))


class Searched:
    """A view, ready for templates to be shifted over it by ``shifts_px`` (M, 2) = (column, row)."""

    def __init__(self, view: StageView, shifts_px: Array, neighbour_weight: float) -> None:
        self._view, self._shifts_px, self._neighbour_weight = view, shifts_px, neighbour_weight
        valid, (term, *_) = view.window.valid, view.terms
        # The template's own neighbourhoods are never masked: the mask belongs to the X-ray.
        sigma_px = term.normalizer.sigma_px
        self._free = type(term.normalizer)(torch.ones_like(valid), sigma_px)
        # Room for the largest shift, and for the pixel after it.
        reach = int(np.ceil(np.abs(shifts_px).max(initial=0.0))) + 2
        self._size = [next_fast_len(n + min(reach, n), real=True) for n in valid.shape]
        pictures = torch.stack([valid * term.observed, valid * term.observed**2, valid])
        self._pictures = torch.fft.rfft2(pictures, s=self._size)

    def correlations(self, bodies: BodySource, poses: Sequence[Array]) -> Tensor:
        """Return the local normalised correlation (poses, M) of the bodies at poses, shifted."""
        camera = self._view.window.camera
        ct_to_camera = self._view.world_to_camera @ np.stack(poses)
        intrinsics = [camera.intrinsic] * len(poses)
        pictures = bodies.pictures(intrinsics, ct_to_camera, camera.size, "coarse")
        target, image = pictures[:, 0], pictures.sum(1)
        contrast = self._free.contrast(image)
        floor = TEMPLATE_FLOOR * contrast.deviation.amax(dim=(1, 2), keepdim=True) + 1e-9
        visible = VISIBLE_SHARE * target.amax(dim=(1, 2), keepdim=True)
        weight = (target > visible).float()
        if self._neighbour_weight > 0.0:
            others = (image - target > visible).float()
            weight = torch.maximum(weight, self._neighbour_weight * others)
        template = weight * contrast.normalized(floor).image
        square = template * template
        cross, energy, own = (
            self._products(images, picture)
            for images, picture in zip((template, weight, square), self._pictures, strict=True)
        )
        full = square.sum(dim=(1, 2), keepdim=True)
        inside = (own / full.clamp_min(1e-9)).clamp(0.0, 1.0)
        # A template mostly outside the valid picture proves nothing.
        trust = (inside - TEMPLATE_SHARE).clamp_min(0.0) / (1.0 - TEMPLATE_SHARE)
        maps = cross / (energy.clamp_min(1e-6) * own.clamp_min(1e-6)).sqrt() * trust.sqrt()
        return _sample_wrapped(maps, self._shifts_px)

    def _products(self, images: Tensor, picture: Tensor) -> Tensor:
        """Return the sums of products of images with a transformed picture at each shift; shifts
        up and left wrap."""
        transformed = torch.fft.rfft2(images, s=self._size).conj() * picture
        wrapped: Tensor = torch.fft.irfft2(transformed, s=self._size)
        return wrapped


def _agreeing_positions(
    sampled: list[Tensor],
    offsets_world: Array,
    views: Sequence[PreparedView],
    options: SearchOptions,
) -> list[tuple[int, float, Array, tuple[int, ...]]]:
    """(pose's index, score, offset, signs) of the best positions for each pose.

    From each view's correlations (poses, M) at ``offsets_world`` (M, 3) mm. Positions of one pose
    are at least ``apart_mm`` from each other; views of unknown polarity take the signs that score
    best.
    """
    choices = sign_choices(views)
    totals = torch.stack(
        [
            sum((s * part for s, part in zip(signs, sampled, strict=True)), torch.zeros(()))
            for signs in choices
        ]
    ) / len(views)
    total, chosen = totals.max(dim=0)
    places = torch.from_numpy(offsets_world.astype(np.float32))
    positions = []
    for pose in range(len(total)):
        left = total[pose].clone()
        for _ in range(options.positions_per_rotation):
            index = int(left.argmax())
            score = float(left[index])
            if score <= 0.0:
                break
            positions.append((pose, score, offsets_world[index], choices[int(chosen[pose, index])]))
            left[(places - places[index]).square().sum(1) < options.apart_mm**2] = -1.0
    return positions


def _sample_wrapped(maps: Tensor, shift: Array) -> Tensor:
    """Bilinear values (poses, M) of maps whose shifts wrap, at shifts (M, 2) = (column, row)."""
    rows, columns = maps.shape[1:]
    low = np.floor(shift).astype(int)
    fraction = torch.from_numpy((shift - low).astype(np.float32))
    flat = maps.reshape(len(maps), -1)

    def take(d_column: int, d_row: int) -> Tensor:
        column = (low[:, 0] + d_column) % columns
        row = (low[:, 1] + d_row) % rows
        return flat[:, torch.from_numpy(row * columns + column)]

    u, v = fraction[:, 0], fraction[:, 1]
    return (
        take(0, 0) * (1 - u) * (1 - v)
        + take(1, 0) * u * (1 - v)
        + take(0, 1) * (1 - u) * v
        + take(1, 1) * u * v
    )
