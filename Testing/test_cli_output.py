"""What a command may write over, and what is left where writing fails."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from ball import write_ball

from RadGSRegLib import cli
from RadGSRegLib.cases import (
    OutputFolder,
    output_file,
    refuse_strangers,
    write_itk,
    write_itk_transform,
)
from RadGSRegLib.cases.staging import clear_left_over
from RadGSRegLib.errors import InputError
from RadGSRegLib.inputs import guarded_inputs, note_input

ROOT = Path(__file__).resolve().parents[1]


def refused(capfd: pytest.CaptureFixture[str], arguments: list[str], *parts: str) -> None:
    """The command ends with status 2 and one line that has all parts."""
    assert cli.main(arguments) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert all(part in captured.err for part in parts), captured.err


def digest(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--out", ""],
        ["simulate", "--out", " "],
        ["evaluate", ".", "--out", ""],
        ["segment", "x.nii.gz", "--point", "0,0,0", "--out", ""],
        ["pretrain", "--stage", "1", "--phantoms", "1", "--out", ""],
    ],
)
def test_an_output_without_a_name_is_refused(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(capfd, arguments, "--out", "empty")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("empty", ["", " "])
def test_the_library_refuses_an_output_without_a_name(empty: str) -> None:
    with pytest.raises(InputError, match="empty name"), OutputFolder(empty):
        pass


@pytest.mark.parametrize("name", ["notes.txt", "case.json", "registration.json", "report.html"])
def test_a_folder_with_other_peoples_files_is_refused(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("{}")
    refused(capfd, ["simulate", "--out", str(tmp_path)], str(tmp_path), name, "new or an empty")
    assert digest(tmp_path) == {name: b"{}"}


def test_a_folder_of_results_is_used_again_unless_something_else_is_in_it(tmp_path: Path) -> None:
    refuse_strangers(tmp_path / "new")
    (tmp_path / ".DS_Store").write_text("")
    refuse_strangers(tmp_path)
    record = {"schema": "radgsreg/registration", "version": 1}
    (tmp_path / "registration.json").write_text(json.dumps(record))
    for name in ("ct_to_world.tfm", "overlay_AP.png", "report.html", "gaussians.ply"):
        (tmp_path / name).write_text("")
    refuse_strangers(tmp_path)
    (tmp_path / "thesis.docx").write_text("")
    with pytest.raises(InputError, match=r"thesis\.docx"):
        refuse_strangers(tmp_path)


def test_a_command_does_not_write_over_its_input(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ct = tmp_path / "ct.nii.gz"
    sitk.WriteImage(sitk.Image(20, 20, 20, sitk.sitkInt16), str(ct))
    link = tmp_path / "link.nii.gz"
    link.symlink_to(ct)
    before = ct.read_bytes()
    roundabout = tmp_path / "x" / ".." / "ct.nii.gz"
    (tmp_path / "x").mkdir()
    for out in (ct, link, roundabout):
        refused(capfd, ["segment", str(ct), "--point", "1,1,1", "--out", str(out)], "input too")
    assert ct.read_bytes() == before
    assert link.is_symlink()
    for arguments in (["evaluate", str(tmp_path), "--out", str(tmp_path)],):
        refused(capfd, arguments, "input too")
    base = tmp_path / "m.safetensors"
    base.write_bytes(b"model")
    asked = ["pretrain", "--stage", "1", "--phantoms", "1", "--base", str(base)]
    refused(capfd, [*asked, "--out", str(base)], "input too")
    assert base.read_bytes() == b"model"


def test_what_was_read_on_the_way_is_not_written_over(tmp_path: Path) -> None:
    read = tmp_path / "out" / "reconstruction.nii.gz"
    read.parent.mkdir()
    read.write_text("the CT")
    with guarded_inputs():
        note_input(read)
        with pytest.raises(InputError, match=r"holds the input reconstruction"):
            OutputFolder(read.parent).__enter__()
        with pytest.raises(InputError, match="was read"), output_file(read) as part:
            part.write_text("new")
    with guarded_inputs():

        def job() -> None:
            with OutputFolder(read.parent) as stage:
                (stage / read.name).write_text("new")
                note_input(read)  # only now

        with pytest.raises(InputError, match="was read"):
            job()
    assert digest(tmp_path) == {"out/reconstruction.nii.gz": b"the CT"}
    with OutputFolder(read.parent) as stage:  # outside of a command nothing is kept in mind
        (stage / read.name).write_text("new")
    assert read.read_text() == "new"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fails_while_writing_is_one_sentence(tmp_path: Path, code: int) -> None:
    def job() -> None:
        with OutputFolder(tmp_path / "out") as stage:
            raise OSError(code, os.strerror(code), str(stage / "a.png"))

    with pytest.raises(InputError, match=f"out: cannot be written to .*{os.strerror(code)}"):
        job()
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_hides_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def job(free: int) -> None:
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
        with OutputFolder(tmp_path / "out"):
            raise RuntimeError("write failed")

    with pytest.raises(InputError, match="the disk is full"):
        job(1000)
    with pytest.raises(RuntimeError, match="write failed"):
        job(1 << 40)
    assert list(tmp_path.iterdir()) == []


_SHORT = """
import resource, sys
sys.path.insert(0, {root!r})
from RadGSRegLib import cli
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
sys.exit(cli.main({arguments!r}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of a file's size")
@pytest.mark.parametrize("limit", [100_000, 3_000])
def test_a_short_write_is_status_2_with_one_line_and_nothing_left(
    tmp_path: Path, limit: int
) -> None:
    """A limit of a file's size cuts writes off as a full disk does."""
    case, out = write_ball(tmp_path / "case"), tmp_path / "deep" / "out"
    arguments = ["simulate", "--case", str(case), "--out", str(out), "--realism", "clean"]
    code = _SHORT.format(root=str(ROOT), limit=limit, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "cannot be written" in done.stderr
    assert list(tmp_path.iterdir()) == [case.parent]


_WRITE = """
import resource, sys
sys.path.insert(0, {root!r})
import numpy as np, SimpleITK as sitk
from RadGSRegLib.cases import write_itk, write_itk_transform
image = sitk.GetImageFromArray(np.random.default_rng(0).random((24, 24, 24)))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
from pathlib import Path
failed = 0
for name in ("a.nii", "a.nii.gz", "a.nrrd", "a.mha"):
    try:
        write_itk(image, Path({folder!r}) / name)
    except OSError:
        failed += 1
try:
    write_itk_transform(np.eye(4), Path({folder!r}) / "a.tfm", (0.123456789, 1.23456789, 1e-17))
except OSError:
    failed += 1
print(failed)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of a file's size")
def test_every_kind_of_image_that_comes_out_short_is_noticed(tmp_path: Path) -> None:
    code = _WRITE.format(root=str(ROOT), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "5", done.stderr
    assert done.stderr == ""


def test_images_come_out_whole(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    for name in ("a.nii", "a.nii.gz", "a.nrrd", "a.mha"):
        write_itk(sitk.GetImageFromArray(array), tmp_path / name)
        again = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name)))
        assert np.array_equal(again, array)
    write_itk_transform(np.eye(4), tmp_path / "a.tfm")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot kill so")
def test_what_a_killed_run_left_is_cleared_by_the_next_and_a_living_ones_is_not(
    tmp_path: Path,
) -> None:
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from RadGSRegLib.cases import OutputFolder\n"
        f"with OutputFolder({str(tmp_path / 'out')!r}) as stage:\n"
        "    (stage / 'a.txt').write_text('a')\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        clear_left_over(tmp_path)
        assert len(list(tmp_path.glob(".radgsreg-*"))) == 1
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        assert len(list(tmp_path.glob(".radgsreg-*"))) == 1
    finally:
        process.kill()
        process.communicate()
    with OutputFolder(tmp_path / "other") as stage:
        assert len(list(tmp_path.glob(".radgsreg-*"))) == 1  # its own
        (stage / "b.txt").write_text("b")
    assert digest(tmp_path) == {"other/b.txt": b"b"}
    assert [p.name for p in tmp_path.iterdir()] == ["other"]


def test_a_left_over_folder_of_an_earlier_version_is_cleared(tmp_path: Path) -> None:
    old, young = tmp_path / ".radgsreg-old", tmp_path / ".radgsreg-young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "a.txt").write_text("a")
    hour_ago = time.time() - 3600
    os.utime(old, (hour_ago, hour_ago))
    with output_file(tmp_path / "b.txt") as part:
        part.write_text("b")
    assert {p.name for p in tmp_path.iterdir()} == {".radgsreg-young", "b.txt"}


def test_processes_that_write_into_one_folder_leave_each_other_alone(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from RadGSRegLib.cases import output_file\n"
        "for number in range(400):\n"
        f"    with output_file(Path({str(tmp_path)!r}, f'{{number % 5}}.txt')) as part:\n"
        "        part.write_text('x')\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{n}.txt" for n in range(5)]
