"""The order of the spine as a chain: which of several vertebrae in a row is which.

Vertebrae follow each other in one order and at known distances. Dynamic programming over all ways
to give candidates levels (forward-backward) weighs what each of them looks like by that order: a
vertebra that looks like nothing in particular has the level that its neighbours leave it.

Needs numpy and scipy alone, so that names can be corrected where no network is at hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from . import bounds

Array = NDArray[np.float64]

LEVELS = ("T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1")
"""The levels that a chain knows, from top to bottom."""


@dataclass(frozen=True)
class Chain:
    """What a chain says of N candidates: ``probabilities`` (N, L) of each of `LEVELS` (the rest to
    one: it is none of them), and the ``likeliest`` levels of all together, indices into `LEVELS`,
    -1 for a candidate that is none."""

    probabilities: Array
    likeliest: tuple[int, ...]


def chain(
    places: ArrayLike,
    shares: ArrayLike,
    looks: ArrayLike,
    told: Mapping[int, str] | None = None,
) -> Chain:
    """Weigh levels of candidates by the order of the spine.

    Args:
        places: (N, 3) mm, from top to bottom.
        shares: (N,) how likely each is a vertebra at all.
        looks: (N, L) logarithms of how much more each looks like each of `LEVELS` than a vertebra
            that looks like nothing in particular, which has 0.
        told: levels of candidates that a person has named, by index; their looks do not count.

    Raises ValueError for a level that is none of `LEVELS`, and where what is told contradicts the
    order of the spine.
    """
    at = np.asarray(places, dtype=float).reshape(-1, 3)
    share = np.clip(np.asarray(shares, dtype=float), 1.0 - bounds.SURE_SHARE, bounds.SURE_SHARE)
    seems = np.array(looks, dtype=float).reshape(len(at), len(LEVELS))
    absent = np.log1p(-share)
    named = sorted((told or {}).items())
    for index, level in named:
        if not 0 <= index < len(at):
            raise ValueError(f"there is no vertebra {index}")
        if level not in LEVELS:
            raise ValueError(f"{level} is none of {', '.join(LEVELS)}")
        seems[index] = -np.inf
        seems[index, LEVELS.index(level)] = 0.0
        absent[index] = -np.inf
    order = [LEVELS.index(level) for _, level in named]
    if any(low >= high for low, high in pairwise(order)):
        raise ValueError("levels follow each other from top to bottom")
    if not len(at):
        return Chain(np.zeros((0, len(LEVELS))), ())
    own = seems + np.log(share)[:, None]
    steps = _steps(at)
    first = np.array([absent[:n].sum() for n in range(len(at))])
    last = np.array([absent[n + 1 :].sum() for n in range(len(at))])
    between = np.array([[absent[j + 1 : i].sum() for i in range(len(at))] for j in range(len(at))])
    moves = steps + between[..., None, None]
    ahead, behind = own.copy(), np.zeros_like(own)
    for i in range(len(at)):
        ways = ahead[:i, :, None] + moves[:i, i]
        ahead[i] += logsumexp([np.full(len(LEVELS), first[i]), *ways.reshape(-1, len(LEVELS))], 0)
    for j in reversed(range(len(at))):
        ways = (own + behind)[j + 1 :, None, :] + moves[j, j + 1 :]
        onwards = ways.transpose(0, 2, 1).reshape(-1, len(LEVELS))
        behind[j] = logsumexp([np.full(len(LEVELS), last[j]), *onwards], 0)
    whole = logsumexp([*(ahead + last[:, None]).ravel(), absent.sum()])
    if not np.isfinite(whole):
        raise ValueError("the levels do not fit the distances between the vertebrae")
    return Chain(np.exp(ahead + behind - whole), _likeliest(own, first, last, moves, absent.sum()))


def _likeliest(own: Array, first: Array, last: Array, moves: Array, none: float) -> tuple[int, ...]:
    """The levels of the one likeliest way; -1 for candidates that are none in it."""
    best = own + first[:, None]
    came: dict[tuple[int, int], tuple[int, int]] = {}
    for i in range(len(own)):
        for level in range(len(LEVELS)):
            ways = best[:i] + moves[:i, i, :, level]
            if ways.size == 0:
                continue
            j, m = np.unravel_index(int(np.argmax(ways)), ways.shape)
            value = ways[j, m] + own[i, level]
            if value > best[i, level]:
                best[i, level] = value
                came[i, level] = int(j), int(m)
    out = [-1] * len(own)
    ends = best + last[:, None]
    if ends.max() < none:
        return tuple(out)
    i, level = (int(n) for n in np.unravel_index(int(np.argmax(ends)), ends.shape))
    while True:
        out[i] = level
        if (i, level) not in came:
            return tuple(out)
        i, level = came[i, level]


def _steps(places: Array) -> Array:
    """Logarithms (N, N, L, L) of a step from candidate j at level m to i at l: [j, i, m, l]."""
    count = len(LEVELS)
    height = np.concatenate([[0.0], np.cumsum(np.array(bounds.SPACING_MM))])
    mean = height[None, :] - height[:, None]
    levels = np.arange(count)[None, :] - np.arange(count)[:, None]
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)[..., None, None]
    spread = np.where(levels > 0, bounds.SPREAD * mean / np.sqrt(np.maximum(levels, 1)), 1.0)
    log = -0.5 * ((distance - mean) / spread) ** 2
    log = log + np.log(bounds.ANYWHERE_MM / (spread * np.sqrt(2.0 * np.pi)))
    log = log + np.maximum(levels - 1, 0) * np.log(bounds.MISSED)
    return np.asarray(np.where(levels > 0, log, -np.inf))
