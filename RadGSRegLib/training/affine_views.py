"""The same pictures of another vertebra: an affine change of the patient is one of the cameras.

A pinhole camera that sees a body stretched and sheared takes the picture that another camera takes
of the body as it was. So each pair of X-rays is a pair of many vertebrae, longer, wider or slanted,
at no cost; only how long rays are inside of bone is not quite as it would be.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ..networks import ViewBatch

# One standard deviation of the logarithm of the size along each axis, of all sizes together, and of
# shears: about how vertebrae of people differ. None was varied.
_STRETCH = 0.08
_SIZE = 0.05
_SHEAR = 0.05
# So many are changed at all.
_SHARE = 0.85


def draw_affine(count: int, generator: torch.Generator) -> Tensor:
    """Draw linear maps (count, 3, 3) float32 of vertebrae, in their own axes."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    sizes = torch.exp(_STRETCH * normal(3) + _SIZE * normal(1))
    shears = _SHEAR * normal(3, 3)
    linear = torch.diag_embed(sizes) + shears - torch.diag_embed(shears.diagonal(dim1=1, dim2=2))
    changed = torch.rand(count, 1, 1, generator=generator) < _SHARE
    return torch.where(changed, linear, torch.eye(3))


def with_affine(batch: ViewBatch, axes_to_box: Tensor, linear: Tensor) -> ViewBatch:
    """Return views whose pictures are those of ``batch``, of patients changed by ``linear``
    (B, 3, 3) about the vertebra's axes: ``axes_to_box`` (B, 4, 4), mm, where they stay.

    Pixels of the cameras are neither square nor upright then.
    """
    pose, intrinsics = axes_to_box.double(), batch.intrinsics.double()
    extrinsics = batch.extrinsics.double()
    turn, middle = pose[:, :3, :3], pose[:, :3, 3:]
    # x' = L x + o keeps the middle: P x = P L^-1 (x' - o).
    whole = turn @ linear.double() @ turn.mT
    offset = middle - whole @ middle
    projection = intrinsics @ extrinsics[..., :3, :3] @ torch.linalg.inv(whole)[:, None]
    last = intrinsics @ extrinsics[..., :3, 3:] - projection @ offset[:, None]
    lens, turned = _lens_and_turn(projection)
    changed = torch.eye(4, dtype=lens.dtype, device=lens.device).expand(*lens.shape[:2], 4, 4)
    changed = changed.clone()
    changed[..., :3, :3] = turned
    changed[..., :3, 3:] = torch.linalg.solve(lens, last)
    lens = lens / lens[..., 2:, 2:]
    return replace(batch, intrinsics=lens.float(), extrinsics=changed.float())


def _lens_and_turn(projection: Tensor) -> tuple[Tensor, Tensor]:
    """Take (..., 3, 3) apart into an upper triangle with a positive diagonal and a rotation."""
    flip = torch.eye(3, dtype=projection.dtype, device=projection.device).flip(0)
    q, r = torch.linalg.qr((flip @ projection).mT)
    lens, turn = flip @ r.mT @ flip, flip @ q.mT
    signs = torch.sign(lens.diagonal(dim1=-2, dim2=-1))
    return lens * signs[..., None, :], signs[..., None] * turn
