# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""``RadGSRegLogic.track``: the case that the command gets, and its result in the scene.

A quick program keeps the case and answers with a track that was written before.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import panel_scene
import slicer_startup
from test_slicer_track import write_track

from RadGSRegLib.cases import read_run, read_start
from RadGSRegLib.cli import build_parser
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import ras_to_lps

slicer_startup.start()

from RadGSRegSlicer.process.driver import TaskError
from RadGSRegSlicer.scene.record import STATUS
from RadGSRegSlicer.scene.xray import getGeometry, getPixels

import RadGSReg

FRAMES = 5
PROGRAM = """
import json, pathlib, shutil, sys, time
here, args = pathlib.Path(__file__).parent, sys.argv[1:]
(here / "arguments").write_text(json.dumps(args))
shutil.copytree(pathlib.Path(args[1]).parent, here / "case")
print(json.dumps({"progress": 0.5, "message": "following"}), flush=True)
if (here / "behaviour").read_text() == "bad":
    print("radgsreg: views.json: no frame shows anything", file=sys.stderr)
    sys.exit(2)
if (here / "behaviour").read_text() == "hang":
    time.sleep(120)
shutil.copytree(here / "track", args[args.index("--out") + 1])
sys.exit(3)
"""


@pytest.fixture(autouse=True)
def scene() -> Any:
    return slicer_startup.start()


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    library = panel_scene.quick_library(tmp_path, monkeypatch)
    (library.folder / "__main__.py").write_text(PROGRAM)
    write_track(library.folder / "track")
    return library


@pytest.fixture
def inputs(tmp_path: Path, scene: Any) -> tuple[Any, Any, str, list[Any]]:
    """The ball's CT, its segmentation, and a run of each of its X-rays, shown by one browser."""
    files = panel_scene.write_files(tmp_path / "ball")
    ct, segmentation = panel_scene.load_nodes(files)
    runs = []
    for xray in RadGSReg.RadGSRegLogic().importXray(files / "views.json"):
        run = scene.AddNewNodeByClass("vtkMRMLSequenceNode", f"run of {xray.GetName()}")
        run.SetIndexName("time")
        run.SetIndexUnit("ms")
        run.SetIndexType(run.NumericIndex)
        for n in range(FRAMES):
            node = slicer.vtkMRMLScalarVolumeNode()
            node.CopyContent(xray)
            slicer.util.updateVolumeFromArray(node, (getPixels(xray) + n)[None])
            run.SetDataNodeAtValue(node, str(40 * n))
        browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
        browser.SetAndObserveMasterSequenceNodeID(run.GetID())
        browser.AddProxyNode(xray, run, False)
        runs.append(run)
    return ct, segmentation, "L3", runs


def xray_of(run: Any) -> Any:
    browsers = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")
    return next(shown for b in browsers if (shown := b.GetProxyNode(run)) is not None)


def track(inputs: Any, **options: Any) -> Any:
    return RadGSReg.RadGSRegLogic().track(*inputs, **options)


def test_the_command_gets_the_run_and_the_ct_follows_its_result(
    library: Any, inputs: Any, tmp_path: Path
) -> None:
    ct, segmentation, _, runs = inputs
    said: list[float] = []
    start = np.eye(4)
    start[:3, 3] = [3.0, 4.0, 5.0]
    result = track(
        inputs,
        outputFolder=tmp_path / "kept",
        startTransform=start,
        effort="fast",
        device="cpu",
        progressCallback=lambda fraction, message: said.append(fraction),
    )
    assert 0.5 in said
    arguments = json.loads(library.read("arguments"))
    asked = build_parser().parse_args(arguments)
    assert (asked.command, asked.effort, asked.device) == ("track", "fast", "cpu")
    np.testing.assert_allclose(read_start(library.folder / "case/start.json"), ras_to_lps(start))

    # What the real command would read of it.
    run = read_run(library.folder / "case" / "case.json")
    assert run.frames == FRAMES
    assert run.times_s == pytest.approx([0.0, 0.04, 0.08, 0.12, 0.16])
    for number, view in enumerate(run.case.views):
        own = getGeometry(xray_of(runs[number])).camera
        np.testing.assert_allclose(view.camera.intrinsic, own.intrinsic)
        np.testing.assert_allclose(view.camera.world_to_camera, own.world_to_camera)
        assert view.center_px is None
        for n in (0, 3):
            wanted = slicer.util.arrayFromVolume(runs[number].GetNthDataNode(n))[0]
            np.testing.assert_allclose(run.pixels(number, n), wanted, rtol=1e-6)

    assert (tmp_path / "kept" / "track.json").is_file()
    assert result.outputFolder == (tmp_path / "kept").resolve()
    assert result.status == "failed"
    assert all(node.GetParentTransformNode() is result.transformNode for node in (ct, segmentation))
    assert result.transformNode.GetAttribute(STATUS) == "ok"
    assert all(result.browserNode.GetProxyNode(run) is xray_of(run) for run in runs)
    assert result.sequenceNode.GetIndexUnit() == "ms"


def test_without_a_folder_nothing_is_kept(library: Any, inputs: Any, tmp_path: Path) -> None:
    assert track(inputs).outputFolder is None
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("how", "error"), [("bad", TaskError), ("hang", Cancelled), ("gone", Cancelled)]
)
def test_what_goes_wrong_leaves_the_ct_where_it_was(
    how: str, error: type[Exception], library: Any, inputs: Any, scene: Any
) -> None:
    library.behave("hang" if how == "hang" else "bad" if how == "bad" else "ok")

    def progress(fraction: float, message: str) -> bool:
        if how == "gone" and inputs[3][1].GetScene() is not None:
            scene.RemoveNode(inputs[3][1])
        return how != "hang" or fraction < 0.5

    with pytest.raises(error):
        track(inputs, progressCallback=progress)
    assert inputs[0].GetParentTransformNode() is None


def test_inputs_that_cannot_be_followed_are_refused(library: Any, inputs: Any, scene: Any) -> None:
    ct, segmentation, level, runs = inputs
    first, second = runs
    with pytest.raises(InputError, match="start: is missing; one plane alone needs one"):
        track((ct, segmentation, level, [first]))
    with pytest.raises(InputError, match="X-rays: there is no run"):
        track((ct, segmentation, level, []))
    with pytest.raises(InputError, match="must be as many as the sequences"):
        track(inputs, xrayNodes=[xray_of(first)])
    bare = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "bare")
    with pytest.raises(InputError, match="bare: has no X-ray geometry"):
        track((ct, segmentation, level, [first, bare]))
    with pytest.raises(InputError, match=r"bare: has 0 frames, but 'run of .*' has 5"):
        track((ct, segmentation, level, [first, bare]), xrayNodes=[xray_of(first), xray_of(second)])
    slicer.util.updateVolumeFromArray(second.GetNthDataNode(2), np.zeros((1, 4, 4)))
    with pytest.raises(InputError, match="frame 2 is no picture of 320 x 300 pixels"):
        track(inputs)
    assert not (library.folder / "arguments").exists()
