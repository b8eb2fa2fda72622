"""How much memory this process has taken."""

from __future__ import annotations

import re
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_memory_mb() -> float | None:
    """The most resident memory of this process so far, MB (10^6 bytes).

    None where it cannot be told, as on Windows. Nothing of child processes.
    """
    if sys.platform == "linux":
        # getrusage would also count what the program held that started this one (as Slicer does).
        try:
            said = re.search(r"^VmHWM:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE)
        except OSError:
            return None
        return None if said is None else int(said[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, kibibytes elsewhere.
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
