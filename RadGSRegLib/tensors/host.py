"""Whether the host may look at numbers of a tensor: on a GPU it would wait for all that runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

_forbidden = False


def reads_are_free(tensor: Tensor) -> bool:
    """Return whether reading numbers of a tensor costs nothing, so that work may be cut by them.

    On the CPU; elsewhere all is computed that might be needed, and masks say what counts.
    """
    return tensor.device.type == "cpu" and not _forbidden


@contextmanager
def without_host_reads() -> Iterator[None]:
    """Compute on the CPU as on a GPU, in all threads, while this is entered: for tests."""
    global _forbidden
    before, _forbidden = _forbidden, True
    try:
        yield
    finally:
        _forbidden = before
