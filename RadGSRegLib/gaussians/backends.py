"""The one place that chooses a backend."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Literal

import torch

BackendName = Literal["auto", "torch", "warp", "gsplat"]


@lru_cache(maxsize=1)
def _warp_problem() -> str:
    try:
        import warp  # noqa: F401
    except Exception as error:
        return f"warp-lang cannot be imported ({error})"
    return ""


def _module(name: str) -> ModuleType:
    from . import torch_backend

    if name == "torch":
        return torch_backend
    if name == "warp":
        problem = _warp_problem()
        if problem:
            raise RuntimeError(f"the warp backend is not available: {problem}")
        from . import warp_backend

        return warp_backend
    raise ValueError(f"no backend is called {name!r}; there are auto, torch, warp")


def choose(backend: str, device: torch.device, dtype: torch.dtype) -> ModuleType:
    """The module to use: the fastest that works on the device, or the one asked for.

    ``auto`` keeps the precision asked for: float64 goes to the torch reference (warp and gsplat
    compute in float32). Raises RuntimeError where a backend asked for by name is not available, and
    ValueError for an unknown name.
    """
    if backend != "auto":
        return _module(backend)
    if dtype == torch.float64 or _warp_problem() or device.type not in ("cpu", "cuda"):
        return _module("torch")
    return _module("warp")


def available_backends() -> dict[str, str]:
    """Every backend with an empty string where it works here, or the reason why it does not."""
    return {"torch": "", "warp": _warp_problem()}
