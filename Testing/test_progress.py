"""Progress: fractions of fractions, cancelling, and the best pose on its way to who shows it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from RadGSRegLib import cli
from RadGSRegLib.commands import COMMANDS, Outcome
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.registration import registration_options
from RadGSRegLib.system import ExitStatus, Progress


def test_parts_report_where_the_whole_is() -> None:
    seen: list[tuple[float, str]] = []
    whole = Progress(lambda fraction, message: seen.append((fraction, message)))
    whole.part(0.2, 0.6).part(0.5, 1.0)(0.5, "there")
    assert seen == [(pytest.approx(0.5), "there")]


def test_false_cancels() -> None:
    with pytest.raises(Cancelled):
        Progress(lambda fraction, message: False)(0.1, "no more")


def test_a_pose_comes_through_parts() -> None:
    seen: list[Any] = []
    progress = Progress(None, on_pose=seen.append)
    progress.part(0.0, 0.5).part(0.1, 0.2).pose(np.eye(4))
    assert len(seen) == 1
    Progress().pose(np.eye(4))  # nobody listens


def test_figures_come_through_parts_to_a_line_of_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(args: Any, progress: Progress, interrupt: Any) -> Outcome:
        progress(0.25, "training")
        progress.part(0.0, 0.5).part(0.1, 0.2).figures({"recm_mm": 3.5})
        return Outcome(ExitStatus.OK, ("done",))

    Progress().figures({"recm_mm": 3.5})  # nobody listens
    monkeypatch.setitem(COMMANDS, "pretrain", replace(COMMANDS["pretrain"], run=work))
    arguments = ["pretrain", "--stage", "3", "case.json", "--out", "m.safetensors", "--progress"]
    assert cli.main(arguments) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == {"progress": 0.25, "message": "training", "figures": {"recm_mm": 3.5}}
    assert "figures" not in lines[0]


def test_a_pose_is_a_line_of_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(args: Any, progress: Progress, interrupt: Any) -> Outcome:
        progress(0.25, "refining the pose")
        progress.part(0.3, 0.4).pose(np.diag([1.0, 1, 1, 1]))
        return Outcome(ExitStatus.OK, ("done",))

    monkeypatch.setitem(COMMANDS, "register", replace(COMMANDS["register"], run=work))
    assert cli.main(["register", "case.json", "--out", "x", "--progress"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == {
        "progress": 0.25,
        "message": "refining the pose",
        "ct_to_world": np.eye(4).tolist(),
    }
    assert "ct_to_world" not in lines[0]


def test_more_effort_tries_more() -> None:
    fast, normal, careful = (registration_options(e, seed=3) for e in ("fast", "normal", "careful"))
    assert normal.seed == 3
    counts = [o.click_places.candidates for o in (fast, normal, careful)]
    rounds = [o.fine.rounds for o in (fast, normal, careful)]
    for values in (counts, rounds):
        assert values == sorted(set(values))
    with pytest.raises(InputError, match="fast, normal or careful"):
        registration_options("quick")
