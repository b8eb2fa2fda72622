"""Segmentations in DICOM: SEG through highdicom; contours (RTSTRUCT) are refused."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from numpy.typing import NDArray

from ..errors import InputError
from ..vertebrae import SNOMED_CODES
from . import bounds
from .dicom_file import value_of
from .itk_image import check_axes
from .ledger import Ledger
from .quiet import quiet_readers
from .segments import Segment, Segmentation

if TYPE_CHECKING:
    import highdicom

_REMEDY = "export it as a label map (NIfTI, NRRD) or .seg.nrrd, for instance from 3D Slicer"


def _open(path: Path) -> "highdicom.seg.Segmentation":
    """The SEG; InputError for any other DICOM."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    except Exception as error:  # bytes from anywhere make the parser raise anything
        raise InputError(path, "cannot be read as DICOM; is it complete?") from error
    kind = str(value_of(header, "Modality") or "unknown")
    if kind in ("RTSTRUCT", "RTSS"):
        raise InputError(path, "holds contours (DICOM RTSTRUCT), which are not read", _REMEDY)
    if kind != "SEG":
        raise InputError(path, f"is a DICOM file of kind {kind}, no segmentation (SEG)")
    from highdicom.seg import segread  # only who has a SEG waits for it

    try:
        return segread(path)
    except Exception as error:  # as above
        raise InputError(
            path, "is a DICOM SEG that cannot be read; is it complete?", _REMEDY
        ) from error


def _segment(description: "highdicom.seg.SegmentDescription", layer: int) -> Segment:
    number = int(description.SegmentNumber)
    codes = value_of(description, "SegmentedPropertyTypeCodeSequence") or []
    code = next(
        (str(c.CodeValue) for c in codes if value_of(c, "CodingSchemeDesignator") == "SCT"), ""
    )
    return Segment(
        name=str(value_of(description, "SegmentLabel") or f"Segment {number}").strip(),
        identifier=f"Segment_{number}",
        value=number,
        layer=layer,
        code=code if code in SNOMED_CODES.values() else "",
    )


def _layers(
    seg: "highdicom.seg.Segmentation",
) -> tuple[list[NDArray[np.int32]], NDArray[np.float64], list[Segment]]:
    """Label values in as few layers as overlaps allow, the grid, and the segments."""
    layers: list[NDArray[np.int32]] = []
    segments, matrix = [], np.eye(4)
    for description in seg.SegmentSequence:
        number = int(description.SegmentNumber)
        if number == 0:  # the background of a label map
            continue
        volume = seg.get_volume(segment_numbers=[number])
        inside = volume.array[..., 0] >= bounds.INSIDE_SHARE
        matrix = np.asarray(volume.affine, dtype=float)[:, [2, 1, 0, 3]]
        free = [n for n, layer in enumerate(layers) if not layer[inside].any()]
        if not free:
            layers.append(np.zeros(inside.shape, np.int32))
        layer = free[0] if free else len(layers) - 1
        layers[layer][inside] = number
        segments.append(_segment(description, layer))
    return layers, matrix, segments


def read_dicom_segmentation(path: Path, ledger: Ledger | None = None) -> Segmentation:
    """The segments of a DICOM SEG (binary, fractional or label map), where they lie in LPS mm.

    Of fractional segments, voxels that are inside by half or more count. Raises InputError for
    RTSTRUCT and other kinds, for frames on no regular grid, and for what is empty or damaged.
    """
    with quiet_readers():
        seg = _open(path)
        try:
            layers, matrix, segments = _layers(seg)
        except MemoryError:
            raise
        except Exception as error:  # highdicom and pydicom raise many kinds for odd files
            raise InputError(
                path,
                "is a DICOM SEG whose frames cannot be put onto one regular grid in the patient",
                _REMEDY,
            ) from error
        fractional = value_of(seg, "SegmentationType") == "FRACTIONAL"
    if not segments or not any(layer.any() for layer in layers):
        raise InputError(path, "is empty: no voxel has a label")
    array = np.stack(layers)
    if min(array.shape[1:]) < 2:
        size = " x ".join(map(str, array.shape[:0:-1]))
        raise InputError(path, f"is {size}, but a segmentation must be a 3-D volume")
    check_axes(matrix, path)
    if ledger is not None:
        ledger.add_file(path)
        if fractional:
            ledger.note(f"{path.name}: fractional segments; inside is what is so by half or more")
    return Segmentation(array, matrix, tuple(segments))
