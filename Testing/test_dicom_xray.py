"""X-rays in DICOM files that pydicom writes here: XA, RF, DX and CR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_files import GEOMETRY, IDENTITY, NAME, picture, two_views, write_dicom, write_views_json
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedXAImageStorage, JPEGLSLossless, RLELossless

from RadGSRegLib.cases import Ledger, read_views, read_xray
from RadGSRegLib.cases.dicom_geometry import GeometryTags, image_turn
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import carm_angles, carm_camera

# ---------------------------------------------------------------- pixels


@pytest.mark.parametrize(
    ("modality", "bits"), [("CR", 8), ("RF", 10), ("XA", 12), ("DX", 14), ("CR", 16)]
)
def test_bits_and_modalities(tmp_path: Path, modality: str, bits: int) -> None:
    pixels = picture(bits=bits)
    image = read_xray(write_dicom(tmp_path / "x.dcm", pixels, modality, bits))
    assert image.pixels.dtype == np.float32
    assert image.intensity == "display"
    np.testing.assert_array_equal(image.pixels, pixels)


def test_signed_pixels_and_rescale(tmp_path: Path) -> None:
    pixels = (picture().astype(np.int32) - 2000).astype(np.int16)
    path = write_dicom(tmp_path / "x.dcm", pixels, bits=16, RescaleSlope=0.5, RescaleIntercept=10)
    np.testing.assert_allclose(read_xray(path).pixels, pixels * 0.5 + 10)


def test_frames(tmp_path: Path) -> None:
    stack = np.stack([picture(seed=n) for n in range(3)])
    path = write_dicom(tmp_path / "x.dcm", stack)
    for n in range(3):
        np.testing.assert_array_equal(read_xray(path, n).pixels, stack[n])
    with pytest.raises(InputError, match=r"holds 3 frames.*0 to 2"):
        read_xray(path)
    for wrong in (3, -1):
        with pytest.raises(InputError, match="no frame"):
            read_xray(path, wrong)


@pytest.mark.parametrize(
    ("modality", "tags", "kind", "expected"),
    [
        ("XA", {"PixelIntensityRelationship": "LIN"}, "transmission", lambda p: p),
        ("XA", {"PixelIntensityRelationship": "LOG"}, "attenuation", lambda p: p.max() - p),
        ("XA", {"PixelIntensityRelationship": "DISP"}, "display", lambda p: p),
        ("XA", {}, "display", lambda p: p),
        (
            "DX",
            {"PixelIntensityRelationship": "LOG", "PixelIntensityRelationshipSign": -1},
            "attenuation",
            lambda p: p,
        ),
        (
            "DX",
            {"PixelIntensityRelationship": "LIN", "PixelIntensityRelationshipSign": 1},
            "transmission",
            lambda p: p,
        ),
        (
            "DX",
            {"PixelIntensityRelationship": "LIN", "PixelIntensityRelationshipSign": -1},
            "display",
            lambda p: p,
        ),
        (
            "DX",
            {"PhotometricInterpretation": "MONOCHROME1"},
            "display",
            lambda p: p.max() + p.min() - p,
        ),
        (
            "DX",
            {
                "PhotometricInterpretation": "MONOCHROME1",
                "PixelIntensityRelationship": "LIN",
                "PixelIntensityRelationshipSign": 1,
            },
            "transmission",
            lambda p: p,
        ),
        (  # polarity is not to be known
            "CR",
            {"PhotometricInterpretation": "MONOCHROME1", "PixelIntensityRelationship": "LIN"},
            "display",
            lambda p: p.max() + p.min() - p,
        ),
    ],
)
def test_intensity(
    tmp_path: Path, modality: str, tags: dict[str, Any], kind: str, expected: Any
) -> None:
    pixels = picture()
    path = write_dicom(tmp_path / "x.dcm", pixels, modality, **tags)
    image = read_xray(path)
    assert image.intensity == kind
    np.testing.assert_array_equal(image.pixels, expected(pixels.astype(np.float32)))
    told = read_xray(path, intensity="transmission")  # who knows better is believed
    np.testing.assert_array_equal(told.pixels, pixels)


def test_modality_table_undoes_the_logarithm(tmp_path: Path) -> None:
    table = pydicom.Dataset()
    table.LUTDescriptor = [256, 0, 16]
    table.ModalityLUTType = "US"
    values = np.round(np.exp(np.arange(256) / 32)).astype(np.uint16)
    table.LUTData = values.tobytes()
    table["LUTData"].VR = "OW"
    pixels = picture(bits=8)
    path = write_dicom(
        tmp_path / "x.dcm",
        pixels,
        bits=8,
        PixelIntensityRelationship="LOG",
        ModalityLUTSequence=Sequence([table]),
    )
    image = read_xray(path)
    assert image.intensity == "transmission"
    np.testing.assert_array_equal(image.pixels, values[pixels])


def test_run_length_and_jpeg_2000(tmp_path: Path) -> None:
    pixels = picture()
    path = write_dicom(tmp_path / "x.dcm", pixels, RescaleSlope=2, RescaleIntercept=1)
    data = pydicom.dcmread(path)
    data.compress(RLELossless)
    data.save_as(tmp_path / "rle.dcm")
    np.testing.assert_array_equal(read_xray(tmp_path / "rle.dcm").pixels, pixels * 2.0 + 1)
    image = sitk.GetImageFromArray(pixels[None])
    for tag, value in (("0008|0060", "XA"), ("0028|0004", "MONOCHROME2")):
        image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "j2k.dcm"))
    writer.SetImageIO("GDCMImageIO")
    writer.SetCompressor("JPEG2000")
    writer.UseCompressionOn()
    writer.Execute(image)
    assert pydicom.dcmread(tmp_path / "j2k.dcm").file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(read_xray(tmp_path / "j2k.dcm").pixels, pixels)


def test_lossless_jpeg_that_pydicom_cannot_decode(tmp_path: Path) -> None:
    pixels = picture()
    image = sitk.GetImageFromArray(pixels[None])
    image.SetMetaData("0008|0060", "XA")
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "jpeg.dcm"))
    writer.SetImageIO("GDCMImageIO")
    writer.SetCompressor("JPEG")
    writer.UseCompressionOn()
    writer.Execute(image)
    assert pydicom.dcmread(tmp_path / "jpeg.dcm").file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(read_xray(tmp_path / "jpeg.dcm").pixels, pixels)


def test_damaged_compression_is_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "x.dcm", picture())
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = JPEGLSLossless
    data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xf7rubbish!"])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    data.save_as(tmp_path / "broken.dcm")
    with pytest.raises(InputError, match=r"broken\.dcm: (is compressed|has pixels)"):
        read_xray(tmp_path / "broken.dcm")


def test_colour(tmp_path: Path) -> None:
    grey = picture(bits=8)
    tags = {
        "SamplesPerPixel": 3,
        "PlanarConfiguration": 0,
        "PhotometricInterpretation": "RGB",
        "Rows": grey.shape[0],
        "Columns": grey.shape[1],
    }
    colours = np.repeat(grey[..., None], 3, axis=2)
    path = write_dicom(tmp_path / "x.dcm", grey, bits=8, PixelData=colours.tobytes(), **tags)
    np.testing.assert_array_equal(read_xray(path).pixels, grey)
    colours = colours.copy()
    colours[0, 0, 0] ^= 255
    path = write_dicom(tmp_path / "y.dcm", grey, bits=8, PixelData=colours.tobytes(), **tags)
    with pytest.raises(InputError, match="colour"):
        read_xray(path)


def test_other_modalities_and_rubbish_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="kind CT"):
        read_xray(write_dicom(tmp_path / "x.dcm", picture(), "CT"))
    path = tmp_path / "y.dcm"
    path.write_bytes(b"no picture at all" * 20)
    with pytest.raises(InputError, match=r"y\.dcm"):
        read_xray(path)
    data = pydicom.dcmread(tmp_path / "x.dcm")
    data.Modality = "XA"
    data.PixelData = data.PixelData[:100]
    data.save_as(tmp_path / "z.dcm")
    with pytest.raises(InputError, match=r"z\.dcm.*complete"):
        read_xray(tmp_path / "z.dcm")


def spoil(path: Path, keyword: str, value: bytes) -> None:
    """Write raw bytes as the value of an element, as pydicom itself would not."""
    tag = pydicom.tag.Tag(keyword)
    vr = pydicom.datadict.dictionary_VR(tag)
    data = pydicom.dcmread(path)
    data[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(value), value, 0, False, True)
    data.save_as(path)


@pytest.mark.filterwarnings("always")
def test_nothing_of_a_patient_is_repeated(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    """Values that break DICOM's rules make pydicom quote them; we do not let it."""
    caplog.set_level("DEBUG")
    path = two_views(tmp_path)
    for keyword in ("PatientBirthDate", "PatientAge", "SpecificCharacterSet", "StudyDate"):
        spoil(tmp_path / "0.dcm", keyword, b"Doe^Jane")
    recwarn.clear()
    caplog.clear()
    read_views(path)
    said = "".join(str(w.message) for w in recwarn) + caplog.text + "".join(capfd.readouterr())
    assert "Doe" not in said
    spoil(tmp_path / "0.dcm", "ImagerPixelSpacing", b"0.5\\Doe ")
    with pytest.raises(InputError, match="ImagerPixelSpacing") as caught:
        read_views(path)
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize(
    ("keyword", "problem"),
    [("RescaleSlope", "unusable rescale"), ("NumberOfFrames", "cannot be decoded")],
)
def test_tags_that_are_no_numbers(tmp_path: Path, keyword: str, problem: str) -> None:
    path = write_dicom(tmp_path / "x.dcm", picture(), RescaleSlope=1, RescaleIntercept=0)
    spoil(path, keyword, b"rubbish ")
    with pytest.raises(InputError, match=rf"x\.dcm: .*{problem}"):
        read_xray(path)


