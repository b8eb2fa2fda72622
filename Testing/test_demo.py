"""The main job as a new user runs it: the demo, end to end, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from RadGSRegLib.measures import mtre

RESULTS = (
    "registration.json",
    "ct_to_world.tfm",
    "reconstruction.nii.gz",
    "gaussians.ply",
    "overlay_AP.png",
    "overlay_LA.png",
    "report.html",
)


def test_the_demo_registers_its_own_case_within_2_mm(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "RadGSRegLib",
            "demo",
            "--out",
            str(out),
            "--seed",
            "3",
            "--device",
            "cpu",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "mTRE" in done.stdout
    for name in RESULTS:
        assert (out / name).stat().st_size > 0, name
    record = json.loads((out / "registration.json").read_text())
    truth = json.loads((out / "case" / "truth.json").read_text())
    error = mtre(np.array(truth["points_ct"]), record["ct_to_world"], truth["ct_to_world"])
    assert record["status"] == "ok"
    assert error < 2.0
    assert record["ran_on"] == dict.fromkeys(record["timing_s"].keys() - {"total"}, "cpu")
    assert {"prepare", "search", "reconstruct"} <= record["ran_on"].keys()
    covariance = np.array(record["covariance"])
    assert np.allclose(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > 0
    # Nothing is left beside the results, and nothing in them names this machine's folders.
    assert [entry.name for entry in tmp_path.iterdir()] == ["demo"]
    assert str(tmp_path) not in (out / "registration.json").read_text()
    assert str(tmp_path) not in (out / "report.html").read_text()
