"""How many threads torch itself may use."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def with_torch_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads for one operation; the kernels' threads
    (`system.warp_runtime`) stay."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Thousands of operations on small tensors: torch's own threads cost more than they bring."""
    with with_torch_threads(1):
        yield
