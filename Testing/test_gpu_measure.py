"""The measurement of a GPU: on the CPU in small, and what becomes of parts that go wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "benchmarks"))
sys.path.insert(0, str(Path(__file__).resolve().parent / "gpu"))

import collect_wheels
from measuring.parts import Limits, Notes, run_guarded
from measuring.tables import gpu_section, summary

TESTING = Path(__file__).resolve().parent
SCRIPT = TESTING / "gpu" / "measure.py"
# The library's other requirements, by the names that they are imported by.
ABSENT = [
    "einops", "gdcm", "highdicom", "hypothesis", "imagecodecs", "jpeg_ls", "matplotlib", "monai",
    "nibabel", "pytest", "rich", "safetensors", "tifffile", "yaml",
]  # fmt: skip

# A child whose parts do what their names say.
CHILD = """
import os, sys, time
sys.path.insert(0, {testing!r})
from measuring.parts import NotHereError, Surroundings, run_here

broken = False

def good(notes):
    print("what a library prints goes elsewhere")
    notes.ran_on = "cpu"
    notes.figure("speed", 3, "per s")
    notes.check("error", 0.5, 1.0)

def bad(notes):
    notes.check("error", 2.0, 1.0)
    raise ValueError("no such luck")

def fault(notes):
    global broken
    broken = True
    raise RuntimeError("the device is lost")

def crash(notes):
    notes.figure("before", 1, "s")
    print("about to crash", file=sys.stderr)
    os._exit(7)

def hang(notes):
    notes.check("before", 0.0, 1.0)
    time.sleep(60)

def absent(notes):
    raise NotHereError("there is no such card")

