"""How many threads torch itself may use."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Thousands of operations on small tensors: torch's own threads cost more than they bring.

    The kernels' threads (`system.warp_runtime`) stay.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
