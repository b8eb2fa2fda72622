"""The command line: exit status, one-line refusals, nothing written, progress, clean cancelling."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ball import write_ball

from RadGSRegLib import __version__, cli
from RadGSRegLib.cases import read_case
from RadGSRegLib.commands import COMMANDS, Command, Outcome
from RadGSRegLib.errors import InputError
from RadGSRegLib.system import ExitStatus, Interrupt, Progress

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def case(tmp_path: Path) -> Path:
    return write_ball(tmp_path / "case")


def edited(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(capfd: pytest.CaptureFixture[str], arguments: list[str], mentions: str) -> None:
    assert cli.main(arguments) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert mentions in captured.err


ARGUMENTS = [
    ([], "COMMAND"),
    (["conquer"], "conquer"),
    (["register", "case.json"], "--out"),
    (["register", "case.json", "--out", "OUT", "--model", "m.safetensors"], "m.safetensors"),
    (["register", "case.json", "--out", "OUT", "--device", "tpu"], "--device"),
    (["register", "case.json", "--out", "OUT", "--seed", "-1"], "--seed"),
    (["register", "no/such/case.json", "--out", "OUT"], "no/such/case.json"),
    (["reconstruct", "case.json", "--out", "OUT", "--method", "learned"], "learned"),
    (["reconstruct", "case.json", "--out", "OUT", "--start", "s.json"], "--ct-prior"),
    (["reconstruct", "no/such/views.json", "--out", "OUT"], "no/such/views.json"),
    (["simulate", "--out", "OUT", "--count", "0"], "--count"),
    (["simulate", "--out", "OUT", "--trunk", "--no-patient", "--beads", "helix"], "--trunk"),
    (["simulate", "--out", "OUT", "--realism", "easy"], "--realism"),
    (["simulate", "--out", "OUT", "--ct", "ct.nii.gz"], "--segmentation"),
    (["simulate", "--out", "OUT", "--case", "c.json", "--label", "3"], "--case"),
    (
        ["simulate", "--out", "OUT", "--ct", "no.nii", "--segmentation", "s.nii", "--label", "3"],
        "no.nii",
    ),
    (["evaluate", "no/such/folder", "--out", "OUT"], "no/such/folder"),
    (["evaluate", ".", "--out", "OUT", "--draws", "2"], "--draws"),
]


@pytest.mark.parametrize(("arguments", "mentions"), ARGUMENTS, ids=lambda value: str(value)[:60])
def test_unusable_arguments(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    mentions: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(capfd, ["out" if a == "OUT" else a for a in arguments], mentions)
    assert list(tmp_path.iterdir()) == []


def no_image(folder: Path) -> None:
    (folder / "ap.tif").unlink(missing_ok=True)
    for image in folder.glob("[aA][pP].*"):
        image.unlink()


def spoil(folder: Path, pattern: str) -> None:
    for image in folder.glob(pattern):
        image.write_bytes(b"this is no image")


def nan_extrinsic(folder: Path) -> None:
    def change(views: dict) -> None:
        views["views"][0]["extrinsic"][0][3] = float("nan")

    edited(folder / "views.json", change)


def left_handed(folder: Path) -> None:
    def change(views: dict) -> None:
        extrinsic = np.array(views["views"][0]["extrinsic"])
        extrinsic[0] *= -1
        views["views"][0]["extrinsic"] = extrinsic.tolist()

    edited(folder / "views.json", change)


CASES: list[tuple[str, Callable[[Path], object], str]] = [
    ("no json", lambda f: (f / "case.json").write_text("{"), "case.json"),
    ("a list", lambda f: (f / "case.json").write_text("[]"), "case.json"),
    ("no label", lambda f: edited(f / "case.json", lambda c: c.pop("label")), "label"),
    ("label not there", lambda f: edited(f / "case.json", lambda c: c.update(label=7)), "7"),
    ("label unknown", lambda f: edited(f / "case.json", lambda c: c.update(label="L9")), "L9"),
    ("no ct", lambda f: (f / "ct.nii.gz").unlink(), "ct.nii.gz"),
    ("spoilt ct", lambda f: spoil(f, "ct.nii.gz"), "ct.nii.gz"),
    ("no views", lambda f: (f / "views.json").unlink(), "views.json"),
    (
        "an empty list",
        lambda f: edited(f / "views.json", lambda v: v["views"].clear()),
        "views.json",
    ),
    (
        "equal views",
        lambda f: edited(f / "views.json", lambda v: v["views"].append(v["views"][0])),
        "views.json",
    ),
    (
        "wrong size",
        lambda f: edited(f / "views.json", lambda v: v["views"][0].update(size=[9, 9])),
        "ap",
    ),
    ("no image", no_image, "ap"),
    ("spoilt image", lambda f: spoil(f, "[aA][pP].*"), "ap"),
    ("NaN", nan_extrinsic, "views.json"),
    ("left-handed", left_handed, "views.json"),
]


@pytest.mark.parametrize(
    ("spoiling", "mentions"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_unusable_cases(
    case: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    spoiling: Callable[[Path], object],
    mentions: str,
) -> None:
    spoiling(case.parent)
    out = tmp_path / "results" / "deep"
    assert cli.main(["register", str(case), "--out", str(out)]) == 2
    captured = capfd.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert mentions in captured.err.lower().replace("l9", "L9")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case"]


@pytest.mark.parametrize("start", ["{}", '{"ct_to_world": [[1, 0], [0, 1]]}', "nonsense"])
def test_unusable_starts(
    case: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], start: str
) -> None:
    path = tmp_path / "begin.json"
    path.write_text(start)
    arguments = ["register", str(case), "--start", str(path), "--out", str(tmp_path / "out")]
    refused(capfd, arguments, "begin.json")
    assert not (tmp_path / "out").exists()


def test_a_prior_needs_a_ct(case: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    views = case.parent / "views.json"
    arguments = ["reconstruct", str(views), "--ct-prior", "--out", str(tmp_path / "out")]
    refused(capfd, arguments, "views.json")
    assert not (tmp_path / "out").exists()


def test_results_cannot_go_into_a_file(
    case: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("mine")
    refused(capfd, ["register", str(case), "--out", str(tmp_path / "out")], "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_no_cuda_where_there_is_none(
    case: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    arguments = ["register", str(case), "--device", "cuda", "--out", str(tmp_path / "out")]
    refused(capfd, arguments, "--device cuda")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case"]


def test_a_backend_that_cannot_run(
    case: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = "needs a CUDA device, and torch finds none"
    monkeypatch.setattr(
        "RadGSRegLib.gaussians.available_backends", lambda: {"gsplat": problem, "warp": "it is ill"}
    )
    for command in ("register", "reconstruct", "evaluate"):
        arguments = [command, str(case), "--out", str(tmp_path / "out"), "--backend"]
        refused(capfd, [*arguments, "gsplat"], f"--backend gsplat: {problem}; use --backend auto")
        refused(capfd, [*arguments, "gsplat", "--device", "cpu"], "--device is cpu; use")
        refused(capfd, [*arguments, "warp"], "--backend warp: it is ill; use --backend auto")
        refused(capfd, [*arguments, "glsl"], "--backend")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case"]


def test_a_command_runs_with_its_backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    from RadGSRegLib.gaussians import RASTERIZERS

    met = []

    def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
        met.append(RASTERIZERS.choose("auto", torch.device("cpu"), torch.float32).__name__)
        return Outcome(ExitStatus.OK, ("done",))

    monkeypatch.setitem(COMMANDS, "demo", replace(COMMANDS["demo"], run=run))
    for words in (["--backend", "torch"], ["--backend", "warp"], []):
        assert cli.main(["demo", "--out", str(tmp_path / "out"), *words]) == 0
    assert [name.rpartition(".")[2] for name in met] == [
        "torch_backend",
        "warp_backend",
        "warp_backend",
    ]


def test_help_and_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capfd.readouterr().out.strip() == f"radgsreg {__version__}"
    assert cli.main(["--help"]) == 0
    text = capfd.readouterr().out
    for command in ("demo", "register", "reconstruct", "simulate", "evaluate", "info"):
        assert f"\n    {command}" in text
    assert "review-server" not in text


def test_every_command_has_its_help(capfd: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        assert cli.main([name, "--help"]) == 0
        assert capfd.readouterr().out.startswith(f"usage: radgsreg {name} ")


def test_a_command_of_a_guest_runs_like_the_others(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--times", type=int, default=1)
        parser.add_argument("--progress", action="store_true")

    def check(args: argparse.Namespace) -> None:
        if args.times < 1:
            raise InputError("--times", "is too small")

    def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
        progress(0.5, "at it")
        facts = {"times": args.times}
        return Outcome(ExitStatus.NOT_TRUSTED, (f"hello {args.times}", "bye"), facts)

    guest = Command("greet", "say hello", add_arguments, run, check)
    monkeypatch.setitem(COMMANDS, "greet", guest)
    assert cli.main(["greet", "--times", "2"]) == 3
    assert capfd.readouterr().out == "hello 2\nbye\n"
    assert cli.main(["greet", "--progress"]) == 3
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert lines == [
        {"progress": 0.5, "message": "at it"},
        {"progress": 1.0, "message": "hello 1", "times": 1},
    ]
    refused(capfd, ["greet", "--times", "0"], "--times: is too small")
    assert cli.main(["--help"]) == 0
    assert "greet" in capfd.readouterr().out


def test_exit_statuses_are_those_of_the_contract() -> None:
    values = {status.name: int(status) for status in ExitStatus}
    assert values == {"OK": 0, "BUG": 1, "INPUT": 2, "NOT_TRUSTED": 3, "CANCELLED": 130}


def test_refusals_come_fast() -> None:
    began = time.perf_counter()
    done = child(["register", "x.json", "--out", "y", "--model", "z"])
    _, errors = done.communicate(timeout=30)
    assert done.returncode == 2
    assert errors.startswith("radgsreg: z: there is no such model")
    # Half a second where nothing else runs; a busy test machine gets some slack.
    assert time.perf_counter() - began < 2.0


def test_info_says_what_works(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    text = capfd.readouterr().out
    assert f"radgsreg {__version__}" in text
    assert "device cpu: works" in text
    assert "device cuda: " in text
    assert "backend torch: works" in text


def child(arguments: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "RadGSRegLib", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cancelling_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "deep" / "out"
    process = child(["simulate", "--out", str(out), "--count", "50", "--progress"])
    try:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert first["progress"] < 0.5
        assert list(tmp_path.rglob(".radgsreg-*"))  # work is going on
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors == "radgsreg: cancelled, nothing written\n"
    assert list(tmp_path.iterdir()) == []


def test_progress_is_lines_of_json(
    case: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "simulated"
    arguments = ["simulate", "--case", str(case), "--out", str(out), "--realism", "clean"]
    assert cli.main([*arguments, "--progress"]) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    lines = [json.loads(line) for line in captured.out.splitlines()]
    fractions = [line["progress"] for line in lines]
    assert len(lines) > 3
    assert fractions == sorted(fractions)
    assert 0.0 <= fractions[0] < fractions[-1] == 1.0
    assert all(isinstance(line["message"], str) for line in lines)
    assert lines[-1]["out"] == str(out)
    assert len(read_case(out / "case.json").views) == 2
    assert (out / "truth.json").is_file()


def test_the_old_name_of_realism_is_still_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    old = cli.build_parser().parse_args(["demo", "--out", "x", "--level", "hard"])
    assert old.realism == "hard"
    notice = capfd.readouterr().err
    assert notice.count("\n") == 1
    assert "--level is now --realism" in notice
    new = cli.build_parser().parse_args(["demo", "--out", "x", "--realism", "clean"])
    assert new.realism == "clean"
    assert capfd.readouterr().err == ""
    refused(capfd, ["demo", "--out", str(tmp_path / "x"), "--level", "easy"], "--level")
    assert cli.main(["demo", "--help"]) == 0
    assert "--level" not in capfd.readouterr().out


def test_simulating_from_a_case_of_ones_own(
    case: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "many"
    arguments = ["simulate", "--case", str(case), "--out", str(out), "--realism", "clean"]
    assert cli.main([*arguments, "--count", "2", "--seed", "7"]) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    assert str(out) in captured.out
    poses = []
    for name in ("clean-7", "clean-8"):
        assert read_case(out / name / "case.json").label == 22
        poses.append(json.loads((out / name / "truth.json").read_text())["ct_to_world"])
    assert poses[0] != poses[1]


def test_a_signal_counts_even_where_python_swallows_it() -> None:
    with Interrupt() as interrupt:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interrupt.is_set
        signal.raise_signal(signal.SIGINT)  # an impatient second one is not heard
    with Interrupt() as interrupt:
        interrupt.hold()
        signal.raise_signal(signal.SIGTERM)
        assert not interrupt.is_set


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ZeroDivisionError("by zero"), 1, "ZeroDivisionError: by zero"),
        (RecursionError("x\ny"), 1, "RecursionError: x y"),
        (OSError(errno.ENOSPC, "No space left on device", "a.txt"), 2, "a.txt: No space left"),
        (PermissionError(errno.EACCES, "Permission denied", "b"), 2, "b: Permission denied"),
        (MemoryError(), 2, "not enough memory"),
    ],
)
def test_no_traceback_leaves_main(
    error: Exception,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setitem(COMMANDS, "info", replace(COMMANDS["info"], run=broken))
    assert cli.main(["info"]) == status
    line = capfd.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith("radgsreg: ")
    assert said in line
    monkeypatch.setenv("RADGSREG_TRACEBACK", "1")
    assert cli.main(["info"]) == status
    assert "Traceback" in capfd.readouterr().err


def test_what_was_noted_is_told_with_the_verdict() -> None:
    from RadGSRegLib.commands.running import registration_outcome
    from RadGSRegLib.registration import Registration

    done = Registration("ok", "all agrees", np.eye(4), np.eye(6), np.zeros(3), {}, {}, {}, 0)
    outcome = registration_outcome(done, "out", ["7 files of the CT were left out"])
    assert "note: 7 files of the CT were left out" in outcome.summary
    assert outcome.exit_status == 0
