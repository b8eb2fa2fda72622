"""Rigid transforms (..., 4, 4) on tensors, with the conventions of `geometry.pose`.

In the precision of what is given; poses are kept in float64. Nothing waits for a GPU: no solver
and no decomposition, which report their failures to the host.
"""

import torch
from torch import Tensor


def skew(vectors: Tensor) -> Tensor:
    """Return the matrices (..., 3, 3) whose product with x is the cross product of vectors (..., 3)
    with x."""
    x, y, z = vectors.unbind(-1)
    nothing = torch.zeros_like(x)
    rows = [nothing, -z, y, z, nothing, -x, -y, x, nothing]
    return torch.stack(rows, -1).reshape(*x.shape, 3, 3)


def _affine(linear: Tensor, offset: Tensor) -> Tensor:
    out = offset.new_zeros(*offset.shape[:-1], 4, 4)
    out[..., :3, :3] = linear
    out[..., :3, 3] = offset
    out[..., 3, 3] = 1.0
    return out


def applied(a_to_b: Tensor, points_a: Tensor) -> Tensor:
    """Return points (..., 3) of frame ``a`` in frame ``b``, each by its own transform (..., 4, 4),
    or all by one."""
    return (a_to_b[..., :3, :3] @ points_a[..., None])[..., 0] + a_to_b[..., :3, 3]


def inverse_rigid(a_to_b: Tensor) -> Tensor:
    """Return ``b_to_a`` of rigid transforms (..., 4, 4)."""
    back = a_to_b[..., :3, :3].mT
    return _affine(back, -(back @ a_to_b[..., :3, 3:])[..., 0])


def inverse_linear(matrices: Tensor) -> Tensor:
    """Return the inverses of matrices (..., 3, 3): by cofactors, as a solver would wait for a GPU.

    Those of singular matrices are not finite.
    """
    a, b, c = matrices.unbind(-2)
    pairs = (b, c), (c, a), (a, b)
    cofactors = torch.stack([torch.linalg.cross(x, y, dim=-1) for x, y in pairs], -1)
    return cofactors / (a * cofactors[..., 0]).sum(-1)[..., None, None]


def inverse_affine(a_to_b: Tensor) -> Tensor:
    """Return ``b_to_a`` of affine transforms (..., 4, 4)."""
    back = inverse_linear(a_to_b[..., :3, :3])
    return _affine(back, -(back @ a_to_b[..., :3, 3:])[..., 0])


def orthonormalized(a_to_b: Tensor) -> Tensor:
    """Return the nearest rigid transforms (..., 4, 4) to ones that are rigid but for rounding.

    The polar decomposition, by Newton's iteration for its orthogonal factor (Higham, Functions of
    Matrices, 2008, section 8.3, in the form without inverses), whose error is squared each time.
    """
    rotation = a_to_b[..., :3, :3]
    for _ in range(2):
        rotation = 1.5 * rotation - 0.5 * rotation @ (rotation.mT @ rotation)
    return _affine(rotation, a_to_b[..., :3, 3])


def _rotation_and_left_jacobian(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Rodrigues' formula, and its integral (..., 3, 3), for rotation vectors (..., 3)."""
    angle = vectors.norm(dim=-1)[..., None, None]
    k = skew(vectors)
    square = k @ k
    small = angle < 1e-4
    safe = torch.where(small, 1.0, angle)
    sine = torch.where(small, 1.0 - angle**2 / 6.0, safe.sin() / safe)
    a = torch.where(small, 0.5 - angle**2 / 24.0, (1.0 - safe.cos()) / safe**2)
    b = torch.where(small, 1.0 / 6.0, (safe - safe.sin()) / safe**3)
    identity = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    return identity + sine * k + a * square, identity + a * k + b * square


def exp_se3(twists: Tensor) -> Tensor:
    """Return the rigid transforms (..., 4, 4) of twists (..., 6): rotation vector (rad), then
    translation (mm)."""
    rotation, left = _rotation_and_left_jacobian(twists[..., :3])
    return _affine(rotation, (left @ twists[..., 3:, None])[..., 0])


def rotation_vector(rotations: Tensor) -> Tensor:
    """Return the rotation vectors (..., 3) in radians of rotations (..., 3, 3), for angles that
    keep clear of pi.

    The axis times the sine is the antisymmetric part, the trace says the cosine.
    """
    twice = torch.stack(
        [
            rotations[..., 2, 1] - rotations[..., 1, 2],
            rotations[..., 0, 2] - rotations[..., 2, 0],
            rotations[..., 1, 0] - rotations[..., 0, 1],
        ],
        -1,
    )
    cosine = 0.5 * (rotations.diagonal(dim1=-2, dim2=-1).sum(-1) - 1.0)
    sine = 0.5 * twice.norm(dim=-1)
    angle = torch.atan2(sine, cosine)
    small = sine < 1e-6
    factor = torch.where(small, 0.5 + angle**2 / 12.0, 0.5 * angle / torch.where(small, 1.0, sine))
    return factor[..., None] * twice


def log_se3(matrices: Tensor) -> Tensor:
    """Return the twists (..., 6) of rigid transforms (..., 4, 4), inverse of `exp_se3` for angles
    that keep clear of pi.

    With w the rotation vector of angle t, the translation is V^-1 of the transform's, V^-1 =
    1 - [w] / 2 + (1 / t^2 - cot(t / 2) / (2 t)) [w]^2 (Sola et al., A micro Lie theory, 2018).
    """
    vectors = rotation_vector(matrices[..., :3, :3])
    angle = vectors.norm(dim=-1)[..., None, None]
    k = skew(vectors)
    small = angle < 1e-3
    safe = torch.where(small, 1.0, angle)
    exact = 1.0 / safe**2 - 0.5 / (safe * torch.tan(0.5 * safe))
    c = torch.where(small, 1.0 / 12.0 + angle**2 / 720.0, exact)
    offset = matrices[..., :3, 3:]
    moved = offset - 0.5 * k @ offset + c * (k @ (k @ offset))
    return torch.cat([vectors, moved[..., 0]], -1)


def compose_about(a_to_b: Tensor, twists: Tensor, centres_a: Tensor) -> Tensor:
    """Return ``a_to_b`` (..., 4, 4) perturbed on the right by ``twists`` (..., 6) about
    ``centres_a`` (..., 3) mm: a_to_b C exp(xi) C^-1, kept rigid."""
    change = exp_se3(twists)
    offset = change[..., :3, 3] + centres_a - (change[..., :3, :3] @ centres_a[..., None])[..., 0]
    about = _affine(change[..., :3, :3], offset)
    return orthonormalized(a_to_b @ about)


def twist_about(a_to_b: Tensor, other_a_to_b: Tensor, centres_a: Tensor) -> Tensor:
    """Return the twists (..., 6) that take ``a_to_b`` to ``other_a_to_b`` under `compose_about`."""
    delta = inverse_rigid(a_to_b) @ other_a_to_b
    turned = (delta[..., :3, :3] @ centres_a[..., None])[..., 0]
    offset = delta[..., :3, 3] + turned - centres_a
    return log_se3(_affine(delta[..., :3, :3], offset))
