"""What long work needs of the machine: progress, threads, signals, warp's start, and backends.

Importing this loads nothing heavy: the command line starts with it.
"""

from .backends import Backend, Backends, available_backends, never_by_itself, on_torch, on_warp
from .exit_status import ExitStatus
from .interrupt import Interrupt, Interrupted
from .parallel import core_count, side_by_side, side_by_side_reporting, worker_count
from .progress import FiguresCallable, PoseCallable, Progress, ProgressCallable
from .torch_threads import one_torch_thread
from .warp_runtime import balanced_edges, flat_array, launch, run_jobs, split, start_warp

__all__ = [
    "Backend",
    "Backends",
    "ExitStatus",
    "FiguresCallable",
    "Interrupt",
    "Interrupted",
    "PoseCallable",
    "Progress",
    "ProgressCallable",
    "available_backends",
    "balanced_edges",
    "core_count",
    "flat_array",
    "launch",
    "never_by_itself",
    "on_torch",
    "on_warp",
    "one_torch_thread",
    "run_jobs",
    "side_by_side",
    "side_by_side_reporting",
    "split",
    "start_warp",
    "worker_count",
]
