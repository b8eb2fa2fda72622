"""Cases and X-rays: what is read, what is written, and every refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from RadGSRegLib.cases import (
    Case,
    Ledger,
    View,
    is_views_file,
    read_case,
    read_ct_case,
    read_start,
    read_views,
    read_xray,
    write_case,
    write_start,
    write_views,
)
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Camera, Volume, carm_camera, exp_se3, translation

ROWS, COLUMNS = 30, 40


def make_view(name: str = "AP", primary: float = 0.0, seed: int = 0, **changes: Any) -> View:
    values: dict[str, Any] = {
        "name": name,
        "pixels": np.random.default_rng(seed).random((ROWS, COLUMNS), np.float32),
        "camera": carm_camera(1124, 750, primary, 3, (COLUMNS, ROWS), (0.6, 0.5)),
        "pixel_spacing_mm": (0.6, 0.5),
        "center_px": (20.5, 14.0),
    }
    return View(**{**values, **changes})


def make_ct() -> tuple[Volume, Volume]:
    matrix = exp_se3([0.2, 0.1, -0.3, 5, -150, 20]) @ np.diag([1.0, 1.2, 2.0, 1.0])
    ct = Volume(np.random.default_rng(2).integers(-900, 900, (10, 11, 12)), matrix)
    labels = ct.with_array(np.zeros(ct.array.shape, np.int32))
    labels.array[3:8, 3:8, 3:8] = 22
    labels.array[8:, 3:8, 3:8] = 21
    return ct, labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole case in a folder."""
    ct, labels = make_ct()
    views = [make_view("AP", 0, 0), make_view("LA", 90, 1)]
    write_case(tmp_path, ct, labels, 22, views, start_ct_to_world=exp_se3([0.1, 0, 0, 5, 6, 7]))
    return tmp_path


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file in place."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def refused(path: Path, problem: str, read: Callable[[Path], Any] = read_views) -> str:
    """The one-line sentence with which a file is refused."""
    with pytest.raises(InputError, match=problem) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


# ---------------------------------------------------------------- round trips


def test_case_round_trip(folder: Path) -> None:
    ct, labels = make_ct()
    case = read_case(folder / "case.json")
    assert isinstance(case, Case)
    assert (case.label, case.label_name, case.notes) == (22, "22", ())
    np.testing.assert_array_equal(case.ct.array, ct.array)
    np.testing.assert_allclose(case.ct.index_to_physical, ct.index_to_physical, atol=1e-4)
    np.testing.assert_array_equal(case.labels.array, labels.array)
    assert set(case.inputs) == {
        "case.json", "views.json", "ap.tif", "la.tif", "ct.nii.gz", "seg.nii.gz",
    }  # fmt: skip
    assert all(len(digest) == 64 for digest in case.inputs.values())
    np.testing.assert_allclose(read_start(folder / "start.json"), exp_se3([0.1, 0, 0, 5, 6, 7]))
    assert is_views_file(folder / "views.json")
    assert not is_views_file(folder / "case.json")
    assert read_case(folder).label == 22


def test_what_is_known_before_the_operation_needs_no_xrays(folder: Path) -> None:
    whole = read_case(folder / "case.json")
    (folder / "views.json").unlink()
    known = read_ct_case(folder)  # the file that is mentioned is not even looked for
    edit(folder / "case.json", lambda d: d.pop("views"))
    for one in (known, read_ct_case(folder / "case.json")):
        np.testing.assert_array_equal(one.ct.array, whole.ct.array)
        np.testing.assert_array_equal(one.labels.array, whole.labels.array)
        assert (one.label, one.label_name, one.notes) == (22, "22", ())
        assert set(one.inputs) == {"case.json", "ct.nii.gz", "seg.nii.gz"}
    refused(folder / "case.json", 'has no "views"', read_case)
    edit(folder / "case.json", lambda d: d.pop("segmentation"))
    refused(folder / "case.json", 'has no "segmentation"', read_ct_case)
    refused(folder / "nowhere.json", "does not exist", read_ct_case)


