"""The page that `floors` writes."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path
from typing import Any

from floor_series import KEEP, LINEAR, Series
from measuring.standings import Standing, Table
from measuring.tables import gpu_section
from peer_report import describe, machine, markdown

from RadGSRegLib.system import worker_count

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
  pixel has a quotient and a root, which processors compute more slowly than products, and an
  exponential whose steps wait for each other. The first row is that loop and little else.
- The projector follows one ray after another and fetches the eight voxels around a sample one by
  one; it is the farthest from the floor of the kernels that a registration has.
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

_STEEP = f"""
More than linear (an exponent above {LINEAR:g}). These were run again in a child process whose C
library keeps freed memory ({" and ".join(f"`{name}={value}`" for name, value in KEEP.items())}).
Else large arrays go back to the system when they are freed, and it clears every page when the next
ones are made. What is left is probably the caches, which large pictures and their derivatives do
not fit into; that was not measured apart.

"""

_MEMORY = """## Memory

The peak of a child process while it does the stage once, beyond what the program, its inputs and
a small stage of the same kind took before.
"""


def page(
    table: Table,
    series: list[Series],
    memory: dict[str, float | None],
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
        markdown(["stage", "MiB"], list(memory.items())) + "\n",
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
    """The table, and what is known about those that grow by more than their share."""
    rows = []
    for each in series:
        growth, kept = each.growth, each.kept
        rows.append(
            [
                each.stage,
                each.what,
                f"{growth.sizes[0]:,.0f} to {growth.sizes[-1]:,.0f}",
                1e3 * growth.seconds[0],
                1e3 * growth.seconds[-1],
                f"{growth.exponent:.2f}",
                f"{growth.last:.2f}",
                None if kept is None else f"{kept.exponent:.2f}, {kept.last:.2f}",
            ]
        )
    header = ["stage", "by", "sizes", "busy ms at the smallest", "at the largest", "exponent"]
    text = markdown([*header, "between the last two", "memory kept"], rows) + "\n"
    steep = [each for each in series if each.growth.steepest > LINEAR]
    if not steep:
        return text + f"\nNone grows by more than its share (an exponent above {LINEAR:g}).\n"
    said = [f"- {each.stage}, by {each.what}: {_reason(each)}." for each in steep]
    return text + _STEEP + "\n".join(said) + "\n"


def _reason(series: Series) -> str:
    """Why it grows by more than its share, as far as the second run tells."""
    growth, kept = series.growth, series.kept
    if kept is None:
        return "not looked at"
    share = 1.0 - kept.seconds[-1] / growth.seconds[-1]
    what = f"{100 * share:.0f} % of the time at the largest size" if share > 0.02 else "nothing"
    if kept.steepest <= LINEAR:
        return f"linear once memory is kept, which saves {what}"
    return f"{kept.exponent:.2f} and {kept.last:.2f} with memory kept, which saves {what}"
