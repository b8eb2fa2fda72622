"""DICOM X-rays that pydicom writes for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRLittleEndian,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
    generate_uid,
)

SOP = {
    "XA": XRayAngiographicImageStorage,
    "RF": XRayRadiofluoroscopicImageStorage,
    "DX": DigitalXRayImageStorageForProcessing,
    "CR": ComputedRadiographyImageStorage,
    "CT": pydicom.uid.CTImageStorage,
}
NAME, IDENTITY = "Doe^Jane", "SECRET-4711"
GEOMETRY = {
    "DistanceSourceToDetector": 1124,
    "DistanceSourceToPatient": 750,
    "PositionerPrimaryAngle": 8.0,
    "PositionerSecondaryAngle": -3.5,
    "ImagerPixelSpacing": [0.5, 0.6],  # rows first
    "PatientPosition": "HFS",
}


def picture(rows: int = 40, columns: int = 50, bits: int = 12, seed: int = 0) -> np.ndarray:
    """Random pixels with every bit in use."""
    values = np.random.default_rng(seed).integers(0, 2**bits, (rows, columns))
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


def write_dicom(
    path: Path, pixels: np.ndarray, modality: str = "XA", bits: int = 12, **tags: Any
) -> Path:
    """A small but regular DICOM file; ``pixels`` (rows, columns) or (frames, rows, columns)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SOP[modality]
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = SOP[modality]
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID = NAME, IDENTITY
    data.Modality = modality
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        data.NumberOfFrames = pixels.shape[0]
    data.BitsAllocated = 8 if pixels.dtype == np.uint8 else 16
    data.BitsStored, data.HighBit = bits, bits - 1
    data.PixelRepresentation = int(pixels.dtype == np.int16)
    data.PixelData = pixels.tobytes()
    for key, value in tags.items():
        setattr(data, key, value)
    data.save_as(path, enforce_file_format=True)
    return path


def write_views_json(folder: Path, *views: dict[str, Any]) -> Path:
    path = folder / "views.json"
    path.write_text(
        json.dumps({"schema": "radgsreg/views", "version": 1, "views": list(views)}),
        encoding="utf-8",
    )
    return path


def two_views(folder: Path, **changes: Any) -> Path:
    """Two XA files that need their tags; ``changes`` go to the first (None removes a tag)."""
    for number, angle in enumerate((8.0, 95.0)):
        tags = {**GEOMETRY, "PositionerPrimaryAngle": angle, **({} if number else changes)}
        write_dicom(
            folder / f"{number}.dcm",
            picture(seed=number),
            **{k: v for k, v in tags.items() if v is not None},
        )
    return write_views_json(
        folder, {"name": "AP", "image": "0.dcm"}, {"name": "LA", "image": "1.dcm"}
    )
