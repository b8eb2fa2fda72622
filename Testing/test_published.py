"""The published order: X-rays, Gaussians, volume, pose; what it needs when, and what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import registration_scenes as scenes

from RadGSRegLib import cli
from RadGSRegLib.cases import Case, read_registration_json
from RadGSRegLib.errors import InputError
from RadGSRegLib.measures import mtre, rotation_error_deg
from RadGSRegLib.methods import register_published
from RadGSRegLib.networks import RadGSReg, load_model, save_model, shipped_weights
from RadGSRegLib.pipeline import PipelineOptions
from RadGSRegLib.reconstruction import Reconstruction
from RadGSRegLib.registration import Registration
from RadGSRegLib.simulation import write_simulated_case
from RadGSRegLib.system import Progress

pytestmark = pytest.mark.usefixtures("brief_fit")

QUICK = PipelineOptions(scenes.QUICK)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    scenes.one_thread()


@lru_cache(maxsize=1)
def model() -> RadGSReg:
    """The weights that come with the program."""
    weights = shipped_weights()
    assert weights is not None
    return load_model(weights)


class LateCase(Case):
    """A case whose CT and labels cannot be had before they have arrived."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("ct", "labels") and not object.__getattribute__(self, "__dict__").get("here"):
            raise AssertionError(f"{name} is asked for too early")
        return super().__getattribute__(name)

    def arrive(self) -> None:
        self.__dict__["here"] = True


def test_the_volume_is_there_before_the_ct_is() -> None:
    known = scenes.simulated().case
    late = LateCase(known.ct, known.labels, known.label, known.views)
    order: list[str] = []

    def reconstructed(made: Reconstruction) -> None:
        assert made.volume.array.max() > 0.0
        assert len(made.cloud) > 100
        order.append("volume")
        late.arrive()

    done = register_published(
        late,
        model(),
        options=QUICK,
        refine=False,
        on_reconstructed=reconstructed,
        on_registered=lambda registration: order.append("pose"),
    )
    assert order == ["volume", "pose"]
    assert done.volume_world.array.max() > 0.0
    # The stand-in can fail: ours asks for the CT at once.
    with pytest.raises(AssertionError, match="too early"):
        LateCase(known.ct, known.labels, known.label, known.views).centre_ct  # noqa: B018


def test_another_ct_gives_the_same_volume_and_another_pose() -> None:
    case = scenes.simulated().case
    moved = case.ct.with_array(np.roll(case.ct.array, 6, axis=2))
    shifted = replace(case, ct=moved)
    first, second = (
        register_published(c, model(), options=QUICK, refine=False) for c in (case, shifted)
    )
    assert (first.volume_world.array == second.volume_world.array).all()
    assert (first.volume_world.index_to_physical == second.volume_world.index_to_physical).all()
    for own, other in zip(first.cloud_world.tensors, second.cloud_world.tensors, strict=True):
        assert (own == other).all()
    assert not np.allclose(first.published["ct_to_world"], second.published["ct_to_world"])


def test_the_pose_is_refined_and_both_are_compared() -> None:
    simulated = scenes.simulated()
    poses: list[np.ndarray] = []
    report = Progress(on_pose=poses.append)
    done = register_published(simulated.case, model(), options=QUICK, progress=report)
    registration, published = done.registration, done.published
    assert registration.status == "ok"
    assert scenes.error_mm(simulated, registration.ct_to_world) < 1.0
    points = simulated.case.surface_ct
    away = mtre(points, published["ct_to_world"], registration.ct_to_world)
    assert published["distance_mm"] == pytest.approx(away)
    assert away > 0.2
    turned = rotation_error_deg(published["ct_to_world"], registration.ct_to_world)
    assert published["distance_deg"] == pytest.approx(turned)
    assert registration.quality["networks_distance_mm"] == published["distance_mm"]
    assert registration.quality["networks_distance_deg"] == published["distance_deg"]
    assert registration.parameters["method"] == "published"
    assert list(registration.timing_s)[:2] == ["reconstruct", "align"]
    assert registration.timing_s["total"] >= published["seconds"] > 0.0
    # The networks' pose is shown first, the best of the refinement last.
    assert (poses[0] == published["ct_to_world"]).all()
    assert mtre(points, poses[-1], registration.ct_to_world) < 0.5


def test_without_refining_the_pose_is_that_of_the_networks_and_never_ok_for_that() -> None:
    simulated = scenes.simulated()
    told: list[Registration] = []
    done = register_published(
        simulated.case, model(), options=QUICK, refine=False, on_registered=told.append
    )
    registration = done.registration
    assert told == [registration]
    assert (registration.ct_to_world == done.published["ct_to_world"]).all()
    assert scenes.error_mm(simulated, registration.ct_to_world) > 1.0
    assert registration.status != "ok"
    assert registration.reason.endswith("not refined")
    assert "networks_distance_mm" not in registration.quality
    assert set(registration.quality["views"]) == {"AP", "LA"}
    assert registration.quality["disagreement_mm"] > 1.6