def test_named_labels_round_trip(tmp_path: Path) -> None:
    ct, labels = make_ct()
    views = [make_view("AP", 0, 0), make_view("LA", 90, 1)]
    write_case(tmp_path, ct, labels, 22, views, label_names={21: "L2", 22: "L3"})
    assert read_case(tmp_path / "case.json").label_name == "L3"
    edit(tmp_path / "case.json", lambda d: d.update(label="L2"))
    assert read_case(tmp_path / "case.json").label == 21


number = st.floats(-1e4, 1e4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    twist=st.lists(st.floats(-1.5, 1.5), min_size=6, max_size=6),
    focal=st.floats(2000, 5000),
    centre=st.none() | st.tuples(st.floats(-10, 40), st.floats(-10, 40)),
    name=st.text("abc ÄöPΩ+.-_()", min_size=1).filter(
        lambda s: s.strip() == s and not s.startswith(".") and s.lower() != "la"
    ),
    intensity=st.sampled_from(["attenuation", "transmission", "display"]),
    nominal=st.booleans(),
)
def test_views_round_trip(
    tmp_path: Path,
    twist: list[float],
    focal: float,
    centre: Any,
    name: str,
    intensity: Any,
    nominal: bool,
) -> None:
    """views -> views.json -> the same views, to the last bit of a double."""
    away = translation([0, 0, 750])
    pose = away @ exp_se3(np.array(twist) * [1, 1, 1, 100, 100, 100])
    intrinsic = np.array([[focal, 0.5, 19.0], [0, -1.2 * focal, 14.0], [0, 0, 1]])
    first = make_view(
        name,
        camera=Camera(intrinsic, pose, COLUMNS, ROWS),
        center_px=centre,
        intensity=intensity,
        nominal=nominal,
    )
    turn = away @ exp_se3([0.0, 1.3, 0, 0, 0, 0]) @ translation([0, 0, -750])
    second = make_view("LA", seed=1, camera=Camera(intrinsic, turn @ pose, COLUMNS, ROWS))
    read = read_views(write_views(tmp_path, [first, second]))
    for got, want in zip(read, (first, second), strict=True):
        np.testing.assert_array_equal(got.pixels, want.pixels)
        np.testing.assert_array_equal(got.camera.intrinsic, want.camera.intrinsic)
        np.testing.assert_allclose(
            got.camera.world_to_camera, want.camera.world_to_camera, atol=1e-12
        )
        assert (got.name, got.intensity, got.center_px, got.pixel_spacing_mm, got.nominal) == (
            want.name, want.intensity, want.center_px, want.pixel_spacing_mm, want.nominal,
        )  # fmt: skip


def test_names_that_fall_together_get_files_of_their_own(tmp_path: Path) -> None:
    views = [make_view("A P", 0, 0), make_view("A_P", 60, 1), make_view("Ω", 90, 2)]
    read = read_views(write_views(tmp_path, views))
    assert [view.name for view in read] == ["A P", "A_P", "Ω"]
    for got, want in zip(read, views, strict=True):
        np.testing.assert_array_equal(got.pixels, want.pixels)


@given(st.lists(st.floats(-3, 3), min_size=6, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_start_round_trip(tmp_path: Path, twist: list[float]) -> None:
    pose = exp_se3(np.array(twist) * [1, 1, 1, 50, 50, 50])
    write_start(tmp_path / "start.json", pose)
    np.testing.assert_allclose(read_start(tmp_path / "start.json"), pose, atol=1e-12)


# ---------------------------------------------------------------- pictures


FORMATS = [
    ("tif", np.uint8),
    ("tif", np.uint16),
    ("tif", np.float32),
    ("png", np.uint8),
    ("png", np.uint16),
    ("nrrd", np.uint16),
    ("mha", np.float32),
    ("nii", np.int16),
    ("nii.gz", np.float32),
]


@pytest.mark.parametrize(
    ("suffix", "kind", "one_slice"),
    [(*f, False) for f in FORMATS] + [(*f, True) for f in FORMATS if f[0] not in ("tif", "png")],
)
def test_pictures_are_rows_by_columns(
    tmp_path: Path, suffix: str, kind: type, one_slice: bool
) -> None:
    pixels = np.random.default_rng(0).integers(0, 250, (ROWS, COLUMNS)).astype(kind)
    path = tmp_path / f"x.{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(pixels[None] if one_slice else pixels), str(path))
    image = read_xray(path)
    assert image.pixels.dtype == np.float32
    np.testing.assert_array_equal(image.pixels, pixels)


def test_stack_needs_a_frame(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).random((3, ROWS, COLUMNS), np.float32)
    path = tmp_path / "x.mha"
    sitk.WriteImage(sitk.GetImageFromArray(stack), str(path))
    np.testing.assert_array_equal(read_xray(path, 1).pixels, stack[1])
    refused(path, r"x\.mha: holds 3 frames", read_xray)


def test_colours(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 250, (ROWS, COLUMNS)).astype(np.uint8)
    colours = np.repeat(grey[..., None], 3, axis=2)
    path = tmp_path / "x.png"
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(path))
    np.testing.assert_array_equal(read_xray(path).pixels, grey)
    colours[3, 4, 1] ^= 255
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(path))
    refused(path, r"x\.png: is a colour image", read_xray)


