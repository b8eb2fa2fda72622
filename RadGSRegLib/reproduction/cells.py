"""Training of one cell: in its own folder, once, going on where it was interrupted."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from ..cases import make_folder
from ..system import Progress
from ..training import Pretraining, pretrain
from .design import Cell, Design


def train_cell(cell: Cell, design: Design, folder: Path, progress: Progress) -> bool:
    """Train a cell in its place in ``folder``, if its model is not there yet; say whether it was
    not.

    A cell that was interrupted goes on from its last checkpoint; its minutes start anew. What only
    an interrupted one needs is removed in the end. Raises InputError for data that cannot be
    trained on, and Cancelled when ``progress`` says so.
    """
    out = folder / cell.model
    if out.is_file():
        return False
    make_folder(out.parent)
    work = out.parent / "work"
    first, second = cell.stage == 1, cell.stage == 2
    asked = Pretraining(
        cell.stage,
        out,
        case=None if cell.case is None else design.cases / cell.case / "case.json",
        phantoms=design.phantoms if first else 0,
        cts=design.cts if first else None,
        verse=design.verse if first else None,
        cases=design.cases if second else None,
        fold=cell.fold if second else None,
        base=None if cell.base is None else folder / cell.base.model,
        minutes=design.minutes,
        work=work,
        device=design.device,
    )
    pretrain(asked, cell.config, progress)
    shutil.rmtree(work, ignore_errors=True)
    return True


def models_by_case(cells: Sequence[Cell], folder: Path, target: Path) -> None:
    """Put the models of a stage where the evaluation looks for them: ``target``/CASE.safetensors
    for every case that the model has not seen.

    ``cells``: of the second or third stage, by case.
    """
    make_folder(target)
    for cell in cells:
        assert cell.case is not None
        shutil.copyfile(folder / cell.model, target / f"{cell.case}.safetensors")
