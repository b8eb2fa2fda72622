"""The pixels of a DICOM X-ray, and what kind of intensity they are."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from ..errors import InputError
from .dicom_file import frame_value, number_of_frames, value_of, with_syntax
from .dicom_geometry import GeometryTags, geometry_tags
from .dicom_pixels import falls, modality_values, stored_values
from .frames import checked_frame, grey
from .quiet import quiet_readers
from .types import Intensity

_XRAY_MODALITIES = {"XA", "RF", "DX", "CR", "RG", "OT"}


@dataclass(frozen=True)
class DicomXray:
    """Pixels (rows, columns) float32, their intensity, and what the tags say of the geometry."""

    pixels: NDArray[np.float32]
    intensity: Intensity
    tags: GeometryTags
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Relation:
    """What the tags say of pixels after their rescale or table.

    ``kind`` is the Pixel Intensity Relationship; ``rises`` whether higher pixels are more X-ray
    intensity, None where that is not known; ``table`` whether a modality table was applied;
    ``inverse`` whether a screen shows higher pixels darker (MONOCHROME1).
    """

    kind: str
    rises: bool | None
    table: bool
    inverse: bool


def _relation(path: Path, dataset: pydicom.Dataset, frame: int) -> _Relation:
    """Read the relation of one frame.

    The Pixel Intensity Relationship (PS3.3 C.8.7.1.1.2) and its sign are about stored pixels: +1
    where a lower value is less X-ray intensity, the rule for XA and RF where the sign is absent. A
    negative slope or a table that falls turns it around.
    """
    kind = str(frame_value(dataset, "PixelIntensityRelationship", frame) or "").strip().upper()
    inverse = str(value_of(dataset, "PhotometricInterpretation")).strip() == "MONOCHROME1"
    sign = frame_value(dataset, "PixelIntensityRelationshipSign", frame)
    rises: bool | None = None
    if sign is None:
        rises = True if value_of(dataset, "Modality") in ("XA", "RF") and not inverse else None
    elif str(sign).strip().lstrip("+") in ("1", "-1"):
        rises = int(sign) == 1
    turned = falls(path, dataset, frame)
    if rises is not None:
        rises = None if turned is None else rises != turned
    table = bool(frame_value(dataset, "ModalityLUTSequence", frame))
    return _Relation(kind, rises, table, inverse)


def _meaning(
    relation: _Relation, pixels: NDArray[np.float64]
) -> tuple[Intensity, NDArray[np.float64], list[str]]:
    """The kind of intensity, pixels brought to that kind, and remarks."""
    linear = relation.kind == "LIN" or (relation.kind == "LOG" and relation.table)
    if linear and relation.rises and pixels.min() >= 0:  # a table undoes the logarithm
        return "transmission", pixels, []
    if relation.kind == "LOG" and not relation.table and relation.rises is not None:
        upwards = pixels.max() - pixels if relation.rises else pixels
        return "attenuation", upwards, ["says LOG: its line integrals are known up to a factor"]
    return "display", _as_shown(relation, pixels), []


def _as_shown(relation: _Relation, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    return pixels.max() + pixels.min() - pixels if relation.inverse else pixels


def _as_told(
    relation: _Relation, pixels: NDArray[np.float64], intensity: Intensity
) -> tuple[NDArray[np.float64], list[str]]:
    """Pixels of an intensity that the user states, and a remark where the file contradicts."""
    if intensity == "display":
        return _as_shown(relation, pixels), []
    said = relation.kind in ("LIN", "LOG") and relation.rises is not None
    if said and relation.rises != (intensity == "transmission"):
        way = "more" if relation.rises else "less"
        return pixels, [
            f"says {relation.kind} with higher pixels for {way} X-ray intensity, not "
            f'"{intensity}"; its pixels are taken as views.json says'
        ]
    return pixels, []


def _dataset(path: Path) -> pydicom.Dataset:
    """The file; InputError unless it is a DICOM X-ray with pixels."""
    try:
        dataset = pydicom.dcmread(path, force=True)
    except Exception as error:  # bytes from anywhere make the parser raise anything
        raise InputError(path, "cannot be read as DICOM; is it complete?") from error
    if "PixelData" not in dataset:
        raise InputError(path, "holds no pixels that DICOM readers know")
    modality = str(value_of(dataset, "Modality") or "")
    if modality and modality not in _XRAY_MODALITIES:
        raise InputError(path, f"is a DICOM image of kind {modality}, no X-ray (XA, RF, DX, CR)")
    return with_syntax(dataset)


class DicomFrames:
    """The frames of a DICOM X-ray: its bytes are read once, each frame's pixels when asked for."""

    def __init__(self, path: Path) -> None:
        """InputError unless the file is a DICOM X-ray with pixels."""
        self._path = path
        with quiet_readers():
            self._dataset = _dataset(path)
            self.count = number_of_frames(self._dataset)

    @property
    def times_s(self) -> tuple[float, ...] | None:
        """When each frame was taken, seconds from the first; None where the file does not say."""
        with quiet_readers():
            return frame_times_s(self._dataset, self.count)

    def frame(self, index: int, intensity: Intensity | None) -> DicomXray:
        """One frame, see `xray.read_xray`. Raises InputError."""
        path, dataset = self._path, self._dataset
        with quiet_readers():
            groups = value_of(dataset, "PerFrameFunctionalGroupsSequence")
            if groups and len(groups) != self.count:
                problem = f"has {self.count} frames but functional groups for {len(groups)}"
                raise InputError(path, problem)
            stored = stored_values(path, dataset, index)
            if stored.ndim == 3:
                stored = grey(stored, path)
            pixels = modality_values(path, dataset, stored, index)
            relation = _relation(path, dataset, index)
            if intensity is None:
                intensity, pixels, notes = _meaning(relation, pixels)
            else:
                pixels, notes = _as_told(relation, pixels, intensity)
            tags = geometry_tags(dataset, index)
        return DicomXray(pixels.astype(np.float32), intensity, tags, tuple(notes))


def frame_times_s(dataset: pydicom.Dataset, count: int) -> tuple[float, ...] | None:
    """Seconds from the first frame by Frame Time (ms) or Frame Time Vector (ms from the one
    before); None where neither is there, or fits."""
    try:
        vector = value_of(dataset, "FrameTimeVector")
        if vector is not None:
            steps = np.atleast_1d(np.asarray(vector, dtype=float))
            times = np.cumsum(steps) - steps[0]
        else:
            step = value_of(dataset, "FrameTime")
            times = np.arange(count) * float(step if step is not None else "nan")
    except (TypeError, ValueError):
        return None
    if len(times) != count or not np.isfinite(times).all() or (np.diff(times) <= 0.0).any():
        return None
    return tuple(float(time) / 1000.0 for time in times)


def read_dicom_xray(path: Path, frame: int | None, intensity: Intensity | None) -> DicomXray:
    """One frame of a DICOM X-ray, see `xray.read_xray`. Raises InputError."""
    frames = DicomFrames(path)
    return frames.frame(checked_frame(path, frame, frames.count), intensity)