# ---------------------------------------------------------------- refusals of views.json


def first(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """A change of the first view."""
    return lambda data: change(data["views"][0])


def _scaled(view: dict[str, Any]) -> None:
    view["extrinsic"][0] = [1.1 * v for v in view["extrinsic"][0]]


def _mirrored(view: dict[str, Any]) -> None:
    view["extrinsic"][0] = [-v for v in view["extrinsic"][0]]


def _same_pose(data: dict[str, Any]) -> None:
    data["views"][1]["extrinsic"] = data["views"][0]["extrinsic"]


def _nearly_same_pose(data: dict[str, Any]) -> None:
    camera = carm_camera(1124, 750, 4, 3, (COLUMNS, ROWS), (0.6, 0.5))
    data["views"][1]["extrinsic"] = camera.world_to_camera.tolist()


def _opposite(data: dict[str, Any]) -> None:
    camera = carm_camera(1124, 750, 180, -3, (COLUMNS, ROWS), (0.6, 0.5))
    data["views"][1]["extrinsic"] = camera.world_to_camera.tolist()


VIEWS_REFUSALS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "schema": (lambda d: d.update(schema="other"), '"schema" must be'),
    "no schema": (lambda d: d.pop("schema"), 'has no "schema"'),
    "version": (lambda d: d.update(version=2), "has version 2"),
    "views": (lambda d: d.update(views={}), "list of objects"),
    "no views": (lambda d: d.pop("views"), 'has no "views"'),
    "one view": (lambda d: d["views"].pop(), "at least two"),
    "no view": (lambda d: d["views"].clear(), "at least two"),
    "no name": (first(lambda v: v.pop("name")), 'view 1: has no "name"'),
    "blank name": (first(lambda v: v.update(name=" ")), "not blank"),
    "name with a path": (first(lambda v: v.update(name="../AP")), "fit for a file name"),
    "same name": (first(lambda v: v.update(name="la")), "two views are called"),
    "no image": (first(lambda v: v.pop("image")), 'view "AP": has no "image"'),
    "image that is not there": (
        first(lambda v: v.update(image="gone.tif")),
        r"gone\.tif: does not",
    ),
    "image with a senseless path": (first(lambda v: v.update(image="x" * 5000)), "no usable path"),
    "image with a zero byte": (first(lambda v: v.update(image="a\0b")), "no usable path|does not"),
    "image that is a folder": (first(lambda v: v.update(image=".")), "is a folder"),
    "no size": (first(lambda v: v.pop("size")), 'has no "size"'),
    "size": (first(lambda v: v.update(size=[ROWS, COLUMNS])), "30 x 40.*40 x 30"),
    "size of text": (first(lambda v: v.update(size=["a", 1])), "2 numbers"),
    "spacing": (first(lambda v: v.update(pixel_spacing_mm=[0, 1])), "must be positive"),
    "no intrinsic": (first(lambda v: v.pop("intrinsic")), 'no "intrinsic"'),
    "no extrinsic": (first(lambda v: v.pop("extrinsic")), 'no "extrinsic"'),
    "misspelt": (
        first(lambda v: v.update(extrinsics=v.pop("extrinsic"))),
        r'no "extrinsic" \(did you mean "extrinsics"\?\)',
    ),
    "focal length": (first(lambda v: v["intrinsic"][0].__setitem__(0, 0)), "focal length is zero"),
    "intrinsic shape": (first(lambda v: v["intrinsic"].pop()), "3 x 3 numbers"),
    "intrinsic last row": (first(lambda v: v["intrinsic"].reverse()), "upper triangular"),
    "extrinsic shape": (first(lambda v: v["extrinsic"].pop()), "4 x 4 numbers"),
    "extrinsic last row": (first(lambda v: v["extrinsic"][3].reverse()), "last row"),
    "not rigid": (first(_scaled), "is not rigid"),
    "left-handed": (first(_mirrored), "is left-handed"),
    "infinite": (first(lambda v: v["extrinsic"][0].__setitem__(3, 10**400)), "not finite"),
    "true": (first(lambda v: v["extrinsic"][0].__setitem__(3, True)), "4 x 4 numbers"),
    "intensity": (first(lambda v: v.update(intensity="film")), "must be one of attenuation"),
    "intensity list": (first(lambda v: v.update(intensity=[1])), "must be one of attenuation"),
    "centre": (first(lambda v: v.update(center_px=[4000, 3])), "far outside the image"),
    "centre of text": (first(lambda v: v.update(center_px="middle")), "2 numbers"),
    "frame": (first(lambda v: v.update(frame=4)), "no frame 4"),
    "frame text": (first(lambda v: v.update(frame="first")), "whole number"),
    "equal views": (_same_pose, 'views "AP" and "LA" are equal'),
    "nearly equal views": (_nearly_same_pose, "4.0 degrees apart"),
    "opposite views": (_opposite, "along one line"),
    "same picture": (lambda d: d["views"][1].update(image="ap.tif"), "are the same picture"),
    "two geometries": (
        first(lambda v: v.update(projection_matrix=[[1, 0, 0, 0]] * 3)),
        "geometry twice",
    ),
}


