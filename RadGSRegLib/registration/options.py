"""Everything that a user or a method may set of a registration; recorded with the result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from ..choices import EFFORTS
from ..errors import InputError
from . import bounds

Fidelity = Literal["coarse", "fine", "voxels"]
"""How finely bodies are rendered: few Gaussians, many, or the target as voxels if it has them."""


@dataclass(frozen=True)
class RefineOptions:
    """How one stage is refined. Lengths in mm at the vertebra."""

    fine: bool = False
    voxels: bool = False
    neighbourhoods_mm: tuple[float, ...] = (8.0,)
    move_neighbours: bool = False
    neighbour_rotation_deg: float = 4.0
    neighbour_translation_mm: float = 3.0
    neighbour_weight: float = 0.3
    margin_mm: float = 4.0
    robust_scale: float = 1.0
    contrast_floor: float = 0.08
    iterations: int = 12
    steps_per_matrix: int = 1
    """The Hessian is computed anew after so many steps. From near, the first one serves nearly as
    well (`Testing/benchmarks/bench_steps.py`), and an evaluation takes half the time."""
    tolerance_mm: float = 0.01

    @property
    def fidelity(self) -> Fidelity:
        """How finely the stage renders the bodies."""
        return "voxels" if self.voxels else "fine" if self.fine else "coarse"


@dataclass(frozen=True)
class Stage:
    """One resolution of the refinement: its pixels (mm at the vertebra), blur, and how it
    refines."""

    pixel_mm: float
    blur_mm: float
    refine: RefineOptions
    background: bool = True
    rounds: int = 1

    def in_two(self) -> tuple[Stage, Stage]:
        """The first round, and all others."""
        return replace(self, rounds=1), replace(self, rounds=self.rounds - 1)


@dataclass(frozen=True)
class Places:
    """How many places, and candidates in each, go from a proposal into refinement.

    From a click there is one place; from a rough start a neighbouring level may look right too.
    """

    count: int
    candidates: int
    positions_per_rotation: int
    keep: int
    """Places left after the coarse stage, the best first."""
    survivors: int
    """Poses that go on from each of these."""
    neighbour_weight: float = 0.0
    apart_mm: float = 15.0
    finals: int = 1
    """Places left after the middle stage."""
    afresh_below: float | None = None
    """The best poses are refined once more with all else as in the CT where the weakest view scores
    less than this; None: always."""


@dataclass(frozen=True)
class SearchOptions:
    """Ranges of the search; lengths in mm at the vertebra."""

    rotation_range_deg: float = 25.0
    rotation_step_deg: float = 12.5
    translation_range_mm: float = 12.0
    translation_step_mm: float = 2.5
    pixel_mm: float = 2.0
    blur_mm: float = 2.5
    neighbourhood_mm: float = 8.0
    neighbour_weight: float = 0.0
    positions_per_rotation: int = 1
    apart_mm: float = 15.0

    def for_places(self, places: Places) -> SearchOptions:
        """The same with what a kind of places needs."""
        return replace(
            self,
            positions_per_rotation=places.positions_per_rotation,
            neighbour_weight=places.neighbour_weight,
            apart_mm=places.apart_mm,
        )


@dataclass(frozen=True)
class RegistrationOptions:
    """Everything that decides a registration; recorded with the result."""

    seed: int = 0
    bone_scale: float | None = None
    """Gaussians, pixels, blurs and neighbourhoods are so many times as long (`scale.scaled`); None:
    as follows from the bone's thickness."""
    click_range_mm: float = 12.0
    start_range_mm: float = 55.0
    rotation_range_deg: float = 25.0
    start_rotation_range_deg: float = 20.0
    reach_mm: float = 50.0
    coarse_cloud_mm: float = 7.0
    fine_cloud_mm: float = 3.0
    search: SearchOptions = field(default_factory=SearchOptions)
    coarse: Stage = field(
        default_factory=lambda: Stage(2.0, 1.8, RefineOptions(iterations=5), background=False)
    )
    middle: Stage = field(
        default_factory=lambda: Stage(
            1.3,
            0.9,
            RefineOptions(fine=True, move_neighbours=True, iterations=6, steps_per_matrix=6),
        )
    )
    fine: Stage = field(
        default_factory=lambda: Stage(
            0.8,
            0.5,
            RefineOptions(
                fine=True,
                voxels=True,
                move_neighbours=True,
                neighbourhoods_mm=(6.0,),
                iterations=5,
                steps_per_matrix=5,
            ),
            rounds=4,
        )
    )
    click_places: Places = Places(
        count=1,
        candidates=16,
        positions_per_rotation=1,
        keep=1,
        survivors=4,
        neighbour_weight=0.5,
    )
    start_places: Places = Places(
        count=8,
        candidates=4,
        positions_per_rotation=5,
        neighbour_weight=0.5,
        keep=5,
        survivors=2,
        finals=3,
    )
    given_start_places: Places = Places(
        count=1, candidates=2, positions_per_rotation=1, keep=1, survivors=1
    )
    """For a start as it is, tried before the search around it."""
    learned_places: Places = Places(
        count=3,
        candidates=2,
        positions_per_rotation=1,
        keep=2,
        survivors=1,
        finals=2,
        afresh_below=bounds.CLEAR_SCORE,
    )
    """For poses that are known beforehand (a model's), tried before any search."""
    learned_search_places: Places = Places(
        count=3,
        candidates=5,
        positions_per_rotation=1,
        neighbour_weight=0.5,
        keep=3,
        survivors=2,
        finals=3,
    )
    """For a search around each of several places that were proposed before."""
    fine_candidates: int = 2
    fine_lead: float = 0.1
    """A second pose is refined finely only if it scores within this of the best."""


def registration_options(effort: str = "normal", *, seed: int = 0) -> RegistrationOptions:
    """Return the options of an effort. ``normal`` are the defaults, with which all was measured.

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
