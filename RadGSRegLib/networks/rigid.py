"""Rigid transforms that a network can put out, and how far apart two are."""

import torch
from torch import Tensor

POSE_NUMBERS = 9
# One unit of a raw rotation is about this many radians, and of a raw translation this many mm.
ROTATION_UNIT = 0.2
TRANSLATION_UNIT_MM = 8.0


def rotation_from_6d(numbers: Tensor) -> Tensor:
    """Make rotations (..., 3, 3) from six numbers (..., 6): the first two columns, orthonormalised.

    Continuous everywhere (Zhou et al., CVPR 2019), unlike angles or a quaternion.
    """
    first = torch.nn.functional.normalize(numbers[..., :3], dim=-1)
    second = numbers[..., 3:]
    second = second - (first * second).sum(-1, keepdim=True) * first
    second = torch.nn.functional.normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def step_from_raw(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Read raw numbers (..., 9) as a step: rotation (..., 3, 3) and translation (..., 3) mm.

    Zeros are the identity.
    """
    identity = raw.new_tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    rotation = rotation_from_6d(identity + ROTATION_UNIT * raw[..., :6])
    return rotation, TRANSLATION_UNIT_MM * raw[..., 6:9]


def apply_step(poses: Tensor, rotation: Tensor, shift: Tensor) -> Tensor:
    """Turn poses (B, 4, 4) about their own origin, in the target frame's axes, then shift."""
    turned = rotation @ poses[:, :3, :3]
    top = torch.cat([turned, (poses[:, :3, 3] + shift)[..., None]], dim=-1)
    bottom = poses.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(poses), 1, 4)
    return torch.cat([top, bottom], dim=1)


def geodesic_angle(a: Tensor, b: Tensor) -> Tensor:
    """Return the angle (...) in radians between rotations (..., 3, 3), with a finite slope
    everywhere.

    From the sine (the antisymmetric part) and the cosine (the trace) of the relative rotation: the
    arc cosine alone loses all precision at small angles.
    """
    relative = a.transpose(-1, -2) @ b
    cosine = (relative.diagonal(dim1=-2, dim2=-1).sum(-1) - 1.0) / 2.0
    axis = torch.stack(
        [
            relative[..., 2, 1] - relative[..., 1, 2],
            relative[..., 0, 2] - relative[..., 2, 0],
            relative[..., 1, 0] - relative[..., 0, 1],
        ],
        dim=-1,
    )
    sine = (axis.square().sum(-1) + 1e-12).sqrt() / 2.0
    return torch.atan2(sine, cosine)
