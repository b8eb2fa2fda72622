"""The page that `floors` writes."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path
from typing import Any

from floor_series import Series
from measuring.standings import Standing, Table
from measuring.tables import gpu_section
from peer_report import describe, machine, markdown

from RadGSRegLib.system import worker_count

# Above this an exponent counts as more than linear: it is not known better than to some hundredths.
LINEAR = 1.1

_HEAD = """# Performance

What each kernel and stage does, how long that takes, and how long it would take at least on the
same machine; how times grow; how much memory is needed. Comparisons with other programs:
[benchmarks](benchmarks.md).

This page is written by a command, which takes less than six minutes on two cores:

```sh
python Testing/benchmarks/floors.py --out docs/performance.md
```
"""

_FLOORS = """## Kernels and stages

Operations are products, sums, quotients, roots and comparisons of float32 numbers; kernels' are
read off their source and counted pair by pair, torch's by a hook on each operation. *Least* is
what has to be read and written at least once, however it is done; *moved*, what all operations
together read and write. *Busy* is how long processors work on it, all threads together: other
work on the machine changes that little. The *floor* is the longer of two times: that of the
operations at the rate of a product of matrices, and that of the least bytes at the rate of a
triad (a = b + s c) on data as large. Rates are those of one thread while as many run side by side
as the stage has. All take turns; times are the least of the rounds.
"""

_READING = """How to read it:

- No loop of these kernels can reach the rate of a product of matrices: each pair of Gaussian and
  pixel has a quotient and a root, which processors compute several times more slowly than
  products, and an exponential whose steps wait for each other.
- *Useful* is the share of pairs within the cut (or of samples in cells that are not empty) of all
  that a kernel visits: runs of pixels are walked in whole blocks of eight.
- The stages made of torch's operations (local normalisation, normal equations) read and write
  their pictures once per operation. Where *moved* is many times *least*, fewer and larger
  operations would help, not faster ones.
"""

_GROWTH = """## Growth

Processor time, all threads together; all sizes of a series take turns. The exponent is that of a
power law, fitted by least squares to the logarithms of all sizes, and between the two largest
ones. Sizes of pictures count as numbers of pixels. 1 is linear; less than 1, that a fixed share
weighs at small sizes.
"""

_MEMORY = """## Memory

The peak of a child process while it does the stage once, beyond what the program, its inputs and
a small stage of the same kind took before.
"""

# Why a stage grows by more than its share, where that is known.
_REASONS = {
    ("voxelizer, forward", "Gaussians"): "more Gaussians than caches hold",
}


def page(
    table: Table,
    series: list[Series],
    memory: dict[str, dict[str, Any]],
    gpu: dict[str, Any] | None,
) -> str:
    """The whole page, in Markdown."""
    parts = [
        _HEAD,
        textwrap.fill(f"{describe(machine(worker_count()))}, commit {_commit()}.", 98) + "\n",
        _FLOORS,
        _ceilings(table),
        _standings(table),
        _READING,
        _GROWTH,
        growth_section(series),
        _MEMORY,
        markdown(["stage", "MiB"], [[name, of["mib"]] for name, of in memory.items()]) + "\n",
        gpu_section(gpu),
    ]
    return "\n".join(parts)


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    folder = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _ceilings(table: Table) -> str:
    sizes = list(next(iter(table.ceilings.values())).bytes_per_s)
    header = ["threads", "product of matrices, Gop/s each"]
    header += [f"triad in {size / 2**20:g} MiB, GB/s each" for size in sizes]
    rows = [
        [n, of.operations_per_s / 1e9, *(of.bytes_per_s[size] / 1e9 for size in sizes)]
        for n, of in table.ceilings.items()
    ]
    return markdown(header, rows) + "\n"


def _standings(table: Table) -> str:
    header = [
        "stage",
        "threads",
        "Mop",
        "useful",
        "least MB",
        "moved MB",
        "ms",
        "busy ms",
        "floor ms",
    ]
    rows = [_standing(row) for row in table.rows]
    return markdown([*header, "bound by", "times the floor"], rows) + "\n"


def _standing(row: Standing) -> list[Any]:
    useful = f"{100.0 * row.needed / row.visited:.0f} %" if row.visited else None
    counted = row.operations > 0.0
    return [
        row.stage.name + (" (kernels not counted)" if row.uncounted else ""),
        row.stage.threads,
        row.operations / 1e6 if counted else None,
        useful,
        row.least_bytes / 1e6,
        row.moved_bytes / 1e6 if counted else None,
        1e3 * row.seconds,
        1e3 * row.busy_s,
        1e3 * row.floor_s,
        row.bound,
        row.times_the_floor,
    ]


def growth_section(series: list[Series]) -> str:
    rows = []
    above = []
    for each in series:
        growth = each.growth
        rows.append(
            [
                each.stage,
                each.what,
                f"{growth.sizes[0]:,.0f} to {growth.sizes[-1]:,.0f}",
                1e3 * growth.seconds[0],
                1e3 * growth.seconds[-1],
                f"{growth.exponent:.2f}",
                f"{growth.last:.2f}",
            ]
        )
        if max(growth.exponent, growth.last) > LINEAR:
            reason = _REASONS.get((each.stage, each.what), "why is not known")
            above.append(f"- {each.stage}, by {each.what}: {reason}.")
    header = ["stage", "by", "sizes", "busy ms at the smallest", "at the largest", "exponent"]
    text = markdown([*header, "between the last two"], rows) + "\n"
    if not above:
        return text + f"\nNone grows by more than its share (an exponent above {LINEAR:g}).\n"
    return (
        text + f"\nMore than linear (an exponent above {LINEAR:g}):\n\n" + "\n".join(above) + "\n"
    )