@pytest.mark.parametrize("kind", VIEWS_REFUSALS)
def test_views_refusals(folder: Path, kind: str) -> None:
    change, problem = VIEWS_REFUSALS[kind]
    edit(folder / "views.json", change)
    message = refused(folder / "views.json", problem)
    assert "views.json" in message or "ap.tif" in message
    refused(folder / "case.json", problem, read_case)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON.*line 1"),
        ("[]", "no JSON object"),
        ('{"a": NaN}', "NaN is not a number"),
        ('{"a": 1, "a": 2}', "twice"),
        ("[" * 100_000, "JSON"),
        ("\udcff", "UTF-8"),
    ],
)
def test_files_that_are_no_json(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "views.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    for read in (read_views, read_case, read_start):
        assert "views.json" in refused(path, problem, read)


@pytest.mark.parametrize("read", [read_views, read_case, read_start, is_views_file])
def test_json_that_is_not_there(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    refused(tmp_path / "no.json", r"no\.json: does not exist", read)
    (tmp_path / "folder.json").mkdir()
    refused(tmp_path / "folder.json", "is a folder", read)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_number(folder: Path, value: float) -> None:
    pixels = np.ones((ROWS, COLUMNS), np.float32)
    pixels[3, 4] = value
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(folder / "ap.tif"))
    assert "ap.tif" in refused(folder / "views.json", "not a number")


def test_constant_and_tiny_pictures(folder: Path) -> None:
    pixels = np.full((ROWS, COLUMNS), 7, np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(folder / "ap.tif"))
    assert "ap.tif" in refused(folder / "views.json", "constant.* 7")
    sitk.WriteImage(sitk.GetImageFromArray(np.eye(3, dtype=np.uint8)), str(folder / "ap.tif"))
    assert "ap.tif" in refused(folder / "views.json", "only 3 x 3")
    (folder / "ap.tif").write_text("no picture")
    assert "ap.tif" in refused(folder / "views.json", "cannot be read")


def test_unknown_keys_are_remarked(folder: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["views"][0]["centre_px"] = data["views"][0].pop("center_px")

    edit(folder / "views.json", change)
    ledger = Ledger()
    assert read_views(folder / "views.json", ledger)[0].center_px is None
    assert ledger.notes == [
        'views.json: view "AP": "centre_px" is not used (did you mean "center_px"?)'
    ]


# ---------------------------------------------------------------- refusals of case.json


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda d: d.pop("ct"), 'has no "ct"'),
        (lambda d: d.pop("segmentation"), 'has no "segmentation"'),
        (lambda d: d.pop("label"), 'has no "label"'),
        (lambda d: d.pop("views"), 'has no "views"'),
        (lambda d: d.update(ct="gone.nii"), r"gone\.nii: does not exist .*case\.json"),
        (lambda d: d.update(segmentation="gone.nii"), r"gone\.nii: does not exist"),
        (lambda d: d.update(views="gone.json"), r"gone\.json: does not exist"),
        (lambda d: d.update(label=23), r"seg\.nii\.gz: has no label 23.* 21, 22"),
        (lambda d: d.update(label="L3"), r"seg\.nii\.gz: holds labels without names"),
        (lambda d: d.update(label=True), "whole number or"),
        (lambda d: d.update(label=2.5), "whole number or"),
        (lambda d: d.update(ct=5), '"ct" must be a text'),
        (lambda d: d.update(ct="seg.nii.gz"), r"seg\.nii\.gz: is no CT"),
        (lambda d: d.update(segmentation="ct.nii.gz"), r"ct\.nii\.gz: is no label map"),
        (lambda d: d.update(series="x"), "whole number"),
        (lambda d: d.update(views=[]), "is a views.json"),
    ],
)
def test_case_refusals(folder: Path, change: Callable[[dict[str, Any]], Any], problem: str) -> None:
    edit(folder / "case.json", change)
    refused(folder / "case.json", problem, read_case)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({}, 'no "ct_to_world"'),
        ({"ct_to_world": [[1, 0, 0]]}, "4 x 4"),
        ({"ct_to_world": np.diag([1, 1, -1, 1]).tolist()}, "left-handed"),
        ({"ct_to_world": np.diag([2, 2, 2, 1]).tolist()}, "not rigid"),
    ],
)
def test_start_refusals(tmp_path: Path, content: dict[str, Any], problem: str) -> None:
    path = tmp_path / "start.json"
    path.write_text(json.dumps(content))
    assert "start.json" in refused(path, problem, read_start)


