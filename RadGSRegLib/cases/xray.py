"""The pixels of X-ray images, whatever file they are in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from ..errors import InputError
from .dicom_file import is_dicom_file
from .dicom_geometry import GeometryTags
from .dicom_xray import DicomFrames
from .frames import checked_frame, grey
from .itk_image import read_itk
from .json_input import existing_file
from .pictures import picture_kind, read_picture
from .rtk import DetectorGrid
from .types import Intensity

_DICOM_SUFFIXES = {".dcm", ".dicom", ".ima", ""}
_PLACED_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr", ".nii", ".nii.gz")


@dataclass(frozen=True)
class XrayImage:
    """Pixels (rows, columns) float32 and what the file says of them.

    ``intensity`` and ``tags`` come from DICOM only; ``grid`` (the place on the detector, mm) only
    from files that hold a place.
    """

    pixels: NDArray[np.float32]
    intensity: Intensity | None = None
    tags: GeometryTags | None = None
    grid: DetectorGrid | None = None
    notes: tuple[str, ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, float] | None:
        """The pixels' size (column step, row step) by the place, unless that is ITK's default."""
        grid = self.grid
        if grid is None or (np.array_equal(grid.axes_mm, np.eye(2)) and not grid.origin_mm.any()):
            return None
        column, row = np.linalg.norm(grid.axes_mm, axis=0)
        return float(column), float(row)


@dataclass(frozen=True)
class XrayFrames:
    """The frames of one file: how many, and what makes each; ``times_s`` as `DicomFrames` has
    them."""

    count: int
    image: Callable[[int], XrayImage]
    times_s: tuple[float, ...] | None = None


def _dicom_frames(path: Path, intensity: Intensity | None) -> XrayFrames:
    frames = DicomFrames(path)

    def image(number: int) -> XrayImage:
        made = frames.frame(number, intensity)
        return XrayImage(made.pixels, made.intensity, made.tags, notes=made.notes)

    return XrayFrames(frames.count, image, frames.times_s)


def _picture_frames(path: Path, intensity: Intensity | None) -> XrayFrames:
    picture = read_picture(path)

    def image(number: int) -> XrayImage:
        array = picture.array[number]
        if array.ndim == 3:
            array = grey(array, path)
        notes = picture.notes
        # As with DICOM's MONOCHROME1: what is shown is turned, what is measured is not.
        if picture.white is not None and intensity in (None, "display"):
            array = picture.white - array.astype(np.float64)
            notes = (
                *notes,
                "says that its lowest value is white; it is taken as a screen shows it",
            )
        return XrayImage(array.astype(np.float32), notes=notes)

    return XrayFrames(len(picture.array), image)


def _plain_frames(path: Path) -> XrayFrames:
    image = read_itk(path)
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = grey(array, path)
    if array.ndim == 3 and array.shape[0] > 1 and 1 in array.shape[1:]:
        array = np.squeeze(array)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        size = " x ".join(map(str, image.GetSize()))
        raise InputError(path, f"is {size}, but an X-ray must be a 2-D image")
    grid = None
    if path.name.lower().endswith(_PLACED_SUFFIXES):
        dimension = image.GetDimension()
        direction = np.array(image.GetDirection()).reshape(dimension, dimension)[:2, :2]
        spacing = np.array(image.GetSpacing()[:2])
        if abs(np.linalg.det(direction)) > 1e-3:
            grid = DetectorGrid(np.array(image.GetOrigin()[:2]), direction * spacing)
    return XrayFrames(len(array), lambda n: XrayImage(array[n].astype(np.float32), grid=grid))


def open_xray(path: Path, intensity: Intensity | None = None) -> XrayFrames:
    """Open a file of one frame or several, each as `read_xray` reads it. Raises InputError."""
    path = Path(path)
    existing_file(path)
    if is_dicom_file(path) or path.suffix.lower() in _DICOM_SUFFIXES:
        return _dicom_frames(path, intensity)
    if picture_kind(path) is not None:
        return _picture_frames(path, intensity)
    return _plain_frames(path)


def read_xray(
    path: Path, frame: int | None = None, intensity: Intensity | None = None
) -> XrayImage:
    """An X-ray from TIFF, PNG, JPEG, NRRD, MHA, NIfTI or DICOM (XA, RF, DX, CR).

    Pixels are (rows, columns), float32, as stored; in DICOM after the rescale or modality table.
    ``frame`` (from 0) chooses one of several. Where ``intensity`` is not given, DICOM's Pixel
    Intensity Relationship decides: LIN is ``transmission``; LOG is ``attenuation``, turned so that
    more attenuation is a higher value; all else ``display``. In ``display``, chosen or not,
    MONOCHROME1 is inverted as a screen would show it. Raises InputError for what is missing,
    unreadable, coloured, no 2-D image, of another modality, or has several frames and none chosen.
    """
    frames = open_xray(path, intensity)
    return frames.image(checked_frame(Path(path), frame, frames.count))
