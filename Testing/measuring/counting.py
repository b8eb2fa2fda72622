"""Operations and bytes of whatever torch really does, counted while it does it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from RadGSRegLib.system import parallel

# Per value that goes in, not per value that comes out.
_REDUCTIONS = {
    "sum", "mean", "amax", "amin", "max", "min", "argmax", "argmin", "norm", "linalg_vector_norm",
    "prod", "var", "std", "any", "all", "cumsum", "avg_pool2d", "median", "count_nonzero",
}  # fmt: skip
# They bring numbers from one place to another, and compute nothing.
_MOVES = {
    "copy_", "clone", "_to_copy", "fill_", "zero_", "zeros", "zeros_like", "ones", "ones_like",
    "full", "full_like", "cat", "stack", "constant_pad_nd", "index", "index_select", "gather",
    "new_zeros", "new_full", "new_ones", "arange", "repeat", "lift_fresh", "_local_scalar_dense",
    "scalar_tensor", "flip", "roll", "index_put_",
}  # fmt: skip
_EMPTY = {
    "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "detach",
    "_unsafe_view",
}  # fmt: skip


class Counting(TorchDispatchMode):
    """Counts what the calling thread's torch operations compute and move.

    ``operations``: 1 for each product, sum or other function of a value (a matrix product of n^3
    has 2 n^3), 2.5 n log2 n for a real Fourier transform of n values, 5 n log2 n for a complex
    transform. ``moved_bytes``: what each operation reads and writes. Kernels of warp are counted
    elsewhere (`kernel_work`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0.0
        self.moved_bytes = 0.0
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and count it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if func.is_view or name in _EMPTY:
            return out
        inputs = {key: value for key, value in kwargs.items() if key != "out"}
        read, written = list(_tensors((args, inputs))), list(_tensors(out))
        self.calls[name] += 1
        self.moved_bytes += sum(map(_bytes, read)) + sum(map(_bytes, written))
        if name in _MOVES:
            return out
        counted = flop_registry.get(func.overloadpacket)
        if counted is not None:
            self.operations += counted(*args, **kwargs, out_val=out)
        elif name.startswith("_fft_"):
            self.operations += _transform(name, args, out)
        elif name in _REDUCTIONS:
            self.operations += sum(t.numel() for t in read)
        else:
            self.operations += sum(t.numel() for t in written)
        return out


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _bytes(tensor: Tensor) -> int:
    """Of an expanded tensor only what is there."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _transform(name: str, args: tuple[Any, ...], out: Tensor) -> float:
    """Operations of a Fourier transform along ``args[1]``."""
    real = out if name == "_fft_c2r" else args[0]
    axes: Iterable[int] = args[1]
    length = math.prod(real.shape[axis] for axis in axes)
    per_value = 5.0 if name == "_fft_c2c" else 2.5
    return per_value * real.numel() * math.log2(max(length, 2))


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Let the library do everything on the calling thread."""
    with mock.patch.object(parallel, "core_count", return_value=1):
        yield


def counted(run: Callable[[], object]) -> Counting:
    """Run something once on one thread, and say what torch did in it."""
    with on_one_thread(), Counting() as counting:
        run()
    return counting
