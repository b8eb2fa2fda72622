"""A cloud whose every number is free, under Adam, and that grows and shrinks while it is fitted."""

import torch
from torch import Tensor
from torch.nn import functional

from ..gaussians import GaussianCloud

# Adam's steps: means (in standard deviations at the start), log scales, quaternions, and densities
# before softplus (in typical densities).
RATES = (0.15, 0.03, 0.02, 0.06)


class FreeCloud:
    """Means, log scales, quaternions and densities before softplus, with Adam's memory.

    ``cloud`` is the start; standard deviations stay above ``narrowest_mm``; ``rates`` as `RATES`.
    ``slower``: a Gaussian narrower than the widest of the start moves by its size over that one's,
    to this power, of a step.
    """

    def __init__(
        self,
        cloud: GaussianCloud,
        narrowest_mm: float,
        rates: tuple[float, float, float, float] = RATES,
        slower: float = 0.0,
    ) -> None:
        self._rates_at_start, self._slower = rates, slower
        self._widest = float(cloud.scales.max())
        self._unit = float(cloud.densities.mean())
        self._narrowest = narrowest_mm
        self._length = float(cloud.scales.mean())
        self.tensors = [tensor.requires_grad_() for tensor in self._raw(cloud)]
        groups = [
            {"params": [tensor], "lr": rate}
            for tensor, rate in zip(self.tensors, self._rates(1.0), strict=True)
        ]
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-12)

    def _rates(self, decay: float) -> list[float]:
        means, *others = self._rates_at_start
        return [means * self._length * decay, *(rate * decay for rate in others)]

    def _raw(self, cloud: GaussianCloud) -> list[Tensor]:
        relative = (cloud.densities / self._unit).clamp_min(1e-6)
        softplus_inverse = relative + torch.log(-torch.expm1(-relative))
        scales = cloud.scales.clamp_min(self._narrowest).log()
        free = (cloud.means, scales, cloud.quaternions, softplus_inverse)
        return [tensor.detach().clone().contiguous() for tensor in free]

    def cloud(self) -> GaussianCloud:
        """The cloud as it is now, with a graph."""
        means, scales, quaternions, densities = self.tensors
        return GaussianCloud(
            means,
            scales.exp().clamp_min(self._narrowest),
            quaternions,
            self._unit * functional.softplus(densities),
        )

    def step(self, loss: Tensor, decay: float) -> Tensor:
        """One step down ``loss`` at rates times ``decay``; returns the means' gradients (N,)."""
        for group, rate in zip(self.optimizer.param_groups, self._rates(decay), strict=True):
            group["lr"] = rate
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        before = [tensor.detach().clone() for tensor in self.tensors] if self._slower else []
        self.optimizer.step()
        if self._slower:
            self._shorten(before)
        gradient = self.tensors[0].grad
        assert gradient is not None
        length: Tensor = gradient.norm(dim=1)
        return length

    @torch.no_grad()
    def _shorten(self, before: list[Tensor]) -> None:
        """Go but a part of the step from ``before``, each Gaussian by its size."""
        size = before[1].mean(1).exp()
        share = (size / self._widest).clamp_max(1.0) ** self._slower
        for tensor, old in zip(self.tensors, before, strict=True):
            tensor.copy_(old + share.view(-1, *[1] * (old.ndim - 1)) * (tensor - old))

    def state(self) -> dict[str, Tensor]:
        """All numbers by name, those of Adam's memory among them."""
        state = {}
        for number, tensor in enumerate(self.tensors):
            state[f"{number}"] = tensor.detach()
            for name, value in self.optimizer.state.get(tensor, {}).items():
                state[f"{number}.{name}"] = torch.as_tensor(value)
        return state

    def take_up(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned, of any number of Gaussians.

        Raises KeyError or ValueError where it is not that.
        """
        tensors = []
        count = len(state["0"])
        for number, (old, group) in enumerate(
            zip(self.tensors, self.optimizer.param_groups, strict=True)
        ):
            tensor = state[f"{number}"].to(old).clone().requires_grad_()
            if tensor.shape != (count, *old.shape[1:]):
                raise ValueError(f"{tuple(tensor.shape)} is not the shape of {count} Gaussians")
            self.optimizer.state.pop(old, None)
            if f"{number}.step" in state:
                memory = {
                    n: state[f"{number}.{n}"].to(old).clone() for n in ("exp_avg", "exp_avg_sq")
                }
                step = state[f"{number}.step"].clone()
                self.optimizer.state[tensor] = {"step": step, **memory}
            group["params"] = [tensor]
            tensors.append(tensor)
        self.tensors = tensors

    def keep(self, index: Tensor, added: GaussianCloud) -> None:
        """Only the Gaussians of ``index``, with their memory, and new ones without any."""
        tensors = []
        for old, new, group in zip(
            self.tensors, self._raw(added), self.optimizer.param_groups, strict=True
        ):
            state = self.optimizer.state.pop(old, {})
            tensor = torch.cat([old.detach()[index], new]).requires_grad_()
            for name in ("exp_avg", "exp_avg_sq"):
                if name in state:
                    state[name] = torch.cat([state[name][index], torch.zeros_like(new)])
            if state:
                self.optimizer.state[tensor] = state
            group["params"] = [tensor]
            tensors.append(tensor)
        self.tensors = tensors
