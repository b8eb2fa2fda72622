"""``register --config``: a result run again as it was, and files that are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from ball import POSE, write_ball
from registration_scenes import simulated

from RadGSRegLib import cli
from RadGSRegLib.cases import RegistrationRecord, read_registration_json, write_registration_json
from RadGSRegLib.commands.register import read_parameters
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.registration import RegistrationOptions, registration_options
from RadGSRegLib.simulation import write_simulated_case

pytestmark = pytest.mark.usefixtures("brief_fit")

# Not the defaults, and little work.
OPTIONS = {
    "search": {"rotation_step_deg": 25.0},
    "click_places": {"candidates": 3, "survivors": 1},
    "fine_cloud_mm": 4.5,
    "coarse": {"pixel_mm": 2.4},
    "middle": {"pixel_mm": 1.6, "refine": {"iterations": 2}},
    "fine": {
        "pixel_mm": 1.2,
        "rounds": 2,
        "refine": {"iterations": 2, "neighbourhoods_mm": [7.0, 5]},
    },
}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_simulated_case(simulated("clean"), tmp_path_factory.mktemp("phantom") / "case")


def test_a_result_is_run_again_as_it_was(case: Path, tmp_path: Path) -> None:
    config = tmp_path / "options.json"
    config.write_text(json.dumps({"seed": 5, "registration": OPTIONS}))
    records = []
    for out, given in (("first", config), ("again", tmp_path / "first" / "registration.json")):
        words = ["register", str(case), "--out", str(tmp_path / out), "--config", str(given)]
        assert cli.main(words) in (0, 3)
        records.append(read_registration_json(tmp_path / out / "registration.json"))
    first, again = records
    assert first.parameters["seed"] == first.parameters["registration"]["seed"] == 5
    assert first.parameters["registration"]["fine"]["refine"]["neighbourhoods_mm"] == [7.0, 5.0]
    assert again.parameters == first.parameters
    assert (again.ct_to_world == first.ct_to_world).all()
    assert again.inputs == first.inputs
    assert again.status == first.status


@pytest.mark.parametrize("effort", ["fast", "normal", "careful"])
def test_what_is_recorded_is_read_as_it_was(tmp_path: Path, effort: str) -> None:
    options = registration_options(effort, seed=7)
    path = write_record(tmp_path, options)
    assert read_parameters(path, {"label"}) == options


def test_a_seed_beside_it_wins_and_an_effort_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[RegistrationOptions] = []

    def stop(args: Any, registration: RegistrationOptions) -> None:
        seen.append(registration)
        raise Cancelled

    monkeypatch.setattr("RadGSRegLib.commands.register.pipeline_options", stop)
    options = registration_options("fast", seed=7)
    config = str(write_record(tmp_path, options))
    words = ["register", str(write_ball(tmp_path / "case")), "--out", str(tmp_path / "out")]
    for more in (["--config", config], ["--config", config, "--seed", "9"], ["--seed", "9"]):
        assert cli.main([*words, *more]) == 130
    assert seen == [options, replace(options, seed=9), RegistrationOptions(seed=9)]
    assert cli.main([*words, "--config", config, "--effort", "normal"]) == 2
    assert "--effort: cannot go with --config" in capfd.readouterr().err


def write_record(folder: Path, options: RegistrationOptions) -> Path:
    """A registration.json that was made with these options."""
    parameters = {"label": 22, "registration": asdict(options), "seed": options.seed, "notes": []}
    record = RegistrationRecord("failed", POSE, None, parameters=parameters)
    path = folder / "registration.json"
    write_registration_json(record, path)
    return path


def group(parameters: dict, *names: str) -> dict:
    for name in ("registration", *names):
        parameters = parameters[name]
    return parameters


MALFORMED: list[tuple[str, Callable[[dict], object], str]] = [
    (
        "unknown",
        lambda p: group(p, "fine").update(round=2),
        "registration.fine.round (did you mean",
    ),
    ("beside", lambda p: p.update(registraton={}), 'no parameter "registraton" (did you mean'),
    ("none", lambda p: p.pop("registration"), 'has no "registration"'),
    ("missing", lambda p: group(p, "search").pop("pixel_mm"), "registration.search.pixel_mm"),
    ("no group", lambda p: p["registration"].update(fine=3), "registration.fine is a group"),
    ("a list", lambda p: p.update(registration=[1]), '"registration" is no group'),
    (
        "a text",
        lambda p: group(p, "fine").update(rounds="four"),
        "fine.rounds is 'four', not a whole",
    ),
    ("a truth", lambda p: group(p, "fine").update(rounds=True), "fine.rounds is True"),
    ("a part", lambda p: group(p, "fine").update(rounds=1.5), "fine.rounds is 1.5"),
    ("null", lambda p: p["registration"].update(reach_mm=None), "registration.reach_mm is None"),
    (
        "a number",
        lambda p: group(p, "fine", "refine").update(neighbourhoods_mm=6),
        "registration.fine.refine.neighbourhoods_mm is 6, not a list",
    ),
    (
        "negative",
        lambda p: p["registration"].update(reach_mm=-1.0),
        "reach_mm is -1.0, not 0 or more",
    ),
    ("nothing", lambda p: group(p, "coarse").update(pixel_mm=0.0), "pixel_mm is 0.0, not positive"),
    (
        "no count",
        lambda p: group(p, "click_places").update(candidates=0),
        "candidates is 0, not at",
    ),
    ("no round", lambda p: group(p, "fine").update(rounds=0), "fine.rounds is 0, not at least 1"),
    ("two seeds", lambda p: p.update(seed=8), '"seed" and that of "registration" differ'),
    (
        "big seed",
        lambda p: (p.update(seed=2**40), p["registration"].update(seed=2**40)),
        "registration.seed is 1099511627776, not from 0 to 2^31 - 1",
    ),
]


@pytest.mark.parametrize(
    ("spoil", "mentions"), [m[1:] for m in MALFORMED], ids=[m[0] for m in MALFORMED]
)
def test_malformed_files_are_refused(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    spoil: Callable[[dict], object],
    mentions: str,
) -> None:
    path = write_record(tmp_path, RegistrationOptions())
    content = json.loads(path.read_text())
    spoil(content["parameters"])
    path.write_text(json.dumps(content))
    case = write_ball(tmp_path / "case")
    words = ["register", str(case), "--out", str(tmp_path / "out"), "--config", str(path)]
    assert cli.main(words) == 2
    captured = capfd.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert str(path) in captured.err
    assert mentions in captured.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("{", "is not JSON"),
        ('{"schema": "radgsreg/views"}', '"schema" must be "radgsreg/registration"'),
        ('{"registration": {"reach_mm": NaN}}', "NaN is not a number"),
        (None, "does not exist"),
    ],
)
def test_files_that_hold_no_options_are_refused(
    tmp_path: Path, text: str | None, mentions: str
) -> None:
    path = tmp_path / "options.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=mentions):
        read_parameters(path)


def test_yaml_holds_the_same(tmp_path: Path) -> None:
    path = tmp_path / "options.yaml"
    path.write_text("seed: 4\nregistration:\n  fine:\n    rounds: 2\n")
    base = RegistrationOptions(seed=4)
    assert read_parameters(path) == replace(base, fine=replace(base.fine, rounds=2))
