"""The one place that chooses a backend.

A backend is a file with the same functions as the torch reference of its purpose, which is the
judge of every other. The rooms that compute name theirs here; a guest is added without an edit:
``RASTERIZERS.add(Backend("mine", "my_package.my_rasterizer"))``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The command line starts before anything heavy is loaded.
    import torch

    Suits = Callable[[torch.device, torch.dtype], bool]


@dataclass(frozen=True)
class Backend:
    """One way to compute something.

    ``module``: the full name of the file with its functions, imported when it is first chosen;
    ``suits``: whether "auto" may take it for tensors on a device and of a dtype; ``problem``: why
    it does not work on this machine, or an empty string; ``by_itself``: "auto" may take it without
    `preferring` it.
    """

    name: str
    module: str
    suits: Suits = lambda device, dtype: True
    problem: Callable[[], str] = str  # which says nothing
    by_itself: bool = True


class Backends:
    """The backends of one purpose ("rasterize", "project", ...), the torch reference first."""

    def __init__(self, purpose: str, *backends: Backend) -> None:
        self.purpose = purpose
        self._backends = {backend.name: backend for backend in backends}
        _EVERY.append(self)

    def add(self, backend: Backend) -> None:
        """Let a backend take part; "auto" prefers it to those before it."""
        self._backends[backend.name] = backend

    def remove(self, name: str) -> None:
        """Take a backend out again."""
        del self._backends[name]

    def problems(self) -> dict[str, str]:
        """Every backend with an empty string where it works here, or the reason why not."""
        return {name: backend.problem() for name, backend in self._backends.items()}

    def choose(self, name: str, device: torch.device, dtype: torch.dtype) -> ModuleType:
        """The module to use: the one asked for, or for "auto" the one that is `preferring`'s, else
        the last that suits and works.

        Raises RuntimeError for a backend that does not work here, and ValueError for a name that
        is not known.
        """
        if name == "auto":
            backends = [b for b in reversed(self._backends.values()) if b.suits(device, dtype)]
            asked = [b for b in backends if b.name == _preferred]
            others = [b for b in backends if b.by_itself]
            chosen = next(b for b in asked + others if not b.problem())
            return import_module(chosen.module)
        if name not in self._backends:
            known = ", ".join(["auto", *self._backends])
            raise ValueError(f"there is no backend {name!r} to {self.purpose}; there are {known}")
        problem = self._backends[name].problem()
        if problem:
            raise RuntimeError(f"the backend {name} is not available: {problem}")
        return import_module(self._backends[name].module)


_EVERY: list[Backends] = []
_preferred = "auto"


@contextmanager
def preferring(name: str) -> Iterator[None]:
    """Let "auto" mean the backend ``name``, in all threads, while this is entered.

    It still means another one for purposes that have none of that name, and for tensors that it
    does not suit.
    """
    global _preferred
    before, _preferred = _preferred, name
    try:
        yield
    finally:
        _preferred = before


def available_backends() -> dict[str, str]:
    """The backends of all purposes that are loaded: empty where one works here, or why not."""
    return {name: why for backends in _EVERY for name, why in backends.problems().items()}


@lru_cache(maxsize=1)
def _warp_problem() -> str:
    from .warp_runtime import start_warp

    try:
        start_warp()
    except Exception as error:
        return f"warp-lang does not start ({error})"
    return ""


def _suits_warp(device: torch.device, dtype: torch.dtype) -> bool:
    """Its kernels compute in float32: "auto" keeps the precision asked for."""
    import torch

    return device.type in ("cpu", "cuda") and dtype != torch.float64


def on_torch(module: str) -> Backend:
    """The reference of a purpose."""
    return Backend("torch", module)


def on_warp(module: str) -> Backend:
    """A backend on warp's kernels."""
    return Backend("warp", module, _suits_warp, _warp_problem)
