"""Between image files, SimpleITK images and `Volume`."""

import errno
import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ..errors import InputError
from ..geometry import Array, Volume, affine
from . import bounds
from .ledger import Ledger
from .nifti import check_voxel_size, is_nifti, read_nifti, sheared
from .pictures import picture_kind
from .whole import check_whole, nrrd_has_place


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Without ITK's warnings: they quote paths and header fields, which may name a patient."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


@contextmanager
def _silent_libraries() -> Iterator[None]:
    """Without what C libraries print on standard error while a disk is full."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def write_itk(image: sitk.Image, path: Path, compressed: bool = True) -> None:
    """Write an image file. Raises OSError where it is not whole, as on a full disk.

    ITK says nothing of a NIfTI that came out short, so its length is looked at.
    """
    short = OSError(errno.ENOSPC, f"{path.name} came out short; is the disk full?")
    try:
        with quiet_itk(), _silent_libraries():
            sitk.WriteImage(image, str(path), useCompression=compressed)
    except RuntimeError as error:
        raise short from error
    if path.name.lower().endswith((".nii", ".nii.gz")):
        cell = np.dtype(sitk.GetArrayViewFromImage(image).dtype).itemsize
        values = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel()
        if _length(path) < values * cell:
            raise short


def _length(path: Path) -> int:
    """Bytes in a file, of a ``.gz`` those that it unpacks to; -1 where it is broken off."""
    if not path.name.lower().endswith(".gz"):
        return path.stat().st_size
    size = 0
    try:
        with gzip.open(path) as stream:
            while piece := stream.read(1 << 22):
                size += len(piece)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return -1
    return size


def read_itk(path: Path, ledger: Ledger | None = None, *, placed: bool = False) -> sitk.Image:
    """Any image file that ITK knows; NIfTI through nibabel.

    With ``placed`` the file has to say how it lies in the patient. The ledger takes remarks, and
    the files beside it that hold its pixels. Raises InputError if it cannot be read, is cut short
    or damaged, or contradicts itself.
    """
    if is_nifti(path):
        return _nifti_as_itk(path, ledger, placed)
    if placed and picture_kind(path) is not None:
        raise InputError(
            path,
            "is a picture or a stack of pictures, without voxel size and place in the patient",
            "save it as NIfTI, NRRD or MHA with both",
        )
    beside = check_whole(path)
    try:
        with quiet_itk():
            image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise sheared(path) from error
        raise InputError(
            path,
            "cannot be read as an image",
            "NIfTI, NRRD, MHA, TIFF, PNG and DICOM are known; is it complete?",
        ) from error
    nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    # More axes than three have no named space; ITK writes them as LPS.
    if placed and nrrd and image.GetDimension() == 3 and not nrrd_has_place(path):
        raise _placeless(path, "its space is not given as LPS or RAS")
    if ledger is not None:
        for other in beside:
            ledger.add_file(other)
    return image


def _placeless(path: Path, why: str) -> InputError:
    return InputError(
        path,
        f"does not say how it lies in the patient ({why}), so left and right may be swapped",
        "export it again with its orientation",
    )


def _nifti_as_itk(path: Path, ledger: Ledger | None, placed: bool) -> sitk.Image:
    read = read_nifti(path)
    if placed and read.index_to_physical is None:
        raise _placeless(path, "its sform and qform codes are 0")
    if read.note and ledger is not None:
        ledger.note(f"{path.name} {read.note}")
    array = read.array.astype(np.float32) if read.array.dtype == np.float16 else read.array
    image = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=False)
    if read.index_to_physical is None:
        return image
    axes, whole = min(image.GetDimension(), 3), np.eye(image.GetDimension())
    matrix = read.index_to_physical
    spacing = np.linalg.norm(matrix[:3, :axes], axis=0)
    whole[:axes, :axes] = (matrix[:3, :axes] / spacing)[:axes]
    image.SetSpacing([*spacing.tolist(), *[1.0] * (image.GetDimension() - axes)])
    image.SetOrigin([*matrix[:axes, 3].tolist(), *[0.0] * (image.GetDimension() - axes)])
    if abs(np.linalg.det(whole)) > 1e-3:  # a picture may stand upright in space
        image.SetDirection(whole.ravel().tolist())
    return image


def as_3d(image: sitk.Image, path: Path, what: str) -> sitk.Image:
    """The image if it is a 3-D scalar one (also as 4-D with one time point)."""
    while image.GetDimension() > 3 and image.GetSize()[-1] == 1:
        image = image[(slice(None),) * (image.GetDimension() - 1) + (0,)]
    if image.GetDimension() != 3 or min(image.GetSize()) < 2:
        size = " x ".join(map(str, image.GetSize()))
        raise InputError(path, f"is {size}, but {what} must be a 3-D volume")
    return image


def itk_index_to_physical(image: sitk.Image) -> Array:
    """(i, j, k, 1) to LPS mm (4, 4) of a 3-D image."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    return affine(direction * np.array(image.GetSpacing()), image.GetOrigin())


def check_axes(index_to_physical: Array, path: Path) -> None:
    """InputError unless the grid's axes are finite and at right angles."""
    axes = index_to_physical[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    if not np.isfinite(index_to_physical).all() or spacing.min() < 1e-6:
        raise InputError(path, "has no usable voxel size or position in its header")
    cosines = axes / spacing
    if np.abs(cosines.T @ cosines - np.eye(3)).max() > bounds.SKEW:
        raise sheared(path)
    check_voxel_size(spacing, path)


def volume_from_itk(image: sitk.Image) -> Volume:
    """A 3-D image as a Volume (K, J, I) with its own grid; LPS, as ITK itself."""
    return Volume(sitk.GetArrayFromImage(image), itk_index_to_physical(image))


def read_volume(path: Path, ledger: Ledger | None = None, what: str = "a volume") -> Volume:
    """A 3-D image of any unit from NIfTI, NRRD or MHA, on its own grid in LPS mm.

    Raises InputError for what is missing, unreadable, not 3-D and scalar, sheared or without a
    place.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "does not exist" if not path.exists() else "is a folder, not a file")
    image = as_3d(read_itk(path, ledger, placed=True), path, what)
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(path, f"is a colour or vector image, not {what}")
    volume = volume_from_itk(image)
    check_axes(volume.index_to_physical, path)
    if ledger is not None:
        ledger.add_file(path)
    return volume


def volume_to_itk(volume: Volume) -> sitk.Image:
    """A Volume as an ITK image on the same grid."""
    array = volume.array
    kind = np.uint8 if array.dtype == bool else array.dtype
    image = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype=kind))
    place_like(image, volume)
    return image


def place_like(image: sitk.Image, volume: Volume) -> None:
    """Give a 3-D image the spacing, direction and origin of a Volume."""
    image.SetSpacing(volume.spacing.tolist())
    image.SetDirection(volume.direction.ravel().tolist())
    image.SetOrigin(volume.origin.tolist())


def same_grid(a: Volume, b: Volume) -> bool:
    """Whether two volumes have the same voxels in the same places."""
    if a.size != b.size:
        return False
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * (np.array(a.size) - 1)
    apart = a.physical_points(corners) - b.physical_points(corners)
    return bool(np.abs(apart).max() < bounds.SAME_MM)
