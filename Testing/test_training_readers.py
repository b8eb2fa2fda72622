"""Where training data come from: phantoms, CT folders, data sets' layouts, real X-ray cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from test_segmentation import in_metres

from RadGSRegLib.cases import Ledger, volume_to_itk
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import rotation_angle_deg
from RadGSRegLib.phantom import LABELS, Phantom, make_phantom, random_spine
from RadGSRegLib.simulation import simulate_case, write_simulated_case
from RadGSRegLib.training import layouts, readers
from RadGSRegLib.training.samples import SampleOptions
from RadGSRegLib.training.subjects import make_subject
from RadGSRegLib.training.template import EDGE_MM, find_axes, mean_vertebra, template_cloud


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """L2 to L4 at 3 mm; L2 and L4 whole, with room around."""
    return make_phantom(random_spine(8), 3.0, ["L2", "L3", "L4"])


def _write(phantom: Phantom, ct: Path, mask: Path) -> None:
    ct.parent.mkdir(parents=True, exist_ok=True)
    mask.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(volume_to_itk(phantom.ct), str(ct))
    sitk.WriteImage(volume_to_itk(phantom.labels), str(mask))


def test_a_folder_of_cts(phantom, tmp_path):
    _write(phantom, tmp_path / "a_ct.nii.gz", tmp_path / "a_vertebrae.nii.gz")
    (tmp_path / "b_ct.nii.gz").write_bytes(b"without labels: left alone")
    sources = readers.ct_sources(tmp_path)
    names = [source.name for source in sources]
    # Neighbours that the border cuts are left out.
    assert f"a_ct.nii.gz {LABELS['L3']}" in names
    source = sources[names.index(f"a_ct.nii.gz {LABELS['L3']}")]
    subject = source.subject()
    wanted = make_subject(phantom.ct, phantom.labels, LABELS["L3"])
    assert np.allclose(subject.centre_ct, wanted.centre_ct, atol=1e-3)
    assert np.allclose(subject.excess.array, wanted.excess.array, atol=1e-5)
    with pytest.raises(InputError, match="holds no NAME_ct"):
        readers.ct_sources(tmp_path / "none")


def test_what_is_noted_while_reading_is_kept(phantom, tmp_path):
    _write(phantom, tmp_path / "a_ct.nii.gz", tmp_path / "a_vertebrae.nii.gz")
    in_metres(tmp_path / "a_ct.nii.gz")
    ledger = Ledger()
    source = readers.ct_sources(tmp_path, ledger)[0]
    assert ledger.notes == []  # the CT is read when it is needed
    source.subject()
    assert any("a_ct.nii.gz" in note and "metres" in note for note in ledger.notes)


def test_verse20_in_its_own_layout(phantom, tmp_path):
    part = tmp_path / "dataset-01training"
    ct = part / "rawdata" / "sub-verse500" / "sub-verse500_dir-ax_ct.nii.gz"
    place = part / "derivatives" / "sub-verse500"
    _write(phantom, ct, place / "sub-verse500_dir-ax_seg-vert_msk.nii.gz")
    sources = layouts.verse_sources(tmp_path)
    assert [s.name for s in sources] == [s.name for s in layouts.verse_sources(part)]
    assert f"sub-verse500_dir-ax_ct.nii.gz {LABELS['L3']}" in [s.name for s in sources]
    with pytest.raises(InputError, match="layout"):
        layouts.verse_sources(place)


def test_totalsegmentators_data_set_in_its_own_layout(phantom, tmp_path):
    folder = tmp_path / "s0042" / "segmentations"
    _write(phantom, tmp_path / "s0042" / "ct.nii.gz", tmp_path / "spare.nii.gz")
    folder.mkdir()
    labels = np.asarray(phantom.labels.array)
    # As downloaded: a mask for every structure, empty where the CT does not show it.
    names = {f"vertebrae_{level}": LABELS[level] for level in ("T12", "L1", "L2", "L3", "L4", "L5")}
    for name, number in {**names, "sacrum": 26}.items():
        image = volume_to_itk(phantom.labels.with_array((labels == number).astype(np.uint8)))
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    (folder / "liver.nii.gz").write_bytes(b"not looked at")
    sources = layouts.totalsegmentator_sources(tmp_path)
    _write(phantom, tmp_path / "a_ct.nii.gz", tmp_path / "a_vertebrae.nii.gz")
    same = [s.name.removeprefix("a_ct.nii.gz ") for s in readers.ct_sources(tmp_path)]
    assert [s.name for s in sources] == [f"s0042 {number}" for number in same]
    subject = sources[same.index(str(LABELS["L3"]))].subject()
    wanted = make_subject(phantom.ct, phantom.labels, LABELS["L3"])
    assert subject.label == LABELS["L3"]
    assert set(subject.centroids) == set(wanted.centroids)
    assert np.allclose(subject.excess.array, wanted.excess.array, atol=1e-5)
    cut = volume_to_itk(phantom.labels.crop((0, 0, 0), (9, 9, 9)))
    sitk.WriteImage(cut, str(folder / "vertebrae_L5.nii.gz"))
    with pytest.raises(InputError, match=r"vertebrae_L5.*another grid"):
        layouts.totalsegmentator_sources(tmp_path)
    with pytest.raises(InputError, match="TotalSegmentator's layout"):
        layouts.totalsegmentator_sources(folder)


def test_a_totalsegmentator_subject_without_a_lumbar_vertebra_is_passed_over(phantom, tmp_path):
    folder = tmp_path / "s0001" / "segmentations"
    _write(phantom, tmp_path / "s0001" / "ct.nii.gz", folder / "vertebrae_L3.nii.gz")
    empty = phantom.labels.with_array(np.zeros_like(phantom.labels.array))
    sitk.WriteImage(volume_to_itk(empty), str(folder / "vertebrae_L3.nii.gz"))
    with pytest.raises(InputError, match="shows no lumbar vertebra"):
        layouts.totalsegmentator_sources(tmp_path)


def test_ctspine1k_in_its_own_layout(phantom, tmp_path):
    raw = tmp_path / "rawdata"
    _write(
        phantom,
        raw / "volumes" / "COLONOG" / "1.3.6.1.nii.gz",
        raw / "labels" / "COLONOG" / "1.3.6.1_seg.nii.gz",
    )
    (raw / "labels" / "COLONOG" / "lost_seg.nii.gz").write_bytes(b"its CT is not there")
    sources = layouts.ctspine1k_sources(tmp_path)
    assert f"1.3.6.1.nii.gz {LABELS['L3']}" in [s.name for s in sources]
    assert [s.name for s in layouts.ctspine1k_sources(raw)] == [s.name for s in sources]
    with pytest.raises(InputError, match="CTSpine1K's layout"):
        layouts.ctspine1k_sources(raw / "labels")


def test_phantoms_are_kept_and_know_their_axes(tmp_path, monkeypatch):
    calls = []

    def build(spine: object, spacing: float, region: str) -> Phantom:
        calls.append(1)
        return make_phantom(spine, 4.0, "lumbar")

    monkeypatch.setattr(readers, "make_phantom", build)
    sources = readers.phantom_sources(1, 3, folder=tmp_path)
    assert len(sources) == 5
    first = sources[4].subject()
    again = sources[4].subject()
    assert len(calls) == 1
    assert np.array_equal(first.excess.array, again.excess.array)
    # L5 leans by tens of degrees in the CT, and its axes say so.
    assert 8 < rotation_angle_deg(first.anchors_to_centred) < 60


def _real(phantom: Phantom, folder: Path, seed: int) -> None:
    simulated = simulate_case(phantom.ct, phantom.labels, LABELS["L3"], "realistic", seed)
    write_simulated_case(simulated, folder)


def test_real_cases_give_samples_with_their_truth(phantom, tmp_path):
    _real(phantom, tmp_path / "one", 1)
    (case,) = readers.real_sources(tmp_path)
    subject = case.subject()
    options = SampleOptions()
    sample = case.sample(subject, options, 7)
    assert sample.images.shape == (2, 128, 128)
    assert np.array_equal(sample.images, case.sample(subject, options, 7).images)
    # The vertebra's centre is where the truth has it, in the box that is off by up to 8 mm.
    offset = sample.centred_to_box[:3, 3].numpy()
    assert 0 < np.linalg.norm(offset) <= 8.01
    target, intrinsic = sample.targets[0].numpy(), sample.intrinsics[0].numpy()
    middle = target.sum(0) @ np.arange(128) / target.sum()
    seen = intrinsic @ (sample.extrinsics[0].numpy() @ np.append(offset, 1.0))[:3]
    assert middle == pytest.approx(seen[0] / seen[2], abs=12)
    truth = tmp_path / "one" / "truth.json"
    content = json.loads(truth.read_text())
    truth.write_text(json.dumps({**content, "ct_to_world": [[2, 0], [0, 1]]}))
    with pytest.raises(InputError, match="rigid"):
        readers.real_sources(tmp_path)
    with pytest.raises(InputError, match=r"truth\.json"):
        readers.real_sources(tmp_path / "one")


def test_folds_never_split_a_patient():
    groups = list("aaabbcccddeefg")
    parts = readers.folds(groups)
    assert sorted(i for part in parts for i in part) == list(range(len(groups)))
    for part in parts:
        inside = {groups[i] for i in part}
        others = {groups[i] for other in parts if other is not part for i in other}
        assert not inside & others
    assert parts == readers.folds(groups)
    with pytest.raises(InputError, match="folds"):
        readers.folds(list("aabb"))


def test_the_mean_vertebra_and_its_axes(phantom):
    subjects = [
        make_subject(phantom.ct, phantom.labels, LABELS[level]) for level in ("L2", "L3", "L4")
    ]
    known = []
    for subject, level in zip(subjects, ("L2", "L3", "L4"), strict=True):
        axes = np.eye(4)
        axes[:3, :3] = phantom.poses[level][:3, :3]
        known.append(subject.with_axes(axes))
    mean = mean_vertebra(known)
    extent = np.array(mean.size) * mean.spacing
    assert np.allclose(extent, EDGE_MM)
    own = subjects[1].excess
    mass = float(own.array.sum() * own.spacing.prod())
    total = float(mean.array.sum() * mean.spacing.prod())
    assert total == pytest.approx(mass, rel=0.25)
    cloud = template_cloud(mean, 80)
    assert float(cloud.mass()) == pytest.approx(total, rel=0.2)
    # Told nothing, the vertebra's lean is found again.
    found = find_axes(subjects[1], mean)
    off = np.linalg.inv(found) @ known[1].anchors_to_centred
    assert rotation_angle_deg(off) < 6
    assert np.linalg.norm(off[:3, 3]) < 4
