"""Everything else in the CT: soft tissue, gas, and the edge of the CT's own field.

None of it is needed to find a vertebra, and between CT and operation it moves; but where it is
still as in the CT, explaining it makes the bone's own picture much clearer. So it is one more body
that may move a little, with two images per view - the CT's excess over soft tissue, and soft tissue
filling the CT's field - and each enters with the coefficient that explains the X-ray best, which
may be zero.
"""

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..drr import (
    SOFT_TISSUE_HU,
    Voxels,
    hu_to_attenuation,
    project_pictures,
    project_pictures_with_jacobian,
)
from ..geometry import Volume
from ..tensors import Lenses, reads_are_free, twist_about
from .anatomy import Anatomy

COEFFICIENTS = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Background:
    """Attenuation (1/mm) in the CT frame: excess over soft tissue less bodies, and the field; and
    where they are rendered. ``mixes``: the pairs of coefficients that they may enter with."""

    excess: Volume
    field: Volume
    device: torch.device | str = "cpu"
    mixes: tuple[tuple[float, ...], ...] = tuple(itertools.product(COEFFICIENTS, COEFFICIENTS))

    @cached_property
    def _parts(self) -> tuple[Voxels, Voxels]:
        return Voxels.of(self.excess, self.device), Voxels.of(self.field, self.device)

    def render(self, lenses: Lenses, ct_to_camera: Tensor) -> Tensor:
        """The two line-integral images (N, 2, rows, columns) of N lenses, with the CT at a pose
        (N, 4, 4) before each.

        Soft tissue is smooth: every second pixel is rendered, and the others lie between.
        """
        wide = _every_second(lenses)
        images = [
            project_pictures(part, wide, ct_to_camera, step_mm=part.spacing_mm)
            for part in self._parts
        ]
        return _between(torch.stack(images, 1), lenses.size)

    def render_linear(
        self, coefficients: Tensor, lenses: Lenses, ct_to_camera: Tensor, pivot_ct: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The pictures (N, rows, columns) of both parts with weights (N, 2), and their derivatives
        (N, 6, rows, columns) by motions about a pivot (3,) in the CT frame."""
        columns, rows = lenses.size
        if reads_are_free(coefficients):
            # Where all is zero nothing needs to be rendered.
            some = coefficients.any(1).nonzero()[:, 0]
        else:
            some = torch.arange(len(coefficients), device=coefficients.device)
        images = torch.zeros(len(coefficients), 7, rows, columns, device=self.device)
        if len(some) == 0:
            return images[:, 0], images[:, 1:]
        excess, soft = self._parts
        shares = coefficients[some][..., None, None, None]
        values = shares[:, 0] * excess.values + shares[:, 1] * soft.values
        mixed = Voxels(values, excess.index_to_physical, excess.spacing_mm)
        image, jacobian = project_pictures_with_jacobian(
            mixed,
            _every_second(lenses.part(some)),
            ct_to_camera[some],
            pivot_ct,
            step_mm=excess.spacing_mm,
        )
        images[some] = _between(torch.cat([image[:, None], jacobian], 1), lenses.size)
        return images[:, 0], images[:, 1:]


def _every_second(lenses: Lenses) -> Lenses:
    """Those of every second pixel, and of one beyond the last row and column if need be."""
    half = torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64, device=lenses.device)
    columns, rows = lenses.size
    return Lenses(half[:, None] * lenses.intrinsics, (columns // 2 + 1, rows // 2 + 1))


def _between(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (N, M, ...) of `_every_second` pixel, interpolated to all of a size (N, M, rows,
    columns)."""
    whole = torch.nn.functional.interpolate(
        images,
        [2 * length - 1 for length in images.shape[-2:]],
        mode="bilinear",
        align_corners=True,
    )
    return whole[..., : size[1], : size[0]]


@dataclass(frozen=True)
class RenderedBackground:
    """A background's pictures in N windows and how they change with its pose, from one rendering.

    ``image`` (N, rows, columns), ``jacobian`` (N, 6, rows, columns), ``rendered_to_world``
    (N, 4, 4), ``pivot_ct`` (3,), and the ``coefficients`` (N, 2) of its parts. Soft tissue is
    smooth, so over the millimetres of one stage a linear change is enough.
    """

    image: Tensor
    jacobian: Tensor
    rendered_to_world: Tensor
    pivot_ct: Tensor
    coefficients: Tensor

    def moved_to(self, background_to_world: Tensor) -> Tensor:
        """The pictures (N, rows, columns) with the background at other poses (N, 4, 4) nearby."""
        change = twist_about(self.rendered_to_world, background_to_world, self.pivot_ct)
        return self.image + torch.einsum("np,nprc->nrc", change.float(), self.jacobian)

    def part(self, index: Tensor) -> "RenderedBackground":
        """Return those of some windows."""
        return RenderedBackground(
            self.image[index],
            self.jacobian[index],
            self.rendered_to_world[index],
            self.pivot_ct,
            self.coefficients[index],
        )


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
