"""NIfTI files: pixels, and where they lie, judged by ourselves.

ITK takes the voxel size from pixdim, the axes from the sform (made orthonormal) and, where both are
absent, an identity; other programs decide otherwise. So the header must leave no choice.
"""

import math
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import Array
from . import bounds
from .whole import check_length, damaged, file_bytes, unpacked

_SUFFIXES = (".nii", ".nii.gz")
_PAIRS = (".hdr", ".img", ".hdr.gz", ".img.gz")
# The unit in xyzt_units: its name, and how many mm it is. Unknown (0) is what many programs write
# for mm; the voxels' size shows whether they are.
_UNITS = {0: ("no unit", 1.0), 1: ("metres", 1e3), 2: ("mm", 1.0), 3: ("microns", 1e-3)}
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class NiftiImage:
    """Pixels ``array`` ([T, K,] J, I) and ``index_to_physical`` (4, 4) to LPS mm.

    The matrix is None where the header says nothing of the place (both codes 0).
    """

    array: NDArray[Any]
    index_to_physical: Array | None
    note: str = ""


def is_nifti(path: Path) -> bool:
    """Whether a file is NIfTI (or its forerunner Analyze), by its name."""
    return path.name.lower().endswith((*_SUFFIXES, *_PAIRS))


def read_nifti(path: Path) -> NiftiImage:
    """A NIfTI-1 or NIfTI-2 file (``.nii``, ``.nii.gz``).

    Raises InputError where the file is cut short or its checksum is wrong, for colours, for a pair
    of files, and where sform, qform, pixdim and the unit do not agree or are sheared.
    """
    import nibabel

    if path.name.lower().endswith(_PAIRS):
        raise InputError(
            path, "is one of a pair of Analyze or NIfTI files", "save it as one .nii.gz file"
        )
    data = file_bytes(path)
    if data[:2] == b"\x1f\x8b":
        data = unpacked(data, "gzip", path)
    if data[344:347] != b"n+1" and data[4:7] != b"n+2":
        if len(data) < 348:
            raise damaged(path, "its header is not whole")
        raise InputError(path, "is no NIfTI file: its header says otherwise", "save it anew")
    kind = nibabel.Nifti2Header if data[4:7] == b"n+2" else nibabel.Nifti1Header
    try:
        # Unchecked: nibabel's check mends what it does not like, and goes on.
        header = kind(data[: kind.template_dtype.itemsize], check=False)
        shape, item = header.get_data_shape(), header.get_data_dtype()
        offset = int(header.get_data_offset())
    except Exception as error:  # headers from anywhere make the parser raise anything
        raise InputError(path, "has a NIfTI header that cannot be read") from error
    if item.fields is not None or item.kind == "c":
        raise InputError(path, "holds colours or complex numbers, no grey values")
    if offset < kind.template_dtype.itemsize or min(shape, default=0) < 1:
        raise InputError(path, "has a NIfTI header that cannot be read")
    check_length(path, math.prod(map(int, shape)) * item.itemsize, len(data) - offset)
    try:
        array = np.asanyarray(header.data_from_fileobj(BytesIO(data)))
    except Exception as error:  # a slope that is none
        raise InputError(path, "has pixels that cannot be scaled as its header says") from error
    while array.ndim > 2 and array.shape[-1] == 1 and array.ndim != 3:
        array = array[..., 0]
    if not 2 <= array.ndim <= 4:
        size = " x ".join(map(str, shape))
        raise InputError(path, f"is {size}, neither a picture nor a volume")
    matrix, note = _place(header, path, array.shape)
    native = np.float64 if array.dtype.kind == "f" and item.itemsize > 8 else array.dtype
    return NiftiImage(array.T.astype(np.dtype(native).newbyteorder("="), copy=False), matrix, note)


