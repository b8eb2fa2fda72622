"""What a RecM with landmarks knows of the vertebrae of a batch, where each has a shape of its own.

A patient's model knows one vertebra, its anchors. A model of many, whose shapes are known too (as
in the training that a patient's goes on from), is told those of its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..gaussians import GaussianCloud
from .correspondence import extents


@dataclass(frozen=True)
class KnownVertebrae:
    """``clouds``: B of them, and their ``landmarks`` (B, N, 3), mm, all in the anchors' axes."""

    clouds: tuple[GaussianCloud, ...]
    landmarks: Tensor

    @classmethod
    def of(
        cls, clouds: Sequence[GaussianCloud], landmarks: Tensor, anchors: GaussianCloud
    ) -> KnownVertebrae:
        """Put the ``landmarks`` (N, 3) of ``anchors`` on each vertebra, as much further apart along
        each axis as it is larger."""
        usual = extents(anchors)
        stretch = torch.stack([extents(cloud) for cloud in clouds]).to(usual) / usual
        return cls(tuple(clouds), landmarks * stretch[:, None].to(landmarks))

    def first(self, count: int) -> KnownVertebrae:
        """Return the first ``count``."""
        return KnownVertebrae(self.clouds[:count], self.landmarks[:count])

    def posed(self, poses: Tensor) -> list[GaussianCloud]:
        """Return the clouds where ``poses`` (B, 4, 4) put them."""
        pairs = zip(self.clouds, poses, strict=True)
        return [cloud.to(pose.device).transformed(pose) for cloud, pose in pairs]
