# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""Simulated cases in the scene with their truth, sample data, and batches of cases."""

from __future__ import annotations

import csv
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
vtk = pytest.importorskip("vtk")

import slicer_startup
from registration_scenes import simulated as small_case

from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import exp_se3
from RadGSRegLib.simulation import write_simulated_case

slicer_startup.start()

from RadGSRegSlicer.operations import batch, sampledata, simulated
from RadGSRegSlicer.process import runs
from RadGSRegSlicer.scene import frames, levels, xray

import RadGSReg


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom case, made once, by the very call that is tested."""
    slicer_startup.start()
    path = tmp_path_factory.mktemp("made") / "case"
    nodes = RadGSReg.RadGSRegLogic().simulate(realism="clean", seed=2, outputFolder=path)
    assert nodes.truthNode is not None
    return path


@pytest.fixture
def nodes(folder: Path) -> simulated.SimulatedNodes:
    """The phantom in a new scene."""
    slicer_startup.start()
    return simulated._loadPhantom(folder)


def test_the_phantom_comes_with_everything(nodes: simulated.SimulatedNodes) -> None:
    assert levels.segmentLevel(nodes.segmentationNode, nodes.segmentId).level == "L3"
    assert {"L2", "L3", "L4"} <= set(levels.vertebrae(nodes.segmentationNode).values())
    assert len(nodes.xrayNodes) == 2
    assert all(xray.getGeometry(node).centerPx is not None for node in nodes.xrayNodes)
    assert nodes.ctNode.GetParentTransformNode() is None
    assert simulated.truthFor(nodes.ctNode) == nodes.truthNode
    assert nodes.ctNode.GetImageData().GetScalarRange()[1] > 500


def test_the_error_is_that_of_the_transform(nodes: simulated.SimulatedNodes) -> None:
    logic = RadGSReg.RadGSRegLogic()
    where = nodes.ctNode, nodes.segmentationNode, "L3"
    unmoved = logic.errorAgainstTruth(*where)
    assert unmoved is not None
    assert unmoved > 2.0
    found = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    true = frames.transformMatrix(nodes.truthNode)
    found.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(true))
    assert logic.errorAgainstTruth(*where, found) == pytest.approx(0.0, abs=1e-9)
    shift = np.eye(4)
    shift[:3, 3] = [1.0, -2.0, 2.0]
    found.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shift @ true))
    nodes.ctNode.SetAndObserveTransformNodeID(found.GetID())
    nodes.segmentationNode.SetAndObserveTransformNodeID(found.GetID())
    assert logic.errorAgainstTruth(*where) == pytest.approx(3.0, abs=1e-6)
    slicer.mrmlScene.RemoveNode(nodes.truthNode)
    assert logic.errorAgainstTruth(*where) is None


def test_a_ct_of_the_scene_is_simulated_in_its_own_frame(tmp_path: Path) -> None:
    slicer_startup.start()
    path = tmp_path / "case"
    nodes = simulated._loadPhantom(write_simulated_case(small_case(), path).parent)
    turn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    pose = exp_se3(np.array([0.1, 0.0, 0.2, 5.0, 0.0, 0.0]))
    turn.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(pose))
    nodes.ctNode.SetAndObserveTransformNodeID(turn.GetID())
    before = len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"))
    where = nodes.ctNode, nodes.segmentationNode, "L3"
    task = RadGSReg.RadGSRegLogic().simulate(
        *where, realism="clean", seed=5, waitForCompletion=False
    )
    # A name may change meanwhile.
    segmentation = nodes.segmentationNode.GetSegmentation()
    segment = segmentation.GetSegment(nodes.segmentId)
    segment.SetName("another")
    levels.setSegmentLevel(nodes.segmentationNode, nodes.segmentId, "L4")
    made = task.wait()
    assert (made.ctNode, made.segmentId) == (nodes.ctNode, nodes.segmentId)
    assert len(made.xrayNodes) == 2
    # The new truth takes the place of the old one, and no second segmentation appears.
    assert simulated.truthFor(nodes.ctNode) == made.truthNode
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == before


def test_senseless_requests_are_refused(nodes: simulated.SimulatedNodes) -> None:
    logic = RadGSReg.RadGSRegLogic()
    with pytest.raises(InputError, match="realism"):
        logic.simulate(realism="perfect")
    with pytest.raises(InputError, match="no volume"):
        logic.simulate(None, nodes.segmentationNode, "L3")
    with pytest.raises(InputError, match="none is chosen"):
        logic.simulate(nodes.ctNode)
    with pytest.raises(InputError, match="has no segment 'L9'"):
        logic.simulate(nodes.ctNode, nodes.segmentationNode, "L9")
    with pytest.raises(InputError, match="does not exist"):
        logic.batch(["nowhere"], "out")
    with pytest.raises(InputError, match="no case"):
        logic.batch([], "out")


def test_the_sample_is_offered_as_slicer_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    offered: dict[str, Any] = {}

    class Logic:
        registerCustomSampleDataSource = staticmethod(  # noqa: N815
            lambda **keys: offered.update(keys)
        )

    module = types.ModuleType("SampleData")
    module.SampleDataLogic = Logic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "SampleData", module)
    RadGSReg.registerSampleData()
    assert offered["sampleName"] == "RadGSReg phantom"
    assert Path(offered["thumbnailFileName"]).is_file()
    assert offered["customDownloader"] is sampledata.make
    # SampleDataSource makes lists of a single text, and then wants them of one length.
    assert isinstance(offered["uris"], str)
    assert isinstance(offered["fileNames"], str)


STAND_IN = """
import json, pathlib, shutil, sys, time
args = sys.argv[1:]
case = pathlib.Path(args[1])
out = pathlib.Path(args[args.index("--out") + 1])
print(json.dumps({"progress": 0.5, "message": "refining"}), flush=True)
if "bad" in case.parent.name:
    print("radgsreg: ct.nii.gz: cannot be read", file=sys.stderr)
    sys.exit(2)
