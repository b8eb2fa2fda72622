"""Whole X-rays, thinned and padded to one size, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from ..errors import InputError
from ..geometry import Array, Camera
from ..views import PreparedView, blurred, sampled
from . import bounds

# Sizes are multiples of this, so that they can be halved twice.
_MULTIPLE = 4


@dataclass(frozen=True)
class Beams:
    """V X-rays of one size.

    ``values`` and ``weight`` (V, rows, columns) float32; the weight is 0 where a pixel says nothing
    (padding, shutters, burnt-out air, metal). ``known`` (V,): values are line integrals. ``sign``
    (V,) +1 where they grow with attenuation, 0 where that is not known; ``device`` (V,) numbers
    those that share a display curve. ``pixel_mm``: the pixel at the centre that is looked at.
    ``bone_alone``: all show bone alone, and soft tissue as nothing.
    """

    names: tuple[str, ...]
    cameras: tuple[Camera, ...]
    values: Tensor
    weight: Tensor
    known: Tensor
    sign: Tensor
    device: Tensor
    pixel_mm: float
    bone_alone: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def some(self, index: Sequence[int]) -> Beams:
        """Return some of the views."""
        i = torch.as_tensor(list(index), dtype=torch.long, device=self.values.device)
        return replace(
            self,
            names=tuple(self.names[n] for n in index),
            cameras=tuple(self.cameras[n] for n in index),
            values=self.values[i],
            weight=self.weight[i],
            known=self.known[i],
            sign=self.sign[i],
            device=self.device[i],
        )

    def with_values(self, values: Tensor) -> Beams:
        """Return the same views with other pixels (V, rows, columns)."""
        return replace(self, values=values)

    def thinned(self, factor: int) -> Beams:
        """Return them with pixels ``factor`` times as wide, each the mean of what says anything."""
        if factor == 1:
            return self
        share = functional.avg_pool2d(self.weight[:, None], factor)[:, 0]
        mean = functional.avg_pool2d((self.values * self.weight)[:, None], factor)[:, 0]
        middle = (factor - 1) / 2.0
        rows, columns = share.shape[1:]
        cameras = (c.window(middle, middle, columns, rows, float(factor)) for c in self.cameras)
        return replace(
            self,
            cameras=tuple(cameras),
            values=mean / share.clamp_min(1e-6),
            weight=(share >= 0.5).float(),
            pixel_mm=self.pixel_mm * factor,
        )


def whole_beams(
    views: Sequence[PreparedView], centre_world: Array, pixels: int, device: str = "cpu"
) -> Beams:
    """Thin whole pictures to at most ``pixels`` along an edge, and pad them to one size.

    All get one pixel width at ``centre_world`` (3,) mm, the widest that any of them needs. Raises
    InputError for a view whose source is nearer than 100 mm to the centre or beyond it, one without
    any pixel that shows the patient, and where some show bone alone and others do not.
    """
    drawn = [view.name for view in views if view.bone_alone]
    if drawn and len(drawn) < len(views):
        raise InputError(
            ", ".join(drawn),
            "shows bone alone, and other X-rays show all tissue",
            "standardise all of them, or none",
        )
    scales = []
    for view in views:
        camera = view.camera
        depth = float(camera.world_to_camera[2, :3] @ centre_world + camera.world_to_camera[2, 3])
        if depth < bounds.LEAST_DEPTH_MM:
            raise InputError(
                view.name, "the patient lies at or behind the source, or nearly", "check it"
            )
        if not _open(view).any():
            raise InputError(view.name, "no pixel shows the patient", "leave this X-ray out")
        scales.append((depth / camera.focal_px, max(camera.columns, camera.rows)))
    pixel_mm = max(mm * max(1.0, longest / pixels) for mm, longest in scales)
    # Counts and grey values of one C-arm do not share a curve.
    kinds = [(view.device, view.gain_known, view.offset_known) for view in views]
    devices = list(dict.fromkeys(kinds))
    parts = [_thin(view, pixel_mm / mm) for view, (mm, _) in zip(views, scales, strict=True)]
    rows, columns = (
        -(-max(image.shape[axis] for image, _, _ in parts) // _MULTIPLE) * _MULTIPLE
        for axis in (0, 1)
    )
    values, weight = np.zeros((2, len(parts), rows, columns), dtype=np.float32)
    cameras = []
    for n, (image, valid, camera) in enumerate(parts):
        values[n, : image.shape[0], : image.shape[1]] = np.where(valid, image, 0.0)
        weight[n, : image.shape[0], : image.shape[1]] = valid
        cameras.append(Camera(camera.intrinsic, camera.world_to_camera, columns, rows))
    return Beams(
        tuple(view.name for view in views),
        tuple(cameras),
        torch.from_numpy(values).to(device),
        torch.from_numpy(weight).to(device),
        torch.tensor([view.gain_known and view.offset_known for view in views], device=device),
        torch.tensor([view.sign if view.gain_known else 0 for view in views], device=device),
        torch.tensor([devices.index(kind) for kind in kinds], device=device),
        pixel_mm,
        bool(drawn),
    )


def _open(view: PreparedView) -> NDArray[np.bool_]:
    """Where (rows, columns) a picture shows what the beam crossed: not behind a shutter, no metal.

    A shutter is a plateau of the lowest or the highest value. (`view.valid` also leaves out what is
    nearly burnt out: of whole trunks on a curve that is steep at one end, most of the trunk.)
    """
    if view.bone_alone:
        # What is behind a shutter was not looked at.
        return view.valid
    shown = _before_shutters(view)
    return shown if view.metal is None else shown & ~view.metal


def _before_shutters(view: PreparedView) -> NDArray[np.bool_]:
    values = view.values
    if view.gain_known and view.offset_known:
        return np.ones(values.shape, dtype=bool)
    shut = np.zeros(values.shape, dtype=bool)
    for end in (values.min(), values.max()):
        shut |= ndimage.binary_opening(values == end, iterations=bounds.PLATEAU_PX)
    grown = ndimage.binary_dilation(shut, iterations=bounds.PLATEAU_PX + 1)
    return np.asarray(~grown, dtype=bool)


def _thin(view: PreparedView, step: float) -> tuple[NDArray[Any], NDArray[Any], Camera]:
    """The picture and what is valid of it (rows, columns) at pixels ``step`` as wide."""
    camera = view.camera
    shown = _open(view)
    if step <= 1.0 + 1e-6:
        return view.values, shown, camera
    columns, rows = (max(int(n / step), 1) for n in camera.size)
    first = (step - 1.0) / 2.0
    smooth, share = blurred(
        view.values,
        shown.astype(np.float32),
        bounds.THINNING_BLUR * step,
        bounds.BLUR_REACH,
        bounds.LEAST_SHARE,
    )
    where = np.mgrid[0:rows, 0:columns].astype(np.float64) * step + first
    image, valid = sampled(smooth, share, where[0], where[1])
    return image, valid, camera.window(first, first, columns, rows, step)
