"""From a design to the tables: all cells, then the evaluation of what each has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ..cases import OutputFolder
from ..evaluation import EvaluationOptions, Report, write_paper
from ..simulation import simulate_phantom_case, write_simulated_case
from ..system import Progress
from ..training import PhaseShares, TrainingConfig, claim, held_out_names
from .cells import models_by_case, train_cell
from .design import EARLIER, WHOLE, Cell, Design, plan

# Phantoms of cases, apart from all that are trained on (whose seeds begin at the training's own, a
# million and two millions after it).
_CASE_SEEDS = 5 * 10**6


def reproduce(design: Design, out: Path, progress: Progress | None = None) -> tuple[Report, int]:
    """Train all cells of a design that are not trained yet, and write the tables.

    ``out`` keeps the models (``cells``) and gets the tables, plots and attention panels of
    `evaluation.write_paper` (``tables``): the whole method first, what the first two stages give
    without the others, and the other variants. Every model is measured on X-rays that it has not
    been trained on. Returns the report and how many cells were trained now.

    Raises InputError for data that cannot be used, and where ``out`` is that of another design;
    Cancelled when ``progress`` says so: what is trained stays, and the next call goes on.
    """
    report = progress or Progress()
    report(0.0, "reading the cases")
    folds = held_out_names(design.cases)
    claim(out, _identity(design, folds), "--out")
    cells = plan(design, folds)
    trained = 0
    for number, cell in enumerate(cells):
        part = report.part(0.8 * number / len(cells), 0.8 * (number + 1) / len(cells))
        part(0.0, f"model {number + 1} of {len(cells)}: {cell.place.as_posix()}")
        trained += train_cell(cell, design, out / "cells", part)
    models = _models(design, cells, out)
    options = EvaluationOptions(
        methods=design.methods,
        models=tuple(f"{name}={path}" for name, path in models.items()),
        draws=design.draws,
        seed=design.config.seed,
        device=design.device,
    )
    with OutputFolder(out / "tables") as stage:
        tables = write_paper(design.cases, stage, options, report.part(0.8, 1.0))
    return tables, trained


def _identity(design: Design, folds: Sequence[Sequence[str]]) -> dict[str, object]:
    """What models that are there already must have in common with those to come."""
    data = [folds, design.phantoms, str(design.cts), str(design.verse), str(design.cases.resolve())]
    return {
        "data": data,
        "options": [asdict(design.config), asdict(design.patient)],
        "minutes": design.minutes,
    }


def _models(design: Design, cells: Sequence[Cell], out: Path) -> dict[str, Path]:
    """Gather each variant's models by case, the whole method's of all stages; by the tables'
    names."""
    models: dict[str, Path] = {}
    for variant in design.variants():
        mine = [cell for cell in cells if cell.variant == variant]
        last = [cell for cell in mine if cell.stage == 3]
        models[variant] = out / "models" / variant
        models_by_case(last, out / "cells", models[variant])
        if variant == WHOLE:
            first, second = EARLIER
            models[first] = out / "cells" / mine[0].model
            models[second] = out / "models" / second
            before = [replace(cell.base, case=cell.case) for cell in last if cell.base is not None]
            models_by_case(before, out / "cells", models[second])
    return models


def phantom_cases(
    folder: Path, count: int, seed: int, spacing_mm: float, progress: Progress
) -> Path:
    """Simulate cases of as many phantoms where they are not there yet; return their folder."""
    for number in range(count):
        place = folder / f"phantom-{number}"
        if not (place / "case.json").is_file():
            progress(number / count, f"simulating case {number + 1} of {count}")
            simulated = simulate_phantom_case(_CASE_SEEDS + seed + number, spacing_mm=spacing_mm)
            write_simulated_case(simulated, place)
    return folder


def smallest(seed: int) -> TrainingConfig:
    """Return settings that show in minutes that everything works, and nothing else: the paper's
    with tiny networks and a few steps."""
    paper = TrainingConfig.paper("small")
    recm, regm = paper.model.recm, paper.model.regm
    model = replace(
        paper.model,
        recm=replace(recm, size_px=32, pixel_mm=4.0, maps=3, hidden=24, per_anchor=16),
        regm=replace(regm, voxels=16, width=2),
        detector=None,
    )
    return replace(
        paper,
        model=model,
        detection=replace(paper.detection, share=0.0),
        shares=PhaseShares(1.0, 1.0, 1.0),
        seed=seed,
        steps=3,
        halve_every=1,
        batch=2,
        rendered=2,
        joint_cases=2,
        pairs=2,
        first_pairs=2,
        gaussians=100,
        validate=1,
    )