parts = dict(good=good, good2=good, bad=bad, fault=fault, crash=crash, hang=hang, absent=absent)
sys.exit(run_here(parts, sys.argv[1:], Surroundings(lambda: lambda: 12.5, lambda: not broken)))
"""


def guarded(
    tmp_path: Path, names: list[str], **limits: Any
) -> tuple[dict[str, dict[str, Any]], int]:
    """What became of parts, and how many children there were."""
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(testing=str(TESTING)), encoding="utf-8")
    heard: dict[str, dict[str, Any]] = {}
    children = []

    def command(left: Any) -> list[str]:
        children.append(list(left))
        return [sys.executable, str(script), *left]

    def hear(name: str, answer: dict[str, Any]) -> None:
        assert heard.get(name, {"status": "begun"})["status"] == "begun"
        heard[name] = answer

    run_guarded(names, command, Limits(**{"total_s": 30.0, **limits}), hear)
    return heard, len(children)


def test_the_rest_goes_on_whatever_happens(tmp_path: Path) -> None:
    names = ["bad", "good", "crash", "absent", "fault", "good2"]
    heard, children = guarded(tmp_path, names)
    assert list(heard) == names
    # A crash, and a device that no longer answers, each need a new process; an error does not.
    assert children == 3
    assert heard["good"]["status"] == heard["good2"]["status"] == "ok"
    assert heard["good"]["figures"] == [{"what": "speed", "value": 3.0, "unit": "per s"}]
    assert heard["good"]["peak_mib"] == 12.5
    assert heard["bad"]["status"] == heard["fault"]["status"] == "failed"
    assert "ValueError: no such luck" in heard["bad"]["error"]
    assert heard["bad"]["checks"] == [{"what": "error", "error": 2.0, "limit": 1.0, "ok": False}]
    assert heard["crash"]["status"] == "crashed"
    assert heard["crash"]["figures"] == [{"what": "before", "value": 1.0, "unit": "s"}]
    assert "about to crash\n" in heard["crash"]["error"]
    assert "status 7" in heard["crash"]["error"]
    assert heard["absent"]["status"] == "not here"
    assert heard["absent"]["error"] == "there is no such card"


def test_a_part_that_hangs_is_ended(tmp_path: Path) -> None:
    heard, _ = guarded(tmp_path, ["good", "hang", "good2"], parts={"hang": 0.5})
    assert heard["hang"]["status"] == "timed out"
    assert heard["hang"]["checks"][0]["what"] == "before"
    assert heard["good2"]["status"] == "ok"


def test_all_ends_when_the_time_is_over(tmp_path: Path) -> None:
    heard, children = guarded(tmp_path, ["hang", "good", "good2"], total_s=1.0)
    assert children == 1
    assert heard["hang"]["error"] == heard["good2"]["error"] == "the time was over"
    assert heard["good"]["status"] == "not run"


def test_a_number_that_is_none_does_not_agree() -> None:
    notes = Notes()
    notes.check("error", float("nan"), 1.0)
    assert not notes.checks[0]["ok"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command writes on the CPU, in small."""
    out = tmp_path_factory.mktemp("measured")
    command = [sys.executable, str(SCRIPT), "--size", "tiny", "--device", "cpu"]
    done = subprocess.run(
        [*command, "--out", str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    read: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert summary(read) in (out / "results.md").read_text(encoding="utf-8") + "\n"
    return read


def test_every_part_runs_and_agrees_on_the_cpu(results: dict[str, Any]) -> None:
    parts = results["parts"]
    assert set(parts) >= {
        "machine", "kernels", "timings", "search", "registration", "networks", "simulation",
        "training", "gsplat",
    }  # fmt: skip
    for name, part in parts.items():
        wanted = "not here" if name == "gsplat" else "ok"
        assert part["status"] == wanted, part["error"]
        for check in part["checks"]:
            assert check["ok"], (name, check)
            assert check["limit"] >= check["error"] >= 0.0
        if part["status"] == "ok":
            assert "cpu" in part["ran_on"]
            assert "cuda" not in part["ran_on"]
            assert part["figures"]
            assert part["seconds"] > 0.0
            assert part["peak_mib"] > 0.0
    assert "CUDA" in parts["gsplat"]["error"]
    assert results["machine"]["device"] == "cpu"


def test_every_kernel_is_compared(results: dict[str, Any]) -> None:
    kernels = results["parts"]["kernels"]
    figures = {figure["what"]: figure["value"] for figure in kernels["figures"]}
    assert figures["kernels that ran"] >= 18
    assert figures["kernels that did not"] == len(kernels["remarks"]) == 0
    # float32 is not float64: equal numbers would mean that nothing was compared.
    images = [c["error"] for c in kernels["checks"] if c["what"].startswith("rasterizer, image")]
    assert images
    assert min(images) > 0.0


def test_a_page_says_not_measured_until_there_was_a_gpu(results: dict[str, Any]) -> None:
    assert "Not measured." in gpu_section(None)
    assert "Not measured." in gpu_section(results)
    lent = {**results, "machine": {**results["machine"], "device": "cuda", "card": "A card"}}
    text = gpu_section(lent)
    assert "A card" in text
    assert "| registration | ok |" in text
    assert "Not measured." not in text


def test_what_is_collected_is_pinned() -> None:
    for name in collect_wheels.NEEDED:
        assert re.fullmatch(r"[\w-]+==[\d.]+", collect_wheels.pinned(name))
    assert collect_wheels.pinned("ninja") == "ninja"


def test_bad_arguments_are_refused() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--size", "tiny"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--out is needed" in done.stderr


def test_wheels_are_cut_into_loads_and_joined_again(tmp_path: Path) -> None:
    content = {"a.whl": bytes(range(250)), "b.whl": b"x" * 130, "c.whl": b"y" * 20}
    source, joined = tmp_path / "source", tmp_path / "joined"
    source.mkdir()
    joined.mkdir()
    for name, data in content.items():
        (source / name).write_bytes(data)
    loads = collect_wheels.cut(sorted(source.iterdir()), tmp_path / "loads", 100)
    sizes = [sum(path.stat().st_size for path in load.iterdir()) for load in loads]
    assert sizes == [100, 100, 100, 100]
    assert [path.name for path in collect_wheels.join(loads, joined)] == list(content)
    for name, data in content.items():
        assert (joined / name).read_bytes() == data
    with pytest.raises(FileNotFoundError, match=r"of a\.whl"):
        collect_wheels.join([loads[0], loads[2]], joined)
