"""How much work a registration puts into its search, by name."""

from __future__ import annotations

from dataclasses import replace

from ..choices import EFFORTS
from ..errors import InputError
from .register import RegistrationOptions


def registration_options(effort: str = "normal", *, seed: int = 0) -> RegistrationOptions:
    """The options of an effort. ``normal`` are the defaults, with which everything was measured.

    ``fast`` follows half the candidates and stops refining early; ``careful`` follows more of them
    and refines for longer. All three judge their result alike. Raises InputError for another name.
    """
    options = RegistrationOptions(seed=seed)
    if effort not in EFFORTS:
        raise InputError("--effort", f"'{effort}' is unknown", "use fast, normal or careful")
    if effort == "fast":
        return replace(
            options,
            fine=replace(options.fine, rounds=2),
            click_places=replace(options.click_places, candidates=8, survivors=2),
            start_places=replace(options.start_places, count=5, keep=3, survivors=1),
        )
    if effort == "careful":
        return replace(
            options,
            fine=replace(options.fine, rounds=12),
            click_places=replace(options.click_places, candidates=32, survivors=6),
            start_places=replace(options.start_places, count=12, keep=7),
            fine_candidates=4,
            fine_lead=0.15,
        )
    return options
