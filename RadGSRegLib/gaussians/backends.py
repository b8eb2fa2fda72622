"""The one place that chooses a backend.

A backend is a module with the same functions: ``rasterize`` and ``rasterize_with_jacobian``, or
``voxelize``. The torch reference is the judge of every other.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from types import ModuleType

import torch

RASTERIZERS = {"torch": "torch_backend", "warp": "warp_backend", "gsplat": "gsplat_backend"}
VOXELIZERS = {"torch": "torch_backend", "warp": "warp_voxel_backend"}


@lru_cache(maxsize=1)
def _warp_problem() -> str:
    from ..system.warp_runtime import start

    try:
        start()
    except Exception as error:
        return f"warp-lang does not start ({error})"
    return ""


@lru_cache(maxsize=1)
def _gsplat_problem() -> str:
    if not torch.cuda.is_available():
        return "needs a CUDA device, and torch finds none"
    try:
        import gsplat  # noqa: F401
    except Exception as error:
        return f"gsplat cannot be imported ({error})"
    return ""


def available_backends() -> dict[str, str]:
    """Every backend with an empty string where it works here, or the reason why it does not."""
    return {"torch": "", "warp": _warp_problem(), "gsplat": _gsplat_problem()}


def choose(
    backend: str, device: torch.device, dtype: torch.dtype, purpose: str = "rasterize"
) -> ModuleType:
    """The module to use: the fastest that works on the device, or the one asked for.

    ``auto`` keeps the precision asked for: float64 goes to the torch reference, float32 and less to
    warp, which computes in float32. ``purpose`` is "rasterize" or "voxelize". Raises RuntimeError
    for a backend that does not work here, and ValueError for an unknown name.
    """
    modules = VOXELIZERS if purpose == "voxelize" else RASTERIZERS
    if backend == "auto":
        fast = device.type in ("cpu", "cuda") and dtype != torch.float64 and not _warp_problem()
        backend = "warp" if fast else "torch"
    if backend not in modules:
        known = ", ".join(["auto", *modules])
        raise ValueError(f"there is no backend {backend!r} to {purpose}; there are {known}")
    problem = available_backends()[backend]
    if problem:
        raise RuntimeError(f"the backend {backend} is not available: {problem}")
    return import_module(f"{__package__}.{modules[backend]}")


def warm_up(device: torch.device | str = "cpu") -> None:
    """Compile, or load from warp's cache on disk, the kernels that calls on a device will need.

    Otherwise the first call does it: seconds once per machine and version, milliseconds after that.
    Does nothing where warp does not work.
    """
    place = torch.device(device)
    if _warp_problem() or place.type not in ("cpu", "cuda"):
        return
    import warp as wp

    names = ["warp_kernels", "warp_voxel_kernels"]
    if place.type == "cpu":
        names.append("warp_setup_kernel")
    if place.type == "cuda":
        names.append("warp_gather_kernels")
    for name in names:
        module = import_module(f"{__package__}.{name}")
        wp.load_module(module, device=wp.device_from_torch(place))