def test_without_a_click_the_places_of_the_detector_are_compared() -> None:
    case = scenes.simulated().case
    blind = replace(case, views=tuple(replace(view, center_px=None) for view in case.views))
    done = register_published(blind, model(), options=QUICK)
    assert done.published["places"] >= 1
    assert done.published["nearest_mm"] <= done.published["distance_mm"]


def test_a_start_says_where_to_look_where_no_click_does() -> None:
    simulated = scenes.simulated()
    case = simulated.case
    blind = replace(case, views=tuple(replace(view, center_px=None) for view in case.views))
    start = np.asarray(simulated.truth["start_ct_to_world"])
    done = register_published(blind, model(), start, QUICK, refine=False)
    assert done.published["ct_to_world"].shape == (4, 4)


def test_a_patient_s_model_of_another_vertebra_is_refused(tmp_path: Path) -> None:
    foreign = load_model(shipped_weights() or "")
    foreign.config = replace(foreign.config, patient=True)
    foreign.card = {"data": {"patient": "0123456789abcdef", "label": "L3"}}
    with pytest.raises(InputError, match="trained for another CT"):
        register_published(scenes.simulated().case, foreign, options=QUICK)


# The command


@pytest.fixture(scope="module")
def case_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    return write_simulated_case(scenes.simulated(), folder / "case")


CONFIG = {"registration": {"fine": {"pixel_mm": 1.2, "rounds": 2}, "fine_cloud_mm": 4.5}}


def test_the_command_tells_of_the_volume_and_writes_both_poses(
    case_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "options.json"
    config.write_text(json.dumps({**CONFIG, "method": "published"}))
    out = tmp_path / "out"
    words = ["register", str(case_path), "--out", str(out), "--config", str(config), "--progress"]
    assert cli.main([*words, "--device", "cpu"]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    first = next(n for n, line in enumerate(lines) if "reconstruction" in line)
    poses = [n for n, line in enumerate(lines) if "ct_to_world" in line]
    assert poses
    assert first < min(poses)
    record = read_registration_json(out / "registration.json")
    assert record.parameters["method"] == "published"
    assert record.published["refined"] is True
    assert record.published["distance_mm"] == record.quality["networks_distance_mm"]
    assert "population.safetensors" in record.inputs
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "distance from the networks&#39; pose" in page
    assert "turned against the networks&#39; pose" in page
    assert not list(out.glob(".part*"))


def test_a_recorded_method_is_run_again(case_path: Path, tmp_path: Path) -> None:
    config = tmp_path / "options.json"
    config.write_text(json.dumps(CONFIG))
    words = ["--device", "cpu", "--method", "published", "--no-refine"]
    first = ["register", str(case_path), "--out", str(tmp_path / "first"), *words]
    assert cli.main([*first, "--config", str(config)]) == 3
    given = tmp_path / "first" / "registration.json"
    again = ["register", str(case_path), "--out", str(tmp_path / "again"), "--device", "cpu"]
    assert cli.main([*again, "--config", str(given)]) == 3
    records = [
        read_registration_json(tmp_path / n / "registration.json") for n in ("first", "again")
    ]
    assert records[0].parameters == records[1].parameters
    assert records[1].published["refined"] is False
    assert (records[0].ct_to_world == records[1].ct_to_world).all()


def test_ours_writes_what_it_wrote(case_path: Path, tmp_path: Path) -> None:
    config = tmp_path / "options.json"
    config.write_text(json.dumps(CONFIG))
    words = ["register", str(case_path), "--out", str(tmp_path / "out"), "--config", str(config)]
    assert cli.main([*words, "--device", "cpu"]) == 0
    content = json.loads((tmp_path / "out" / "registration.json").read_text())
    assert "published" not in content
    assert "method" not in content["parameters"]


@pytest.mark.parametrize(
    ("content", "words", "sentence"),
    [
        ({}, ["--no-refine"], "--refine: is of use only with --method published"),
        ({"method": "best"}, [], '"method" is "best"'),
        ({"method": "published", "refine": 1}, [], '"refine" must be true or false'),
        ({}, ["--method", "best"], "invalid choice"),
    ],
)
def test_what_is_refused(
    case_path: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    content: dict[str, Any],
    words: list[str],
    sentence: str,
) -> None:
    config = tmp_path / "options.json"
    config.write_text(json.dumps({**CONFIG, **content}))
    given = ["register", str(case_path), "--out", str(tmp_path / "out"), "--config", str(config)]
    assert cli.main([*given, *words]) == 2
    assert sentence in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_of_another_patient_is_refused_with_nothing_written(
    case_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    foreign = load_model(shipped_weights() or "")
    foreign.config = replace(foreign.config, patient=True)
    path = tmp_path / "else.safetensors"
    save_model(path, foreign, {"data": {"patient": "0123456789abcdef", "label": "L3"}})
    words = ["register", str(case_path), "--out", str(tmp_path / "out"), "--model", str(path)]
    assert cli.main([*words, "--method", "published", "--device", "cpu"]) == 2
    said = capfd.readouterr().err
    assert "else.safetensors: was trained for another CT" in said
    assert not (tmp_path / "out").exists()
