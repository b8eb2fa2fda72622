"""A CT volume from a folder of DICOM slices."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813

from ..errors import InputError
from ..geometry import Array, Volume
from . import bounds
from .dicom_file import number_of_frames, quiet_pydicom, value_of
from .itk_image import check_axes, quiet_itk
from .ledger import Ledger

# Only geometry and what tells series apart; nothing that identifies a patient is even parsed.
_TAGS = [
    "SeriesInstanceUID",
    "SeriesNumber",
    "Modality",
    "ImageType",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "NumberOfFrames",
]


@dataclass(frozen=True)
class _Slice:
    path: Path
    position: Array
    cosines: Array
    spacing: tuple[float, float]
    size: tuple[int, int]


@dataclass(frozen=True)
class _Series:
    number: str
    slices: list[_Slice]

    @property
    def title(self) -> str:
        return f"series {self.number} with {len(self.slices)} slices"


def _header(path: Path) -> pydicom.Dataset | None:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
    except Exception:  # no DICOM file, or one so broken that the parser may raise anything
        return None


def _slice(path: Path, header: pydicom.Dataset) -> _Slice | None:
    """The place of one slice, if the header tells it."""
    try:
        position = np.array(header.ImagePositionPatient, dtype=float)
        cosines = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
        spacing = (float(header.PixelSpacing[1]), float(header.PixelSpacing[0]))
        size = (int(header.Columns), int(header.Rows))
    except Exception:  # absent, or broken in any way
        return None
    usable = position.shape == (3,) and np.isfinite(position).all() and np.isfinite(cosines).all()
    return _Slice(path, position, cosines, spacing, size) if usable else None


def _find_series(folder: Path, deep: bool) -> list[_Series]:
    """The CT series of a folder (and what is below it) that could be volumes."""
    slices: dict[tuple[str, tuple[float, ...], tuple[int, int]], list[_Slice]] = defaultdict(list)
    numbers: dict[str, str] = {}
    found: set[str] = set()
    enhanced, unplaced = False, 0
    for path in sorted(p for p in folder.glob("**/*" if deep else "*") if p.is_file()):
        header = _header(path)
        uid = "" if header is None else str(value_of(header, "SeriesInstanceUID") or "")
        if header is None or not uid:
            continue
        modality = str(value_of(header, "Modality") or "")
        found.add(modality or "unknown")
        if modality != "CT" or "LOCALIZER" in (value_of(header, "ImageType") or []):
            continue
        if number_of_frames(header) > 1:
            enhanced = True
            continue
        one = _slice(path, header)
        if one is None:
            unplaced += 1
            continue
        numbers[uid] = str(value_of(header, "SeriesNumber") or "without a number")
        slices[uid, tuple(np.round(one.cosines.ravel(), 3)), one.size].append(one)
    series = [
        _Series(numbers[key[0]], found)
        for key, found in slices.items()
        if len(found) >= bounds.LEAST_SLICES
    ]
    if not series and enhanced:
        raise InputError(
            folder, "holds an enhanced (multi-frame) CT, which is not read", "convert it to NIfTI"
        )
    if not series and unplaced:
        raise InputError(
            folder, f"holds {unplaced} CT slices without a usable position, orientation or spacing"
        )
    if not series and found:
        raise InputError(
            folder, f"holds DICOM files ({', '.join(sorted(found))}) but no CT series of slices"
        )
    if not series:
        raise InputError(folder, "holds no DICOM file", "name the folder with the CT's slices")
    return series


def _choose(
    folder: Path, series: list[_Series], number: int | None, member: Path | None
) -> _Series:
    if member is not None:
        series = [s for s in series if any(one.path == member for one in s.slices)]
        if not series:
            raise InputError(member, "is no slice of a CT series in its folder")
    if number is not None:
        series_there = ", ".join(s.title for s in series)
        series = [s for s in series if s.number == str(number)]
        if not series:
            raise InputError(folder, f"has no CT series {number}; there are: {series_there}")
    if len(series) > 1:
        raise InputError(
            folder,
            f"holds {len(series)} CT volumes: {', '.join(s.title for s in series)}",
            'choose one with "series": NUMBER, or put it into a folder of its own',
        )
    return series[0]


def _grid(folder: Path, slices: list[_Slice]) -> tuple[list[_Slice], Array]:
    """Slices in order along their normal, and index_to_physical (4, 4)."""
    first = slices[0]
    normal = np.cross(first.cosines[0], first.cosines[1])
    slices = sorted(slices, key=lambda s: float(s.position @ normal))
    positions = np.array([s.position for s in slices])
    heights = positions @ normal
    steps = np.diff(heights)
    step = float(np.median(steps))
    if steps.min() < bounds.SAME_MM:
        raise InputError(
            folder, "has two slices at the same place", "keep one image of every slice"
        )
    if np.abs(steps - step).max() > max(bounds.UNEVEN_SHARE * step, bounds.UNEVEN_MM):
        worst = int(np.argmax(np.abs(steps - step)))
        raise InputError(
            folder,
            f"has uneven slices: {steps[worst]:.3g} mm after slice {worst + 1} of {len(slices)}, "
            f"{step:.3g} mm otherwise",
            "is a slice missing?",
        )
    if max(np.ptp([s.spacing for s in slices], axis=0)) > bounds.SAME_MM:
        raise InputError(folder, "has slices of different pixel spacing")
    matrix = np.eye(4)
    matrix[:3, 0] = first.cosines[0] * first.spacing[0]
    matrix[:3, 1] = first.cosines[1] * first.spacing[1]
    matrix[:3, 2] = (positions[-1] - positions[0]) / (len(slices) - 1)
    matrix[:3, 3] = positions[0]
    off_line = positions - positions[0] - np.arange(len(slices))[:, None] * matrix[:3, 2]
    if np.abs(off_line).max() > bounds.OFF_LINE_SHARE * step:
        raise InputError(folder, "has slices that do not lie on one line")
    check_axes(matrix, folder)
    return slices, matrix


def read_dicom_series(path: Path, ledger: Ledger, number: int | None = None) -> Volume:
    """The CT in a folder of DICOM slices (or below it), float32 HU, on its own grid (LPS mm).

    ``path`` may also be one slice: then its series is read from the files beside it.

    ``number`` is the SeriesNumber where the folder holds more than one CT volume. Raises InputError
    for no or several CT volumes, missing or uneven slices, and a tilted gantry (sheared axes).
    """
    folder = path if path.is_dir() else path.parent
    with quiet_pydicom():
        series = _find_series(folder, deep=path.is_dir())
    member = None if path.is_dir() else path
    slices, matrix = _grid(folder, _choose(folder, series, number, member).slices)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(s.path) for s in slices])
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        with quiet_itk():
            array = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise InputError(folder, "has slices whose pixels cannot be read") from error
    ledger.add_series("CT (DICOM series)", [s.path for s in slices])
    return Volume(array, matrix)
