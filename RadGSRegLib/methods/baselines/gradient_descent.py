"""A pose by gradient descent on rendered X-rays, in the manner of DiffPose.

Adam on the pose from the start alone, no search: the bone of the CT about the vertebra, moved as
one piece, is rendered by the voxel projector and compared with the X-ray by normalised correlation,
of the whole window and in neighbourhoods. Pixels go from coarse to fine, windows from the
neighbours to the vertebra. Steps are taken on the group, about the vertebra's centre (math.md 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ...cases import Case
from ...drr import SOFT_TISSUE_HU, hu_to_attenuation, project_volume, project_volume_with_jacobian
from ...errors import InputError
from ...geometry import Array, Rigid, Volume, compose_about, cut, mask_box
from ...system import Progress, one_torch_thread
from ...views import LocalNormalization, PreparedView, Window, prepare_views, window

_SHOW_EVERY = 5


@dataclass(frozen=True)
class Scale:
    """Pixels, blur and half a window's width (mm at the vertebra), and the steps taken at them."""

    pixel_mm: float
    blur_mm: float
    half_width_mm: float
    steps: int


@dataclass(frozen=True)
class DescentOptions:
    """``rotation_deg`` and ``shift_mm``: Adam's step at the first scale, in proportion to the pixel
    at the others. ``patch_px``: sigma of the neighbourhoods; ``reach_mm``: how far from the
    vertebra bone is taken along."""

    scales: tuple[Scale, ...] = (
        Scale(4.0, 3.0, 72.0, 60),
        Scale(2.0, 1.5, 60.0, 40),
        Scale(1.0, 0.6, 48.0, 30),
    )
    rotation_deg: float = 1.0
    shift_mm: float = 1.0
    patch_px: float = 4.0
    reach_mm: float = 40.0


@dataclass(frozen=True)
class Way:
    """``ct_to_world`` (4, 4), and the similarity (at most 1) at every step of the way taken."""

    ct_to_world: Array
    similarities: tuple[float, ...]


def bone_around(case: Case, reach_mm: float) -> Volume:
    """Cut out all that absorbs more than soft tissue in the box of the target and ``reach_mm``
    around it (1/mm, CT frame)."""
    part = cut(case.ct, mask_box(case.mask, case.ct.spacing, reach_mm))
    above = hu_to_attenuation(part.array) - float(hu_to_attenuation(SOFT_TISSUE_HU))
    return part.with_array(np.maximum(above, 0.0).astype(np.float32))


class Similarity:
    """Mean of whole and local normalised correlation of a rendering with one window of an X-ray."""

    def __init__(self, view: Window, sign: int, patch_px: float) -> None:
        self.window = view
        self.valid = view.valid
        self.local = LocalNormalization(view.valid, patch_px)
        self.target = sign * view.image
        self._whole = self._whitened(self.target)
        self._detail = self.local.normalize(self.target, 0.02)

    def __call__(self, image: Tensor) -> Tensor:
        """Return the similarity of a rendering (rows, columns), at most 1; differentiable."""
        unit = image / image.detach().amax().clamp_min(1e-9)
        whole = (self._whitened(unit) * self._whole).sum()
        detail = self.local.normalize(unit, 0.02)
        shared = (self.valid * detail * self._detail).sum()
        norms = (self.valid * detail.square()).sum() * (self.valid * self._detail.square()).sum()
        return 0.5 * whole + 0.5 * shared / norms.clamp_min(1e-9).sqrt()

    def _whitened(self, image: Tensor) -> Tensor:
        mean = (self.valid * image).sum() / self.valid.sum().clamp_min(1.0)
        centred = self.valid * (image - mean)
        return centred / centred.square().sum().clamp_min(1e-12).sqrt()


