"""The chain of the spine against every way to name a row, and the rule of what is named."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from RadGSRegLib.spine import (
    LEVELS,
    SpineLevels,
    Vertebra,
    bounds,
    chain,
    levels_from_record,
    levels_to_record,
    name_vertebrae,
)
from RadGSRegLib.spine.chain import _steps

EVEN = dict.fromkeys(LEVELS, 0.0)
HEIGHTS = np.concatenate([[0.0], np.cumsum(bounds.SPACING_MM)])


def column(levels: list[str], error: np.ndarray | None = None) -> np.ndarray:
    """Places (N, 3) of these levels, one above the other, each off by ``error`` (N,) mm."""
    z = -HEIGHTS[[LEVELS.index(level) for level in levels]]
    z = z if error is None else z + error
    return np.stack([np.zeros(len(z)), np.zeros(len(z)), z], axis=1)


def row(levels: list[str], **looks: float) -> list[Vertebra]:
    """Vertebrae of these levels that look like nothing in particular, but for a look per level."""
    return [
        Vertebra(place, 0.9, {**EVEN, **({level: looks[level]} if level in looks else {})}, {})
        for place, level in zip(column(levels), levels, strict=True)
    ]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 4))
def test_probabilities_are_those_of_all_ways_to_name_a_row(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    start = int(rng.integers(0, len(LEVELS) - count + 1))
    places = column(list(LEVELS[start : start + count]), rng.normal(0.0, 6.0, count))
    shares, looks = rng.uniform(0.1, 0.9, count), rng.normal(-2.0, 1.0, (count, len(LEVELS)))
    done = chain(places, shares, looks)
    steps = _steps(places)
    weights, total = np.zeros((count, len(LEVELS))), 0.0
    best: tuple[float, tuple[int, ...]] = (-np.inf, ())
    for way in itertools.product(range(-1, len(LEVELS)), repeat=count):
        real = [(n, level) for n, level in enumerate(way) if level >= 0]
        if any(a[1] >= b[1] for a, b in itertools.pairwise(real)):
            continue
        log = sum(np.log(1 - shares[n]) for n, level in enumerate(way) if level < 0)
        log += sum(np.log(shares[n]) + looks[n, level] for n, level in real)
        log += sum(steps[a[0], b[0], a[1], b[1]] for a, b in itertools.pairwise(real))
        total += np.exp(log)
        best = max(best, (log, way))
        for n, level in real:
            weights[n, level] += np.exp(log)
    assert done.probabilities == pytest.approx(weights / total, abs=1e-9)
    assert done.likeliest == best[1]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_names_follow_each_other_and_probabilities_sum_to_one_at_most(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = np.sort(rng.uniform(-200.0, 200.0, rng.integers(0, 12)))[::-1]
    looks = rng.normal(-2.0, 2.0, (len(z), len(LEVELS)))
    vertebrae = [
        Vertebra(
            np.array([0.0, 0.0, height]),
            float(rng.uniform(0, 1)),
            dict(zip(LEVELS, look.tolist(), strict=True)),
            {},
        )
        for height, look in zip(z, looks, strict=True)
    ]
    spine = name_vertebrae(vertebrae, {"sacrum": 1.0})
    named = [LEVELS.index(v.level) for v in spine.vertebrae if v.level]
    assert named == sorted(set(named))
    for vertebra in spine.vertebrae:
        assert sum(vertebra.probabilities.values()) <= 1.0 + 1e-9
        assert (
            vertebra.level is None or vertebra.probabilities[vertebra.level] >= bounds.LEVEL_LEAST
        )


def test_one_look_names_a_whole_row() -> None:
    spine = name_vertebrae(row(["L2", "L3", "L4", "L5", "S1"], S1=3.0), {"sacrum": 0.99})
    assert [v.level for v in spine.vertebrae] == ["L2", "L3", "L4", "L5", "S1"]
    assert spine.anchor == "sacrum"
    first = spine.likeliest("L3")[0]
    assert first.level == "L3"
    assert first.place_world == pytest.approx(column(["L3"])[0])


@pytest.mark.parametrize("sure", [0.0, 0.3, 0.999 * bounds.ANCHOR_LEAST])
def test_nothing_is_named_without_an_anchor_however_it_looks(sure: float) -> None:
    vertebrae = row(["L2", "L3", "L4"], L2=5.0, L3=5.0, L4=5.0)
    spine = name_vertebrae(vertebrae, {"sacrum": sure, "last rib": 0.0})
    assert spine.anchor is None
    assert [v.level for v in spine.vertebrae] == [None] * 3
    assert max((v.probabilities["L3"] for v in spine.likeliest("L3")), default=0.0) <= sure
    # The same looks with an anchor.
    sure_spine = name_vertebrae(vertebrae, {"sacrum": bounds.ANCHOR_LEAST})
    assert [v.level for v in sure_spine.vertebrae] == ["L2", "L3", "L4"] or sure < 1.0


def test_a_candidate_between_two_vertebrae_is_none() -> None:
    places = column(["L3", "L4", "L5", "S1"])
    between = 0.5 * (places[1] + places[2])
    vertebrae = [
        *row(["L3", "L4"]),
        Vertebra(between, 0.3, EVEN, {}),
        *row(["L3", "L4", "L5", "S1"], S1=3.0)[2:],
    ]
    spine = name_vertebrae(vertebrae, {"sacrum": 1.0})
    assert [v.level for v in spine.vertebrae] == ["L3", "L4", None, "L5", "S1"]


def test_a_person_corrects_one_name_and_the_others_follow() -> None:
    wrong = name_vertebrae(row(["L1", "L2", "L3"], L1=3.0), {"sacrum": 0.0})
    assert wrong.anchor is None
    right = wrong.corrected(1, "L3")
    assert [v.level for v in right.vertebrae] == ["L2", "L3", "L4"]
    assert right.anchor == "a person"
    assert right.told == {1: "L3"}
    # What contradicts the newest word is forgotten, what agrees stays.
    again = right.corrected(0, "L4")
    assert again.told == {0: "L4"}
    assert [v.level for v in again.vertebrae] == ["L4", "L5", "S1"]
    assert right.corrected(2, "L4").told == {1: "L3", 2: "L4"}
    with pytest.raises(ValueError, match="none of"):
        wrong.corrected(1, "L9")
    with pytest.raises(ValueError, match="no vertebra 3"):
        wrong.corrected(3, "L4")


def test_a_record_reads_back_with_what_was_told() -> None:
    spine = name_vertebrae(row(["L1", "L2", "L3"], L1=3.0), {"sacrum": 0.9, "last rib": 0.1})
    for said in (spine, spine.corrected(2, "L4")):
        back = levels_from_record(json.loads(json.dumps(levels_to_record(said))))
        assert [v.level for v in back.vertebrae] == [v.level for v in said.vertebrae]
        assert back.told == said.told
        assert back.anchors == said.anchors
    empty = name_vertebrae([], {"sacrum": 0.0, "last rib": 0.0})
    assert levels_from_record(levels_to_record(empty)) == SpineLevels((), empty.anchors, {})


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"vertebrae": [{}], "anchors": {}, "told": {}},
        {"vertebrae": [], "anchors": [], "told": {}},
        {"vertebrae": [], "anchors": {}, "told": {"0": "L3"}},
    ],
)
def test_what_is_no_record_is_refused(record: dict) -> None:
    with pytest.raises(ValueError, match=r"no record of levels|no vertebra 0"):
        levels_from_record(record)
