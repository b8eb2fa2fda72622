"""What a reconstruction is asked for and what it yields."""

import math
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..gaussians import GaussianCloud
from ..geometry import Volume


def check_at_least(name: str, value: Any, least: float) -> None:
    """Raise InputError unless an option's value is a finite number of ``least`` or more."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < least:
        raise InputError(
            "reconstruction options", f"{name} is {value!r}, not a number of {least:g} or more"
        )


@dataclass(frozen=True)
class ReconstructionOptions:
    """How to reconstruct; every value is a number or a string, so that JSON holds it.

    ``seed`` and the numbers of steps fix the result. ``time_limit_s`` (None: no limit) ends the fit
    early with the best so far; which step that is depends on the machine, so it is off by default.
    The numbers of steps are chosen for about 2 to 3 s with a prior of 6,000 Gaussians and 10 s
    without a prior, on two cores that are free.

    Weights of the losses are those of math.md 3 (eq. 2) and 5: L1 + ``weight_dssim`` (1 - SSIM) +
    ``weight_tv`` TV. ``pixel_mm`` is the pixel at the vertebra at which X-rays are compared,
    ``spacing_mm`` the voxel of the result. ``box_mm``: edge of the cube that is reconstructed
    (None: the prior's own box and a margin; ``FRESH_BOX_MM`` without a prior).

    With a prior: ``prior_steps`` in each fit, ``anchor`` the weight that holds the Gaussians to it.
    Without: ``fresh_steps``, ``fresh_count`` Gaussians at the start and at most ``most``.
    ``background``: "auto", "none" (the views hold nothing but what is in the box) or "smooth" (they
    also hold something smooth, such as the trunk).
    """

    seed: int = 0
    device: str = "cpu"
    time_limit_s: float | None = None
    pixel_mm: float = 1.2
    spacing_mm: float = 1.0
    box_mm: float | None = None
    weight_dssim: float = 0.2
    weight_tv: float = 0.05
    prior_steps: int = 24
    anchor: float = 0.05
    fresh_steps: int = 300
    fresh_count: int = 4000
    most: int = 8000
    background: str = "auto"

    def __post_init__(self) -> None:
        for name in ("pixel_mm", "spacing_mm", "prior_steps", "fresh_steps", "fresh_count"):
            self._at_least(name, 1 if "steps" in name or "count" in name else 0.1)
        for name in ("weight_dssim", "weight_tv", "anchor"):
            self._at_least(name, 0.0)
        if self.time_limit_s is not None:
            self._at_least("time_limit_s", 0.0)
        if self.box_mm is not None:
            self._at_least("box_mm", 16.0 * self.spacing_mm)
        if self.most < self.fresh_count:
            raise InputError(
                "reconstruction options",
                f"most is {self.most}, fewer than the {self.fresh_count} at the start",
            )
        if self.background not in ("auto", "none", "smooth"):
            raise InputError(
                "reconstruction options",
                f"there is no background {self.background!r}",
                "there are auto, none and smooth",
            )

    def _at_least(self, name: str, least: float) -> None:
        check_at_least(name, getattr(self, name), least)


@dataclass(frozen=True)
class Reconstruction:
    """The Gaussians (world mm), their volume (1/mm, world axes) and what is known of the fit.

    ``quality`` holds JSON values: "prior", "steps", "stopped_early", "views" ({name: {"l1",
    "ssim"}} of the rendering against the calibrated X-ray), "absolute_scale" (whether the numbers
    are really 1/mm) and, with a prior, how far it was changed and why. ``bone``: by how much bone
    exceeds soft tissue, 1/mm, on the grid of ``volume``, where it was told from it.
    """

    cloud: GaussianCloud
    volume: Volume
    quality: dict[str, Any]
    bone: Volume | None = None
