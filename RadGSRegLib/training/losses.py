"""The paper's losses, eq. 2 and 3 (math.md section 3), each a function of tensors alone.

Their terms live on different scales. So images are divided by the largest value of the measured
one, and volumes by `DENSE_BONE` (1/mm), before anything is compared; a pose's translation is
divided by `TRANSLATION_MM` before it is added to an angle in radians.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..networks import Displacements, geodesic_angle

DENSE_BONE = 0.03
TRANSLATION_MM = 50.0
LAMBDA_SSIM = 0.2
LAMBDA_TV = 0.05
LAMBDA_GEODESIC = 0.02

_WINDOW = 11
_SIGMA = 1.5


def ssim_loss(a: Tensor, b: Tensor, dims: int) -> Tensor:
    """Return 1 - SSIM (scalar) of images (B, 1, ...) with ``dims`` axes and data range 1.

    MONAI's definition (window 11, Gaussian of sigma 1.5, valid part only), but one axis at a time:
    in three dimensions that is forty times less work.
    """
    offsets = torch.arange(_WINDOW, device=a.device, dtype=a.dtype) - _WINDOW // 2
    kernel = torch.exp(-0.5 * (offsets / _SIGMA) ** 2)
    kernel = kernel / kernel.sum()
    convolve = functional.conv2d if dims == 2 else functional.conv3d

    def mean(x: Tensor) -> Tensor:
        for axis in range(dims):
            shape = [1, 1] + [_WINDOW if axis == n else 1 for n in range(dims)]
            x = convolve(x, kernel.view(shape))
        return x

    mean_a, mean_b = mean(a), mean(b)
    variance = mean(a * a) - mean_a.square() + mean(b * b) - mean_b.square()
    covariance = mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_a.square() + mean_b.square() + c1) * (variance + c2))
    return 1.0 - similarity.mean()


def block_similarity(a: Tensor, b: Tensor, block: int, step: int) -> Tensor:
    """Return SSIM over cubes of ``block`` voxels, every ``step``-th, of volumes (B, K, J, I) with
    data range 1, each voxel counting alike (Wang et al., 2004): a cheap stand-in for `ssim_loss`
    that says where volumes are alike."""

    def mean(x: Tensor) -> Tensor:
        return functional.avg_pool3d(x[:, None], block, stride=step)[:, 0]

    mean_a, mean_b = mean(a), mean(b)
    variance = (mean(a * a) - mean_a.square()).clamp_min(0.0)
    variance = variance + (mean(b * b) - mean_b.square()).clamp_min(0.0)
    covariance = mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return similarity / ((mean_a.square() + mean_b.square() + c1) * (variance + c2))


def total_variation(volumes: Tensor) -> Tensor:
    """Average the absolute difference (scalar) of neighbouring voxels of (B, K, J, I), the three
    axes added."""
    out = volumes.new_zeros(())
    for axis in (1, 2, 3):
        out = out + volumes.diff(dim=axis).abs().mean()
    return out


def reconstruction_terms(images: Tensor, measured: Tensor, volumes: Tensor) -> Tensor:
    """Add L1 + 0.2 SSIM + 0.05 TV (scalar): L_rec, and with the effect's output the rest of eq. 2.

    ``images`` and ``measured`` (B, V, H, W) line integrals of the vertebra, ``volumes``
    (B, K, J, I) in 1/mm.
    """
    peak = measured.flatten(1).amax(1).clamp_min(1e-6)[:, None, None, None]
    drawn, wanted = images / peak, measured / peak
    flat = (drawn.flatten(0, 1)[:, None], wanted.flatten(0, 1)[:, None])
    loss = (drawn - wanted).abs().mean() + LAMBDA_SSIM * ssim_loss(*flat, dims=2)
    return loss + LAMBDA_TV * total_variation(volumes / DENSE_BONE)


def counterfactual_reconstruction_loss(
    effect: tuple[Tensor, Tensor], factual: tuple[Tensor, Tensor], measured: Tensor
) -> Tensor:
    """Return L_CAL-rec (eq. 2): the same terms on the effect's and the factual (images,
    volumes)."""
    return reconstruction_terms(effect[0], measured, effect[1]) + reconstruction_terms(
        factual[0], measured, factual[1]
    )


def ncc_loss(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 - normalised cross-correlation (scalar, mean over B) of volumes (B, K, J, I)."""
    x, y = a.flatten(1), b.flatten(1)
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    energy = (x.square().sum(1) * y.square().sum(1)).clamp_min(1e-12).sqrt()
    return (1.0 - (x * y).sum(1) / energy).mean()


def geodesic_loss(truth: Tensor, poses: Tensor) -> Tensor:
    """Return L_geo (scalar): angle of rotations in radians plus distance of translations over
    `TRANSLATION_MM`, of poses (B, 4, 4) in mm, mean over B."""
    angle = geodesic_angle(truth[:, :3, :3], poses[:, :3, :3])
    apart = (truth[:, :3, 3] - poses[:, :3, 3]).square().sum(1)
    return (angle + (apart + 1e-8).sqrt() / TRANSLATION_MM).mean()


def registration_loss(
    moved_ct: Tensor, reconstructed: Tensor, truth: Tensor, poses: Tensor
) -> Tensor:
    """Return L_reg (eq. 3): NCC + SSIM of moved CT and reconstruction + 0.02 L_geo.

    Volumes (B, K, J, I) in 1/mm, poses (B, 4, 4).
    """
    a, b = moved_ct / DENSE_BONE, reconstructed / DENSE_BONE
    loss = ncc_loss(a, b) + ssim_loss(a[:, None], b[:, None], dims=3)
    return loss + LAMBDA_GEODESIC * geodesic_loss(truth, poses)


@dataclass(frozen=True)
class ExtraWeights:
    """What simulation allows beyond the paper: the true volume and pose are known.

    ``points``: distance of the vertebra's surface points from their true places;
    ``displacements``: distance of where RegM sees each cell of bone from its true place, where its
    head says such places;
    ``places``: cross-entropy between the attention of landmarks and where they are, where RecM
    reads its pose from them;
    ``volume``: L1 of the volume over `DENSE_BONE`. Zero switches one off.
    """

    points: float = 1.0
    displacements: float = 1.0
    volume: float = 1.0
    places: float = 1.0


def point_distance(points: Tensor, truth: Tensor, poses: Tensor) -> Tensor:
    """Average the distance (B,) mm of points (B, N, 3) or (N, 3) between two poses (B, 4, 4)."""
    between = truth - poses
    moved = points @ between[:, :3, :3].transpose(1, 2) + between[:, None, :3, 3]
    return (moved.square().sum(-1) + 1e-8).sqrt().mean(-1)


def displacement_error(moves: Displacements, motion: Tensor) -> Tensor:
    """Average how far off (scalar, mm) RegM sees bone from where rigid ``motion`` (B, 4, 4) takes
    it, each cell by its mass."""
    turn, shift = motion[:, :3, :3], motion[:, None, :3, 3]
    wanted = moves.places @ turn.transpose(1, 2) + shift - moves.places
    share = moves.mass / moves.mass.sum(1, keepdim=True).clamp_min(1e-9)
    off = ((moves.offsets - wanted).square().sum(-1) + 1e-8).sqrt()
    return (share * off).sum(1).mean()


def volume_l1(volumes: Tensor, truth: Tensor) -> Tensor:
    """Return L1 (scalar) of volumes (B, K, J, I), relative to the truth's own mean."""
    scale = truth.mean().clamp_min(1e-9)
    return functional.l1_loss(volumes, truth) / scale
