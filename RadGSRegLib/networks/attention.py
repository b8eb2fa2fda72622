"""Counterfactual attention learning (eq. 1): bilinear attention pooling and its intervention.

Attention maps A weight the features X; what the head makes of them is Y(A, X). The intervention
do(A = A_bar) replaces the maps by ones that know nothing: random in training, uniform at inference,
so that inference is deterministic.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class AttentionPool(nn.Module):
    """Features (N, D, h, w) to a vector (N, ``outputs``) by M attention maps.

    Bilinear attention pooling (features summed under each map, signed square root, L2 norm; Rao et
    al. 2021, reference 22 of the paper) says what is there. Beside it stand the features under the
    mean of the maps, on a grid of ``grid`` x ``grid`` cells: a pose needs to know *where*.
    """

    def __init__(self, channels: int, maps: int, grid: int = 4) -> None:
        super().__init__()
        self.maps, self.grid = maps, grid
        self.attend = nn.Conv2d(channels, maps, 1)
        self.outputs = maps * channels + channels * grid * grid

    def attention(self, features: Tensor) -> Tensor:
        """Return the factual maps (N, M, h, w), positive, with mean one over each map."""
        raw = functional.softplus(self.attend(features))
        return raw / raw.mean((-2, -1), keepdim=True).clamp_min(1e-6)

    def pool(self, features: Tensor, attention: Tensor) -> Tensor:
        """Return pooled features (N, outputs) under given maps."""
        pixels = features.shape[-1] * features.shape[-2]
        pooled = torch.einsum("nmhw,ndhw->nmd", attention, features).flatten(1) / pixels
        pooled = torch.sign(pooled) * (pooled.abs() + 1e-6).sqrt()
        what = functional.normalize(pooled, dim=1) * pooled.shape[1] ** 0.5
        attended = features * attention.mean(1, keepdim=True)
        where = functional.adaptive_avg_pool2d(attended, self.grid).flatten(1)
        return torch.cat([what, where], dim=1)

    def counterfactual(self, attention: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return maps that know nothing: uniform in [0, 2) per pixel while training, else all ones.

        ``generator`` (on the CPU) makes the random ones repeatable.
        """
        if not self.training:
            return torch.ones_like(attention)
        drawn = torch.rand(attention.shape, generator=generator, dtype=torch.float32)
        return (2.0 * drawn).to(attention.device, attention.dtype)
