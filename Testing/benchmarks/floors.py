"""How far kernels and stages are from what the machine could do, how they grow, what they take.

    python Testing/benchmarks/floors.py --out docs/performance.md

Of each kernel and stage: operations and bytes counted while it runs, its time, and the time below
which this machine can neither compute nor move so much (a triad and products of matrices, measured
in the same turns on as many threads). Then how times grow from 1,000 to 100,000 Gaussians, 64 to
976 pixels, 1 to 50 views and 1 to 729 poses, and the peak memory of each in a child process. With
``--gpu`` the results of Testing/gpu/measure.py go into the same page. Takes less than six minutes
on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from floor_page import page
from floor_series import SIZES, growths, keeping, memories, memory_of, standing
from measuring import devices

from RadGSRegLib.system import one_torch_thread


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="a page in Markdown; else it is printed")
    parser.add_argument("--size", choices=tuple(SIZES), default="full")
    parser.add_argument("--device", choices=("cpu", "cuda", "auto"), default="cpu")
    parser.add_argument("--gpu", type=Path, help="results.json of Testing/gpu/measure.py")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    parser.add_argument("--again", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    device, size = devices.chosen(asked.device), SIZES[asked.size]
    if asked.memory:
        print(json.dumps(memory_of(asked.memory, size, device)))
        return
    if asked.again:
        only = [(name, what) for name, what in json.loads(asked.again)]
        with one_torch_thread():
            again = growths(size, device, only)
        print(json.dumps([(s.stage, s.what, s.growth.sizes, s.growth.seconds) for s in again]))
        return
    measurements = None
    if asked.gpu is not None:
        measurements = json.loads(asked.gpu.read_text(encoding="utf-8"))
    with one_torch_thread():
        table = standing(size, device)
        series = growths(size, device)
    command = [str(Path(__file__).resolve()), "--size", asked.size, "--device", device.type]
    text = page(table, keeping(series, command), memories(size, command), measurements)
    if asked.out is None:
        print(text)
        return
    part = asked.out.with_name(asked.out.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(asked.out)


if __name__ == "__main__":
    main()
