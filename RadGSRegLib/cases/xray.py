"""The pixels of X-ray images, whatever file they are in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from pydicom.pixels import apply_modality_lut, pixel_array

from ..errors import InputError
from .dicom_file import is_dicom_file, number_of_frames, quiet_pydicom, value_of
from .dicom_geometry import GeometryTags, geometry_tags
from .itk_image import quiet_itk, read_itk
from .json_input import existing_file
from .rtk import DetectorGrid
from .types import Intensity

_DICOM_SUFFIXES = {".dcm", ".dicom", ".ima", ""}
_PLACED_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr", ".nii", ".nii.gz")
_XRAY_MODALITIES = {"XA", "RF", "DX", "CR", "RG", "OT"}


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


def _checked_frame(path: Path, frame: int | None, count: int) -> int:
    if frame is None and count > 1:
        raise InputError(
            path, f"holds {count} frames", f'choose one with "frame": 0 to {count - 1}'
        )
    if not 0 <= (frame or 0) < count:
        raise InputError(path, f"has no frame {frame}; its frames are 0 to {count - 1}")
    return frame or 0


def _grey(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """One channel of (rows, columns, channels) whose colours are all alike."""
    colours = array[..., :3] if array.shape[-1] >= 3 else array[..., :1]
    if (colours != colours[..., :1]).any():
        raise InputError(path, "is a colour image, no X-ray")
    return colours[..., 0]


def _read_plain(path: Path, frame: int | None) -> XrayImage:
    image = read_itk(path)
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = _grey(array, path)
    if array.ndim == 2 or (array.ndim == 3 and array.shape[0] > 1 and 1 in array.shape[1:]):
        _checked_frame(path, frame, 1)
        array = np.squeeze(array) if array.ndim == 3 else array
    elif array.ndim == 3:
        array = array[_checked_frame(path, frame, array.shape[0])]
    if array.ndim != 2:
        size = " x ".join(map(str, image.GetSize()))
        raise InputError(path, f"is {size}, but an X-ray must be a 2-D image")
    grid = None
    if path.name.lower().endswith(_PLACED_SUFFIXES):
        dimension = image.GetDimension()
        direction = np.array(image.GetDirection()).reshape(dimension, dimension)[:2, :2]
        spacing = np.array(image.GetSpacing()[:2])
        if abs(np.linalg.det(direction)) > 1e-3:
            grid = DetectorGrid(np.array(image.GetOrigin()[:2]), direction * spacing)
    return XrayImage(array.astype(np.float32), grid=grid)


def _decode(path: Path, dataset: pydicom.Dataset, frame: int) -> NDArray[Any]:
    """Stored values (rows, columns[, channels]) of one frame."""
    try:
        return np.asarray(pixel_array(dataset, index=frame))
    except (RuntimeError, NotImplementedError):
        pass  # no decoder for this compression: ITK's GDCM knows others
    except Exception as error:  # as above
        raise InputError(
            path, "has pixels that cannot be decoded; is the file complete?"
        ) from error
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        with quiet_itk():
            array = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise InputError(
            path,
            f"is compressed in a way that no decoder here knows "
            f"({dataset.file_meta.TransferSyntaxUID.name})",
            "save it uncompressed (Explicit VR Little Endian)",
        ) from error
    stored = array[frame]
    slope = float(value_of(dataset, "RescaleSlope") or 1.0)
    intercept = float(value_of(dataset, "RescaleIntercept") or 0.0)
    return np.asarray((stored.astype(np.float64) - intercept) / slope)  # as pydicom: not rescaled


def _meaning(
    dataset: pydicom.Dataset, pixels: NDArray[np.float64]
) -> tuple[Intensity, NDArray[np.float64], list[str]]:
    """The kind of intensity, pixels brought to that kind, and remarks.

    Pixel Intensity Relationship (PS3.3 C.8.7.1.1.2) and its sign: +1 where a lower value is less
    X-ray intensity, the rule for XA and RF where the sign is absent.
    """
    relation = str(value_of(dataset, "PixelIntensityRelationship") or "").strip().upper()
    dark_is_high = str(value_of(dataset, "PhotometricInterpretation")) == "MONOCHROME1"
    sign = value_of(dataset, "PixelIntensityRelationshipSign")
    if sign is None:
        known = value_of(dataset, "Modality") in ("XA", "RF") and not dark_is_high
    else:
        known = int(sign) in (-1, 1)
    rises = sign is None or int(sign) == 1
    if relation == "LOG" and known and value_of(dataset, "ModalityLUTSequence"):
        return "transmission", pixels, []  # the table undoes the logarithm
    if relation == "LOG" and known:
        upwards = pixels.max() - pixels if rises else pixels
        return "attenuation", upwards, ["says LOG: its line integrals are known up to a factor"]
    if relation == "LIN" and known and rises and pixels.min() >= 0:
        return "transmission", pixels, []
    if dark_is_high:  # as it would be shown
        return "display", pixels.max() + pixels.min() - pixels, []
    return "display", pixels, []


def _read_dicom(path: Path, frame: int | None, intensity: Intensity | None) -> XrayImage:
    try:
        dataset = pydicom.dcmread(path, force=True)
    except Exception as error:  # bytes from anywhere make the parser raise anything
        raise InputError(path, "cannot be read as DICOM; is it complete?") from error
    if "PixelData" not in dataset:
        raise InputError(path, "holds no pixels that DICOM readers know")
    if "TransferSyntaxUID" not in getattr(dataset, "file_meta", {}):
        dataset.ensure_file_meta()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    modality = str(value_of(dataset, "Modality") or "")
    if modality and modality not in _XRAY_MODALITIES:
        raise InputError(path, f"is a DICOM image of kind {modality}, no X-ray (XA, RF, DX, CR)")
    index = _checked_frame(path, frame, number_of_frames(dataset))
    stored = _decode(path, dataset, index)
    if stored.ndim == 3:
        stored = _grey(stored, path)
    try:
        pixels = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float64)
    except Exception as error:  # as above
        raise InputError(path, "has an unusable rescale or modality table") from error
    notes: list[str] = []
    if intensity is None:
        intensity, pixels, notes = _meaning(dataset, pixels)
    tags = geometry_tags(dataset, index)
    return XrayImage(pixels.astype(np.float32), intensity, tags, notes=tuple(notes))


def read_xray(
    path: Path, frame: int | None = None, intensity: Intensity | None = None
) -> XrayImage:
    """An X-ray from TIFF, PNG, NRRD, MHA, NIfTI or DICOM (XA, RF, DX, CR).

    Pixels are (rows, columns), float32, as stored; in DICOM after the rescale or modality table.
    ``frame`` (from 0) chooses one of several. Where ``intensity`` is not given, DICOM's Pixel
    Intensity Relationship decides: LIN is ``transmission``; LOG is ``attenuation``, turned so that
    more attenuation is a higher value; all else ``display``, where MONOCHROME1 is inverted as a
    screen would show it. Raises InputError for what is missing, unreadable, coloured, no 2-D image,
    of another modality, or has several frames and none chosen.
    """
    path = Path(path)
    existing_file(path)
    if is_dicom_file(path) or path.suffix.lower() in _DICOM_SUFFIXES:
        with quiet_pydicom():
            return _read_dicom(path, frame, intensity)
    return _read_plain(path, frame)
