"""The CT slices in a folder of DICOM files, sorted into series; what is left over is remembered."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom

from ..geometry import Array
from . import bounds
from .dicom_file import is_dicom_file, number_of_frames, value_of

# Only geometry and what tells series apart; nothing that identifies a patient is even parsed.
_TAGS = [
    "SOPClassUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "NumberOfFrames",
]
_DIRECTORY = "1.2.840.10008.1.3.10"  # a DICOMDIR


@dataclass(frozen=True)
class Slice:
    """One slice: ``axes`` (2, 3) the steps along a row and a column, mm; ``size`` columns, rows."""

    path: Path
    position: Array
    axes: Array
    size: tuple[int, int]
    frame_of_reference: str

    def far_from(self, other: "Slice") -> float:
        """How far, in mm, the two grids part at most when their first pixels meet."""
        corners = np.array([[1, 0], [0, 1], [1, 1]]) * self.size
        return float(np.linalg.norm(corners @ (self.axes - other.axes), axis=1).max())


@dataclass(frozen=True)
class Series:
    """Slices that could be one volume, and what else is said to be of the same series."""

    number: str
    slices: list[Slice]
    left_out: dict[str, list[Path]]

    @property
    def title(self) -> str:
        """The number, and how many slices."""
        return f"series {self.number} with {len(self.slices)} slices"


@dataclass
class Folder:
    """What a folder holds: candidate series, kinds of other images, files that are not usable."""

    series: list[Series] = field(default_factory=list)
    modalities: set[str] = field(default_factory=set)
    multi_frame: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)
    unplaced: int = 0


def names_of(paths: Iterable[Path]) -> str:
    """Some files' names in a sentence."""
    names = sorted(path.name for path in paths)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _header(path: Path) -> pydicom.Dataset | None:
    """The header of a file that starts as DICOM; an empty one where it cannot be read."""
    if not is_dicom_file(path):
        return None
    try:
        header = pydicom.dcmread(
            path, stop_before_pixels=True, specific_tags=list(_TAGS), force=True
        )
    except Exception:  # bytes from anywhere make the parser raise anything
        return pydicom.Dataset()
    meta = getattr(header, "file_meta", None) or pydicom.Dataset()
    is_directory = value_of(meta, "MediaStorageSOPClassUID") == _DIRECTORY
    return None if is_directory else header


def _slice(path: Path, header: pydicom.Dataset) -> Slice | None:
    """The place of one slice, if the header tells it."""
    try:
        position = np.array(header.ImagePositionPatient, dtype=float)
        cosines = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
        spacing = np.array([header.PixelSpacing[1], header.PixelSpacing[0]], dtype=float)
        size = (int(header.Columns), int(header.Rows))
    except Exception:  # absent, or broken in any way
        return None
    numbers = np.concatenate([position, cosines.ravel(), spacing])
    lengths = np.linalg.norm(cosines, axis=1)
    if len(numbers) != 11 or not np.isfinite(numbers).all() or spacing.min() <= 0:
        return None
    if np.abs(lengths - 1).max() > bounds.SKEW:
        return None
    axes = cosines / lengths[:, None] * spacing[:, None]
    frame_of_reference = str(value_of(header, "FrameOfReferenceUID") or "")
    return Slice(path, position, axes, size, frame_of_reference)


def _groups(slices: list[Slice]) -> list[list[Slice]]:
    """Slices of one series that fit together, the most first."""
    groups: list[list[Slice]] = []
    for item in slices:
        for group in groups:
            like = group[0]
            same = (item.size, item.frame_of_reference) == (like.size, like.frame_of_reference)
            if same and item.far_from(like) < bounds.OFF_GRID_MM:
                group.append(item)
                break
        else:
            groups.append([item])
    return sorted(groups, key=len, reverse=True)


def _series_of(number: str, slices: list[Slice], unplaced: list[Path]) -> list[Series]:
    """The volumes of one series; what is too little to be one is left out of the first."""
    volumes: list[list[Slice]] = []
    odd: list[Path] = []
    for group in _groups(slices):
        enough = bounds.LEAST_SLICES if not volumes else bounds.VOLUME_SHARE * len(volumes[0])
        if len(group) >= max(bounds.LEAST_SLICES, enough):
            volumes.append(group)
        else:
            odd += [item.path for item in group]
    left_out = {
        "of another size, spacing, direction or frame of reference": odd,
        "without a usable position, orientation or spacing": unplaced,
    }
    nothing: dict[str, list[Path]] = {}
    return [Series(number, v, left_out if n == 0 else nothing) for n, v in enumerate(volumes)]


def look_into(folder: Path, deep: bool) -> Folder:
    """Sort the DICOM files of a folder (``deep``: and of what is below it)."""
    out = Folder()
    numbers: dict[str, str] = {}
    slices: dict[str, list[Slice]] = defaultdict(list)
    unplaced: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(p for p in folder.glob("**/*" if deep else "*") if p.is_file()):
        header = _header(path)
        if header is None:
            continue
        uid = str(value_of(header, "SeriesInstanceUID") or "")
        modality = str(value_of(header, "Modality") or "")
        if not uid:
            out.broken.append(path)
            continue
        out.modalities.add(modality or "unknown")
        if modality != "CT" or "LOCALIZER" in (value_of(header, "ImageType") or []):
            continue
        if number_of_frames(header) > 1:
            out.multi_frame.append(path)
            continue
        numbers[uid] = str(value_of(header, "SeriesNumber") or "without a number")
        placed = _slice(path, header)
        if placed is None:
            unplaced[uid].append(path)
        else:
            slices[uid].append(placed)
    out.unplaced = sum(map(len, unplaced.values()))
    for uid, items in slices.items():
        out.series += _series_of(numbers[uid], items, unplaced[uid])
    return out
