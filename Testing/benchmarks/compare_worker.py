"""Registers the cases named on standard input with the code of one source tree (compare_commits).

    python compare_worker.py TREE

Reads lines of JSON ``["path/case.json", "clicks" | "start" | "model"]`` and answers each with one.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, sys.argv[1])

from RadGSRegLib import pipeline
from RadGSRegLib.cases import Case, read_case, read_start
from RadGSRegLib.networks import learned_start, load_model
from RadGSRegLib.networks.shipped import shipped_weights


@lru_cache(maxsize=1)
def model() -> Any:
    """The weights of the tree."""
    path = shipped_weights()
    assert path is not None
    return load_model(path)


def without_clicks(case: Case) -> Case:
    """The case with nothing that says where the vertebra is."""
    return replace(case, views=tuple(replace(view, center_px=None) for view in case.views))


def answer(path: Path, start: str) -> dict[str, Any]:
    """Pose, verdict and seconds, inputs in memory."""
    case = read_case(path)
    gc.collect()
    if start == "model":
        network, case = model(), without_clicks(case)
        began = time.perf_counter()
        learned = learned_start(case, network)
        # As the tree's own command does it; before there were proposers, the poses were handed on.
        known = hasattr(learned, "proposer")
        more = {"proposers": [learned.proposer()]} if known else {"learned": learned.candidates}
        found = pipeline.register_case(case, **more)
    else:
        pose = read_start(path.with_name("start.json")) if start == "start" else None
        case = without_clicks(case) if start == "start" else case
        began = time.perf_counter()
        found = pipeline.register_case(case, pose)
    seconds = time.perf_counter() - began
    return {
        "pose": found.ct_to_world.tolist(),
        "status": found.status,
        "reason": found.reason,
        "seconds": seconds,
    }


def main() -> None:
    """Until standard input ends."""
    out = sys.stdout
    for line in sys.stdin:
        path, start = json.loads(line)
        # What a library prints is no answer.
        with contextlib.redirect_stdout(sys.stderr):
            found = answer(Path(path), start)
        out.write(json.dumps(found) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
