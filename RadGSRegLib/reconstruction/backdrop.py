"""Something smooth behind the box: a quadratic per view, solved for rather than fitted.

A fresh cloud fills a box only; the trunk around it adds an offset that changes slowly over the
image. Whatever a quadratic explains of the difference between X-ray and rendering is taken for that
(variable projection: at every step the best quadratic, by weighted least squares, in closed form).
"""

import torch
from torch import Tensor


class Backdrop:
    """The projection onto quadratics of the pixel's place, within a mask (rows, columns)."""

    def __init__(self, weight: Tensor) -> None:
        rows, columns = weight.shape
        # In float64, so that what the linear algebra rounds one way or another does not show.
        kind, weight = weight.dtype, weight.double()
        y = torch.linspace(-1.0, 1.0, rows, dtype=weight.dtype, device=weight.device)[:, None]
        x = torch.linspace(-1.0, 1.0, columns, dtype=weight.dtype, device=weight.device)[None]
        one = torch.ones_like(weight)
        terms = torch.stack([one, x * one, y * one, x * x * one, x * y, y * y * one])
        root = weight.sqrt()
        # Orthonormal under the weight.
        basis = torch.linalg.qr((terms * root).reshape(6, -1).T)[0]
        coefficients = torch.linalg.lstsq((terms * root).reshape(6, -1).T, basis).solution
        self._terms = torch.einsum("tk,trc->krc", coefficients, terms).to(kind)
        self._weight = weight.to(kind)

    def of(self, difference: Tensor) -> Tensor:
        """The quadratic (rows, columns) nearest to ``difference``."""
        amounts = (self._terms * (self._weight * difference)).sum((1, 2))
        return torch.einsum("k,krc->rc", amounts, self._terms)
