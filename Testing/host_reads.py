"""Counting where the host reads a tensor's numbers, for which it would wait on a GPU.

By name: methods of a tensor that hand numbers to Python, and operations that do so inside torch
(the size of an answer that depends on numbers, a solver that reports its failure).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

READS = (
    "item",
    "cpu",
    "numpy",
    "tolist",
    "nonzero",
    "__bool__",
    "__float__",
    "__int__",
    "__index__",
    "__array__",
)


# Beside those that READS call.
OPERATIONS = (
    "is_nonzero",
    "masked_select",
    "unique",
    "equal",
    "_linalg_check_errors",
    "bincount",
    "repeat_interleave.Tensor",
)


class _Listening(TorchDispatchMode):
    def __init__(self, heard: Counter[str]) -> None:
        super().__init__()
        self._heard = heard

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.")
        if any(name == wanted or name.startswith(f"{wanted}.") for wanted in OPERATIONS):
            self._heard[name] += 1
        if name.startswith("index") and len(args) > 1 and isinstance(args[1], list | tuple):
            masks = [part for part in args[1] if part is not None and part.dtype == torch.bool]
            self._heard["index by a mask"] += len(masks)
        return func(*args, **(kwargs or {}))


@contextmanager
def counted_host_reads() -> Iterator[Counter[str]]:
    """Count the calls of what brings numbers of a tensor to the host: methods on all threads,
    operations on this one."""
    heard: Counter[str] = Counter()

    def listening(name: str) -> Callable[..., Any]:
        read = getattr(torch.Tensor, name)

        def heard_read(self: torch.Tensor, *arguments: Any, **more: Any) -> Any:
            heard[name] += 1
            return read(self, *arguments, **more)

        return heard_read

    with ExitStack() as stack:
        for name in READS:
            stack.enter_context(mock.patch.object(torch.Tensor, name, listening(name)))
        stack.enter_context(_Listening(heard))
        yield heard
