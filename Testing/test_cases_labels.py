"""CT files and segmentations: label maps and Slicer's `.seg.nrrd`."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.spatial.transform import Rotation

from RadGSRegLib.cases import (
    Ledger,
    labels_on_ct,
    read_ct,
    read_segmentation,
    volume_to_itk,
    write_segmentation,
    write_volume_nifti,
)
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Volume

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [25, -10, 40], degrees=True).as_matrix()
OBLIQUE[:3, :3] = OBLIQUE[:3, :3] @ np.diag([0.8, 1.1, 2.0])
OBLIQUE[:3, 3] = 12, -150, 33


def make_ct(matrix: np.ndarray = OBLIQUE) -> Volume:
    values = np.random.default_rng(0).integers(-1000, 1500, (12, 14, 16))
    return Volume(values.astype(np.int16), matrix)


def save(path: Path, volume: Volume) -> Path:
    sitk.WriteImage(volume_to_itk(volume), str(path))
    return path


def two_blocks() -> np.ndarray:
    """Labels 21 and 22, one above the other."""
    out = np.zeros((12, 14, 16), np.uint8)
    out[1:5, 3:9, 4:11] = 21
    out[6:11, 3:9, 4:11] = 22
    return out


# ---------------------------------------------------------------- CT


@pytest.mark.parametrize("suffix", ["nii.gz", "nii", "nrrd", "mha"])
@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_ct_keeps_its_place(tmp_path: Path, suffix: str, flip: tuple[int, int, int]) -> None:
    ct = make_ct(OBLIQUE @ np.diag([*flip, 1.0]))
    read = read_ct(save(tmp_path / f"ct.{suffix}", ct))
    assert read.array.dtype == np.float32
    np.testing.assert_array_equal(read.array, ct.array)
    np.testing.assert_allclose(read.index_to_physical, ct.index_to_physical, atol=1e-4)


def test_padding_becomes_air(tmp_path: Path) -> None:
    ct = make_ct()
    ct.array[0] = -3024
    assert read_ct(save(tmp_path / "ct.nrrd", ct)).array.min() == -1024


def test_one_time_point_is_a_volume(tmp_path: Path) -> None:
    ct = make_ct()
    image = sitk.JoinSeries([volume_to_itk(ct)])
    sitk.WriteImage(image, str(tmp_path / "ct.nrrd"))
    np.testing.assert_array_equal(read_ct(tmp_path / "ct.nrrd").array, ct.array)


def _spoil(kind: str, path: Path) -> None:
    ct = make_ct().with_array(make_ct().array.astype(np.float32))
    if kind == "nan":
        ct.array[1, 2, 3] = np.nan
    elif kind == "constant":
        ct.array[:] = 40
    elif kind == "scaled":
        ct.array[:] = (ct.array - ct.array.min()) / np.ptp(ct.array)
    image = volume_to_itk(ct)
    if kind == "2d":
        image = image[:, :, 3]
    elif kind == "4d":
        image = sitk.JoinSeries([image, image])
    elif kind == "vector":
        image = sitk.Compose([image, image, image])
    elif kind == "sheared":
        image.SetDirection([1, 0.3, 0, 0, 1, 0, 0, 0, 1])
    sitk.WriteImage(image, str(path))
    if kind == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "text":
        path.write_text("this is no image")


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("nan", "not a number"),
        ("constant", "alike"),
        ("scaled", "Hounsfield"),
        ("2d", "16 x 14.*3-D"),
        ("4d", "3-D"),
        ("vector", "vector"),
        ("sheared", "sheared"),
        ("cut", "is cut short"),
        ("text", "cannot be read"),
    ],
)
def test_ct_refusals(tmp_path: Path, kind: str, problem: str) -> None:
    path = tmp_path / "ct.nrrd"
    _spoil(kind, path)
    with pytest.raises(InputError, match=problem) as caught:
        read_ct(path)
    assert "ct.nrrd" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ct_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.nii\.gz: does not exist"):
        read_ct(tmp_path / "no.nii.gz")


def test_sheared_nifti(tmp_path: Path) -> None:
    """A NIfTI header whose axes are not at right angles, which ITK itself refuses."""
    path = save(tmp_path / "ct.nii", make_ct(np.eye(4)))
    content = bytearray(path.read_bytes())
    rows = np.array([[-1, 0.4, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0]], np.float32)
    content[252:256] = np.array([0, 1], np.int16).tobytes()  # no qform, an sform
    content[280:328] = rows.tobytes()
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"ct\.nii: has sheared axes"):
        read_ct(path)


# ---------------------------------------------------------------- label maps


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "mha"])
@pytest.mark.parametrize("label", [22, "22"])
def test_label_map(tmp_path: Path, suffix: str, label: int | str) -> None:
    ct = make_ct()
    path = save(tmp_path / f"seg.{suffix}", ct.with_array(two_blocks()))
    ledger = Ledger()
    labels, value, names = labels_on_ct(read_segmentation(path, ledger), label, ct, path)
    assert (value, names) == (22, {})
    np.testing.assert_array_equal(labels.array, two_blocks())
    assert list(ledger.inputs) == [path.name]


def test_label_map_of_floats(tmp_path: Path) -> None:
    ct = make_ct()
    path = save(tmp_path / "seg.nii.gz", ct.with_array(two_blocks().astype(np.float64)))
    assert read_segmentation(path).values() == [21, 22]
    save(path, ct.with_array(two_blocks() * 0.5))
    with pytest.raises(InputError, match="whole numbers"):
        read_segmentation(path)


def test_other_grid_is_resampled(tmp_path: Path) -> None:
    """Nearest neighbour, judged by where the voxels' centres lie."""
    ct = make_ct()
    grid = np.eye(4)
    grid[:3, 3] = OBLIQUE[:3, 3] - 30
    fine = Volume(np.zeros((90, 90, 90), np.uint8), grid)
    middle = ct.physical_points([[7, 6, 5]])[0]
    where = np.indices(fine.array.shape)[::-1].reshape(3, -1).T + grid[:3, 3]
    inside = (np.linalg.norm(where - middle, axis=1) < 6).reshape(fine.array.shape)
    fine.array[inside] = 5
    path = save(tmp_path / "seg.nii.gz", fine)
    labels, _, _ = labels_on_ct(read_segmentation(path), 5, ct, path)
    centres = np.indices(ct.array.shape)[::-1].reshape(3, -1).T
    nearest = np.round(ct.physical_points(centres) - grid[:3, 3]).astype(int)
    expected = fine.array[nearest[:, 2], nearest[:, 1], nearest[:, 0]].reshape(ct.array.shape)
    assert (labels.array != expected).mean() < 1e-3
    np.testing.assert_allclose(labels.index_to_physical, ct.index_to_physical)


