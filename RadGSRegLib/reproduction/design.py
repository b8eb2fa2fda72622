"""What is trained: every variant of the method, its stages, folds and patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ..training import PhaseShares, TrainingConfig

WHOLE = "RadGS-Reg"
EARLIER = ("stage-1", "stages-1-2")
"""What the whole method's first stages alone are called in the tables."""


def _without_cal(config: TrainingConfig) -> TrainingConfig:
    recm = replace(config.model.recm, counterfactual=False)
    return replace(config, model=replace(config.model, recm=recm))


def _without_synergy(config: TrainingConfig) -> TrainingConfig:
    """The joint phase's share goes to RecM and RegM alone, in their proportion."""
    shares = config.shares
    more = shares.total / (shares.recm + shares.regm)
    return replace(config, shares=PhaseShares(more * shares.recm, more * shares.regm, 0.0))


def _with_encoder(name: str, config: TrainingConfig) -> TrainingConfig:
    """Both networks look through another encoder."""
    model = config.model
    networks = {kind: replace(getattr(model, kind), encoder=name) for kind in ("recm", "regm")}
    return replace(config, model=replace(model, **networks))


ABLATIONS: dict[str, Callable[[TrainingConfig], TrainingConfig]] = {
    "no-CAL": _without_cal,
    "no-synergy": _without_synergy,
}
"""What is left out of the method, by the names of the tables."""


@dataclass(frozen=True)
class Design:
    """What to reproduce, and with what.

    ``cases``: a folder of cases with truth, of which five folds are held out in turn; ``phantoms``
    spines, and CTs in ``cts`` and ``verse``, for the first stage; ``config`` for the first two
    stages and ``patient`` for the third; ``ablations`` and ``encoders``: variants besides the whole
    method; ``minutes`` for each model (None: the configuration's steps); ``methods``: of the tables
    (none: all); ``draws``: further starts per case, for CR.
    """

    cases: Path
    config: TrainingConfig
    patient: TrainingConfig
    phantoms: int = 0
    cts: Path | None = None
    verse: Path | None = None
    ablations: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    minutes: float | None = None
    methods: tuple[str, ...] = ()
    draws: int = 0
    device: str = "cpu"

    def names(self) -> tuple[str, ...]:
        """Return what the tables call the models: each variant, and the whole method's first
        stages alone."""
        whole, *others = self.variants()
        return (whole, *EARLIER, *others)

    def variants(self) -> dict[str, Callable[[TrainingConfig], TrainingConfig]]:
        """Return how each variant changes a configuration, by name, the whole method first."""
        changes: dict[str, Callable[[TrainingConfig], TrainingConfig]] = {WHOLE: lambda c: c}
        changes |= {name: ABLATIONS[name] for name in self.ablations}
        for name in self.encoders:
            changes[name] = partial(_with_encoder, name)
        return changes


@dataclass(frozen=True)
class Cell:
    """One model to train: a ``variant`` in a ``stage``, with ``fold`` held out from the second on,
    of the ``case`` of that fold in the third (in the second: what it is asked about where models
    are gathered by case); ``base``: the cell that it goes on from."""

    variant: str
    stage: int
    config: TrainingConfig = field(repr=False)
    fold: int | None = None
    case: str | None = None
    base: Cell | None = None

    @property
    def place(self) -> Path:
        """Its folder among all cells."""
        parts = [self.variant, f"stage-{self.stage}"]
        parts += [] if self.fold is None else [f"fold-{self.fold}"]
        return Path(*parts, *([] if self.stage < 3 or self.case is None else [self.case]))

    @property
    def model(self) -> Path:
        """Its model's file among all cells."""
        return self.place / "model.safetensors"


def plan(design: Design, folds: Sequence[Sequence[str]]) -> list[Cell]:
    """List the cells in an order in which each comes after what it goes on from: for every variant
    one of the first stage, one of the second for every fold, one of the third for every case.

    ``folds``: the cases' names by fold (`training.held_out_names`).
    """
    cells = []
    for name, change in design.variants().items():
        configs: Mapping[int, TrainingConfig] = {
            1: change(design.config),
            2: change(design.config),
            3: change(design.patient),
        }
        first = Cell(name, 1, configs[1])
        cells.append(first)
        for fold, cases in enumerate(folds):
            second = Cell(name, 2, configs[2], fold, base=first)
            cells.append(second)
            cells += [Cell(name, 3, configs[3], fold, case, second) for case in cases]
    return cells


def minutes_of(design: Design, cells: Sequence[Cell]) -> float | None:
    """Say how long training the cells takes at most (None: the steps decide)."""
    return None if design.minutes is None else design.minutes * len(cells)
