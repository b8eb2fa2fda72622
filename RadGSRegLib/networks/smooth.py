"""How one vertebra may have changed: smoothly, and as far as such changes are likely.

A Gaussian process morphable model (Luethi et al., IEEE TPAMI 2018): displacements of neighbouring
points are alike, whatever the vertebra, and their likeliest combinations are the modes. So may a
broken, cut or worn vertebra differ from its own CT, of which no other vertebra tells.
"""

import torch
from torch import Tensor

from ..gaussians import GaussianCloud
from ..tensors import skew
from . import bounds
from .anchors import Anchors
from .correspondence import spread_landmarks
from .shapes import Shapes


def smooth_shapes(anchors: Anchors) -> Shapes:
    """Return the modes of smooth displacements of a vertebra's Gaussians, coefficients of variance
    one, the likeliest first.

    No displacement moves the vertebra as a whole: rigid motions are taken off (least squares over
    the Gaussians). Gaussians keep their sizes and directions (docs/experiments/networks.md).

    Example:
        >>> shapes = smooth_shapes(model.recm.anchors)
        >>> shapes.raw(torch.zeros(1, len(shapes))).abs().max().item()
        0.0
    """
    still = anchors.cloud().detach().to("cpu", torch.float64)
    moves = _without_rigid(still.means, _displacements(still)).flatten(0, 1)
    combine = torch.linalg.eigh(moves.mT @ moves).eigenvectors.flip(1)[:, : bounds.SMOOTH_MODES]
    shapes = Shapes(combine.shape[1], len(still))
    # Raw positions are shares of how far a Gaussian may go.
    shapes.modes[..., :3] = (moves @ combine / anchors.reach_mm).mT.unflatten(1, (-1, 3))
    return shapes


def _displacements(cloud: GaussianCloud) -> Tensor:
    """Independent displacements (N, 3, K) mm, of variance one each, that sum up to the process."""
    nodes = spread_landmarks(cloud, min(bounds.SMOOTH_NODES, len(cloud))).to(cloud.means)
    values, vectors = torch.linalg.eigh(_alike(nodes, nodes))
    kept = values > 1e-6 * values.max()
    # Nystroem: from some points to all others, as the process itself would.
    values_at = _alike(cloud.means, nodes) @ (vectors[:, kept] / values[kept].sqrt())
    axes = torch.eye(3).to(values_at)
    return torch.einsum("nk,ij->nijk", values_at, axes).flatten(2)


def _alike(a: Tensor, b: Tensor) -> Tensor:
    """How much displacements of points (N, 3) and (M, 3) go together (N, M), mm^2."""
    apart = torch.cdist(a, b) / bounds.SMOOTH_MM
    return bounds.SMOOTH_CHANGE_MM**2 * torch.exp(-0.5 * apart.square())


def _without_rigid(points: Tensor, moves: Tensor) -> Tensor:
    """Displacements (N, 3, K) of points (N, 3) less the nearest rigid motions, to first order."""
    turns = -skew(points - points.mean(0))
    shifts = torch.eye(3).to(turns).expand_as(turns)
    rigid, _ = torch.linalg.qr(torch.cat([turns, shifts], -1).flatten(0, 1))
    flat = moves.flatten(0, 1)
    left: Tensor = flat - rigid @ (rigid.mT @ flat)
    return left.view_as(moves)