def test_nothing_senseless_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rigid"):
        write_start(tmp_path / "start.json", np.diag([1, 1, -1, 1]))
    with pytest.raises(InputError, match="at least one"):
        write_views(tmp_path, [])
    assert list(tmp_path.iterdir()) == []


DAMAGE = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.integers(0, 5), DAMAGE, st.booleans(), st.none() | st.floats(0, 1))
def test_damaged_files_are_refused_or_read(
    folder: Path, which: int, damage: list[tuple[float, int]], early: bool, cut: float | None
) -> None:
    """Whatever happened to the bytes, there is a case or one sentence, never a traceback."""
    names = ["case.json", "views.json", "ap.tif", "la.tif", "ct.nii.gz", "seg.nii.gz"]
    path = folder / names[which]
    original = path.read_bytes()
    content = bytearray(original)
    for place, value in damage:
        content[int(place * (min(len(content), 600) if early else len(content)))] = value
    path.write_bytes(content if cut is None else content[: int(cut * len(content))])
    said = ""
    try:
        assert isinstance(read_case(folder / "case.json"), Case)
    except InputError as error:
        said = str(error)
    finally:
        path.write_bytes(original)
    assert "\n" not in said


# ---------------------------------------------------------------- other geometry


def test_geometry_from_projection_matrices(folder: Path) -> None:
    """Inline at any scale, and as a text file of twelve numbers."""
    cameras = [view.camera for view in read_views(folder / "views.json")]
    np.savetxt(folder / "la.txt", cameras[1].projection, delimiter=", ", header="from calibration")

    def change(data: dict[str, Any]) -> None:
        for view in data["views"]:
            del view["intrinsic"], view["extrinsic"]
        data["views"][0]["projection_matrix"] = (-3 * cameras[0].projection).tolist()
        data["views"][1]["projection_matrix"] = "la.txt"

    edit(folder / "views.json", change)
    ledger = Ledger()
    for view, camera in zip(read_views(folder / "views.json", ledger), cameras, strict=True):
        np.testing.assert_allclose(view.camera.intrinsic, camera.intrinsic, atol=1e-6)
        np.testing.assert_allclose(view.camera.world_to_camera, camera.world_to_camera, atol=1e-7)
        assert not view.nominal
    assert "la.txt" in ledger.inputs
    (folder / "la.txt").write_text("1 2 3")
    refused(folder / "views.json", r"la\.txt: must hold 12")
    (folder / "la.txt").write_text("a b c")
    refused(folder / "views.json", r"la\.txt: is not a text file of 12")
    edit(folder / "views.json", first(lambda v: v.update(projection_matrix=[[1, 1, 1, 1]] * 3)))
    refused(folder / "views.json", 'view "AP": the 3x4|view "AP": the 3x3|source')


