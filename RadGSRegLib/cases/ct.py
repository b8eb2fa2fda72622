"""The preoperative CT, in Hounsfield units."""

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..geometry import Volume
from . import bounds
from .dicom_file import is_dicom_file
from .dicom_series import read_dicom_series
from .hounsfield import check_hounsfield
from .itk_image import read_volume
from .ledger import Ledger
from .tiff_stack import StackPlace, is_stack, no_stack, read_stack, without_place


def read_ct(
    path: Path,
    ledger: Ledger | None = None,
    series: int | None = None,
    stack: StackPlace | None = None,
) -> Volume:
    """A CT from NIfTI, NRRD, MHA, a folder of DICOM slices (or one file of it), or a TIFF stack.

    Returns float32 HU on the image's own grid in LPS mm, oblique or flipped as it may be. Values
    below air (padding outside the scanner's field) become -1024 HU. ``series`` is the DICOM
    SeriesNumber where a folder holds several CT volumes; ``stack`` says how a TIFF stack lies in
    the patient, which it does not say itself. Raises InputError for what is missing, unreadable,
    not 3-D, sheared, not finite or not in HU.
    """
    ledger = ledger if ledger is not None else Ledger()
    path = Path(path)
    stacked = path.exists() and is_stack(path)
    if stacked != (stack is not None) and path.exists():
        raise without_place(path) if stacked else no_stack(path)
    if stack is not None:
        volume = read_stack(path, stack, ledger)
    elif path.is_dir() or (path.is_file() and is_dicom_file(path)):
        volume = read_dicom_series(path, ledger, series)
    elif path.is_file():
        volume = read_volume(path, ledger, "a CT")
    else:
        raise InputError(path, "does not exist")
    array = volume.array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError(path, "holds voxels that are not a number (NaN or infinite)")
    check_hounsfield(array, path)
    return volume.with_array(np.maximum(array, np.float32(bounds.AIR_HU)))
