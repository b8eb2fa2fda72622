"""A device, what it is called, and how much memory work on it takes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MIB = 2.0**20
_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def chosen(name: str) -> torch.device:
    """The device for "cpu", "cuda" or "auto" (CUDA where it works).

    Raises RuntimeError for "cuda" where there is none.
    """
    works = torch.cuda.is_available()
    if name == "cuda" and not works:
        raise RuntimeError("no CUDA device works here")
    return torch.device("cuda" if works and name != "cpu" else "cpu")


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def on(*tensors: Tensor) -> str:
    """What the tensors themselves say they are on; "mixed" where they differ."""
    kinds = {tensor.device.type for tensor in tensors}
    return kinds.pop() if len(kinds) == 1 else "mixed"


def card(device: torch.device) -> dict[str, Any]:
    """The card's name, memory and driver; empty on the CPU."""
    if device.type != "cuda":
        return {}
    properties = torch.cuda.get_device_properties(device)
    return {
        "card": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "processors": properties.multi_processor_count,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "driver": _driver(),
        "cuda": torch.version.cuda,
    }


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.split("\n")[0].strip()


def rss_mib() -> float:
    """How much of this process is in memory now, where the system says so (else its peak)."""
    pages = Path("/proc/self/statm")
    if pages.is_file():
        return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
    return peak_rss_mib()


def peak_rss_mib() -> float:
    """The most that this process ever had in memory."""
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def give_back() -> None:
    """Give memory that is free, but kept for later, back to the system, where that is known how.

    Else what was freed before hides what is taken after.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class Peak:
    """The most memory that was used within a `watch`, MiB.

    ``kind``: "CUDA allocations", "resident, of this part" or "resident, since the process began"
    where the system cannot begin anew.
    """

    def __init__(self) -> None:
        self.mib, self.kind = 0.0, ""


@contextlib.contextmanager
def watch(device: torch.device) -> Iterator[Peak]:
    """Watch how much memory the work within takes at most."""
    peak = Peak()
    if device.type == "cuda":
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        try:
            yield peak
        finally:
            peak.mib = torch.cuda.max_memory_allocated(device) / MIB
            peak.kind = "CUDA allocations"
        return
    anew = _begin_anew()
    try:
        yield peak
    finally:
        peak.mib = _high_water() if anew else peak_rss_mib()
        peak.kind = "resident, of this part" if anew else "resident, since the process began"


def _begin_anew() -> bool:
    """Let the kernel forget the peak so far; False where it does not."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return _STATUS.is_file()


def _high_water() -> float:
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024.0 / MIB


def in_child(
    arguments: Sequence[str],
    surroundings: Mapping[str, str] | None = None,
    timeout_s: float = 240.0,
) -> str:
    """What a child Python prints when it is run with these arguments, and with these variables in
    its environment.

    Raises RuntimeError with the end of its complaint where it fails or takes too long.
    """
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, **(surroundings or {})},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"it took more than {timeout_s:.0f} s") from None
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip()[-500:] or f"exit status {done.returncode}")
    return done.stdout