def test_partly_outside_is_remarked(tmp_path: Path) -> None:
    ct, ledger = make_ct(), Ledger()
    moved = OBLIQUE.copy()
    moved[:3, 3] += OBLIQUE[:3, 2] * 4  # out at the top
    path = save(tmp_path / "seg.nrrd", Volume(two_blocks(), moved))
    labels_on_ct(read_segmentation(path), 22, ct, path, ledger)
    assert any("outside the CT" in note for note in ledger.notes)


def test_segmentation_of_another_ct(tmp_path: Path) -> None:
    moved = OBLIQUE.copy()
    moved[:3, 3] += 500
    path = save(tmp_path / "seg.nrrd", Volume(two_blocks(), moved))
    with pytest.raises(InputError, match=r"seg\.nrrd: does not overlap the CT"):
        labels_on_ct(read_segmentation(path), 22, make_ct(), path)


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        (23, "no label 23; the labels are: 21, 22"),
        (0, "no label 0"),
        ("L3", "without names.*21, 22"),
    ],
)
def test_label_that_is_not_there(tmp_path: Path, label: int | str, problem: str) -> None:
    ct = make_ct()
    path = save(tmp_path / "seg.nii.gz", ct.with_array(two_blocks()))
    with pytest.raises(InputError, match=problem) as caught:
        labels_on_ct(read_segmentation(path), label, ct, path)
    assert "seg.nii.gz" in str(caught.value)


