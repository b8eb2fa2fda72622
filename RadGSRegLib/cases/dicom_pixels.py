"""The pixels of one DICOM image or frame, whatever compresses them.

Every compression goes through pydicom, whose plugins (Pillow, GDCM) return the stored values
as they are. ITK's reader is not used: it inverts MONOCHROME1 and rescales.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_modality_lut, pixel_array

from ..errors import InputError
from .dicom_file import frame_value


def stored_values(path: Path, dataset: pydicom.Dataset, frame: int = 0) -> NDArray[Any]:
    """Stored values (rows, columns[, channels]) of one frame, whole numbers.

    Raises InputError for pixels that are damaged or compressed in a way that no decoder knows.
    """
    try:
        return np.asarray(pixel_array(dataset, index=frame))
    except (RuntimeError, NotImplementedError) as error:
        name = dataset.file_meta.TransferSyntaxUID.name
        raise InputError(
            path,
            f"has pixels that no decoder here can read ({name})",
            "is it complete? If so, save it uncompressed (Explicit VR Little Endian)",
        ) from error
    except Exception as error:  # bytes from anywhere make a decoder raise anything
        raise InputError(
            path, "has pixels that cannot be decoded; is the file complete?"
        ) from error


def _modality(dataset: pydicom.Dataset, frame: int) -> pydicom.Dataset:
    """The rescale or modality table of one frame, also from functional groups."""
    out = pydicom.Dataset()
    out.file_meta = dataset.file_meta  # it tells the order of a table's bytes
    for keyword in ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"):
        value = frame_value(dataset, keyword, frame)
        if value is not None and (keyword != "ModalityLUTSequence" or len(value)):
            setattr(out, keyword, value)
    if "RescaleSlope" in out or "RescaleIntercept" in out:  # what is absent changes nothing
        out.RescaleSlope = out.get("RescaleSlope", 1)
        out.RescaleIntercept = out.get("RescaleIntercept", 0)
    return out


def modality_values(
    path: Path, dataset: pydicom.Dataset, stored: NDArray[Any], frame: int = 0
) -> NDArray[np.float64]:
    """Stored values after the rescale or modality table, float64.

    Raises InputError where that is unusable.
    """
    try:
        # signed and wide enough for every table's range
        values = apply_modality_lut(stored.astype(np.int32), _modality(dataset, frame))
        out = np.asarray(values, dtype=np.float64)
    except Exception as error:  # as above
        raise InputError(path, "has an unusable rescale or modality table") from error
    if not np.isfinite(out).all():
        raise InputError(path, "has an unusable rescale or modality table")
    return out


def falls(path: Path, dataset: pydicom.Dataset, frame: int = 0) -> bool | None:
    """Whether the rescale or table turns higher stored values into lower ones; None if both."""
    modality = _modality(dataset, frame)
    if "ModalityLUTSequence" not in modality:
        return float(modality.get("RescaleSlope", 1)) < 0
    try:
        first = modality.ModalityLUTSequence[0]
        start, count = int(first.LUTDescriptor[1]), int(first.LUTDescriptor[0]) or 2**16
        inputs = np.arange(start, start + count)
        steps = np.diff(modality_values(path, dataset, inputs, frame))
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(path, "has an unusable rescale or modality table") from error
    if (steps >= 0).all():
        return False
    return True if (steps <= 0).all() else None
