"""A learned start on a device: nothing of it is computed elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
from another_device import DEVICE, another_device
from registration_scenes import one_thread, simulated

from RadGSRegLib.networks import bounds, learned_start, load_model
from RadGSRegLib.networks.shipped import shipped_weights


@pytest.mark.parametrize("clicked", [True, False])
def test_a_learned_start_stays_on_the_device_of_its_model(
    clicked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sighting, crops, networks, settling and bending."""
    one_thread()
    monkeypatch.setattr(bounds, "BEND_STEPS", 1)
    monkeypatch.setattr(bounds, "SIGHTED", 2)
    weights = shipped_weights()
    assert weights is not None
    case = simulated().case
    if not clicked:
        case = replace(case, views=tuple(replace(v, center_px=None) for v in case.views))
    with another_device():
        start = learned_start(case, load_model(weights).to(DEVICE))
    assert start.seen.cloud_world.device == DEVICE
    assert start.seen.prediction.effect.poses.device == DEVICE
