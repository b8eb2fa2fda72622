"""Vertebrae with levels, and the rule of what is named: nothing without an anchor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from . import bounds
from .chain import LEVELS, Array, chain

PERSON = "a person"


@dataclass(frozen=True)
class Vertebra:
    """One candidate: where its centre is, ``place_world`` (3,) mm, how likely it is a vertebra
    (``share``), what it looks like (``looks`` by level, as `chain` takes them), the
    ``probabilities`` of its levels, and the ``level`` that it is given; None: unknown.

    The probabilities sum to one at most; the rest is that its level is unknown, or that it is no
    vertebra.
    """

    place_world: Array
    share: float
    looks: Mapping[str, float]
    probabilities: Mapping[str, float]
    level: str | None = None


@dataclass(frozen=True)
class SpineLevels:
    """What X-rays show of a spine: its ``vertebrae`` from top to bottom, and the evidence of each
    of the ``anchors`` ("sacrum", "last rib") in the view that shows it best, in [0, 1].

    ``told`` are the levels that a person has named, by index.
    """

    vertebrae: tuple[Vertebra, ...]
    anchors: Mapping[str, float]
    told: Mapping[int, str]

    @property
    def anchor(self) -> str | None:
        """What the names hang on: "a person", "sacrum" or "last rib"; None: nothing does."""
        return anchor_of(self.anchors, self.told)

    def corrected(self, index: int, level: str) -> SpineLevels:
        """Return the same where a person says which level a vertebra is: the others' names follow.

        What was told before stays, unless the order of the spine contradicts it. Raises ValueError
        for a level that is none of `LEVELS`, or that leaves no way to name the others.
        """
        if level not in LEVELS:
            raise ValueError(f"{level} is none of {', '.join(LEVELS)}")
        height = LEVELS.index(level)
        told = {
            n: name
            for n, name in self.told.items()
            if n != index and (LEVELS.index(name) - height) * (n - index) > 0
        }
        return name_vertebrae(self.vertebrae, self.anchors, {**told, index: level})

    def likeliest(self, level: str) -> list[Vertebra]:
        """Return the candidates for a level, the likeliest first, named so or not: without an
        anchor their probabilities are low."""
        some = [v for v in self.vertebrae if v.probabilities.get(level, 0.0) > 0.0]
        return sorted(some, key=lambda v: -v.probabilities[level])


def anchor_of(anchors: Mapping[str, float], told: Mapping[int, str]) -> str | None:
    """Return what names may hang on: a person's word, else the surest anchor if it is sure; None
    where nothing may be named."""
    if told:
        return PERSON
    name = max(anchors, key=lambda n: anchors[n], default=None)
    return name if name is not None and anchors[name] >= bounds.ANCHOR_LEAST else None


def name_vertebrae(
    vertebrae: Sequence[Vertebra],
    anchors: Mapping[str, float],
    told: Mapping[int, str] | None = None,
) -> SpineLevels:
    """Give vertebrae, from top to bottom, the levels that looks and the order of the spine say.

    Without an anchor all stay unknown, whatever they look like. Raises ValueError where what a
    person ``told`` leaves no way to name the others.
    """
    told = dict(told or {})
    if not vertebrae and not told:
        return SpineLevels((), dict(anchors), told)
    places = np.array([v.place_world for v in vertebrae]).reshape(-1, 3)
    looks = np.array([[v.looks[level] for level in LEVELS] for v in vertebrae])
    weighed = chain(places, [v.share for v in vertebrae], looks, told)
    anchored = anchor_of(anchors, told) is not None
    trust = 1.0 if told else max(anchors.values(), default=0.0)
    named = []
    for vertebra, shares, best in zip(
        vertebrae, trust * weighed.probabilities, weighed.likeliest, strict=True
    ):
        sure = anchored and best >= 0 and shares[best] >= bounds.LEVEL_LEAST
        probabilities = dict(zip(LEVELS, shares.tolist(), strict=True))
        level = LEVELS[best] if sure else None
        named.append(replace(vertebra, probabilities=probabilities, level=level))
    return SpineLevels(tuple(named), dict(anchors), told)
