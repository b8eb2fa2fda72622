"""The coarse search: which rotation, and where, around a pose.

For each rotation on a grid the whole spine is rendered coarsely in each view and correlated with
the X-ray over all shifts at once. The correlation maps of the views are then read along a
grid of positions in space, so that only shifts on which the views agree count.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.fft import next_fast_len
from scipy.spatial.transform import Rotation
from torch import Tensor

from ...geometry import Array, Camera, affine, transform_points, translation
from ...system import Progress, side_by_side_reporting
from ...tensors import reads_are_free
from ...views import Windows, sign_choices, windows
from ..bodies import BodySource
from ..bounds import SEARCH_PX, TEMPLATE_FLOOR, TEMPLATE_SHARE, VISIBLE_SHARE
from ..options import RefineOptions, SearchOptions
from ..residual import LocallyNormalized
from ..scene import Scene
from .types import Candidate

# So many poses at a time on the CPU, then one may cancel.
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
    target's centre; positions are searched around where it puts that centre; with one view only
    across its line of sight, along which they look alike.
    """
    report = progress or Progress()
    bodies = scene.bodies
    centre_world = scene.centre_world(reference_ct_to_world)
    half = bodies.radius_mm + options.translation_range_mm
    centre = torch.from_numpy(centre_world).to(bodies.device)
    offsets_world, spacing_mm = _offset_grid(options), None
    if len(scene.views) == 1:
        sight_world = centre_world - scene.views[0].camera.source_world
        offsets_world, spacing_mm = _offsets_across(options, sight_world)
    searched = []
    for prepared in scene.views:
        part = windows(prepared, centre[None], half, options.pixel_mm, options.blur_mm)
        shifts_px = _shifts_px(prepared.camera, centre_world, offsets_world, options.pixel_mm)
        searched.append(Searched(part, shifts_px, options))
    turns = np.stack(rotation_grid(options.rotation_range_deg, options.rotation_step_deg))
    turns = turns @ reference_ct_to_world[:3, :3]
    ct_to_world = affine(turns, centre_world - turns @ bodies.centre_ct)
    grid = _Grid(offsets_world, options, spacing_mm)
    choices = sign_choices(scene.views)
    message = "searching rotations and positions"
    report(0.0, message)

    def of_group(group: Tensor, part: Progress) -> Tensor:
        sampled = []
        for n, view in enumerate(searched):
            part(n / len(searched), message)
            sampled.append(view.correlations(bodies, group))
        return grid.agreeing(sampled, choices)

    there = torch.from_numpy(ct_to_world).to(bodies.device)
    if reads_are_free(there):
        parts = side_by_side_reporting(of_group, there.split(_POSES), report, message)
    else:
        # One after the other: memory holds one.
        of_a_pose = max(view.pixels for view in searched) + len(offsets_world)
        groups = there.split(max(SEARCH_PX // of_a_pose, 1))
        count = len(groups)
        parts = [of_group(g, report.part(n / count, (n + 1) / count)) for n, g in enumerate(groups)]
    scores, places, signs = torch.cat(parts).cpu().numpy().transpose(2, 0, 1)
    report(1.0, message)
    candidates = [
        Candidate(
            translation(offsets_world[int(places[pose, n])]) @ ct_to_world[pose],
            float(score),
            choices[int(signs[pose, n])],
        )
        for (pose, n), score in np.ndenumerate(scores)
        if score > 0.0
    ]
    candidates.sort(key=lambda c: -c.score)
    return candidates


def _shifts_px(camera: Camera, centre_world: Array, offsets_world: Array, pixel_mm: float) -> Array:
    """How far a point (3,) moves in a window about it with offsets (M, 3) mm: (M, 2) = (column,
    row) in the window's pixels."""
    depth_mm = transform_points(camera.world_to_camera, centre_world[None])[0, 2]
    moved_px = camera.project(centre_world + offsets_world) - camera.project(centre_world[None])
    return np.asarray(moved_px * (depth_mm / (pixel_mm * camera.focal_px)))


def _offset_grid(options: SearchOptions) -> Array:
    return np.array(list(itertools.product(_offset_axis(options), repeat=3)))


def _offset_axis(options: SearchOptions) -> Array:
    steps = int(np.ceil(options.translation_range_mm / options.translation_step_mm))
    return np.linspace(-options.translation_range_mm, options.translation_range_mm, 2 * steps + 1)


def _offsets_across(options: SearchOptions, sight_world: Array) -> tuple[Array, float]:
    """Offsets (M, 3) in the plane across a line of sight (3,), and how far apart they are, mm."""
    across = np.linalg.svd(sight_world[None])[2][1:]
    axis = _offset_axis(options)
    spacing_mm = float(axis[1] - axis[0]) if len(axis) > 1 else 1.0
    return np.array(list(itertools.product(axis, repeat=2))) @ across, spacing_mm


class Searched:
    """A window, ready for templates to be shifted over it by ``shifts_px`` (M, 2) = (column, row).
    Its maps have so many ``pixels``."""

    def __init__(self, part: Windows, shifts_px: Array, options: SearchOptions) -> None:
        self._window, self._neighbour_weight = part, options.neighbour_weight
        stage = RefineOptions(neighbourhoods_mm=(options.neighbourhood_mm,))
        (term,) = LocallyNormalized().prepare(part, torch.ones_like(part.noise), stage)
        valid, observed = part.valid[0], term.observed[0]
        # The template's own neighbourhoods are never masked: the mask belongs to the X-ray.
        sigma_px = term.normalizer.sigma_px
        self._free = type(term.normalizer)(torch.ones_like(valid), sigma_px)
        # Room for the largest shift, and for the pixel after it.
        reach = int(np.ceil(np.abs(shifts_px).max(initial=0.0))) + 2
        self._size = [next_fast_len(n + min(reach, n), real=True) for n in valid.shape]
        self.pixels = math.prod(self._size)
        pictures = torch.stack([valid * observed, valid * observed**2, valid])
        self._pictures = torch.fft.rfft2(pictures, s=self._size)
        self._samples = _wrapped_samples(torch.from_numpy(shifts_px), self._size, valid.device)

    def correlations(self, bodies: BodySource, ct_to_world: Tensor) -> Tensor:
        """Return the local normalised correlation (P, M) of the bodies at P poses, shifted.

        ``ct_to_world`` (P, 4, 4). On the bodies' device; the host reads none of it.
        """
        lenses = self._window.lenses.repeated(len(ct_to_world))
        pictures = bodies.pictures(lenses, self._window.world_to_camera @ ct_to_world, "coarse")
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
        flat = maps.flatten(1)
        parts = [flat[:, index] * share for index, share in self._samples]
        return torch.stack(parts).sum(0)

    def _products(self, images: Tensor, picture: Tensor) -> Tensor:
        """Return the sums of products of images with a transformed picture at each shift; shifts
        up and left wrap."""
        transformed = torch.fft.rfft2(images, s=self._size).conj() * picture
        wrapped: Tensor = torch.fft.irfft2(transformed, s=self._size)
        return wrapped


def _wrapped_samples(
    shifts_px: Tensor, size: Sequence[int], device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Places (M,) in flat maps of a size (rows, columns), and their shares, whose sums are bilinear
    values at shifts (M, 2) = (column, row), which wrap."""
    rows, columns = size
    low = shifts_px.floor()
    u, v = (shifts_px - low).float().unbind(1)
    column, row = low.long().unbind(1)
    samples = []
    for d_column, d_row, share in (
        (0, 0, (1 - u) * (1 - v)),
        (1, 0, u * (1 - v)),
        (0, 1, (1 - u) * v),
        (1, 1, u * v),
    ):
        index = (row + d_row) % rows * columns + (column + d_column) % columns
        samples.append((index.to(device), share.to(device)))
    return samples


class _Grid:
    """The positions that a search looks at, ``offsets_world`` (M, 3) mm, and which of them to take.

    Those of one pose are at least ``apart_mm`` from each other.
    """

    def __init__(
        self, offsets_world: Array, options: SearchOptions, spacing_mm: float | None = None
    ) -> None:
        """``spacing_mm``: of offsets that do not lie along the world's axes."""
        self._options = options
        if spacing_mm is None:
            step = np.diff(np.unique(offsets_world[:, 0])).min(initial=np.inf)
            spacing = float(step) if np.isfinite(step) else 1.0
            # In steps of the grid distances are exact.
            steps = np.asarray(np.round(offsets_world / spacing))
        else:
            spacing, steps = spacing_mm, np.asarray(offsets_world / spacing_mm)
        self._steps = torch.from_numpy(steps).float()
        self._apart = (options.apart_mm / spacing) ** 2

    def agreeing(self, sampled: Sequence[Tensor], choices: Sequence[tuple[int, ...]]) -> Tensor:
        """Return the K best positions for each pose (P, K, 3), float64: score, the position's
        number, the signs' number in ``choices``.

        From each view's correlations (P, M) at the positions, with the signs that score best. A
        pose that has fewer positions apart gets scores below zero.
        """
        totals = torch.stack(
            [
                sum((s * part for s, part in zip(signs, sampled, strict=True)), torch.zeros(()))
                for signs in choices
            ]
        ) / len(sampled)
        left, chosen = totals.max(dim=0)
        steps = self._steps.to(left.device)
        squares = steps.square().sum(1)
        taken = []
        for n in range(self._options.positions_per_rotation):
            score, index = left.max(dim=1, keepdim=True)
            taken.append(
                torch.stack([t.double() for t in (score, index, chosen.gather(1, index))], 2)
            )
            if n + 1 < self._options.positions_per_rotation:
                there = steps[index[:, 0]]
                apart = squares + squares[index] - 2.0 * there @ steps.T
                left = torch.where(apart < self._apart, -1.0, left)
        return torch.cat(taken, 1)
