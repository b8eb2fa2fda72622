"""A TIFF stack as a CT: one file of many pages, or a folder of pictures, one per slice.

A stack holds grey values and nothing of the body, so how it lies there must be said: `StackPlace`.
Its frame begins at the middle of its first voxel.
"""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import Volume
from ..inputs import note_input
from . import bounds
from .dicom_file import is_dicom_file
from .ledger import Ledger
from .pictures import picture_kind, read_picture
from .quiet import quiet_readers

# The LPS axis of a letter, and its sign.
_LETTERS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
_IMAGEJ_MM = {
    "mm": 1.0, "millimeter": 1.0, "cm": 10.0, "micron": 1e-3, "um": 1e-3, "µm": 1e-3,
    "\\u00b5m": 1e-3, "m": 1e3,
}  # fmt: skip


@dataclass(frozen=True)
class StackPlace:
    """How a TIFF stack lies in the patient, and what its values are.

    ``spacing_mm``: the steps from column to column, row to row and slice to slice; ``axes``: where
    in the patient columns, rows and slices lead with rising number, as three letters of L or R, P
    or A, S or I; HU are ``slope`` times the stored value plus ``intercept``.

    Raises ValueError, with a sentence, for what cannot be.
    """

    spacing_mm: tuple[float, float, float]
    axes: str = "LPS"
    slope: float = 1.0
    intercept: float = 0.0

    def __post_init__(self) -> None:
        low, high = bounds.VOXEL_MM
        if len(self.spacing_mm) != 3 or not all(low <= step <= high for step in self.spacing_mm):
            raise ValueError(f"the spacing must be three numbers from {low:g} to {high:g} mm")
        letters = self.axes.upper()
        known = len(letters) == 3 and all(letter in _LETTERS for letter in letters)
        if not known or {_LETTERS[letter][0] for letter in letters} != {0, 1, 2}:
            raise ValueError(
                f'the axes are "{self.axes}", but must be three letters, one of L and R, one of P '
                "and A, one of S and I"
            )
        object.__setattr__(self, "axes", letters)
        if not (np.isfinite([self.slope, self.intercept]).all() and self.slope > 0):
            raise ValueError("the slope must be positive, and slope and intercept finite")

    def index_to_physical(self) -> NDArray[np.float64]:
        """(i, j, k, 1) to LPS mm (4, 4)."""
        out = np.eye(4)
        out[:3, :3] = 0.0
        for index, (letter, step) in enumerate(zip(self.axes, self.spacing_mm, strict=True)):
            axis, sign = _LETTERS[letter]
            out[axis, index] = sign * step
        return out


def is_stack(path: Path) -> bool:
    """Whether a path is a TIFF file, or a folder of TIFF files without DICOM among them."""
    if path.is_file():
        return picture_kind(path) == "tiff"
    return path.is_dir() and bool(_tiffs(path)) and not any(map(is_dicom_file, _others(path)))


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


def _tiffs(folder: Path) -> list[Path]:
    return [p for p in _files(folder) if p.suffix.lower() in (".tif", ".tiff")]


def _others(folder: Path) -> list[Path]:
    return [p for p in _files(folder) if p.suffix.lower() not in (".tif", ".tiff")]


def without_place(path: Path) -> InputError:
    """The refusal of a stack whose place is not given."""
    said = _imagej_spacing(path) if path.is_file() else None
    hint = f" (ImageJ wrote {_times(said)} mm into it)" if said else ""
    return InputError(
        path,
        f"is a TIFF stack, without voxel size and place in the patient{hint}",
        'give "ct_spacing_mm" in the case.json, or --spacing of the command (and "ct_axes" or '
        "--axes), or save it as NIfTI, NRRD or MHA",
    )


def no_stack(path: Path) -> InputError:
    """The refusal of a spacing for what says its own."""
    return InputError(
        path, "is no TIFF stack, so it says its voxel size itself", "leave out the spacing"
    )


def read_stack(path: Path, place: StackPlace, ledger: Ledger | None = None) -> Volume:
    """The volume (K, J, I) of a stack, in HU where the place says how.

    Raises InputError for fewer than two slices, holes in their numbers, slices that differ, and
    what is not grey, and where ImageJ's metadata give another spacing.
    """
    array = _one_file(path, place, ledger) if path.is_file() else _folder(path, ledger)
    if min(array.shape) < 2:
        size = " x ".join(map(str, array.shape[::-1]))
        raise InputError(path, f"is {size} voxels, no volume")
    if place.slope != 1.0 or place.intercept != 0.0:
        array = array.astype(np.float32) * np.float32(place.slope) + np.float32(place.intercept)
    if ledger is not None:
        ledger.note(
            f"{path.name} is a TIFF stack; taken as voxels of {_times(place.spacing_mm)} mm, with "
            f"columns, rows and slices towards {', '.join(place.axes)}"
        )
    return Volume(array, place.index_to_physical())


