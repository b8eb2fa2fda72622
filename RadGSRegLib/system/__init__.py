"""What long work needs of the machine: progress, threads, signals, warp's start, and backends.

Importing this loads nothing heavy: the command line starts with it.
"""

from .backends import Backend as Backend
from .backends import Backends as Backends
from .backends import available_backends as available_backends
from .backends import on_torch as on_torch
from .backends import on_warp as on_warp
from .backends import preferring as preferring
from .devices import device_name as device_name
from .exit_status import ExitStatus as ExitStatus
from .interrupt import Interrupt as Interrupt
from .memory import peak_memory_mb as peak_memory_mb
from .parallel import core_count as core_count
from .parallel import side_by_side as side_by_side
from .parallel import side_by_side_reporting as side_by_side_reporting
from .parallel import worker_count as worker_count
from .progress import Progress as Progress
from .progress import ProgressCallable as ProgressCallable
from .tails import median_among as median_among
from .tails import tail_quantile as tail_quantile
from .torch_threads import one_torch_thread as one_torch_thread
from .torch_threads import with_torch_threads as with_torch_threads
from .warp_runtime import BLOCK as BLOCK
from .warp_runtime import balanced_edges as balanced_edges
from .warp_runtime import flat_array as flat_array
from .warp_runtime import launch as launch
from .warp_runtime import launch_in_parts as launch_in_parts
from .warp_runtime import launch_serially as launch_serially
from .warp_runtime import run_jobs as run_jobs
from .warp_runtime import split as split
from .warp_runtime import start_warp as start_warp
