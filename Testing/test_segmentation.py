"""Segment from a click: one vertebra, whole, apart from its neighbours; bad points refused."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from RadGSRegLib import cli
from RadGSRegLib.cases import read_ct, read_itk, volume_from_itk, volume_to_itk
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import Volume, exp_se3, transform_points
from RadGSRegLib.phantom import LABELS, Phantom, make_phantom, random_poses, random_spine
from RadGSRegLib.segmentation import VertebraSegmentation, pose, segment_vertebra


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    spine = random_spine(21)
    return make_phantom(spine, 2.0, ["L1", "L2", "L3"], moves=random_poses(spine, 21))


def turned(phantom: Phantom) -> Phantom:
    """The same voxels with other axes: an oblique grid, and the arrays flipped and turned."""
    to_other = exp_se3(np.array([0.05, 0.1, -0.08, 40.0, -300.0, 900.0]))

    def move(volume: Volume) -> Volume:
        array = volume.array[::-1].transpose(2, 0, 1)
        # New (i, j, k) are the old (j, -k, i).
        index = np.zeros((4, 4))
        index[1, 0] = index[3, 3] = index[0, 2] = 1.0
        index[2, 1], index[2, 3] = -1.0, volume.array.shape[0] - 1.0
        return Volume(np.ascontiguousarray(array), to_other @ volume.index_to_physical @ index)

    poses = {name: to_other @ matrix for name, matrix in phantom.poses.items()}
    return Phantom(
        move(phantom.ct), move(phantom.labels), move(phantom.subregions), phantom.label_names, poses
    )


@pytest.fixture
def brief_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """One template and a third of the rotations: for what does not depend on a thorough search."""
    monkeypatch.setattr(pose, "_LEVELS_TRIED", ("L2",))
    upright = [angles for angles in pose._COARSE_DEG if abs(angles[0]) < 20 and angles[2] == 0.0]
    monkeypatch.setattr(pose, "_COARSE_DEG", tuple(upright))


@pytest.fixture
def one_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """One template of four, in every rotation."""
    monkeypatch.setattr(pose, "_LEVELS_TRIED", ("L2",))


@pytest.fixture(scope="module")
def found(phantom: Phantom) -> VertebraSegmentation:
    return segment_vertebra(phantom.ct, phantom.poses["L2"][:3, 3] + [6.0, -5.0, 4.0])


def test_the_whole_vertebra_and_no_other(phantom: Phantom, found: VertebraSegmentation) -> None:
    mask, labels = found.mask.array, phantom.labels.array
    assert mask.dtype == bool
    assert dice(mask, labels == LABELS["L2"]) > 0.88
    for other in ("L1", "L3"):
        assert mask[labels == LABELS[other]].mean() < 0.03
    behind = (phantom.subregions.array < 49) & (labels == LABELS["L2"])
    assert mask[behind].mean() > 0.75
    assert found.status == "ok"
    assert found.notes == ()


@pytest.mark.usefixtures("brief_search")
def test_axes_do_not_matter_and_the_same_click_gives_the_same_mask(phantom: Phantom) -> None:
    moved = turned(phantom)
    point = transform_points(moved.poses["L2"], [[3.0, 0.0, -3.0]])[0]
    first = segment_vertebra(moved.ct, point)
    assert dice(first.mask.array, moved.labels.array == LABELS["L2"]) > 0.88
    again = segment_vertebra(moved.ct, point)
    assert (first.mask.array == again.mask.array).all()


@pytest.mark.usefixtures("one_level")
@pytest.mark.parametrize("degrees", [-45.0, 45.0])
def test_a_patient_may_lie_turned(phantom: Phantom, degrees: float) -> None:
    """About the long axis, as on a wedge: the vertebra is found all the same."""
    turn = exp_se3(np.array([0.0, 0.0, np.radians(degrees), 0.0, 0.0, 0.0]))
    ct = Volume(phantom.ct.array, turn @ phantom.ct.index_to_physical)
    point = transform_points(turn @ phantom.poses["L2"], [[3.0, 0.0, -3.0]])[0]
    mask = segment_vertebra(ct, point).mask.array
    assert dice(mask, phantom.labels.array == LABELS["L2"]) > 0.9


@pytest.mark.usefixtures("brief_search")
def test_a_vertebra_cut_by_the_edge_is_flagged(phantom: Phantom) -> None:
    center = phantom.poses["L3"][:3, 3]
    last = transform_points(phantom.ct.physical_to_index, center[None])[0]
    lower = [0, 0, int(last[2]) - 4]  # the lower half of the body is missing
    ct, labels = (v.crop(lower, v.size) for v in (phantom.ct, phantom.labels))
    cut = segment_vertebra(ct, center + [0.0, 0.0, 3.0])
    assert cut.status == "uncertain"
    assert any("edge of the CT" in note for note in cut.notes)
    assert dice(cut.mask.array, labels.array == LABELS["L3"]) > 0.75


@pytest.mark.parametrize(
    ("local", "reason"),
    [
        ((0.0, 27.0, 0.0), "in the vertebra's canal or arch"),
        ((400.0, 0.0, 0.0), "outside the CT"),
        ((float("nan"), 0.0, 0.0), "three finite numbers"),
    ],
)
def test_points_elsewhere_are_refused(
    phantom: Phantom, local: tuple[float, float, float], reason: str
) -> None:
    point = transform_points(phantom.poses["L2"], [local])[0]
    with pytest.raises(InputError, match=reason):
        segment_vertebra(phantom.ct, point)


@pytest.mark.usefixtures("brief_search")
def test_air_and_fat_are_refused_at_once(phantom: Phantom) -> None:
    for hu, reason in ((-1000, "air"), (-100, "fat"), (45, "no vertebra can be made out")):
        ct = phantom.ct.with_array(np.full(phantom.ct.array.shape, hu, dtype=np.int16))
        with pytest.raises(InputError, match=reason):
            segment_vertebra(ct, phantom.poses["L2"][:3, 3])


def test_it_stops_when_asked_to(phantom: Phantom) -> None:
    said: list[float] = []

    def stop(fraction: float, message: str) -> bool:
        said.append(fraction)
        return fraction < 0.1

    with pytest.raises(Cancelled):
        segment_vertebra(phantom.ct, phantom.poses["L2"][:3, 3], progress=stop)
    assert said == sorted(said)


def in_metres(path: Path) -> None:
    """Write a NIfTI again with metres as its unit, which is converted and noted."""
    image = nib.load(path)
    moved = nib.Nifti1Image(
        np.asarray(image.dataobj), np.diag([1e-3, 1e-3, 1e-3, 1]) @ image.affine
    )
    moved.header.set_xyzt_units("meter")
    nib.save(moved, path)


def test_the_command_writes_a_label_map_or_nothing(
    phantom: Phantom,
    found: VertebraSegmentation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import RadGSRegLib.segmentation

    asked: list[list[float]] = []

    def known(ct: Volume, point: list[float], progress: object) -> VertebraSegmentation:
        asked.append(list(point))
        return found

    monkeypatch.setattr(RadGSRegLib.segmentation, "segment_vertebra", known)
    ct, out = tmp_path / "ct.nii.gz", tmp_path / "mask.nii.gz"
    sitk.WriteImage(volume_to_itk(phantom.ct), str(ct))
    words = ["segment", str(ct), "--point", "-1.5,2,3e1", "--out", str(out), "--label", "21"]
    assert cli.main(words) == 0
    assert asked == [[-1.5, 2.0, 30.0]]
    written = volume_from_itk(read_itk(out))
    assert ((written.array == 21) == found.mask.array).all()
    assert np.allclose(written.index_to_physical, phantom.ct.index_to_physical, atol=1e-4)
    assert "segmented a vertebra" in capsys.readouterr().out
    # What was noted while reading is told too.
    in_metres(ct)
    assert cli.main(words) == 0
    assert "is in metres; taken as mm" in capsys.readouterr().out

    before = sorted(tmp_path.iterdir())
    for point, target in (("1,2", "m.nii.gz"), ("1,2,x", "m.nii.gz"), ("1,2,3", "m.txt")):
        words = ["segment", str(ct), "--point", point, "--out", str(tmp_path / target)]
        assert cli.main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith("radgsreg: ")
        assert error.count("\n") == 1
    missing = ["segment", str(ct), "--point", "1,2,3", "--out", str(tmp_path / "no" / "m.nii.gz")]
    assert cli.main(missing) == 2
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_real_vertebra(shared_data: Path) -> None:
    """The benchmark has twenty points; two must do here."""
    ct = read_ct(shared_data / "ct" / "l3_ct.nii.gz")
    truth = volume_from_itk(read_itk(shared_data / "ct" / "l3_vertebrae.nii.gz")).array == 22
    parts = volume_from_itk(read_itk(shared_data / "ct" / "l3_subregions.nii.gz")).array
    body = np.argwhere(truth & (parts == 50))[:, ::-1]
    for voxel in (body[len(body) // 3], body[2 * len(body) // 3]):
        result = segment_vertebra(ct, ct.physical_points(voxel[None].astype(float))[0])
        assert dice(result.mask.array, truth) > 0.88
