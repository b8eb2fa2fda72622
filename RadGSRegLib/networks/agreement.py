"""How far the networks' pose and a registration's lie apart, as evidence about the latter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..cases import Case
from ..geometry import Array
from ..measures import mtre, rotation_error_deg
from ..registration import Registration, with_room
from . import bounds

# What a training's card calls the held-out error of RegM's pose, which RecM's is part of.
_REGM = "RegM, "


@dataclass(frozen=True)
class Agreement:
    """Two poses of a vertebra, compared on its surface points.

    ``distance_mm``: the mean distance of the points between the networks' pose and the registered
    one; ``distance_deg``: the angle between the two; ``nearest_mm``: the distance of the nearest
    pose of all places that the networks proposed; ``held_out_mm``: the model's error on held-out
    pairs, None where its card does not say it.
    """

    distance_mm: float
    distance_deg: float
    nearest_mm: float
    held_out_mm: float | None

    @property
    def is_strong_disagreement(self) -> bool:
        """Whether no pose of the networks is as near as their held-out error lets one expect."""
        if self.held_out_mm is None:
            return False
        return self.nearest_mm > bounds.DISAGREEMENT * self.held_out_mm

    def to_quality(self) -> dict[str, Any]:
        """Return it for a result's ``quality``."""
        known = {name: value for name, value in vars(self).items() if value is not None}
        return {f"networks_{name}": value for name, value in known.items()}

    def weighed(self, registration: Registration) -> Registration:
        """Return a registration with this evidence: one that was ``ok`` is ``uncertain`` where the
        networks contradict it. Their agreement alone makes none ``ok``."""
        known = replace(registration, quality={**registration.quality, **self.to_quality()})
        if registration.status != "ok" or not self.is_strong_disagreement:
            return known
        reason = (
            f"all views agree with the CT at this pose, but the networks put the bone "
            f"{self.nearest_mm:.1f} mm away from it (their error on held-out pairs is "
            f"{self.held_out_mm:.1f} mm)"
        )
        return replace(known, status="uncertain", reason=with_room(reason, known.quality))


def compare(
    case: Case,
    registered_ct_to_world: Array,
    networks_ct_to_world: Sequence[Array],
    card: Mapping[str, Any],
) -> Agreement:
    """Compare a registered pose (4, 4) with those of the networks, the likeliest place first, whose
    model says ``card`` of itself."""
    points = case.surface_ct
    away = [mtre(points, pose, registered_ct_to_world) for pose in networks_ct_to_world]
    turned = rotation_error_deg(networks_ct_to_world[0], registered_ct_to_world)
    return Agreement(away[0], turned, min(away), held_out_mm(card))


def held_out_mm(card: Mapping[str, Any]) -> float | None:
    """Return the median error (mm) of RegM's pose, after RecM, on held-out pairs, as a training's
    card has it. None where it does not."""
    for heading, figures in card.items():
        if not heading.startswith("figures") or not isinstance(figures, Mapping):
            continue
        for name, value in figures.items():
            known = name.startswith(_REGM) and isinstance(value, int | float)
            if known and np.isfinite(value) and value > 0.0:
                return float(value)
    return None
