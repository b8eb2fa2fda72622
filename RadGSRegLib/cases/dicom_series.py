"""CT volumes from a folder of DICOM slices."""

from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import Volume
from . import bounds
from .dicom_file import value_of, with_syntax
from .dicom_grid import grid_of, slices_by_place
from .dicom_pixels import modality_values, stored_values
from .dicom_slices import Folder, Series, Slice, look_into, names_of
from .ledger import Ledger
from .patients import THE_CT, remember_patient
from .quiet import quiet_readers

# Rescale types (PS3.3 C.11.1.1.2) whose values are Hounsfield units, or may be.
_HOUNSFIELD = ("", "HU", "HU_MOD", "US")


def _refuse_without_series(folder: Path, inside: Folder) -> None:
    if inside.series:
        return
    if inside.multi_frame:
        raise InputError(
            folder, "holds an enhanced (multi-frame) CT, which is not read", "convert it to NIfTI"
        )
    if inside.unplaced:
        raise InputError(
            folder,
            f"holds {inside.unplaced} CT slices without a usable position, orientation or spacing",
        )
    if inside.modalities:
        kinds = ", ".join(sorted(inside.modalities))
        raise InputError(folder, f"holds DICOM files ({kinds}) but no CT series of slices")
    if inside.broken:
        raise InputError(
            folder,
            f"holds no DICOM file that can be read ({names_of(inside.broken)})",
            "are they complete?",
        )
    raise InputError(folder, "holds no DICOM file", "name the folder with the CT's slices")


def _choose(folder: Path, series: list[Series], number: int | None, member: Path | None) -> Series:
    if member is not None:
        series = [s for s in series if any(item.path == member for item in s.slices)]
        if not series:
            raise InputError(member, "is no slice of a CT series in its folder")
    if number is not None:
        series_there = ", ".join(s.title for s in series)
        series = [s for s in series if s.number == str(number)]
        if not series:
            raise InputError(folder, f"has no CT series {number}; there are: {series_there}")
    if len(series) > 1:
        by_number = len({s.number for s in series}) == len(series)
        raise InputError(
            folder,
            f"holds {len(series)} CT volumes: {', '.join(s.title for s in series)}",
            ('choose one with "series": NUMBER, or ' if by_number else "")
            + "put one into a folder of its own",
        )
    return series[0]


def _values(item: Slice) -> tuple[NDArray[np.float32], bool]:
    """One slice in Hounsfield units (rows, columns), and whether the file says that it is."""
    try:
        dataset = with_syntax(pydicom.dcmread(item.path, force=True))
    except Exception as error:  # bytes from anywhere make the parser raise anything
        raise InputError(item.path, "cannot be read as DICOM; is it complete?") from error
    stored = stored_values(item.path, dataset)
    if stored.shape != (item.size[1], item.size[0]):
        raise InputError(item.path, "is no slice of a CT: its pixels are no plane of grey")
    kind = str(value_of(dataset, "RescaleType") or "").strip().upper()
    if kind not in _HOUNSFIELD:
        raise InputError(item.path, f"is not in Hounsfield units: its RescaleType is {kind[:16]}")
    said = value_of(dataset, "ModalityLUTSequence") or (
        value_of(dataset, "RescaleIntercept") is not None
        and value_of(dataset, "RescaleSlope") is not None
    )
    return modality_values(item.path, dataset, stored).astype(np.float32), bool(said)


def _stack(folder: Path, places: list[list[Slice]], ledger: Ledger) -> NDArray[np.float32]:
    """All slices (K, J, I), HU; where a slice is there twice the copies must be equal."""
    planes, silent, again = [], [], []
    for copies in places:
        plane, said = _values(copies[0])
        for other in copies[1:]:
            if not np.array_equal(_values(other)[0], plane):
                raise InputError(
                    folder,
                    f"has two slices at the same place ({copies[0].path.name} and "
                    f"{other.path.name}) that differ",
                    "keep one image of every slice",
                )
            again.append(other.path)
        planes.append(plane)
        if not said:
            silent.append(copies[0].path)
    array = np.stack(planes)
    if silent and (len(silent) < len(planes) or array.min() > bounds.LIKE_AIR_HU):
        raise InputError(
            folder,
            f"is not known to be in Hounsfield units: {len(silent)} of {len(planes)} slices have "
            f"no RescaleIntercept and RescaleSlope ({names_of(silent)})",
            "export the CT again with them, or as NIfTI in Hounsfield units",
        )
    if silent:
        ledger.note("the CT has no RescaleIntercept; its values are taken as Hounsfield units")
    if again:
        ledger.note(f"the CT holds {len(again)} files twice, used once ({names_of(again)})")
    return array


def _note_left_out(left_out: dict[str, list[Path]], ledger: Ledger) -> str:
    """Say which files are no part of the volume; the same in short, for a complaint."""
    said = []
    for reason, paths in left_out.items():
        if paths:
            files = f"{len(paths)} file{'s' if len(paths) > 1 else ''} {reason}"
            said.append(f"{files} ({names_of(paths)})")
    for text in said:
        ledger.note(f"the CT was read without {text}")
    return f"; left out: {', '.join(said)}" if said else ""


def read_dicom_series(path: Path, ledger: Ledger, number: int | None = None) -> Volume:
    """The CT in a folder of DICOM slices (or below it), float32 HU, on its own grid (LPS mm).

    ``path`` may also be one slice: then its series is read from the files beside it. ``number`` is
    the SeriesNumber where the folder holds more than one CT volume. Slices belong together where
    their directions and spacings part by less than a small tolerance; what is left out is noted.
    Raises InputError for no or several CT volumes, missing or uneven slices, different slices at
    one place, a tilted gantry (sheared axes), and values that are not known to be HU.
    """
    folder = path if path.is_dir() else path.parent
    with quiet_readers():
        inside = look_into(folder, deep=path.is_dir())
        _refuse_without_series(folder, inside)
        chosen = _choose(folder, inside.series, number, None if path.is_dir() else path)
        left_out = {
            **chosen.left_out,
            "that cannot be read as DICOM": inside.broken,
            "of a multi-frame CT": inside.multi_frame,
        }
        besides = _note_left_out(left_out, ledger)
        places = slices_by_place(chosen.slices)
        if len(places) < bounds.LEAST_SLICES:
            raise InputError(folder, f"holds only {len(places)} different CT slices")
        matrix, off = grid_of(folder, [copies[0] for copies in places], besides)
        array = _stack(folder, places, ledger)
    remember_patient(ledger, THE_CT, places[0][0].path)
    if off > bounds.NOTED_OFF_GRID_MM:
        ledger.note(f"slices of the CT lie up to {off:.2f} mm off their even grid, which is used")
    ledger.add_series("CT (DICOM series)", [item.path for copies in places for item in copies])
    return Volume(array, matrix)
