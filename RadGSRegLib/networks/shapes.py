"""How the vertebrae of a population differ: a linear model of shape over the anchors.

Every vertebra is the anchors moved and resized by ``mean + coefficients @ modes``, in the raw
numbers that `Anchors.decode` takes (statistical shape models, Cootes et al. 1995). Some dozen
coefficients are few enough to be fitted to two X-rays (`networks.bend`).
"""

import torch
from torch import Tensor, nn

from . import bounds
from .anchors import NUMBERS


class Shapes(nn.Module):
    """``count`` modes over ``anchors`` Gaussians; zeros until they are learned
    (`training.shapes`).

    ``mean`` (N, 11) and ``modes`` (K, N, 11) are raw numbers; coefficients have mean zero and
    standard deviation one over the population.
    """

    mean: Tensor
    modes: Tensor

    def __init__(self, count: int, anchors: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(anchors, NUMBERS))
        self.register_buffer("modes", torch.zeros(count, anchors, NUMBERS))

    def __len__(self) -> int:
        return int(self.modes.shape[0])

    def raw(self, coefficients: Tensor) -> Tensor:
        """Return raw numbers (B, N, 11) of shapes (B, K)."""
        return self.mean + torch.einsum("bk,kna->bna", coefficients, self.modes)

    def nearest(self, positions: Tensor) -> Tensor:
        """Find the coefficients (K,) whose raw positions are about ``positions`` (N, 3)."""
        basis = self.modes[:, :, :3].flatten(1)
        wanted = (positions - self.mean[:, :3]).flatten()
        # The ridge keeps them small where what is asked for is no shape of the population.
        normal = basis @ basis.T + bounds.RIDGE * torch.eye(len(self)).to(basis)
        # Positive definite, so that nothing has to wait for a GPU to say whether it was solved.
        coefficients: Tensor = torch.linalg.solve_ex(normal, basis @ wanted).result
        return coefficients
