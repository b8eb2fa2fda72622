"""Adam for short fits."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """torch's own Adam in its functional form.

    `torch.optim.Adam` imports torch's compiler when it is made, which takes a second or two of
    every new process, as long as the fits themselves.
    """

    def __init__(self, parameters: Sequence[Tensor], betas: tuple[float, float]) -> None:
        self.parameters = list(parameters)
        self.betas = betas
        self._first = [torch.zeros_like(p) for p in self.parameters]
        self._second = [torch.zeros_like(p) for p in self.parameters]
        self._steps = [torch.tensor(0.0) for _ in self.parameters]

    def step(self, loss: Tensor, rate: float) -> None:
        """One step at ``rate`` down the gradient of ``loss`` (scalar)."""
        gradients = list(torch.autograd.grad(loss, self.parameters))
        with torch.no_grad():
            adam(
                self.parameters,
                gradients,
                self._first,
                self._second,
                [],
                self._steps,
                foreach=False,
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=rate,
                weight_decay=0.0,
                eps=1e-8,
                maximize=False,
            )