RTK_FILE = """<?xml version="1.0"?><!DOCTYPE RTKGEOMETRY>
<RTKThreeDCircularGeometry version="3">
<SourceToIsocenterDistance>750</SourceToIsocenterDistance>
<SourceToDetectorDistance>1124</SourceToDetectorDistance>
<Projection><GantryAngle>0</GantryAngle></Projection>
<Projection><GantryAngle>90</GantryAngle></Projection>
</RTKThreeDCircularGeometry>"""


def test_geometry_from_rtk(folder: Path) -> None:
    """At gantry 0 the source is at +z; u runs along x and v along y, on the image's own grid."""
    (folder / "geometry.xml").write_text(RTK_FILE)
    image = sitk.GetImageFromArray(make_view().pixels)
    image.SetSpacing((0.5, 0.25))
    image.SetOrigin((-3.0, 2.0))
    sitk.WriteImage(image, str(folder / "ap.mha"))

    def change(data: dict[str, Any]) -> None:
        for number, view in enumerate(data["views"]):
            del view["intrinsic"], view["extrinsic"]
            view.update(geometry="geometry.xml", projection=number)
        data["views"][0]["image"] = "ap.mha"

    edit(folder / "views.json", change)
    refused(folder / "views.json", 'view "AP": its detector is 1349 mm .* 2248 mm by rows')
    edit(folder / "views.json", first(lambda v: v.pop("pixel_spacing_mm")))
    assert read_views(folder / "views.json")[0].pixel_spacing_mm == (0.5, 0.25)
    ap, la = (view.camera for view in read_views(folder / "views.json"))
    np.testing.assert_allclose(ap.source_world, [0, 0, 750], atol=1e-9)
    magnify = 1124 / 750
    np.testing.assert_allclose(
        ap.project([[10, 20, 0]]), [[(10 * magnify + 3) / 0.5, (20 * magnify - 2) / 0.25]]
    )
    np.testing.assert_allclose(la.project([[0, 0, 0]]), [[19.5, 14.5]])  # centred without a grid
    edit(folder / "views.json", first(lambda v: v.update(projection=2)))
    refused(folder / "views.json", "no projection 2")
    edit(folder / "views.json", first(lambda v: v.pop("projection")))
    refused(folder / "views.json", "holds 2 projections")
    edit(folder / "views.json", first(lambda v: v.update(projection=0, geometry_frame="ras")))
    refused(folder / "views.json", "frame must be")


# ---------------------------------------------------------------- the shared cases


def test_shared_cases(shared_data: Path) -> None:
    """All of them, and the truth projects near where a person clicked."""
    folders = sorted((shared_data / "cases").iterdir())
    assert len(folders) >= 15
    for place in folders:
        case = read_case(place / "case.json")
        truth = json.loads((place / "truth.json").read_text())
        assert case.label == truth["label"], place.name
        assert (case.labels.array == case.label).sum() > 500
        assert case.notes == ()
        np.testing.assert_allclose(read_start(place / "start.json"), truth["start_ct_to_world"])
        voxels = np.argwhere(case.labels.array == case.label)[:, ::-1].astype(float)
        centre = np.append(case.ct.physical_points(voxels).mean(axis=0), 1.0)
        world = (np.array(truth["ct_to_world"]) @ centre)[:3]
        for view in case.views:
            assert view.pixels.shape == (488, 488)
            assert view.center_px is not None
            off = view.camera.project(world[None])[0] - view.center_px
            assert np.abs(off).max() < 30, (place.name, view.name)


def test_a_whole_number_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    path = write_views(tmp_path, [make_view("AP", 0), make_view("LA", 90, 1)])
    path.write_text(path.read_text().replace('"version": 1', '"version": 1e400'))
    with pytest.raises(InputError, match='"version" must be a whole number'):
        read_views(path)
