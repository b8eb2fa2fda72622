"""Views side by side: they do not wait for each other, and what they give is taken in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

from ..warp_runtime import worker_count

T = TypeVar("T")
R = TypeVar("R")


def over_views(function: Callable[[T], R], views: Iterable[T]) -> list[R]:
    """``function`` of each view, on as many threads as this process may use.

    Not to be called by such a function itself: it would wait for a thread that waits for it. What
    computes with torch is to be called within `gaussians.fit.one_torch_thread`: else each of these
    threads has torch's threads too, and keeps them for ever.
    """
    return list(_pool().map(function, views))


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=worker_count(), thread_name_prefix="radgsreg-view")
