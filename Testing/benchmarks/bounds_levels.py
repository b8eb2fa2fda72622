"""The trials of `bench_bounds.py` that name levels in X-rays of whole trunks.

Phantoms with an even seed are realistic, the others hard; three pairs of X-rays of each are about
vertebrae with an anchor near, two leave sacrum and ribs out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from bounds_outcome import Outcome

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from levels_scenes import Shot, shoot, whole_spine

from RadGSRegLib.cases import middle_of_views
from RadGSRegLib.networks import LevelNetwork, load_levels, name_levels, shipped_weights
from RadGSRegLib.spine import LEVELS
from RadGSRegLib.system import one_torch_thread
from RadGSRegLib.views import prepare_views

_RIGHT_MM = 15.0
_ABOUT = (("L1", 298.0), ("L4", 298.0), ("L5", 298.0), ("L2", 180.0), ("L3", 180.0))


@lru_cache(maxsize=4)
def _shots(seed: int) -> tuple[Shot, ...]:
    phantom = whole_spine(seed, seed % 4)
    realism = "hard" if seed % 2 else "realistic"
    return tuple(
        shoot(phantom, target, 10 * seed + n, realism=realism, detector_mm=width)
        for n, (target, width) in enumerate(_ABOUT)
    )


@lru_cache(maxsize=1)
def _network() -> LevelNetwork:
    path = shipped_weights("levels")
    assert path is not None
    return load_levels(path)


def levels(seed: int) -> Outcome:
    """Name the levels in a phantom's pictures: which names there are, where the likeliest place of
    each is, how likely; wrong where a name is, or where there is one without an anchor."""
    names, places, scores, wrong = [], [], [], False
    for shot in _shots(seed):
        with one_torch_thread():
            spine = name_levels(prepare_views(shot.views), _network(), middle_of_views(shot.views))
        named = [v for v in spine.vertebrae if v.level]
        names.append("".join(v.level or "?" for v in spine.vertebrae))
        wrong |= bool(named) and shot.anchor == "none"
        for vertebra in named:
            true = shot.places.get(str(vertebra.level))
            wrong |= true is None or bool(np.linalg.norm(vertebra.place_world - true) > _RIGHT_MM)
        for level in LEVELS:
            first = spine.likeliest(level)[:1]
            places.append(first[0].place_world if first else np.zeros(3))
            scores.append(first[0].probabilities[level] if first else 0.0)
    status = "wrong: " if wrong else ""
    return Outcome(status + " ".join(names), np.concatenate(places), np.array(scores), wrong)


RUNS: dict[str, Callable[[int], Outcome]] = {"levels": levels}
