"""The pose in which points project to given pixels: weighted least squares, differentiable."""

import torch
from torch import Tensor

from ..tensors import exp_se3, skew

# Steps from a pose that is off by tens of degrees.
_STEPS = 6
# Levenberg's damping, relative to the diagonal, in the first step and in the others.
_DAMPING = (1e-3, 1e-4)


def pose_from_pixels(
    points: Tensor,
    pixels: Tensor,
    weights: Tensor,
    intrinsics: Tensor,
    extrinsics: Tensor,
    points_to_box: Tensor,
) -> Tensor:
    """Return points_to_box (B, 4, 4) that take points nearest to where they are pictured, float64.

    Gauss-Newton on the weighted reprojection error, every view and point together (Hartley and
    Zisserman, Multiple View Geometry, 2004, section 18.1); gradients reach ``pixels`` and
    ``weights`` through every step.

    Args:
        points: (N, 3) mm in the axes that the poses turn.
        pixels: (B, V, N, 2), x then y.
        weights: (B, V, N), not negative.
        intrinsics: (B, V, 3, 3).
        extrinsics: (B, V, 4, 4), box to camera, mm.
        points_to_box: (B, 4, 4), where to begin, off by tens of degrees at most.

    Example:
        >>> poses = pose_from_pixels(points, pixels, weights, intrinsics, extrinsics, start)
        >>> poses.shape
        torch.Size([8, 4, 4])
    """
    points, pixels, weights, intrinsics, extrinsics, points_to_box = (
        t.double() for t in (points, pixels, weights, intrinsics, extrinsics, points_to_box)
    )
    turn, shift = points_to_box[:, :3, :3], points_to_box[:, :3, 3]
    box_to_camera = extrinsics[..., None, :3, :3]
    focal = intrinsics.diagonal(dim1=-2, dim2=-1)[:, :, None, :2]
    middle = intrinsics[:, :, None, :2, 2]
    axes = torch.eye(3, dtype=points.dtype, device=points.device)
    for step in range(_STEPS):
        turned = points @ turn.mT
        camera = (box_to_camera @ (turned + shift[:, None])[:, None, ..., None])[..., 0]
        camera = camera + extrinsics[:, :, None, :3, 3]
        depth = camera[..., 2:].clamp_min(1.0)
        across = focal * camera[..., :2] / depth
        off = pixels - across - middle
        by_camera = torch.cat(
            [torch.diag_embed(focal / depth), -(across / depth)[..., None]], dim=-1
        )
        motion = torch.cat([-skew(turned), axes.expand(*turned.shape, 3)], dim=-1)
        by_motion = by_camera @ box_to_camera @ motion[:, None]
        weighted = weights[..., None, None] * by_motion
        normal = torch.einsum("bvnki,bvnkj->bij", weighted, by_motion)
        gradient = torch.einsum("bvnki,bvnk->bi", weighted, off)
        damping = _DAMPING[min(step, 1)] * normal.diagonal(dim1=-2, dim2=-1) + 1e-9
        change = torch.linalg.solve(normal + torch.diag_embed(damping), gradient)
        # A rotation about the points' own origin, then a shift.
        rotation = exp_se3(torch.cat([change[:, :3], torch.zeros_like(change[:, :3])], 1))
        turn, shift = rotation[:, :3, :3] @ turn, shift + change[:, 3:]
    poses = torch.eye(4, dtype=turn.dtype, device=turn.device).repeat(len(turn), 1, 1)
    poses[:, :3, :3], poses[:, :3, 3] = turn, shift
    return poses
