"""Child processes: progress lines, errors, and a Cancel that ends the whole tree."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "RadGSReg"))

from RadGSRegSlicer.process import jobs
from RadGSRegSlicer.process.jobs import Job, JobState, parseProgress

# A child may take so long to start and to end on a busy machine.
PATIENCE_S = 60.0

TALKS = """
import json, sys
print(json.dumps({"progress": 0.25, "message": "reading"}))
print("a plain line")
print(json.dumps({"progress": 1.0, "message": "done"}), flush=True)
print("case.json: something is wrong", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""

# A child with a grandchild; both ignore the polite request to stop.
STUBBORN = """
import json, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
code += "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(120)"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
open(sys.argv[1], "w").write(str(child.pid))
print(json.dumps({"progress": 0.1, "message": "working"}), flush=True)
time.sleep(120)
"""

# A shell's job in the background ignores SIGINT, and so does every child of it that, unlike
# `radgsreg`, does not say what to do with it.
POLITE = """
import json, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    print(json.dumps({"progress": 0.5, "message": "working"}), flush=True)
    time.sleep(120)
except KeyboardInterrupt:
    sys.exit(130)
"""


def _script(folder: Path, text: str) -> Path:
    path = folder / "child.py"
    path.write_text(text)
    return path


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize("status", [0, 2, 3, 130])
def test_progress_lines_and_exit_status(tmp_path: Path, status: int) -> None:
    seen: list[tuple[float, str]] = []
    script = _script(tmp_path, TALKS)
    job = Job(
        [sys.executable, script, str(status)],
        progressCallback=lambda fraction, message: seen.append((fraction, message)),
    )
    assert job.state is JobState.READY
    job.start()
    assert job.wait(PATIENCE_S)
    assert job.state is JobState.DONE
    assert job.returnCode == status
    assert seen == [(0.25, "reading"), (1.0, "done")]
    assert (job.progress, job.message) == (1.0, "done")
    assert list(job.outputLines) == ["a plain line"]
    assert job.errorText == "case.json: something is wrong"


@pytest.mark.skipif(os.name == "nt", reason="looks at POSIX processes")
def test_cancel_ends_the_whole_tree_within_two_seconds(tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    job = Job([sys.executable, _script(tmp_path, STUBBORN), note])
    job.start()
    begin = time.monotonic()
    while job.progress == 0.0 and time.monotonic() - begin < PATIENCE_S:
        job.poll()
        time.sleep(0.02)
    grandchild = int(note.read_text())
    child = job.processId
    assert child is not None
    assert _alive(child)
    assert _alive(grandchild)

    begin = time.monotonic()
    job.cancel()
    returned = time.monotonic() - begin
    assert job.wait(2.0)
    assert time.monotonic() - begin < 2.0
    assert returned < 0.5 * jobs._GRACE_S  # it does not wait for the child
    assert job.state is JobState.CANCELLED
    while _alive(grandchild) and time.monotonic() - begin < 2.0:
        time.sleep(0.02)
    assert not _alive(child)
    assert not _alive(grandchild)


@pytest.mark.skipif(os.name == "nt", reason="Windows ends the tree by force")
def test_a_callback_that_says_no_cancels_politely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may not let the child answer in the usual time; force would give -9, not 130.
    monkeypatch.setattr(jobs, "_GRACE_S", 2 * PATIENCE_S)
    job = Job(
        [sys.executable, _script(tmp_path, POLITE)],
        progressCallback=lambda fraction, message: False,
    )
    job.start()
    assert job.wait(PATIENCE_S)
    assert job.state is JobState.CANCELLED
    assert job.returnCode == 130


def test_poll_never_blocks_while_a_grandchild_holds_the_output(tmp_path: Path) -> None:
    text = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3)'])\n"
        "print('bye')\n"
    )
    job = Job([sys.executable, _script(tmp_path, text)])
    job.start()
    longest, begin = 0.0, time.monotonic()
    finished = False
    while not finished and time.monotonic() - begin < PATIENCE_S:
        before = time.monotonic()
        finished = job.poll()
        longest = max(longest, time.monotonic() - before)
        time.sleep(0.02)
    assert finished
    # Less than what it waits for in turns: the last lines of a child that has ended.
    assert longest < 0.8 * jobs._STRAGGLER_S
    assert list(job.outputLines) == ["bye"]
    assert job.returnCode == 0


def test_ending_by_force_on_windows_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        pid = 4711

        def poll(self) -> int | None:
            return None

    started: list[list[str]] = []

    def popen(arguments: list[str], **more: object) -> Process:
        started.append(arguments)
        return Process()

    def run(*arguments: object, **more: object) -> None:
        raise AssertionError("waits")

    job = Job([sys.executable])
    with monkeypatch.context() as patch:  # pytest itself looks at os.name when a test has failed
        patch.setattr(job, "_process", Process())
        patch.setattr(job, "state", JobState.RUNNING)
        patch.setattr(os, "name", "nt")
        patch.setattr(subprocess, "CREATE_NO_WINDOW", 0, raising=False)
        patch.setattr(subprocess, "Popen", popen)
        patch.setattr(subprocess, "run", run)
        job.cancel()
        job._kill()  # the first is still at it
    assert started == [["taskkill", "/PID", "4711", "/T", "/F"]]


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    job = Job([tmp_path / "nothing"])
    with pytest.raises(OSError, match="nothing"):
        job.start()


@pytest.mark.parametrize(
    ("line", "report"),
    [
        ('{"progress": 0.42, "message": "fit"}', (0.42, "fit")),
        ('{"progress": 7}', (1.0, "")),
        ('{"other": 1}', None),
        ('{"progress": null}', None),
        ("{not json", None),
        ("0.42", None),
        ("", None),
    ],
)
def test_parse_progress(line: str, report: tuple[float, str] | None) -> None:
    assert parseProgress(line) == report
