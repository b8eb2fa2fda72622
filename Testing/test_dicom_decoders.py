"""DICOM X-rays are the same however they are compressed, and their tags mean the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
import pytest
from dicom_files import picture, write_dicom
from pydicom.sequence import Sequence

from RadGSRegLib.cases import read_xray

SYNTAXES = {
    "rle": gdcm.TransferSyntax.RLELossless,
    "jpeg": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "jpeg-ls": gdcm.TransferSyntax.JPEGLSLossless,
    "jpeg-2000": gdcm.TransferSyntax.JPEG2000Lossless,
}
LOG_UP = {"PixelIntensityRelationship": "LOG", "PixelIntensityRelationshipSign": -1}
LOG_DOWN = {"PixelIntensityRelationship": "LOG", "PixelIntensityRelationshipSign": 1}
LIN_UP = {"PixelIntensityRelationship": "LIN", "PixelIntensityRelationshipSign": 1}
LIN_DOWN = {"PixelIntensityRelationship": "LIN", "PixelIntensityRelationshipSign": -1}


def compressed(path: Path, syntax: str) -> Path:
    """A copy of a DICOM file, compressed by GDCM."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(SYNTAXES[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    out = path.with_name(f"{syntax}.dcm")
    writer.SetFileName(str(out))
    assert writer.Write()
    assert pydicom.dcmread(out).file_meta.TransferSyntaxUID.is_compressed
    return out


def modality_table(values: np.ndarray, first: int) -> Sequence:
    """A Modality LUT Sequence of 16-bit values, from the stored value ``first`` on."""
    table = pydicom.Dataset()
    table.LUTDescriptor = [len(values), first, 16]
    table["LUTDescriptor"].VR = "US"
    table.ModalityLUTType = "US"
    table.LUTData = values.astype(np.uint16).tobytes()
    table["LUTData"].VR = "OW"
    return Sequence([table])


@pytest.mark.parametrize("syntax", list(SYNTAXES))
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("relation", [LOG_UP, LOG_DOWN, LIN_UP, {}])
@pytest.mark.parametrize("slope", [{}, {"RescaleSlope": -0.5, "RescaleIntercept": 3000}])
def test_a_compressed_copy_is_the_same(
    tmp_path: Path,
    syntax: str,
    photometric: str,
    relation: dict[str, Any],
    slope: dict[str, Any],
) -> None:
    tags = {"PhotometricInterpretation": photometric, **relation, **slope}
    path = write_dicom(tmp_path / "plain.dcm", picture(), "DX", **tags)
    plain, copy = read_xray(path), read_xray(compressed(path, syntax))
    assert copy.intensity == plain.intensity
    np.testing.assert_array_equal(copy.pixels, plain.pixels)


@pytest.mark.parametrize("syntax", [None, *SYNTAXES])
def test_signed_pixels_and_a_table_in_every_compression(tmp_path: Path, syntax: str | None) -> None:
    signed = (picture().astype(np.int32) - 2048).astype(np.int16)
    path = write_dicom(tmp_path / "x.dcm", signed, "DX", 12)
    np.testing.assert_array_equal(
        read_xray(compressed(path, syntax) if syntax else path).pixels, signed
    )
    values = np.round(60000 / (1 + np.arange(4096)))
    path = write_dicom(
        tmp_path / "y.dcm", picture(), "DX", ModalityLUTSequence=modality_table(values, 0)
    )
    np.testing.assert_array_equal(
        read_xray(compressed(path, syntax) if syntax else path).pixels, values[picture()]
    )


def test_a_table_longer_than_the_pixels_have_values(tmp_path: Path) -> None:
    pixels = picture(bits=8)
    values = np.arange(1000) * 3
    path = write_dicom(
        tmp_path / "x.dcm", pixels, bits=8, ModalityLUTSequence=modality_table(values, 10)
    )
    expected = values[np.maximum(pixels.astype(int) - 10, 0)]
    np.testing.assert_array_equal(read_xray(path).pixels, expected)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("relation", "slope", "kind"),
    [  # what rises with the X-ray intensity does so before the rescale
        (LOG_UP, 2.0, "attenuation up"),
        (LOG_UP, -2.0, "attenuation down"),
        (LOG_DOWN, 2.0, "attenuation down"),
        (LOG_DOWN, -2.0, "attenuation up"),
        (LIN_UP, 2.0, "transmission"),
        (LIN_DOWN, -2.0, "transmission"),
        (LIN_UP, -2.0, "display"),
        (LIN_DOWN, 2.0, "display"),
    ],
)
def test_a_negative_slope_turns_the_relation(
    tmp_path: Path, photometric: str, relation: dict[str, Any], slope: float, kind: str
) -> None:
    pixels = picture()
    path = write_dicom(
        tmp_path / "x.dcm",
        pixels,
        "DX",
        PhotometricInterpretation=photometric,
        RescaleSlope=slope,
        RescaleIntercept=9000,
        **relation,
    )
    image = read_xray(path)
    assert image.intensity == kind.split()[0]
    values = pixels * slope + 9000
    if kind == "attenuation down" or (kind == "display" and photometric == "MONOCHROME1"):
        inverse = values.max() - values
        expected = inverse + (values.min() if kind == "display" else 0)
    else:
        expected = values
    np.testing.assert_array_equal(image.pixels, expected)


def test_a_falling_table_of_log_pixels_is_no_transmission(tmp_path: Path) -> None:
    values = np.arange(4096)[::-1]
    path = write_dicom(
        tmp_path / "x.dcm",
        picture(),
        PixelIntensityRelationship="LOG",
        ModalityLUTSequence=modality_table(values, 0),
    )
    image = read_xray(path)
    assert image.intensity == "display"
    np.testing.assert_array_equal(image.pixels, values[picture()])


def test_display_is_as_shown_also_where_it_is_chosen(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "x.dcm", picture(), "DX", PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(
        read_xray(path, intensity="display").pixels, read_xray(path).pixels
    )


def test_an_intensity_that_the_file_contradicts_is_noted(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "x.dcm", picture(), "DX", **LOG_DOWN)
    (note,) = read_xray(path, intensity="attenuation").notes
    assert 'says LOG with higher pixels for more X-ray intensity, not "attenuation"' in note
    assert not read_xray(path, intensity="transmission").notes


def test_bits_beside_the_pixels_do_not_count(tmp_path: Path) -> None:
    """Old files keep overlays in the bits that pixels do not use."""
    pixels = picture()
    path = write_dicom(tmp_path / "x.dcm", pixels | 0x8000, bits=12)
    np.testing.assert_array_equal(read_xray(path).pixels, pixels)


@pytest.mark.parametrize("place", ["SharedFunctionalGroupsSequence", "per frame"])
def test_functional_groups_tell_the_intensity(tmp_path: Path, place: str) -> None:
    stack = np.stack([picture(seed=n) for n in range(2)])

    def group(slope: float) -> pydicom.Dataset:
        properties, values, out = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        properties.PixelIntensityRelationship = "LIN"
        properties.PixelIntensityRelationshipSign = 1
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = slope, 4, "US"
        out.FramePixelDataPropertiesSequence = Sequence([properties])
        out.PixelValueTransformationSequence = Sequence([values])
        return out

    if place == "per frame":
        tags = {"PerFrameFunctionalGroupsSequence": Sequence([group(2), group(3)])}
    else:
        tags = {place: Sequence([group(3)])}
    image = read_xray(write_dicom(tmp_path / "x.dcm", stack, **tags), 1)
    assert image.intensity == "transmission"
    np.testing.assert_array_equal(image.pixels, stack[1] * 3.0 + 4)
