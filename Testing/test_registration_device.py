"""The registration as a GPU computes it: nothing goes to the host on the way, and the same comes
of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from host_reads import counted_host_reads
from registration_scenes import QUICK, bodies, one_thread, scene, simulated, truth

from RadGSRegLib.geometry import compose_about
from RadGSRegLib.registration import (
    Arrangement,
    Arrangements,
    LocallyNormalized,
    Refiner,
    Stage,
    StretchedGaussNewton,
)
from RadGSRegLib.registration.refine import Refinements
from RadGSRegLib.system import Progress
from RadGSRegLib.tensors import without_host_reads


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    one_thread()


def _starts() -> list[Arrangement]:
    twists = np.random.default_rng(7).uniform(-1, 1, (3, 6)) * [*[0.05] * 3, *[2.5] * 3]
    right, centre = truth(simulated()), bodies().centre_ct
    return [bodies().as_in_ct(compose_about(right, twist, centre)) for twist in twists]


def _refined(stage: Stage) -> Refinements:
    refiner = Refiner(scene(), LocallyNormalized(), StretchedGaussNewton)
    starts = Arrangements.of(_starts(), torch.device("cpu"))
    return refiner.refine_there(stage, starts, torch.ones(3, 2), Progress())


STAGES = {
    "coarse": QUICK.coarse,
    "middle": QUICK.middle,
    "fine": replace(QUICK.fine, rounds=3),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_reads_nothing_between_its_first_and_last_evaluation(name: str) -> None:
    _refined(STAGES[name])  # what is kept from then on is there
    with without_host_reads(), counted_host_reads() as heard:
        _refined(STAGES[name])
    assert not +heard


def test_reads_are_heard() -> None:
    numbers = torch.arange(3.0)
    with counted_host_reads() as heard:
        float(numbers[1])
        numbers.tolist()
        numbers[numbers > 1.0].sum()
        torch.linalg.inv(torch.eye(3))
        bool(numbers.any())
        numbers.nonzero()
    assert heard["__float__"] == heard["tolist"] == heard["__bool__"] == 1
    assert heard["index by a mask"] == 1
    assert heard["nonzero"] >= 1
    assert heard["_linalg_check_errors.default"] == 1


@pytest.mark.parametrize("name", STAGES)
def test_what_masks_leave_is_what_is_left_out_on_the_host(name: str) -> None:
    """On a GPU trials that have ended go along, and on the CPU they do not."""
    left_out = _refined(STAGES[name]).on_host()
    with without_host_reads():
        masked = _refined(STAGES[name]).on_host()
    for own, other in zip(left_out, masked, strict=True):
        assert other.iterations == own.iterations
        assert other.score == pytest.approx(own.score, abs=1e-4)
        pose, same = own.arrangement.ct_to_world, other.arrangement.ct_to_world
        assert same == pytest.approx(pose, abs=1e-2)
