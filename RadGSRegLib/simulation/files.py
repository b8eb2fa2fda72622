"""Simulated cases as folders in the form of the contract, with ``truth.json`` beside."""

import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ..cases import OutputFolder, file_stem, write_case, write_itk, write_json
from ..vertebrae import vertebra_level
from .case import SimulatedCase


def write_simulated_case(simulated: SimulatedCase, folder: str | os.PathLike[str]) -> Path:
    """Write a case with ``start.json`` and ``truth.json``, whole or not at all.

    Display X-rays are stored as 8 or 16 bit TIFF, line integrals as float32; the segmentation with
    the names of vertebrae (``seg.seg.nrrd``), where labels have such. Returns the path of
    ``case.json``. Raises InputError where the folder cannot be written.
    """
    case = simulated.case
    with OutputFolder(folder) as stage:
        write_case(
            stage,
            case.ct,
            case.labels,
            case.label,
            case.views,
            # Other names are whatever somebody typed.
            {n: name for n, name in case.label_names.items() if vertebra_level(name)},
            start_ct_to_world=simulated.start_ct_to_world,
        )
        for view in case.views:
            if view.name in simulated.grey:
                image = sitk.GetImageFromArray(np.ascontiguousarray(simulated.grey[view.name]))
                image.SetSpacing([float(s) for s in view.pixel_spacing_mm])
                path = stage / f"{file_stem(view.name).lower()}.tif"
                write_itk(image, path, compressed=False)
        write_json(simulated.truth, stage / "truth.json")
    return Path(folder) / "case.json"
