"""Compiling the kernels before they are needed."""

from importlib import import_module

import torch

from ..system import BLOCK, available_backends

_KERNELS = ("warp_kernels", "warp_motion_kernel", "warp_setup_kernel", "warp_voxel_kernels")
_KERNELS_ON: dict[str, tuple[str, ...]] = {
    "cpu": (),
    "cuda": ("warp_gather_kernels", "warp_body_kernels"),
}


def warm_up(device: torch.device | str = "cpu") -> None:
    """Compile, or load from warp's cache on disk, the kernels that calls on a device will need.

    Otherwise the first call does it: seconds once per machine and version, milliseconds after that.
    Does nothing where warp does not work.
    """
    place = torch.device(device)
    if available_backends()["warp"] or place.type not in _KERNELS_ON:
        return
    import warp as wp

    for name in (*_KERNELS, *_KERNELS_ON[place.type]):
        module = import_module(f"{__package__}.{name}")
        # Another size of block is another program.
        block = BLOCK if place.type == "cuda" else None
        wp.load_module(module, device=wp.device_from_torch(place), block_dim=block)