def _place(header: Any, path: Path, shape: tuple[int, ...]) -> tuple[Array | None, str]:
    """The matrix (4, 4) to LPS mm that the header agrees on, None without one, and a remark."""
    codes = int(header["sform_code"]), int(header["qform_code"])
    if not all(0 <= code <= 5 for code in codes):
        raise InputError(path, f"has an unknown sform or qform code ({codes[0]}, {codes[1]})")
    unit = int(header["xyzt_units"]) & 7
    if unit not in _UNITS:
        raise InputError(path, f"has an unknown unit of length (code {unit})")
    word, scale = _UNITS[unit]
    axes = min(len(shape), 3)
    steps = np.asarray(header["pixdim"][1 : axes + 1], dtype=float) * scale
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        raise InputError(path, "has no usable voxel size (pixdim) in its header")
    if axes == 3:
        check_voxel_size(steps, path, f"its unit is {word}")
    note = f"is in {word}; taken as mm times {scale:g}" if scale != 1.0 else ""
    if codes == (0, 0):
        return None, note
    size = np.array(shape[:axes])
    try:
        sform = _in_mm(header.get_sform(), scale, axes) if codes[0] else None
        qform = _in_mm(header.get_qform(), scale, axes) if codes[1] else None
    except Exception as error:  # a quaternion that is none
        raise InputError(path, "has an unusable sform or qform in its header") from error
    if sform is None:
        return _RAS_TO_LPS @ qform, note
    if not np.isfinite(sform).all():
        raise InputError(path, "has an sform that is not finite")
    lengths = np.linalg.norm(sform[:3, :axes], axis=0)
    if lengths.min() == 0:
        raise InputError(path, "has an sform without a voxel size")
    cosines = sform[:3, :axes] / lengths
    if np.abs(cosines.T @ cosines - np.eye(axes)).max() > bounds.SKEW:
        raise sheared(path)
    if (np.abs(lengths - steps) * (size - 1) > bounds.AGREE_MM).any():
        by_sform, by_pixdim = (" x ".join(f"{v:.4g}" for v in s) for s in (lengths, steps))
        raise InputError(
            path,
            f"contradicts itself: voxels are {by_sform} mm by its sform, {by_pixdim} mm by its "
            "pixdim",
            "find out which is right and save it with both alike",
        )
    if qform is not None:
        corners = np.indices((2,) * axes).reshape(axes, -1) * (size - 1)[:, None]
        apart = (sform - qform)[:3, :axes] @ corners + (sform - qform)[:3, 3:]
        furthest = float(np.linalg.norm(apart, axis=0).max())
        if furthest > bounds.AGREE_MM:
            raise InputError(
                path,
                f"contradicts itself: its sform (code {codes[0]}) and its qform (code {codes[1]}) "
                f"place it up to {furthest:.3g} mm apart",
                "keep the one that is right and set the other's code to 0",
            )
    return _RAS_TO_LPS @ sform, note


def _in_mm(matrix: Array, scale: float, axes: int) -> Array:
    """A matrix (4, 4) in mm; where a picture has two axes, the third is any."""
    out = np.array(matrix, dtype=float)
    out[:3] *= scale
    if axes == 2:
        out[:3, 2] = [0.0, 0.0, 1.0]
    return out


def sheared(path: Path) -> InputError:
    """The refusal of axes that are not at right angles."""
    remedy = "resample it to a grid with right angles"
    return InputError(path, "has sheared axes, which are no image of the body", remedy)


def check_voxel_size(spacing_mm: Array, path: Path, why: str = "") -> None:
    """InputError unless voxels (3,) mm have a size that a scanner makes."""
    low, high = bounds.VOXEL_MM
    if spacing_mm.min() < low or spacing_mm.max() > high:
        size = " x ".join(f"{v:.4g}" for v in spacing_mm)
        because = f" ({why})" if why else ""
        raise InputError(
            path,
            f"has voxels of {size} mm{because}, which no CT of the body has",
            "correct the unit or the voxel size in its header",
        )