# ---------------------------------------------------------------- geometry


def test_views_from_tags_alone(tmp_path: Path) -> None:
    ledger = Ledger()
    views = read_views(two_views(tmp_path), ledger)
    assert all(view.nominal for view in views)
    assert views[0].pixel_spacing_mm == (0.6, 0.5)
    np.testing.assert_allclose(carm_angles(views[0].camera), (8, -3.5, 0), atol=1e-9)
    expected = carm_camera(1124, 750, 8, -3.5, (50, 40), (0.6, 0.5))
    x = np.random.default_rng(0).uniform(-50, 50, (10, 3))
    mirrored = expected.project(x)
    mirrored[:, 0] = 49 - mirrored[:, 0]  # seen facing the source
    np.testing.assert_allclose(views[0].camera.project(x), mirrored, atol=1e-9)
    left, head = views[0].camera.project([[40, 0, 0], [0, 0, 40]])
    assert left[0] > 24.5
    assert head[1] < 19.5
    assert sum("nominal" in note for note in ledger.notes) == 2
    text = repr((views, ledger))
    assert NAME not in text
    assert "Doe" not in text
    assert IDENTITY not in text


@pytest.mark.parametrize("position", ["FFS", "HFP", "HFDR"])
def test_anatomical_angles_do_not_depend_on_how_the_patient_lies(
    tmp_path: Path, position: str
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    supine = read_views(two_views(tmp_path / "a"))[0]
    other = read_views(two_views(tmp_path / "b", PatientPosition=position))[0]
    np.testing.assert_allclose(supine.camera.projection, other.camera.projection)


@pytest.mark.parametrize(
    ("orientation", "left_is", "head_is"),
    [  # where a point at the patient's left, and one towards the head, lie in the image
        (["L", "F"], (1, 0), (0, -1)),
        (["R", "F"], (-1, 0), (0, -1)),
        (["L", "H"], (1, 0), (0, 1)),
        (["R", "H"], (-1, 0), (0, 1)),
        (["F", "L"], (0, 1), (-1, 0)),
        (["H", "L"], (0, 1), (1, 0)),
        (["F", "R"], (0, -1), (-1, 0)),
        (["H", "R"], (0, -1), (1, 0)),
    ],
)
def test_patient_orientation(
    tmp_path: Path, orientation: list[str], left_is: tuple[int, int], head_is: tuple[int, int]
) -> None:
    path = two_views(
        tmp_path,
        PatientOrientation=orientation,
        PositionerPrimaryAngle=0,
        PositionerSecondaryAngle=0,
    )
    camera = read_views(path)[0].camera
    assert np.linalg.det(camera.world_to_camera[:3, :3]) == pytest.approx(1)
    left, head = camera.project([[20, 0, 0], [0, 0, 20]]) - [24.5, 19.5]
    np.testing.assert_allclose(left / np.abs(left).max(), left_is, atol=1e-9)
    np.testing.assert_allclose(head / np.abs(head).max(), head_is, atol=1e-9)


def test_lateral_orientation() -> None:
    """Seen from the patient's left, the back is on the right."""
    _, mirrored = image_turn(GeometryTags(primary_deg=90, secondary_deg=0, orientation=("P", "F")))
    assert mirrored
    _, mirrored = image_turn(GeometryTags(primary_deg=90, secondary_deg=0, orientation=("A", "F")))
    assert not mirrored


@pytest.mark.parametrize("tag", [t for t in GEOMETRY if t != "PatientPosition"])
@pytest.mark.parametrize("empty", [False, True])
def test_a_missing_tag_is_named(tmp_path: Path, tag: str, empty: bool) -> None:
    with pytest.raises(InputError, match=tag) as caught:
        read_views(two_views(tmp_path, **{tag: "" if empty else None}))
    assert "0.dcm" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"PatientOrientation": ["A", "F"]}, "PatientOrientation does not fit"),
        ({"DistanceSourceToPatient": 1200}, "behind the detector"),
        ({"DistanceSourceToDetector": 0}, "DistanceSourceToDetector"),
    ],
)
def test_senseless_tags(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read_views(two_views(tmp_path, **changes))


def test_what_views_json_gives_goes_before_the_tags(tmp_path: Path) -> None:
    two_views(tmp_path, ImagerPixelSpacing=None)
    camera = carm_camera(1100, 700, 20, 0, (50, 40), (0.4, 0.4))
    first = {
        "name": "AP",
        "image": "0.dcm",
        "pixel_spacing_mm": [0.4, 0.4],
        "intrinsic": camera.intrinsic.tolist(),
        "extrinsic": camera.world_to_camera.tolist(),
    }
    second = {"name": "LA", "image": "1.dcm", "size": [50, 40], "intensity": "transmission"}
    views = read_views(write_views_json(tmp_path, first, second))
    np.testing.assert_allclose(views[0].camera.projection, camera.projection)
    assert not views[0].nominal
    assert views[1].nominal
    assert views[1].intensity == "transmission"
    del first["extrinsic"]  # half from the file, half from the tags
    views = read_views(write_views_json(tmp_path, first, second))
    assert views[0].nominal
    np.testing.assert_allclose(views[0].camera.intrinsic, camera.intrinsic)
    np.testing.assert_allclose(carm_angles(views[0].camera), (8, -3.5, 0), atol=1e-9)
    first["size"] = [40, 50]
    with pytest.raises(InputError, match=r"40 x 50.*50 x 40"):
        read_views(write_views_json(tmp_path, first, second))


def test_moving_positioner_and_chosen_frame(tmp_path: Path) -> None:
    two_views(tmp_path)
    stack = np.stack([picture(seed=n) for n in range(3)])
    write_dicom(
        tmp_path / "0.dcm",
        stack,
        **GEOMETRY,
        PositionerPrimaryAngleIncrement=[0, 1.5, 3],
        PositionerSecondaryAngleIncrement=[0, 0, 1],
    )
    path = write_views_json(
        tmp_path,
        {"name": "AP", "image": "0.dcm", "frame": 2},
        {"name": "LA", "image": "1.dcm"},
    )
    view = read_views(path)[0]
    np.testing.assert_array_equal(view.pixels, stack[2])
    np.testing.assert_allclose(carm_angles(view.camera), (11, -2.5, 0), atol=1e-9)


def test_enhanced_xa_keeps_its_angles_in_functional_groups(tmp_path: Path) -> None:
    two_views(tmp_path)
    data = pydicom.dcmread(tmp_path / "0.dcm")
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedXAImageStorage
    for tag in ("PositionerPrimaryAngle", "PositionerSecondaryAngle", "DistanceSourceToPatient"):
        del data[tag]
    position, geometry, shared = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    position.PositionerPrimaryAngle, position.PositionerSecondaryAngle = 17.0, 4.0
    geometry.DistanceSourceToIsocenter = 740.0
    shared.PositionerPositionSequence = Sequence([position])
    shared.XRayGeometrySequence = Sequence([geometry])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    data.save_as(tmp_path / "0.dcm")
    camera = read_views(tmp_path / "views.json")[0].camera
    np.testing.assert_allclose(carm_angles(camera), (17, 4, 0), atol=1e-9)
    assert camera.world_to_camera[2, 3] == 740


@pytest.mark.parametrize(
    ("first", "increments", "frame", "expected"),
    [
        (0, [10], 3, 30),  # one step for all frames
        (20, [-1.5], 2, 17),
        (20, [0, 1.5, 3, 4.5], 3, 24.5),  # differences from the first frame
        (20, [20, 21.5, 23, 24.5], 3, 24.5),  # the angles themselves
        (-95, [-95, -65, -35, -5], 2, -35),
        (0, [0, 10, 20, 30], 3, 30),
        (20, [0, 5, 5, 5], 1, 25),  # what is meant by the fourth is not to be known, see below
        (20, [4, 4, 4, 4], 3, 32),  # steps
        (20, [4, 4, 4], 1, 24),
        (20, [0, 0, 0, 0], 3, 20),
        (20, [0], 3, 20),
        (20, [0, 5, 5, 5], 3, None),
        (20, [20, 20, 20, 20], 3, None),
        (20, [4, 5, 4, 5], 3, None),
        (20, [3, 8, 1, 40], 3, None),
        (20, [0, 1], 3, None),
        (20, [0, 1, 2, 3, 4, 5], 3, None),
    ],
)
def test_increments_of_a_moving_positioner(
    tmp_path: Path, first: float, increments: list[float], frame: int, expected: float | None
) -> None:
    path = two_views(tmp_path)
    write_dicom(
        tmp_path / "0.dcm",
        np.stack([picture(seed=9 + n) for n in range(4)]),
        **{**GEOMETRY, "PositionerPrimaryAngle": first},
        PositionerMotion="DYNAMIC",
        PositionerPrimaryAngleIncrement=increments,
        PositionerSecondaryAngleIncrement=[0],
    )
    path = write_views_json(
        tmp_path, {"name": "AP", "image": "0.dcm", "frame": frame}, {"name": "LA", "image": "1.dcm"}
    )
    if expected is None:
        with pytest.raises(InputError, match=r"0\.dcm.*PositionerPrimaryAngleIncrement"):
            read_views(path)
        return
    angles = carm_angles(read_views(path)[0].camera)
    np.testing.assert_allclose(angles, (expected, -3.5, 0), atol=1e-6)


def test_every_frame_of_enhanced_xa_has_its_own_geometry(tmp_path: Path) -> None:
    """Also the spacing, the orientation and the distances; what the data set says goes behind."""
    two_views(tmp_path)
    frames = []
    for angle in (5.0, 15.0, 25.0):
        position, geometry, lies, group = (pydicom.Dataset() for _ in range(4))
        position.PositionerPrimaryAngle, position.PositionerSecondaryAngle = angle, 2.0
        geometry.DistanceSourceToDetector = 1000.0 + angle
        geometry.DistanceSourceToIsocenter = 700.0 + angle
        lies.PatientOrientation = ["R", "F"]
        group.PositionerPositionSequence = Sequence([position])
        group.XRayGeometrySequence = Sequence([geometry])
        group.PatientOrientationInFrameSequence = Sequence([lies])
        frames.append(group)
    pixels, shared = pydicom.Dataset(), pydicom.Dataset()
    pixels.ImagerPixelSpacing = [0.2, 0.3]
    shared.FramePixelDataPropertiesSequence = Sequence([pixels])
    tags = {k: v for k, v in GEOMETRY.items() if k not in ("DistanceSourceToPatient",)}
    stack = np.stack([picture(seed=n) for n in range(3)])

    def written(groups: list[pydicom.Dataset]) -> Path:
        write_dicom(
            tmp_path / "0.dcm",
            stack,
            **tags,
            SharedFunctionalGroupsSequence=Sequence([shared]),
            PerFrameFunctionalGroupsSequence=Sequence(groups),
        )
        return write_views_json(
            tmp_path,
            {"name": "AP", "image": "0.dcm", "frame": 2},
            {"name": "LA", "image": "1.dcm"},
        )

    view = read_views(written(frames))[0]
    np.testing.assert_array_equal(view.pixels, stack[2])
    assert view.pixel_spacing_mm == (0.3, 0.2)
    expected = carm_camera(1025, 725, 25, 2, (50, 40), (0.3, 0.2))
    np.testing.assert_allclose(view.camera.projection, expected.projection, atol=1e-9)
    with pytest.raises(InputError, match=r"0\.dcm: has 3 frames but functional groups for 2"):
        read_views(written(frames[:2]))
