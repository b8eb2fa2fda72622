"""Where each of a vertebra's landmarks is in each picture: attention over a map of features.

A landmark is a point that moves with the anchors. Its query, compared with the features of every
cell, gives an attention map (what RecM's anchors attend to, one map per landmark and view). The
map's mean is where the landmark projects, to a fraction of a cell; how much to trust that, the
network says too. `pose_solver` turns the places of all landmarks in all views into a pose.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..gaussians import GaussianCloud
from ..tensors import applied

# A query meets features of this many numbers.
_NUMBERS = 48
# Logits are dot products over the root of their length (Vaswani et al., 2017), times this: maps
# begin nearly flat and have to become as narrow as a cell. Neither this nor the two below were
# varied.
_SHARPNESS = 4.0
# Landmarks lie this share of the way from the middle to the outermost Gaussians.
_INSIDE = 0.9
# A landmark's attention is asked to be as wide as this, in cells (one standard deviation).
_WIDTH = 0.75


class Places(NamedTuple):
    """``logits`` (B, V, N, h, w) and the ``attention`` they mean, its sum one over each map;
    ``pixels`` (B, V, N, 2), x then y, of the crop; ``weights`` (B, V, N), positive: how much to
    trust each."""

    logits: Tensor
    attention: Tensor
    pixels: Tensor
    weights: Tensor


class Correspondence(nn.Module):
    """Feature maps (B, V, F, h, w) to the `Places` of landmarks (N, 3), mm in the anchors' axes.

    Frontal and lateral views have queries of their own. ``up`` (3,): which way is up, in the
    anchors' axes: the third axis of those that many vertebrae share.
    """

    landmarks: Tensor
    up: Tensor

    def __init__(self, features: int, count: int) -> None:
        super().__init__()
        self.register_buffer("landmarks", torch.zeros(count, 3))
        self.register_buffer("up", torch.tensor([0.0, 0.0, 1.0]))
        self.reduce = nn.Conv2d(features, _NUMBERS, 1)
        self.queries = nn.Parameter(0.3 * torch.randn(2, count, _NUMBERS))
        self.trust = nn.Linear(_NUMBERS + 2, 1)
        self.usual = nn.Parameter(torch.zeros(2, count))

    def set_landmarks(self, cloud: GaussianCloud) -> None:
        """Spread the landmarks over a cloud."""
        self.landmarks = spread_landmarks(cloud, len(self.landmarks)).to(self.queries.device)

    def move(self, shared_to_own: Tensor) -> None:
        """Put the landmarks, until now in axes (mm) that many vertebrae share, on one of them:
        ``shared_to_own`` (4, 4) says where these axes are in its own."""
        moved = shared_to_own.to(self.landmarks)
        self.landmarks = applied(moved, self.landmarks)
        self.up = moved[:3, :3] @ self.up

    def forward(self, maps: Tensor, lateral: Tensor, size_px: int) -> Places:
        """``lateral`` (B, V): which views are; ``size_px``: the pictures' edge."""
        count, views = maps.shape[:2]
        features = self.reduce(maps.flatten(0, 1)).unflatten(0, (count, views)).float()
        kind = lateral[..., None].to(features.dtype)
        queries = torch.lerp(self.queries[0], self.queries[1], kind[..., None])
        logits = torch.einsum("bvnd,bvdhw->bvnhw", queries, features)
        logits = logits * (_SHARPNESS / math.sqrt(_NUMBERS))
        attention = logits.flatten(-2).softmax(-1)
        cells = cell_centres(logits, size_px)
        pixels = attention @ cells
        spread = (attention @ cells.square() - pixels.square()).sum(-1).clamp_min(1e-4)
        attended = torch.einsum("bvnp,bvdp->bvnd", attention, features.flatten(-2))
        sureness = torch.stack([spread.log(), attention.amax(-1)], -1)
        trust = self.trust(torch.cat([attended, sureness], -1))[..., 0]
        trust = trust + torch.lerp(self.usual[0], self.usual[1], kind)
        weights = functional.softplus(trust + 1.0)
        return Places(logits, attention.view_as(logits), pixels, weights)


def cell_centres(maps: Tensor, size_px: int) -> Tensor:
    """Return the pixels (h * w, 2), x then y, of the cells of maps (..., h, w) of a picture."""
    height, width = maps.shape[-2:]
    x = (torch.arange(width, device=maps.device) + 0.5) * (size_px / width) - 0.5
    y = (torch.arange(height, device=maps.device) + 0.5) * (size_px / height) - 0.5
    return torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], -1).flatten(0, 1)


def attention_loss(places: Places, truth_px: Tensor, size_px: int) -> Tensor:
    """Cross-entropy (scalar) between the attention of landmarks and where they are (B, V, N, 2).

    The wanted map is a Gaussian of three quarters of a cell. What lies outside of a picture counts
    nothing.
    """
    height, width = places.logits.shape[-2:]
    centres = cell_centres(places.logits, size_px).view(height, width, 2)
    sigma = _WIDTH * size_px / width
    along_x, along_y = (
        torch.exp(-0.5 * ((line - truth_px[..., n, None]) / sigma) ** 2)
        for n, line in enumerate((centres[0, :, 0], centres[:, 0, 1]))
    )
    wanted = along_y[..., :, None] * along_x[..., None, :]
    mass = wanted.sum((-2, -1))
    # Half of the Gaussian's mass on cells: its middle is inside.
    inside = (mass > 0.5 * 2.0 * math.pi * _WIDTH**2).to(mass.dtype)
    log = places.logits.flatten(-2).log_softmax(-1)
    entropy = -(wanted.flatten(-2) * log).sum(-1) / mass.clamp_min(1e-9)
    return (entropy * inside).sum() / inside.sum().clamp_min(1.0)


def spread_landmarks(cloud: GaussianCloud, count: int) -> Tensor:
    """Choose ``count`` points (count, 3) mm, far from each other, among a cloud's Gaussians: the
    outermost first, then always the one farthest from all chosen. A small cloud's repeat."""
    means = cloud.detach().means.float().cpu()
    middle = means.mean(0)
    chosen = [int((means - middle).norm(dim=1).argmax())]
    apart = (means - means[chosen[0]]).norm(dim=1)
    while len(chosen) < count:
        chosen.append(int(apart.argmax()))
        apart = torch.minimum(apart, (means - means[chosen[-1]]).norm(dim=1))
    return middle + _INSIDE * (means[chosen] - middle)