def labels_of_stack(path: Path, ct: Volume, ledger: Ledger | None = None) -> Volume:
    """A stack of labels (K, J, I) on the grid of a CT that is a stack too.

    Raises InputError as `read_stack`, and where the two differ in size.
    """
    if path.is_file():
        array = _grey(path, ledger)
        if ledger is not None:
            ledger.add_file(path)
    else:
        array = _folder(path, ledger)
    if array.shape != ct.array.shape:
        sizes = [" x ".join(map(str, shape[::-1])) for shape in (array.shape, ct.array.shape)]
        raise InputError(
            path, f"is a stack of {sizes[0]} voxels, but the CT's is {sizes[1]}", "label the CT"
        )
    return ct.with_array(array)


def _times(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def _grey(path: Path, ledger: Ledger | None) -> NDArray[Any]:
    """The pages (K, J, I) of one file."""
    note_input(path)
    picture = read_picture(path)
    if picture.array.ndim != 3:
        raise InputError(path, "is a colour image; grey values are needed")
    if picture.white is not None:
        raise InputError(
            path, "says that its lowest value is white, as no CT does", "save it anew, min is black"
        )
    if ledger is not None:
        for note in picture.notes:
            ledger.note(f"{path.name} {note}")
    return picture.array


def _one_file(path: Path, place: StackPlace, ledger: Ledger | None) -> NDArray[Any]:
    array = _grey(path, ledger)
    many = _axes_of(path)
    if len(many) > 1:
        raise InputError(
            path,
            f"holds several stacks in one (its pages run over {' and '.join(many)})",
            "save the one that is the CT",
        )
    said = _imagej_spacing(path)
    if said and not np.allclose(said, place.spacing_mm, rtol=bounds.SAME_SPACING):
        raise InputError(
            path,
            f"has voxels of {_times(said)} mm by what ImageJ wrote into it, but the spacing given "
            f"is {_times(place.spacing_mm)} mm",
            "correct the one that is wrong",
        )
    if ledger is not None:
        ledger.add_file(path)
    return array


def _axes_of(path: Path) -> list[str]:
    """Names of the axes over which pages run, where there are more than the pictures' own."""
    import tifffile

    with quiet_readers(), tifffile.TiffFile(path) as file:
        series = file.series[0]
        pairs = list(zip(series.axes, series.shape, strict=True))
        return [axis for axis, length in pairs if axis not in "YXS" and length > 1]


def _imagej_spacing(path: Path) -> tuple[float, float, float] | None:
    """Voxel size (mm) that ImageJ wrote into a file with a unit of length; else None."""
    import tifffile

    try:
        with quiet_readers(), tifffile.TiffFile(path) as file:
            facts = file.imagej_metadata or {}
            tags = file.pages.first.tags
            scale = _IMAGEJ_MM.get(str(facts.get("unit", "")).strip().lower())
            if scale is None:
                return None
            across, down = (tags.valueof(code, default=(0, 1)) for code in (282, 283))
            steps = across[1] / across[0], down[1] / down[0], float(facts["spacing"])
            return scale * steps[0], scale * steps[1], scale * steps[2]
    except Exception:  # metadata from anywhere; without them nothing is compared
        return None


def _folder(folder: Path, ledger: Ledger | None) -> NDArray[Any]:
    files = _in_order(folder, _tiffs(folder))
    slices = []
    for path in files:
        array = _grey(path, ledger)
        if len(array) != 1:
            raise InputError(
                path, f"holds {len(array)} pictures, but the slices of a folder hold 1"
            )
        slices.append(array[0])
    kinds = Counter((s.shape, s.dtype) for s in slices)
    if len(kinds) > 1:
        usual = kinds.most_common(1)[0][0]
        other = next(p for p, s in zip(files, slices, strict=True) if (s.shape, s.dtype) != usual)
        raise InputError(other, "has another size or type than the other slices of its folder")
    if ledger is not None:
        ledger.add_series(folder.name, files)
    return np.stack(slices)


def _in_order(folder: Path, files: list[Path]) -> list[Path]:
    """The slices by the one number in which their names differ.

    Raises InputError where names differ otherwise or numbers are missing.
    """
    parts = [re.split(r"(\d+)", path.stem) for path in files]
    texts = {tuple(p[::2]) for p in parts}
    numbers = [tuple(map(int, p[1::2])) for p in parts]
    differ = (
        [len(set(column)) > 1 for column in zip(*numbers, strict=True)] if len(texts) == 1 else []
    )
    if sum(differ) != 1:
        raise InputError(
            folder,
            f"holds TIFF files whose names do not differ in one number ({files[0].name}, "
            f"{files[-1].name})",
            "keep the slices of one CT in a folder of their own, numbered",
        )
    which = differ.index(True)
    ordered = sorted(zip((n[which] for n in numbers), files, strict=True))
    steps = Counter(b - a for (a, _), (b, _) in pairwise(ordered))
    usual = min(steps)
    hole = next((pair for pair in pairwise(ordered) if pair[1][0] - pair[0][0] != usual), None)
    if usual == 0 or hole is not None:
        at = f"between {hole[0][1].name} and {hole[1][1].name}" if hole else "with the same number"
        raise InputError(folder, f"has missing or double slices {at}", "complete the folder")
    return [path for _, path in ordered]
