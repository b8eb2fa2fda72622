"""Starting warp quietly, and running its CPU launches side by side.

Warp runs a launch on the CPU serially, with the interpreter's lock released. Work is therefore
split into several launches over disjoint outputs, one per thread, so that the result does not
depend on how many threads there are.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING, Any

from .parallel import core_count, worker_count

if TYPE_CHECKING:
    # The command line starts before anything heavy is loaded.
    import torch
    from torch import Tensor

# Threads to a block on CUDA. A launch has thousands of threads with much work each: in blocks of 64
# they are spread over all multiprocessors (132 on an H100), and these can still be full of them (16
# blocks on Turing and Ampere, 32 on Hopper). From these numbers; not measured.
BLOCK = 64
# Kernels count threads and places in arrays in 32 bits.
_MOST = 2**31 - 1


def _has_cuda_driver() -> bool:
    names = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so", "libcuda.so.1")
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


_STARTING = Lock()


@lru_cache(maxsize=1)
def start_warp() -> None:
    """Initialise warp once, without banner or warnings on the terminal.

    Raises ImportError where warp is not installed or does not load.
    """
    # Two threads at a time would take each other's silence for the terminal.
    with _STARTING:
        _start()


@lru_cache(maxsize=1)
def _start() -> None:
    import warp as wp

    config: Any = wp.config
    if hasattr(wp, "LOG_ERROR"):
        config.log_level = wp.LOG_ERROR
    else:  # older releases have one switch
        config.quiet = True
    if _has_cuda_driver():
        wp.init()
        return
    # Without a CUDA driver warp's native part prints a warning that no setting silences.
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        wp.init()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=core_count(), thread_name_prefix="radgsreg-kernel")


def run_jobs(jobs: Sequence[Callable[[], object]]) -> None:
    """Run jobs that write to disjoint places, side by side where there is more than one."""
    futures = [_pool().submit(job) for job in jobs[1:]]
    if jobs:
        jobs[0]()
    for future in futures:
        future.result()


def split(count: int, parts: int) -> list[tuple[int, int]]:
    """``count`` things in at most ``parts`` ranges of about the same length, none empty."""
    edges = sorted({count * part // parts for part in range(parts + 1)})
    return list(pairwise(edges))


def balanced_edges(positions: Tensor, length: int, parts: int) -> list[int]:
    """Edges from 0 to ``length`` of at most ``parts`` bands, about as many positions in each."""
    import numpy as np

    inside = np.clip(positions.detach().numpy(), 0, length)
    ranks = [len(inside) * part // parts for part in range(1, parts)]
    if len(inside) == 0:
        return [0, length]
    cuts = np.nan_to_num(np.partition(inside, ranks)[ranks])
    return sorted({0, length, *(int(cut) for cut in cuts)})


def flat_array(tensor: Tensor, dtype: torch.dtype | None = None) -> Any:
    """A flat warp array on the memory of a contiguous tensor of a ``dtype``: float32 unless given,
    int32 or uint8.

    Kernels read the memory as it lies: raises ValueError for a tensor of another dtype, with gaps
    or in another order, and for more than 2^31 - 1 numbers.
    """
    import torch
    import warp as wp

    start_warp()
    kinds = {torch.float32: wp.float32, torch.int32: wp.int32, torch.uint8: wp.uint8}
    wanted = dtype or torch.float32
    if tensor.dtype != wanted:
        raise ValueError(f"a kernel that reads {wanted} was given {tensor.dtype}")
    if not tensor.is_contiguous():
        raise ValueError(f"a kernel was given a tensor with strides {tensor.stride()}")
    if tensor.numel() > _MOST:
        raise ValueError(f"a kernel was given {tensor.numel()} numbers at once, at most {_MOST}")
    return wp.from_torch(tensor.view(-1), dtype=kinds[wanted], requires_grad=False)


def launch(kernel: Any, count: int, inputs: Sequence[Any], like: Tensor) -> None:
    """Run ``count`` threads of a kernel where the tensor ``like`` is, in torch's order of work.

    Raises ValueError for arrays that are elsewhere, which warp would pass on to the kernel, and
    for more than 2^31 - 1 threads.
    """
    import warp as wp

    if count > _MOST:
        raise ValueError(f"{kernel.key} was given {count} threads at once, at most {_MOST}")
    stream = wp.stream_from_torch(like.device) if like.is_cuda else None
    device = wp.get_device("cpu") if stream is None else stream.device
    for place, value in enumerate(inputs):
        if isinstance(value, wp.array) and value.device != device:
            raise ValueError(
                f"argument {place} of {kernel.key} is on {value.device}, the launch on {device}"
            )
    if stream is None:
        wp.launch(kernel, dim=count, inputs=inputs, device=device)
    else:
        wp.launch(kernel, dim=count, inputs=inputs, stream=stream, block_dim=BLOCK)


def launch_in_parts(
    kernel: Any, count: int, inputs: Callable[[int], Sequence[Any]], like: Tensor
) -> None:
    """`launch` in ranges side by side: as many as there are cores, on CUDA a single range.

    ``inputs``: those of the range that begins at a thread's number; ranges write to disjoint
    places.
    """
    parts = split(count, 1 if like.is_cuda else worker_count())
    run_jobs([partial(launch, kernel, end - begin, inputs(begin), like) for begin, end in parts])


def launch_serially(kernel: Any, count: int, inputs: Sequence[Any], like: Tensor) -> None:
    """`launch` for a kernel whose threads add to shared places without atomics.

    Warp runs the threads of a launch on the CPU one after the other; raises ValueError elsewhere.
    """
    if like.is_cuda:
        raise ValueError(f"{kernel.key} adds without atomics: it runs on the CPU alone")
    launch(kernel, count, inputs, like)