def test_empty_and_tiny(tmp_path: Path) -> None:
    ct = make_ct()
    path = save(tmp_path / "seg.nii.gz", ct.with_array(two_blocks() * 0))
    with pytest.raises(InputError, match="is empty"):
        read_segmentation(path)
    tiny = two_blocks()
    tiny[tiny == 22] = 0
    tiny[6, 6, 6] = 22
    save(path, ct.with_array(tiny))
    with pytest.raises(InputError, match="too few voxels"):
        labels_on_ct(read_segmentation(path), 22, ct, path)


# ---------------------------------------------------------------- .seg.nrrd

TAGS = (
    "Segmentation category and type - 3D Slicer General Anatomy list~"
    "SCT^123037004^Anatomical Structure~SCT^{code}^{name}~^^~Anatomic codes~^^~^^|"
)


def write_layers(path: Path, layers: list[np.ndarray], segments: list[dict[str, str]]) -> None:
    """A segmentation as Slicer lays it out: layers as the first axis, fields per segment."""
    if len(layers) == 1:
        image = sitk.GetImageFromArray(layers[0])
    else:
        image = sitk.GetImageFromArray(np.stack(layers, axis=-1), isVector=True)
    image.SetDirection(volume_to_itk(make_ct()).GetDirection())
    image.SetSpacing(volume_to_itk(make_ct()).GetSpacing())
    image.SetOrigin(volume_to_itk(make_ct()).GetOrigin())
    for number, segment in enumerate(segments):
        for key, value in segment.items():
            image.SetMetaData(f"Segment{number}_{key}", value)
    sitk.WriteImage(image, str(path))


def overlapping(path: Path) -> np.ndarray:
    """Two layers with the same label value; returns the mask of the second."""
    a, b = np.zeros((2, 12, 14, 16), np.uint8)
    a[1:8, 3:9, 4:11] = 1
    b[6:11, 3:9, 4:11] = 1
    write_layers(
        path,
        [a, b],
        [
            {"ID": "Segment_1", "Name": "upper", "LabelValue": "1", "Layer": "0"},
            {
                "ID": "vertebrae_L3",
                "Name": "target",
                "LabelValue": "1",
                "Layer": "1",
                "Tags": TAGS.format(code="36470004", name="Third lumbar vertebra"),
            },
        ],
    )
    return b == 1


@pytest.mark.parametrize("label", ["L3", "l3", "L3 vertebra", "vertebrae_L3", "target", "TARGET"])
@pytest.mark.parametrize("kind", ["vector", "list"])
def test_layers(tmp_path: Path, label: str, kind: str) -> None:
    path = tmp_path / "spine.seg.nrrd"
    mask = overlapping(path)
    content = path.read_bytes().replace(b"kinds: vector", f"kinds: {kind}".encode(), 1)
    path.write_bytes(content)
    labels, value, names = labels_on_ct(read_segmentation(path), label, make_ct(), path)
    np.testing.assert_array_equal(labels.array == value, mask)
    assert names[value] == "target"
    assert set(np.unique(labels.array)) == {0, 1, 2}  # both are there, told apart


@pytest.mark.parametrize("field", ["LabelValue", "Layer"])
def test_a_field_that_is_no_number_is_refused(tmp_path: Path, field: str) -> None:
    path = tmp_path / "spine.seg.nrrd"
    segment = {"ID": "L3", "Name": "L3", "LabelValue": "1", "Layer": "0"} | {field: "one"}
    write_layers(path, [two_blocks()], [segment])
    with pytest.raises(InputError, match=f"'one' as Segment0_{field}, not a whole number"):
        read_segmentation(path)


def test_layers_by_number_is_ambiguous(tmp_path: Path) -> None:
    path = tmp_path / "spine.seg.nrrd"
    overlapping(path)
    with pytest.raises(InputError, match="label 1 for upper, target; choose by name"):
        labels_on_ct(read_segmentation(path), 1, make_ct(), path)


