"""Several vertebrae registered together: order, overlaps, absent ones, motions, files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from RadGSRegLib import cli
from RadGSRegLib.cases import labels_of, read_registration_json
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array, affine, invert_rigid, transform_points
from RadGSRegLib.multilevel import (
    SpineRegistration,
    bounds,
    register_vertebrae,
)
from RadGSRegLib.multilevel.conduct import _as_a_row
from RadGSRegLib.multilevel.fitting import Together
from RadGSRegLib.multilevel.order import in_order, out_of_order, overlap_share
from RadGSRegLib.registration import Registration
from RadGSRegLib.simulation import (
    SimulatedCase,
    SimulationParameters,
    simulate_case,
    simulate_phantom_case,
    write_simulated_case,
)

LEVELS = "L2,L3,L4"
PARAMETERS = SimulationParameters.preset("realistic").with_field(250.0, 244)


@pytest.fixture(scope="module")
def simulated() -> SimulatedCase:
    return simulate_phantom_case(81700, PARAMETERS, spacing_mm=2.0, field="trunk")


@pytest.fixture(scope="module")
def spine(simulated: SimulatedCase) -> SpineRegistration:
    return register_vertebrae(simulated.case, labels_of(simulated.case, LEVELS))


def true_pose(simulated: SimulatedCase, label: int) -> Array:
    truth = simulated.truth
    own = truth["ct_to_world"] if label == truth["label"] else truth["neighbours"][str(label)]
    return np.array(own)


def mtre_mm(simulated: SimulatedCase, label: int, pose: Array) -> float:
    points = replace(simulated.case, label=label).surface_ct
    apart = transform_points(pose, points) - transform_points(true_pose(simulated, label), points)
    return float(np.linalg.norm(apart, axis=1).mean())


def test_each_of_three_vertebrae_is_registered_and_ok(
    simulated: SimulatedCase, spine: SpineRegistration
) -> None:
    assert [spine.name(label) for label in spine.levels] == ["L2", "L3", "L4"]
    assert spine.status == "ok"
    for label, done in spine.levels.items():
        assert mtre_mm(simulated, label, done.ct_to_world) < 0.5
        assert done.quality["own_share"] > bounds_own()
    assert spine.joint_covariance.shape == (18, 18)
    assert np.linalg.eigvalsh(spine.joint_covariance).min() > 0.0
    assert spine.case_of(21).views[0].center_px is None
    assert spine.case_of(simulated.case.label) is spine.case


def bounds_own() -> float:
    from RadGSRegLib.registration import bounds as of_registration

    return of_registration.LEAST_OWN_SHARE


def test_a_vertebra_that_the_x_rays_lack_is_never_ok(simulated: SimulatedCase) -> None:
    known = simulated.case
    array = np.array(known.ct.array, dtype=np.float32)
    near = ndimage.binary_dilation(known.labels.array == 21, iterations=2)
    array[near & np.isin(known.labels.array, (0, 21)) & (array > 40.0)] = 40.0
    names = dict(known.label_names)
    without = simulate_case(
        known.ct.with_array(array), known.labels, known.label, PARAMETERS, 81700, label_names=names
    )
    case = replace(without.case, ct=known.ct)
    spine = register_vertebrae(case, labels_of(case, LEVELS))
    absent = spine.levels[21]
    assert absent.status != "ok"
    assert absent.quality["own_share"] < 0.0
    # Those beside it are where they are.
    assert mtre_mm(without, 23, spine.levels[23].ct_to_world) < 1.0


def test_nothing_is_ok_where_the_first_vertebra_is_not_sure(simulated: SimulatedCase) -> None:
    case = simulated.case
    step = np.array([0.0, 0.0, 35.0])
    start = true_pose(simulated, case.label)
    start[:3, 3] += start[:3, :3] @ step
    views = tuple(replace(view, center_px=None) for view in case.views)
    spine = register_vertebrae(replace(case, views=views), labels_of(case, LEVELS), start)
    for label, done in spine.levels.items():
        assert done.status != "ok" or mtre_mm(simulated, label, done.ct_to_world) < 2.0


def test_what_an_x_ray_does_not_show_is_left_out(simulated: SimulatedCase) -> None:
    view = simulated.case.views[0]
    surface = transform_points(
        true_pose(simulated, 21), replace(simulated.case, label=21).surface_ct
    )
    row = int(view.camera.project(surface)[:, 1].mean())
    intrinsic = view.camera.intrinsic.copy()
    intrinsic[1, 2] -= row
    camera = replace(view.camera, intrinsic=intrinsic, rows=view.camera.rows - row)
    column, click = view.center_px or (0.0, 0.0)
    cut = replace(view, pixels=view.pixels[row:], camera=camera, center_px=(column, click - row))
    case = replace(simulated.case, views=(cut, *simulated.case.views[1:]))
    spine = register_vertebrae(case, labels_of(case, LEVELS))
    assert list(spine.levels) == [22, 23]
    assert list(spine.left_out) == [21]
    assert spine.left_out[21].endswith("% of L2")


def test_labels_that_are_swapped_are_refused(simulated: SimulatedCase) -> None:
    case = simulated.case
    names = {**case.label_names, 21: "L3", 22: "L2"}
    with pytest.raises(InputError, match="L3 lies above L2 in the CT"):
        in_order(replace(case, label_names=names), [21, 22, 23])
    nameless = replace(case, label_names={})
    assert in_order(nameless, [23, 21, 22]) == [21, 22, 23]


def test_which_labels_a_list_means(simulated: SimulatedCase) -> None:
    case = simulated.case
    assert labels_of(case, "L3, vertebrae_L2,22") == [22, 21]
    every = [case.label_names[label] for label in labels_of(case, "ALL")]
    assert "S1" not in every
    assert {"L1", "L2", "L3", "L4", "L5"} <= set(every)
    with pytest.raises(InputError, match='"L9" is no label'):
        labels_of(case, "L3,L9")
    with pytest.raises(InputError, match="between two commas"):
        labels_of(case, "L3,,L4")


def held(spine: SpineRegistration, poses: dict[int, Array]) -> dict[int, Registration]:
    done = Together(None, None, np.eye(18), 0.0)  # type: ignore[arg-type]
    answers = {
        label: replace(level, ct_to_world=poses[label]) for label, level in spine.levels.items()
    }
    return _as_a_row(spine.case, answers, done)


def test_vertebrae_in_one_another_or_in_another_order_are_not_ok(spine: SpineRegistration) -> None:
    poses = {label: level.ct_to_world for label, level in spine.levels.items()}
    assert {level.status for level in held(spine, poses).values()} == {"ok"}
    assert overlap_share(spine.case, poses, 21, 22) < 0.03
    sunk = dict(poses)
    step = spine.levels[22].centre_ct - spine.levels[21].centre_ct
    sunk[21] = poses[21] @ affine(np.eye(3), 0.4 * step)
    assert overlap_share(spine.case, sunk, 21, 22) > bounds.MOST_OVERLAP
    said = held(spine, sunk)
    assert [said[label].status for label in (21, 22, 23)] == ["uncertain", "uncertain", "ok"]
    assert "L2 and L3 would lie in one another" in said[21].reason
    swapped = {
        **poses,
        21: poses[22] @ affine(np.eye(3), step),
        22: poses[21] @ affine(np.eye(3), -step),
    }
    centres = [level.centre_ct for level in spine.levels.values()]
    assert set(out_of_order(centres, list(swapped.values()))) >= {0, 1}
    assert "ok" not in {held(spine, swapped)[label].status for label in (21, 22)}


def test_what_has_not_settled_is_not_ok(spine: SpineRegistration) -> None:
    done = Together(None, None, np.eye(18), 0.8)  # type: ignore[arg-type]
    said = _as_a_row(spine.case, spine.levels, done)
    assert {level.status for level in said.values()} == {"uncertain"}


@pytest.fixture(scope="module")
def written(simulated: SimulatedCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    write_simulated_case(simulated, folder / "case")
    code = cli.main(
        [
            "register",
            str(folder / "case/case.json"),
            "--labels",
            "L3,L4",
            "--out",
            str(folder / "out"),
        ]
    )
    assert code == 0
    return folder


def test_each_vertebra_has_a_folder_in_the_form_of_one(
    written: Path, simulated: SimulatedCase
) -> None:
    out = written / "out"
    record = json.loads((out / "spine.json").read_text())
    assert record["schema"] == "radgsreg/spine"
    assert record["status"] == "ok"
    assert list(record["levels"]) == ["L3", "L4"]
    for name, level in record["levels"].items():
        own = read_registration_json(out / level["folder"] / "registration.json")
        np.testing.assert_allclose(own.ct_to_world, level["ct_to_world"])
        files = {path.name for path in (out / level["folder"]).iterdir()}
        assert files >= {
            "registration.json", "ct_to_world.tfm", "reconstruction.nii.gz", "gaussians.ply",
            "report.html", "overlay_AP.png", "overlay_LA.png",
        }, name  # fmt: skip
    (motion,) = record["relative_motions"]
    upper, lower = (true_pose(simulated, label) for label in (22, 23))
    true_motion = invert_rigid(lower) @ upper
    centre = replace(simulated.case, label=22).centre_ct
    turn_deg = Rotation.from_matrix(true_motion[:3, :3]).as_rotvec(degrees=True)
    np.testing.assert_allclose(motion["turn_deg"], turn_deg, atol=1.0)
    shift_mm = transform_points(true_motion, centre[None])[0] - centre
    np.testing.assert_allclose(motion["shift_mm"], shift_mm, atol=0.8)
    page = (out / "report.html").read_text()
    assert 'href="L3/report.html"' in page
    assert page.count("data:image/png;base64") >= 2
    assert (out / "spine_ct_to_world.h5").stat().st_size > 1000


@pytest.mark.parametrize(
    "more",
    [
        ["--method", "published"],
        ["--model", "x.safetensors"],
        ["--by-level"],
        ["--standardize"],
    ],
)
def test_what_is_of_one_vertebra_is_refused(
    written: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    case = written / "case/case.json"
    out = written / "other"
    (written / "x.safetensors").write_bytes(b"")
    more = [str(written / m) if m.startswith("x.") else m for m in more]
    code = cli.main(["register", str(case), "--labels", "all", "--out", str(out), *more])
    assert code == 2
    assert "--labels" in capsys.readouterr().err
    assert not out.exists()


def test_a_later_result_replaces_one_and_a_strangers_file_is_refused(
    written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case, out = str(written / "case/case.json"), written / "again"
    assert cli.main(["register", case, "--labels", "L3,L4", "--out", str(out)]) == 0
    # The case's own vertebra is always among them.
    assert cli.main(["register", case, "--labels", "L2", "--out", str(out)]) == 0
    assert list(json.loads((out / "spine.json").read_text())["levels"]) == ["L2", "L3"]
    assert not (out / "L4").exists()
    (out / "L3" / "notes.txt").write_text("mine")
    assert cli.main(["register", case, "--labels", "L2", "--out", str(out)]) == 2
    assert "notes.txt" in capsys.readouterr().err