def descend(
    case: Case,
    start_ct_to_world: ArrayLike,
    options: DescentOptions | None = None,
    progress: Progress | None = None,
) -> Way:
    """Descend on the gradient from a start (4, 4); deterministic.

    Where the polarity of the X-rays is unknown both are followed at the coarsest scale and the one
    that ends more similar goes on. Raises InputError where the X-rays do not show the start,
    Cancelled when ``progress`` says so.
    """
    chosen = options or DescentOptions()
    report = progress or Progress()
    # First, since this refuses a case whose label is nowhere.
    centre_ct = case.centre_ct
    bone = bone_around(case, chosen.reach_mm)
    start = np.asarray(start_ct_to_world, dtype=float)
    views = prepare_views(case.views)
    signs = (1,) if all(view.sign for view in views) else (1, -1)
    first, *others = chosen.scales
    total = sum(scale.steps for scale in chosen.scales) + first.steps * (len(signs) - 1)
    with one_torch_thread():
        ways, done = [], 0
        for sign in signs:
            part = report.part(done / total, (done + first.steps) / total)
            done += first.steps
            ways.append(_descend(bone, centre_ct, views, sign, start, first, chosen, part))
        best = int(np.argmax([similarities[-1] for _, similarities in ways]))
        pose, similarities = ways[best]
        report.pose(pose)
        for scale in others:
            part = report.part(done / total, (done + scale.steps) / total)
            done += scale.steps
            pose, more = _descend(bone, centre_ct, views, signs[best], pose, scale, chosen, part)
            report.pose(pose)
            similarities += more
    return Way(pose, tuple(similarities))


def _descend(
    bone: Volume,
    centre_ct: Array,
    views: Sequence[PreparedView],
    sign: int,
    start: Array,
    scale: Scale,
    options: DescentOptions,
    report: Progress,
) -> tuple[Array, list[float]]:
    """The best pose on the way at one scale, and the similarities; those of the best come last."""
    centre_world = Rigid(start).apply(centre_ct)
    half = scale.half_width_mm
    measures = []
    for view in views:
        part = window(view, centre_world, half, scale.pixel_mm, scale.blur_mm)
        if float(part.valid.mean()) < 0.05:
            raise InputError(view.name, "shows next to nothing of the start", "check the start")
        measures.append(Similarity(part, view.sign or sign, options.patch_px))
    finest = options.scales[0].pixel_mm
    rates = [float(np.radians(options.rotation_deg))] * 3 + [options.shift_mm] * 3
    step_sizes = torch.tensor(rates) * (scale.pixel_mm / finest)
    # Adam's own variables stay near zero: each step is taken on the group and then set back.
    twist = torch.zeros(6, requires_grad=True)
    optimizer = torch.optim.Adam([twist], lr=1.0, betas=(0.8, 0.95))
    pose, best_pose, best = start, start, -np.inf
    similarities = []
    for number in range(scale.steps):
        report(number / scale.steps, "descending on rendered X-rays")
        value, slope = 0.0, torch.zeros(6)
        for measure in measures:
            camera = measure.window.camera
            image, jacobian = project_volume_with_jacobian(
                bone, camera.intrinsic, camera.world_to_camera @ pose, camera.size, centre_ct
            )
            image.requires_grad_()
            similarity = measure(image) / len(measures)
            (by_pixel,) = torch.autograd.grad(similarity, image)
            slope += (jacobian * by_pixel).sum((1, 2))
            value += float(similarity.detach())
        similarities.append(value)
        if value > best:
            best, best_pose = value, pose
        if number % _SHOW_EVERY == 0:
            report.pose(best_pose)
        # In units of the step sizes, so that Adam treats turns and shifts alike.
        twist.grad = -slope * step_sizes
        optimizer.param_groups[0]["lr"] = 1.0 - 0.9 * number / scale.steps
        optimizer.step()
        step = (twist.detach() * step_sizes).double().numpy()
        pose = compose_about(pose, step, centre_ct)
        with torch.no_grad():
            twist.zero_()
    last = _similarity(measures, bone, pose)
    if last > best:
        best, best_pose = last, pose
    return best_pose, [*similarities, best]


@torch.no_grad()
def _similarity(measures: Sequence[Similarity], bone: Volume, pose: Array) -> float:
    values = []
    for measure in measures:
        camera = measure.window.camera
        image = project_volume(bone, camera.intrinsic, camera.world_to_camera @ pose, camera.size)
        values.append(float(measure(image)))
    return float(np.mean(values))
