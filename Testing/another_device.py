"""A device beside the CPU where there is none: torch's "meta", whose tensors have no numbers.

Whatever mixes devices raises there, as on a GPU. What the host reads is made up: rigid transforms
are identities, intrinsics those of some camera, whole numbers 0, all else lies between 0.2 and 0.7
and is true.
Renderings are empty pictures, made where bodies, lenses and poses are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from RadGSRegLib.drr import torch_backend as projector
from RadGSRegLib.gaussians import torch_bodies
from RadGSRegLib.system import parallel, preferring

DEVICE = torch.device("meta")


def _made_up(tensor: Tensor) -> Tensor:
    if tensor.device != DEVICE:
        return tensor
    shape, dtype = tensor.shape, tensor.dtype
    if shape[-2:] == (4, 4):
        return torch.eye(4, dtype=dtype).expand(shape).clone()
    if shape[-2:] == (3, 3):
        camera = [[800.0, 0.0, 63.0], [0.0, 800.0, 63.0], [0.0, 0.0, 1.0]]
        return torch.tensor(camera, dtype=dtype).expand(shape).clone()
    if not dtype.is_floating_point:
        made = torch.ones if dtype == torch.bool else torch.zeros
        return made(shape, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    return (0.2 + 0.5 * torch.rand(shape, generator=generator)).to(dtype)


def _reading(name: str) -> Callable[..., Any]:
    read = getattr(Tensor, name)
    return lambda self, *arguments, **more: read(_made_up(self), *arguments, **more)


def _moving() -> Callable[..., Any]:
    move = Tensor.to

    def moved(self: Tensor, *arguments: Any, **more: Any) -> Any:
        wanted = more.get("device", arguments[0] if arguments else None)
        if isinstance(wanted, Tensor):
            wanted = wanted.device
        to_host = isinstance(wanted, str | torch.device) and torch.device(wanted).type == "cpu"
        return move(_made_up(self) if to_host else self, *arguments, **more)

    return moved


class _Indexing(TorchFunctionMode):
    """Masks take all: how many they take is a number too.

    A mode and no patch: a class that once had a ``__getitem__`` of its own passes for a sequence
    ever after.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "__getitem__" and args[0].device == DEVICE:
            parts = args[1] if isinstance(args[1], tuple) else (args[1],)
            masks = [isinstance(p, Tensor) and p.dtype == torch.bool for p in parts]
            if any(masks):
                pairs = zip(parts, masks, strict=True)
                args = (args[0], tuple(slice(None) if mask else part for part, mask in pairs))
        return func(*args, **(kwargs or {}))


def _listed() -> Callable[..., Any]:
    """All elements of a mask, as in `_Indexing`."""
    find = Tensor.nonzero

    def listed(self: Tensor, **more: Any) -> Any:
        if self.device != DEVICE:
            return find(self, **more)
        return find(torch.ones(self.shape, dtype=torch.bool), **more).to(DEVICE)

    return listed


def _drawn(planes: int | None, bodies: Any, lenses: Any, *poses: Any) -> Tensor:
    places = [part.device for part in (bodies.table, lenses, *poses) if not isinstance(part, float)]
    assert set(places) == {DEVICE}, places
    columns, rows = lenses.size
    shape = (len(lenses), len(bodies), *(() if planes is None else (planes,)), rows, columns)
    return torch.empty(shape, device=DEVICE)


def _projected(planes: int | None, voxels: Any, rays: Any, *depths: Tensor) -> Tensor:
    parts = (voxels, rays.directions, rays.camera_to_index, rays.planes, *depths)
    assert {part.device for part in parts} == {DEVICE}
    views, _, count = rays.directions.shape
    shape = (views, count) if planes is None else (views, planes, count)
    return torch.empty(shape, device=DEVICE)


@contextmanager
def another_device() -> Iterator[torch.device]:
    """Let `DEVICE` pass for a GPU while this is entered."""
    changes: list[tuple[Any, str, Any]] = [
        (Tensor, name, _reading(name))
        for name in ("cpu", "tolist", "item", "__float__", "__int__", "__bool__", "__index__")
    ]
    changes += [
        (Tensor, "to", _moving()),
        # Modes are a thread's own.
        (parallel, "core_count", lambda: 1),
        (Tensor, "nonzero", _listed()),
        (torch, "autocast", lambda *asked, **more: nullcontext()),
        (torch_bodies, "rasterize", lambda *scene: _drawn(None, *scene)),
        (
            torch_bodies,
            "rasterize_with_jacobian",
            lambda *scene: (_drawn(None, *scene), _drawn(6, *scene)),
        ),
        (projector, "project_pictures", lambda *scene: _projected(None, *scene)),
        (projector, "project_pictures_with_moments", lambda *scene: _projected(7, *scene)),
    ]
    with ExitStack() as stack:
        stack.enter_context(preferring("torch"))
        for place, name, change in changes:
            stack.enter_context(mock.patch.object(place, name, change))
        stack.enter_context(_Indexing())
        yield DEVICE
