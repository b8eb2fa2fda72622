"""``spine.json``: what is written is read back, nonsense is refused, and its folder is known."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tower import level, spine, tower_case

from RadGSRegLib.cases import (
    LevelRecord,
    OutputFolder,
    SpineRecord,
    files_of_levels,
    level_folders,
    level_names,
    read_spine_json,
    refuse_strangers,
    write_spine_json,
)
from RadGSRegLib.commands.running import results_folder
from RadGSRegLib.errors import InputError
from RadGSRegLib.multilevel import relative_motions
from RadGSRegLib.system import Interrupt


def record(**changes: Any) -> SpineRecord:
    made = spine(tower_case(), {23: "uncertain"})
    levels = {
        made.name(label): LevelRecord(
            label, r.status, r.reason, r.ct_to_world, r.covariance, 0.4, made.name(label)
        )
        for label, r in made.levels.items()
    }
    whole = SpineRecord(
        levels,
        "L3",
        relative_motions(made),
        made.joint_covariance,
        {"total": 5.0},
        {"case.json": "ab"},
        {"radgsreg": "1"},
        {"seed": 3},
    )
    return replace(whole, **changes)


def changed(name: str, **changes: Any) -> SpineRecord:
    whole = record()
    return replace(whole, levels={**whole.levels, name: replace(whole.levels[name], **changes)})


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    written = record()
    write_spine_json(written, tmp_path / "spine.json")
    content = json.loads((tmp_path / "spine.json").read_text())
    assert (content["schema"], content["version"]) == ("radgsreg/spine", 1)
    assert content["status"] == "uncertain"
    assert content["levels"]["L4"]["label"] == 23
    assert content["joint_covariance"]["order"] == ["L2", "L3", "L4"]
    assert [(m["upper"], m["lower"]) for m in content["relative_motions"]] == [
        ("L2", "L3"),
        ("L3", "L4"),
    ]
    assert [m["status"] for m in content["relative_motions"]] == ["ok", "uncertain"]
    read = read_spine_json(tmp_path / "spine.json")
    assert read.status == "uncertain"
    assert list(read.levels) == ["L2", "L3", "L4"]
    for key in ("begun_with", "timing_s", "inputs", "software", "parameters"):
        assert getattr(read, key) == getattr(written, key)
    assert np.array_equal(read.joint_covariance, written.joint_covariance)
    for name, again in read.levels.items():
        other = written.levels[name]
        assert (again.status, again.reason, again.folder) == (
            other.status,
            other.reason,
            other.folder,
        )
        assert np.allclose(again.ct_to_world, other.ct_to_world)
        assert np.allclose(again.covariance, other.covariance)
    for again, other in zip(read.relative_motions, written.relative_motions, strict=True):
        for key, value in vars(other).items():
            assert np.allclose(getattr(again, key), value), key


def test_the_order_of_the_covariance_is_as_it_says(tmp_path: Path) -> None:
    joint = np.diag(np.arange(1.0, 19.0))
    write_spine_json(record(joint_covariance=joint), tmp_path / "spine.json")
    content = json.loads((tmp_path / "spine.json").read_text())
    content["joint_covariance"]["order"] = ["L4", "L2", "L3"]
    (tmp_path / "spine.json").write_text(json.dumps(content))
    read = read_spine_json(tmp_path / "spine.json")
    assert read.joint_covariance is not None
    assert np.diag(read.joint_covariance).tolist() == [*range(7, 19), *range(1, 7)]


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    made = spine(tower_case(), {22: "failed"})
    unknown = np.full((18, 18), np.inf)
    failed = replace(made, joint_covariance=np.full((18, 18), np.nan))
    whole = changed("L3", status="failed", covariance=np.full((6, 6), np.nan))
    whole = replace(whole, joint_covariance=unknown, relative_motions=relative_motions(failed))
    write_spine_json(whole, tmp_path / "spine.json")
    assert not re.search("NaN|Infinity", (tmp_path / "spine.json").read_text())
    read = read_spine_json(tmp_path / "spine.json")
    assert read.status == "failed"
    assert read.joint_covariance is None
    assert read.levels["L3"].covariance is None
    assert np.isnan(read.relative_motions[0].turn_sigma_deg).all()


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda: record(begun_with="L5"), "L5"),
        (lambda: record(joint_covariance=np.eye(6)), r"\(18, 18\)"),
        (lambda: changed("L4", status="ok", covariance=None), "L4"),
        (lambda: replace(changed("L4", status="ok"), joint_covariance=None), "finite covariance"),
        (lambda: changed("L4", status="good"), "good"),
        (lambda: changed("L4", ct_to_world=2.0 * np.eye(4)), "not rigid"),
        (lambda: changed("L4", folder="../L4"), "no name for a folder"),
        (lambda: changed("L4", folder="l3"), "share"),
        (lambda: changed("L4", label=22), "share"),
        (
            lambda: record(relative_motions=[replace(record().relative_motions[0], upper=9)]),
            "not there",
        ),
    ],
)
def test_nonsense_is_not_written(
    broken: Callable[[], SpineRecord], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=says):
        write_spine_json(broken(), tmp_path / "spine.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (["schema"], "radgsreg/registration", "schema"),
        (["status"], "ok", "worst of the levels is uncertain"),
        (["levels"], {}, "empty"),
        (["levels"], [], "must be an object"),
        (["levels", "L3"], 3, "object"),
        (["levels", "L3", "status"], "good", 'level "L3".*good'),
        (["levels", "L3", "folder"], "../L3", "no name of a folder"),
        (["levels", "L3", "ct_to_world"], [[1]], "4 x 4"),
        (["levels", "L3", "expected_error_mm"], "little", "number"),
        (["begun_with"], "L9", "L9"),
        (["joint_covariance", "order"], ["L2", "L3"], "once"),
        (["joint_covariance", "order"], ["L2", "L3", "L3"], "once"),
        (["joint_covariance", "matrix"], [[1.0]], "18 x 18"),
        (["relative_motions", 0, "upper"], "L9", "L9"),
        (["relative_motions", 0, "turn_deg"], [1.0], "3 numbers"),
        (["relative_motions"], [1], "list of objects"),
        (["inputs"], 1, "inputs"),
    ],
)
def test_what_is_none_is_refused(place: list[Any], value: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / "spine.json"
    write_spine_json(record(), path)
    content = json.loads(path.read_text())
    part = content
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=says) as refusal:
        read_spine_json(path)
    assert str(path) in str(refusal.value)


def test_names_that_are_shared_carry_the_label() -> None:
    assert level_names({1: "L3", 2: "L3", 3: "L4"}, [1, 2, 3, 4]) == {
        1: "L3 (1)",
        2: "L3 (2)",
        3: "L4",
        4: "4",
    }


@given(st.dictionaries(st.integers(-9, 99), st.text(max_size=8), min_size=1, max_size=6))
def test_folders_are_safe_and_unlike(names: dict[int, str]) -> None:
    folders = level_folders(names)
    assert list(folders) == list(names)
    assert len({folder.lower() for folder in folders.values()}) == len(names)
    assert all(re.fullmatch("[A-Za-z0-9_-]+", folder) for folder in folders.values())


def test_usual_names_are_kept() -> None:
    names = {21: "L2", 22: "vertebrae_L3", 23: "L4 vertebra", 24: "椎", 25: "l2"}
    assert list(level_folders(names).values()) == [
        "L2",
        "vertebrae_L3",
        "L4_vertebra",
        "label_24",
        "l2_2",
    ]


LEVEL_FILES = ("registration.json", "report.html")


def write_levels(folder: Path, names: list[str], text: str = "") -> None:
    """What a run leaves, without what does not matter here."""
    made = level(22)
    entry = {"label": 22, "status": "ok", "reason": made.reason}
    levels = {name: {**entry, "folder": name} for name in names}
    for name in names:
        (folder / name).mkdir(parents=True)
        registered = {"schema": "radgsreg/registration", "version": 1}
        (folder / name / "registration.json").write_text(json.dumps(registered))
        (folder / name / "report.html").write_text(text)
    said = {"schema": "radgsreg/spine", "version": 1, "levels": levels}
    (folder / "spine.json").write_text(json.dumps(said))
    (folder / "report.html").write_text(text)


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_a_folder_of_levels_is_known_as_ours(tmp_path: Path) -> None:
    write_levels(tmp_path, ["L2", "L3"])
    refuse_strangers(tmp_path)
    assert [p.as_posix() for p in files_of_levels(tmp_path)] == [
        "spine.json",
        "L2/registration.json",
        "L2/report.html",
        "L3/registration.json",
        "L3/report.html",
    ]


def test_another_folder_beside_the_levels_is_not(tmp_path: Path) -> None:
    write_levels(tmp_path, ["L2", "L3"])
    (tmp_path / "L4").mkdir()
    with pytest.raises(InputError, match="L4"):
        refuse_strangers(tmp_path)


def test_a_foreign_file_among_a_levels_results_is_refused(tmp_path: Path) -> None:
    write_levels(tmp_path, ["L2", "L3"])
    (tmp_path / "L3" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"L3.*notes\.txt"):
        refuse_strangers(tmp_path)
    assert Path("L3/notes.txt") not in files_of_levels(tmp_path)


def test_a_level_without_results_of_ours_is_refused(tmp_path: Path) -> None:
    write_levels(tmp_path, ["L2", "L3"])
    (tmp_path / "L3" / "registration.json").write_text("{}")
    with pytest.raises(InputError, match="L3"):
        refuse_strangers(tmp_path)


@pytest.mark.parametrize("said", ["..", ".", "", "../other", "L3/deep", 3, None])
def test_a_record_that_names_other_places_makes_nothing_ours(said: Any, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    (other / "registration.json").write_text('{"schema": "radgsreg/registration"}')
    write_levels(out, ["L3"])
    content = json.loads((out / "spine.json").read_text())
    content["levels"]["L3"]["folder"] = said
    (out / "spine.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="L3"):
        refuse_strangers(out)
    assert files_of_levels(out) == [Path("spine.json")]


def test_a_link_is_no_level(tmp_path: Path) -> None:
    write_levels(tmp_path / "out", ["L3"])
    (tmp_path / "out" / "L3").rename(tmp_path / "elsewhere")
    try:
        (tmp_path / "out" / "L3").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    except OSError:
        pytest.skip("links are not allowed here")
    with pytest.raises(InputError, match="L3"):
        refuse_strangers(tmp_path / "out")
    assert files_of_levels(tmp_path / "out") == [Path("spine.json")]


def test_a_second_run_leaves_no_level_of_the_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for names, text in ((["L1", "L2", "L3"], "old"), (["L2", "L3", "L4"], "new")):
        with results_folder(str(out), Interrupt()) as stage:
            write_levels(stage, names, text)
            if text == "old":
                (stage / "L2" / "overlay_AP.png").write_text(text)
    names = [f"{name}/{file}" for name in ("L2", "L3", "L4") for file in LEVEL_FILES]
    assert files(out) == sorted(["L2", "L3", "L4", *names, "report.html", "spine.json"])
    assert (out / "L2" / "report.html").read_text() == "new"


def test_one_vertebra_where_several_were_leaves_none_of_them(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with results_folder(str(out), Interrupt()) as stage:
        write_levels(stage, ["L1", "L2"])
    with results_folder(str(out), Interrupt()) as stage:
        (stage / "registration.json").write_text('{"schema": "radgsreg/registration"}')
        (stage / "report.html").write_text("new")
    assert files(out) == ["registration.json", "report.html"]


def test_several_where_one_was_leave_nothing_of_that_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = ("ct_to_world.tfm", "gaussians.ply", "reconstruction.nii.gz", "report.html")
    with results_folder(str(out), Interrupt()) as stage:
        (stage / "registration.json").write_text('{"schema": "radgsreg/registration"}')
        for name in names:
            (stage / name).write_text("old")
    with results_folder(str(out), Interrupt()) as stage:
        write_levels(stage, ["L2"])
    assert files(out) == ["L2", *(f"L2/{n}" for n in LEVEL_FILES), "report.html", "spine.json"]


def test_a_run_that_fails_leaves_the_levels_of_before(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with results_folder(str(out), Interrupt()) as stage:
        write_levels(stage, ["L1", "L2"], "old")
    before = files(out)

    def fail() -> None:
        with results_folder(str(out), Interrupt()) as stage:
            write_levels(stage, ["L2", "L3"], "new")
            raise InputError("views", "show nothing")

    with pytest.raises(InputError, match="show nothing"):
        fail()
    assert files(out) == before
    assert (out / "L2" / "report.html").read_text() == "old"


def test_a_level_that_cannot_be_put_in_place_puts_all_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write_levels(out, ["L1", "L2"], "old")
    before = {name: (out / name).read_text() for name in files(out) if "." in name}
    whole = Path.replace

    def replace_but_one(path: Path, target: Path) -> Path:
        if Path(target).name == "report.html" and Path(target).parent.name == "L3":
            raise OSError(28, "No space left on device", str(target))
        return whole(path, target)

    def fail() -> None:
        with OutputFolder(out) as stage:
            write_levels(stage, ["L2", "L3"], "new")
            monkeypatch.setattr(Path, "replace", replace_but_one)

    with pytest.raises(InputError, match="No space left"):
        fail()
    assert {name: (out / name).read_text() for name in files(out) if "." in name} == before
    assert not (out / "L3").exists()
