"""Counting where the host reads a tensor's numbers, for which it would wait on a GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch

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


@contextmanager
def counted_host_reads() -> Iterator[Counter[str]]:
    """Count the calls, on all threads, of what brings numbers of a tensor to the host."""
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
        yield heard