if "slow" in case.parent.name:
    time.sleep(60)
out.mkdir()
truth = json.loads((case.parent / "truth.json").read_text())["ct_to_world"]
truth[0][3] += 0.5
record = {"schema": "radgsreg/registration", "version": 1, "status": "uncertain",
          "ct_to_world": truth, "quality": {"expected_error_mm": 0.7}}
(out / "registration.json").write_text(json.dumps(record))
(out / "ct_to_world.tfm").write_text("#Insight Transform File V1.0")
sys.exit(3)
"""


@pytest.fixture
def cases(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of cases, and a stand-in for the command line that answers as the contract says."""
    import json
    import shutil

    library = tmp_path / "library" / "RadGSRegLib"
    library.mkdir(parents=True)
    (library / "__main__.py").write_text(STAND_IN)
    monkeypatch.setattr(runs, "libraryFolder", lambda: library.parent)
    monkeypatch.setattr(runs, "childEnvironment", dict)
    for name in ("one", "bad", "slow"):
        (tmp_path / name).mkdir()
        shutil.copy(folder / "truth.json", tmp_path / name)
        (tmp_path / name / "case.json").write_text(json.dumps({}))
    return tmp_path


def test_a_batch_goes_on_after_a_case_that_fails(cases: Path) -> None:
    out = cases / "out"
    said: list[float] = []
    rows = RadGSReg.RadGSRegLogic().batch(
        [cases / "bad", cases / "one", cases / "one" / "case.json"],
        out,
        progressCallback=lambda fraction, message: said.append(fraction),
    )
    assert [row["case"] for row in rows] == ["bad", "one", "one-2"]
    assert [row["status"] for row in rows] == ["error", "uncertain", "uncertain"]
    assert "ct.nii.gz: cannot be read" in rows[0]["problem"]
    assert rows[1]["mtre_mm"] == pytest.approx(0.5)
    with (out / batch.TABLE).open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["mtre_mm"] for row in read] == ["", "0.5", "0.5"]
    assert (out / read[1]["transform"]).is_file()
    assert not (out / "bad").exists()
    assert said == sorted(said)


def test_a_cancelled_batch_keeps_what_was_done(cases: Path) -> None:
    done: list[Any] = []
    job = RadGSReg.RadGSRegLogic().batch(
        [cases / "one", cases / "slow", cases / "one"],
        cases / "out",
        waitForCompletion=False,
        completedCallback=done.append,
    )
    until = time.monotonic() + 30
    while job.progress < 0.45 and time.monotonic() < until:
        job.poll()
        time.sleep(0.02)
    start = time.monotonic()
    job.cancel()
    while not job.poll():
        time.sleep(0.02)
    assert time.monotonic() - start < 2.5
    assert done == [job]
    assert isinstance(job.error, Cancelled)
    assert job.result is None
    assert (cases / "out" / batch.TABLE).read_text(encoding="utf-8").count("\n") == 2


def test_cases_that_differ_in_letter_case_get_folders_of_their_own() -> None:
    cases = [Path(name, "case.json") for name in ("Case1", "case1", "CASE1", "case1-2")]
    names = batch._names(cases)
    assert len({name.lower() for name in names}) == 4
    assert names[:2] == ["Case1", "case1-2"]


def test_a_batch_ends_where_its_next_case_cannot_be_started(
    cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []
    job = RadGSReg.RadGSRegLogic().batch(
        [cases / "one", cases / "one"],
        cases / "out",
        waitForCompletion=False,
        completedCallback=done.append,
    )

    def full(*args: Any) -> Any:
        raise OSError("no space left on device")

    monkeypatch.setattr(batch, "WorkFolder", full)
    with pytest.raises(OSError, match="no space left"):
        job.wait()
    assert job.isFinished
    assert isinstance(job.error, OSError)
    assert job.result is None
    assert done == [job]
    assert job.poll()


def test_the_quality_card_says_the_error(nodes: simulated.SimulatedNodes) -> None:
    from RadGSRegSlicer.review.quality import qualityCard
    from RadGSRegSlicer.review.session import ReviewSession

    shift = np.eye(4)
    shift[:3, 3] = [0.0, 3.0, 4.0]
    found = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    true = frames.transformMatrix(nodes.truthNode)
    found.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shift @ true))
    nodes.ctNode.SetAndObserveTransformNodeID(found.GetID())
    session = ReviewSession(nodes.ctNode, nodes.segmentationNode, nodes.segmentId, found)
    assert any("5.00 mm" in note for note in qualityCard(session).notes)
    session.setPose(true)
    assert any("0.00 mm" in note for note in qualityCard(session).notes)
    slicer.mrmlScene.RemoveNode(nodes.truthNode)
    assert not any("truth" in note for note in qualityCard(session).notes)