def test_absent_segment_lists_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "spine.seg.nrrd"
    overlapping(path)
    with pytest.raises(InputError, match=r"1 \(upper\), 1 \(target\) \(did you mean") as caught:
        labels_on_ct(read_segmentation(path), "targt", make_ct(), path)
    assert "spine.seg.nrrd" in str(caught.value)
    with pytest.raises(InputError, match="no label 7"):
        labels_on_ct(read_segmentation(path), 7, make_ct(), path)


def test_layer_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "spine.seg.nrrd"
    segment = {"ID": "a", "Name": "L3", "LabelValue": "21", "Layer": "1"}
    write_layers(path, [two_blocks()], [segment])
    with pytest.raises(InputError, match="layer"):
        read_segmentation(path)


def test_what_we_write_is_read_back(tmp_path: Path) -> None:
    ct, path = make_ct(), tmp_path / "out.seg.nrrd"
    write_segmentation(path, ct.with_array(two_blocks()), {21: "L2", 22: "L3"})
    labels, value, names = labels_on_ct(read_segmentation(path), "L3", ct, path)
    assert (value, names) == (22, {21: "L2", 22: "L3"})
    np.testing.assert_array_equal(labels.array, two_blocks())


def test_segmentation_of_slicer(tmp_path: Path) -> None:
    """Slicer's own storage node writes two overlapping segments; ours is read by it in turn."""
    if find_spec("slicer") is None:
        pytest.skip("slicer-core is not installed")
    ct = make_ct()
    masks = [two_blocks() == 21, np.zeros((12, 14, 16), bool)]
    masks[1][3:9, 4:10, 5:12] = True
    for number, mask in enumerate(masks):
        write_volume_nifti(ct.with_array(mask.astype(np.uint8)), tmp_path / f"{number}.nii.gz")
        np.save(tmp_path / f"{number}.npy", mask.astype(np.uint8))
    np.save(tmp_path / "matrix.npy", np.diag([-1.0, -1, 1, 1]) @ OBLIQUE)
    write_segmentation(tmp_path / "ours.seg.nrrd", ct.with_array(two_blocks()), {22: "L3"})
    script = textwrap.dedent(
        """
        import numpy as np, slicer, vtk
        from vtk.util.numpy_support import numpy_to_vtk
        scene = slicer.vtkMRMLScene()
        node = slicer.vtkMRMLSegmentationNode()
        scene.AddNode(node)
        ijk_to_ras = vtk.vtkMatrix4x4()
        ijk_to_ras.DeepCopy(np.load("matrix.npy").ravel().tolist())
        for number, name in enumerate(["L2", "L3 vertebra"]):
            mask = np.load(f"{number}.npy")
            image = slicer.vtkOrientedImageData()
            image.SetDimensions(*mask.shape[::-1])
            image.GetPointData().SetScalars(numpy_to_vtk(mask.ravel(), deep=True))
            image.SetImageToWorldMatrix(ijk_to_ras)
            segment = slicer.vtkSegment()
            segment.SetName(name)
            segment.AddRepresentation("Binary labelmap", image)
            node.GetSegmentation().AddSegment(segment, f"Segment_{number}")
        storage = slicer.vtkMRMLSegmentationStorageNode()
        scene.AddNode(storage)
        storage.SetFileName("slicer.seg.nrrd")
        assert storage.WriteData(node)
        back = slicer.vtkMRMLSegmentationNode()
        scene.AddNode(back)
        storage.SetFileName("ours.seg.nrrd")
        assert storage.ReadData(back)
        ids = [back.GetSegmentation().GetNthSegmentID(n) for n in range(2)]
        print([back.GetSegmentation().GetSegment(i).GetName() for i in ids])
        """
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "['label 21', 'L3']" in done.stdout
    path = tmp_path / "slicer.seg.nrrd"
    segmentation = read_segmentation(path)
    assert len(segmentation.array) == 2  # they overlap, so there are two layers
    labels, value, _ = labels_on_ct(segmentation, "L3", ct, path)
    np.testing.assert_array_equal(labels.array == value, masks[1])
    labels, value, _ = labels_on_ct(segmentation, "L2", ct, path)
    np.testing.assert_array_equal(labels.array == value, masks[0])
