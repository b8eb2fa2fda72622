"""Everything else in the CT: soft tissue, gas, and the edge of the CT's own field.

None of it is needed to find a vertebra, and between CT and operation it moves; but where it is
still as in the CT, explaining it makes the bone's own picture much clearer. So it is one more body
that may move a little, with two images per view - the CT's excess over soft tissue, and soft tissue
filling the CT's field - and each enters with the coefficient that explains the X-ray best, which
may be zero.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..drr import SOFT_TISSUE_HU, hu_to_attenuation, project_volume, project_volume_with_jacobian
from ..geometry import Array, Camera, Volume, twist_about
from .anatomy import Anatomy

COEFFICIENTS = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Background:
    """Attenuation (1/mm) in the CT frame: excess over soft tissue less bodies, and the field."""

    excess: Volume
    field: Volume

    def render(self, camera: Camera, ct_to_world: Array) -> Tensor:
        """The two line-integral images (2, rows, columns) with the CT at a pose.

        Soft tissue is smooth: every second pixel is rendered, and the others lie between.
        """
        wide = _every_second(camera)
        to_camera = wide.world_to_camera @ ct_to_world
        images = [
            project_volume(
                volume,
                wide.intrinsic,
                to_camera,
                wide.size,
                step_mm=float(volume.spacing.min()),
            )
            for volume in (self.excess, self.field)
        ]
        return _between(torch.stack(images), camera)


def _every_second(camera: Camera) -> Camera:
    """The camera of every second pixel, and of one beyond the last row and column if need be."""
    return camera.window(0.0, 0.0, camera.columns // 2 + 1, camera.rows // 2 + 1, 2.0)


def _between(images: Tensor, camera: Camera) -> Tensor:
    """Images (N, ...) of `_every_second` pixel, interpolated to all of a camera's (N, rows,
    columns)."""
    size = [2 * length - 1 for length in images.shape[-2:]]
    whole = torch.nn.functional.interpolate(
        images[None], size=size, mode="bilinear", align_corners=True
    )
    return whole[0, :, : camera.rows, : camera.columns]


@dataclass(frozen=True)
class RenderedBackground:
    """A background's picture in one view and how it changes with its pose, from one rendering.

    Soft tissue is smooth, so over the millimetres of one stage a linear change is enough.
    """

    image: Tensor
    jacobian: Tensor
    rendered_to_world: Array
    pivot_ct: Array
    coefficients: tuple[float, float]

    def moved_to(self, background_to_world: Array) -> Tensor:
        """The picture (rows, columns) with the background at another pose nearby."""
        twist = twist_about(self.rendered_to_world, background_to_world, self.pivot_ct)
        change = torch.from_numpy(twist.astype(np.float32))
        return self.image + torch.einsum("p,prc->rc", change, self.jacobian)


def build_background(ct: Volume, anatomy: Anatomy, *, spacing_mm: float = 2.5) -> Background:
    """The CT without the bodies, at about ``spacing_mm`` (soft tissue is smooth)."""
    soft = float(hu_to_attenuation(np.float32(SOFT_TISSUE_HU)))
    excess = hu_to_attenuation(ct.array) - soft
    for body in (anatomy.target, *anatomy.neighbours):
        index = ct.physical_to_index
        first = np.round(index[:3, :3] @ body.excess.origin + index[:3, 3]).astype(int)
        k, j, i = body.excess.array.shape
        part = np.s_[first[2] : first[2] + k, first[1] : first[1] + j, first[0] : first[0] + i]
        excess[part] -= body.excess.array
    volume = _shrink(ct.with_array(excess.astype(np.float32)), spacing_mm)
    return Background(volume, volume.with_array(np.full_like(volume.array, soft)))


def _shrink(volume: Volume, spacing_mm: float) -> Volume:
    factors = np.maximum(np.floor(spacing_mm / volume.spacing + 0.2).astype(int), 1)
    if (factors == 1).all():
        return volume
    smooth = ndimage.uniform_filter(volume.array, size=tuple(factors[::-1]), mode="nearest")
    start = factors // 2
    array = smooth[start[2] :: factors[2], start[1] :: factors[1], start[0] :: factors[0]]
    matrix = volume.index_to_physical.copy()
    # An even filter is centred half a voxel before its index.
    centre = start - np.where(factors % 2 == 0, 0.5, 0.0)
    matrix[:3, 3] = volume.physical_points(centre[None])[0]
    matrix[:3, :3] = matrix[:3, :3] * factors
    return Volume(np.ascontiguousarray(array), matrix)


def render_linear(
    background: Background,
    coefficients: tuple[float, float],
    camera: Camera,
    background_to_world: Array,
    pivot_ct: Array,
) -> RenderedBackground:
    """The weighted background's picture in a view with its derivative by the pose."""
    mixed = background.excess.with_array(
        np.asarray(
            coefficients[0] * background.excess.array + coefficients[1] * background.field.array,
            dtype=np.float32,
        )
    )
    if coefficients == (0.0, 0.0):
        image = torch.zeros(camera.rows, camera.columns)
        jacobian = torch.zeros(6, camera.rows, camera.columns)
    else:
        wide = _every_second(camera)
        image, jacobian = project_volume_with_jacobian(
            mixed,
            wide.intrinsic,
            wide.world_to_camera @ background_to_world,
            wide.size,
            pivot_ct,
            step_mm=float(mixed.spacing.min()),
        )
        whole = _between(torch.cat([image[None], jacobian]), camera)
        image, jacobian = whole[0], whole[1:]
    return RenderedBackground(image, jacobian, background_to_world, pivot_ct, coefficients)
