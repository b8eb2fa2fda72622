"""Simulated cases as folders in the form of the contract, with ``truth.json`` beside."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from ..cases import (
    Case,
    OutputFolder,
    View,
    file_stem,
    write_case,
    write_itk,
    write_json,
    write_tiff,
    write_views,
)
from ..geometry import Array
from ..system import ProgressCallable
from ..vertebrae import vertebra_level
from .bead_case import SimulatedBeads
from .case import SimulatedCase
from .grid_plate import GridPicture
from .run import SimulatedRun


def write_simulated_case(simulated: SimulatedCase, folder: str | os.PathLike[str]) -> Path:
    """Write a case with ``start.json`` and ``truth.json``, whole or not at all.

    Display X-rays are stored as 8 or 16 bit TIFF, line integrals as float32; the segmentation with
    the names of vertebrae (``seg.seg.nrrd``), where labels have such. Returns the path of
    ``case.json``. Raises InputError where the folder cannot be written.
    """
    case = simulated.case
    with OutputFolder(folder) as stage:
        _write_inputs(stage, case, simulated.start_ct_to_world)
        _write_stored(stage, case.views, simulated.grey)
        write_json(simulated.truth, stage / "truth.json")
    return Path(folder) / "case.json"


def _write_inputs(stage: Path, case: Case, start_ct_to_world: Array) -> None:
    """Write what a registration reads, with the names of vertebrae: others are whatever somebody
    typed."""
    names = {n: name for n, name in case.label_names.items() if vertebra_level(name)}
    write_case(
        stage,
        case.ct,
        case.labels,
        case.label,
        case.views,
        names,
        start_ct_to_world=start_ct_to_world,
    )


def write_simulated_run(
    run: SimulatedRun,
    folder: str | os.PathLike[str],
    progress: ProgressCallable | None = None,
) -> Path:
    """Write a run as `write_simulated_case` writes a case, with a folder of frames for each view:
    ``ap/0000.tif`` and so on; whole or not at all. Returns the path of ``case.json``. Raises
    InputError where the folder cannot be written."""
    case = run.case
    with OutputFolder(folder) as stage:
        _write_inputs(stage, case, np.array(run.truth["start_ct_to_world"]))
        places = {view.name: stage / file_stem(view.name).lower() for view in case.views}
        for place in places.values():
            place.with_suffix(".tif").unlink()
            place.mkdir()
        path = stage / "views.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        for entry in content["views"]:
            entry["image"] = places[entry["name"]].name
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        for number, pictures in enumerate(run.pictures(progress)):
            for view in case.views:
                name = places[view.name] / f"{number:04d}.tif"
                _write_grey(pictures[view.name], view.pixel_spacing_mm, name)
        write_json(run.truth, stage / "truth.json")
    return Path(folder) / "case.json"


def write_simulated_beads(simulated: SimulatedBeads, folder: str | os.PathLike[str]) -> Path:
    """Write X-rays of beads alone: ``views.json``, pictures as `write_simulated_case` stores them,
    ``truth.json``; whole or not at all. Returns the path of ``views.json``. Raises InputError
    where the folder cannot be written."""
    with OutputFolder(folder) as stage:
        write_views(stage, simulated.views)
        _write_stored(stage, simulated.views, simulated.grey)
        write_json(simulated.truth, stage / "truth.json")
    return Path(folder) / "views.json"


def write_grids(
    grids: Mapping[str, GridPicture],
    spacing_mm: tuple[float, float],
    folder: str | os.PathLike[str],
) -> None:
    """Write a grid's pictures into a folder, each under its view's name, whole or not at all.

    Raises InputError where the folder cannot be written.
    """
    with OutputFolder(folder) as stage:
        for name, grid in grids.items():
            path = stage / f"{file_stem(name).lower()}.tif"
            if grid.stored is None:
                write_tiff(grid.pixels, spacing_mm, path)
            else:
                _write_grey(grid.stored, spacing_mm, path)


def _write_stored(stage: Path, views: Sequence[View], grey: Mapping[str, NDArray[Any]]) -> None:
    """Write pictures as an X-ray device stores them, in place of their float32."""
    for view in views:
        if view.name in grey:
            path = stage / f"{file_stem(view.name).lower()}.tif"
            _write_grey(grey[view.name], view.pixel_spacing_mm, path)


def _write_grey(grey: NDArray[Any], spacing_mm: tuple[float, float], path: Path) -> None:
    image = sitk.GetImageFromArray(np.ascontiguousarray(grey))
    image.SetSpacing([float(s) for s in spacing_mm])
    write_itk(image, path, compressed=False)
