# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""``RadGSRegLogic.register`` from nodes to nodes: the child process, its errors and its end.

Most tests run a stand-in for the library's command line, which answers as the contract says; the
last one runs the real pipeline.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("vtk")

import slicer_startup

from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import Camera, exp_se3, lps_to_ras, transform_points

slicer_startup.start()

from RadGSRegSlicer.process import environment, runs
from RadGSRegSlicer.process.driver import TaskError
from RadGSRegSlicer.process.jobs import JobState
from RadGSRegSlicer.scene import xray

import RadGSReg

# Answers ``register`` as the contract says: its pose is the start, or else a known one.
STAND_IN = """
import json, pathlib, sys, time
import numpy as np, SimpleITK as sitk
behaviour = pathlib.Path(__file__).with_name("behaviour").read_text()
args = sys.argv[1:]
case = json.loads(pathlib.Path(args[1]).read_text())
out = pathlib.Path(args[args.index("--out") + 1])
pathlib.Path(__file__).with_name("arguments").write_text(json.dumps(args))
if "--start" in args:
    start = json.loads(pathlib.Path(args[args.index("--start") + 1]).read_text())["ct_to_world"]
    pathlib.Path(__file__).with_name("start").write_text(json.dumps(start))
if isinstance(case.get("views"), str):
    views = pathlib.Path(args[1]).with_name(case["views"]).read_text()
    pathlib.Path(__file__).with_name("views").write_text(views)
print(json.dumps({"progress": 0.5, "message": "refining"}), flush=True)
if behaviour == "bad":
    print("radgsreg: case.json: label 22 is not there", file=sys.stderr)
    sys.exit(2)
if behaviour == "crash":
    raise SystemError("no more memory")
if behaviour == "hang":
    time.sleep(120)
pose = [[1, 0, 0, 10], [0, 0, -1, 20], [0, 1, 0, 30], [0, 0, 0, 1]]
if args[0] == "register":
    if "--start" in args:
        path = pathlib.Path(args[args.index("--start") + 1])
        pose = json.loads(path.read_text())["ct_to_world"]
    ct = sitk.ReadImage(str(pathlib.Path(args[1]).with_name(case["ct"])))
    status = "ok" if behaviour == "ok" else "uncertain"
    quality = {"voxels": int(np.prod(ct.GetSize())), "label": case["label"]}
    result = {"schema": "radgsreg/registration", "version": 1, "status": status,
              "ct_to_world": pose, "covariance": np.eye(6).tolist(), "quality": quality}
out.mkdir(parents=True)
if args[0] == "register":
    (out / "registration.json").write_text(json.dumps(result))
sitk.WriteImage(sitk.Image(4, 5, 6, sitk.sitkFloat32), str(out / "reconstruction.nii.gz"))
names = "x y z scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3 density".split()
header = "ply\\nformat binary_little_endian 1.0\\nelement vertex 1\\n"
header += "".join("property float %s\\n" % n for n in names) + "end_header\\n"
(out / "gaussians.ply").write_bytes(header.encode() + np.ones(11, "<f4").tobytes())
print(json.dumps({"progress": 1.0, "message": status if args[0] == "register" else "done"}))
sys.exit(0 if behaviour == "ok" else 3)
"""

POSE = np.array([[1.0, 0, 0, 10], [0, 0, -1, 20], [0, 1, 0, 30], [0, 0, 0, 1]])


@pytest.fixture(autouse=True)
def scene() -> Any:
    return slicer_startup.start()


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in's folder; its file ``behaviour`` says how it behaves."""
    package = tmp_path / "library" / "RadGSRegLib"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(STAND_IN)
    (package / "behaviour").write_text("ok")
    monkeypatch.setattr(runs, "libraryFolder", lambda: package.parent)
    monkeypatch.setattr(environment, "libraryFolder", lambda: package.parent)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return package


@pytest.fixture
def case() -> tuple[Any, Any, list[Any]]:
    """A CT, a segmentation with L3 and two X-rays, as nodes."""
    scene = slicer.mrmlScene
    ct = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    slicer.util.updateVolumeFromArray(ct, np.arange(8 * 9 * 10, dtype=np.int16).reshape(8, 9, 10))
    labels = np.zeros((8, 9, 10), np.uint8)
    labels[2:6, 2:7, 2:7] = 1
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Spine")
    l3 = segmentation.GetSegmentation().AddEmptySegment("vertebrae_L3", "L3")
    slicer.util.updateSegmentBinaryLabelmapFromArray(labels, segmentation, l3, ct)
    xrays = []
    for seed, (name, angle) in enumerate((("AP", 0.0), ("LA", 1.5))):
        pose = exp_se3([-np.pi / 2, 0, 0, 0, 0, 0]) @ exp_se3([0, 0, angle, 0, 0, 0])
        pose[:3, 3] = [0, 0, 750]
        intrinsic = np.array([[1800.0, 0, 15.5], [0, 1800.0, 15.5], [0, 0, 1]])
        geometry = xray.XrayGeometry(Camera(intrinsic, pose, 32, 32), (0.6, 0.6))
        pixels = np.random.default_rng(seed).random((32, 32)).astype(np.float32)
        xrays.append(xray.createXrayNode(name, pixels, geometry))
    return ct, segmentation, xrays


def _leftovers() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("radgsreg-*"))


def test_register_returns_when_done(library: Path, case: Any) -> None:
    ct, segmentation, xrays = case
    seen: list[tuple[float, str]] = []
    result = RadGSReg.RadGSRegLogic().register(
        ct, segmentation, "L3", xrays, progressCallback=lambda f, m: seen.append((f, m))
    )
    assert seen == [(0.5, "refining"), (1.0, "ok")]
    assert (result.status, result.outputFolder) == ("ok", None)
    assert result.quality == {"voxels": 720, "label": 1}
    np.testing.assert_allclose(result.ctToWorld, lps_to_ras(POSE))
    assert ct.GetParentTransformNode() is result.transformNode
    assert segmentation.GetParentTransformNode() is result.transformNode
    assert slicer.util.arrayFromVolume(result.reconstructionNode).shape == (6, 5, 4)
    assert result.gaussiansNode.GetPolyData().GetNumberOfPoints() == 1
    assert _leftovers() == []
    arguments = json.loads(library.joinpath("arguments").read_text())
    assert arguments[0] == "register"
    assert arguments[2] == "--out"
    assert arguments[4:] == ["--device", "auto", "--progress"]


def test_a_second_run_sees_the_same_case(library: Path, case: Any) -> None:
    ct, segmentation, xrays = case
    logic = RadGSReg.RadGSRegLogic()
    logic.register(ct, segmentation, "L3", xrays)
    again = logic.register(ct, segmentation, "L3", xrays)
    np.testing.assert_allclose(again.ctToWorld, lps_to_ras(POSE))
    assert "takes the transform's place" in again.notes[0]


def test_a_start_and_a_kept_folder(library: Path, case: Any, tmp_path: Path) -> None:
    ct, segmentation, xrays = case
    start = exp_se3([0.1, 0.2, -0.1, 5, 6, 7])
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "start")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(lps_to_ras(start)))
    logic = RadGSReg.RadGSRegLogic()
    folder = tmp_path / "kept" / "results"
    result = logic.register(
        ct, segmentation, "L3", xrays, startNode=node, outputFolder=folder, device="cpu"
    )
    np.testing.assert_allclose(result.ctToWorld, lps_to_ras(start))
    assert result.outputFolder == folder
    assert (folder / "registration.json").is_file()
    assert _leftovers() == []
    with pytest.raises(InputError, match="both"):
        logic.register(ct, segmentation, "L3", xrays, startNode=node, startTransform=np.eye(4))


def test_a_result_not_to_be_trusted_is_loaded_and_says_so(library: Path, case: Any) -> None:
    library.joinpath("behaviour").write_text("uncertain")
    ct, segmentation, xrays = case
    result = RadGSReg.RadGSRegLogic().register(ct, segmentation, "L3", xrays)
    assert result.status == "uncertain"
    assert ct.GetParentTransformNode() is result.transformNode


@pytest.mark.parametrize(
    ("behaviour", "match"),
    [("bad", "^case.json: label 22 is not there$"), ("crash", "status 1.*no more memory")],
)
def test_a_failing_child_gives_its_reason(
    library: Path, case: Any, behaviour: str, match: str
) -> None:
    library.joinpath("behaviour").write_text(behaviour)
    ct, segmentation, xrays = case
    count = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(TaskError, match=match):
        RadGSReg.RadGSRegLogic().register(ct, segmentation, "L3", xrays)
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert ct.GetParentTransformNode() is None
    assert _leftovers() == []


def test_without_waiting_and_cancelled(library: Path, case: Any, tmp_path: Path) -> None:
    library.joinpath("behaviour").write_text("hang")
    ct, segmentation, xrays = case
    ended: list[Any] = []
    task = RadGSReg.RadGSRegLogic().register(
        ct,
        segmentation,
        "L3",
        xrays,
        outputFolder=tmp_path / "kept",
        waitForCompletion=False,
        completedCallback=ended.append,
    )
    begin = time.monotonic()
    while task.progress < 0.5 and time.monotonic() - begin < 20:
        assert not task.poll()
        time.sleep(0.02)
    assert task.message == "refining"
    begin = time.monotonic()
    task.cancel()
    with pytest.raises(Cancelled):
        task.wait()
    assert time.monotonic() - begin < 2.0
    assert ended == [task]
    assert task.job.state is JobState.CANCELLED
    assert ct.GetParentTransformNode() is None
    assert not (tmp_path / "kept").exists()
    assert _leftovers() == []


def test_a_progress_callback_can_cancel(library: Path, case: Any) -> None:
    library.joinpath("behaviour").write_text("hang")
    ct, segmentation, xrays = case
    with pytest.raises(Cancelled):
        RadGSReg.RadGSRegLogic().register(
            ct, segmentation, "L3", xrays, progressCallback=lambda fraction, message: False
        )
    assert _leftovers() == []


def test_refused_before_any_child_is_started(library: Path, case: Any) -> None:
    ct, segmentation, xrays = case
    logic = RadGSReg.RadGSRegLogic()
    with pytest.raises(InputError, match="'tpu' is unknown"):
        logic.register(ct, segmentation, "L3", xrays, device="tpu")
    with pytest.raises(InputError, match="there is none"):
        logic.register(ct, segmentation, "L3", [])
    with pytest.raises(InputError, match="cannot take the reconstruction"):
        logic.register(
            ct, segmentation, "L3", xrays, outputs=RadGSReg.OutputNodes(reconstructionNode=ct)
        )
    assert not library.joinpath("arguments").exists()
    assert _leftovers() == []


def test_one_xray_needs_a_start(library: Path, case: Any) -> None:
    ct, segmentation, xrays = case
    logic = RadGSReg.RadGSRegLogic()
    single = xrays[:1]
    with pytest.raises(InputError, match="one alone, and a click in it does not say how far away"):
        logic.register(ct, segmentation, "L3", single)
    start = exp_se3([0.1, 0.2, -0.1, 5, 6, 7])
    options: dict[str, Any] = {"startTransform": lps_to_ras(start)}
    for more, match in (
        ({"refineCameras": True}, "refineCameras: it needs two X-rays or more"),
        ({"method": "published"}, "method 'published': needs two X-rays or more"),
        ({"model": "model.safetensors"}, "model: needs two X-rays or more"),
    ):
        with pytest.raises(InputError, match=match):
            logic.register(ct, segmentation, "L3", single, **options, **more)
    with pytest.raises(InputError, match="segments: several cannot go with one X-ray alone"):
        logic.register(ct, segmentation, ["L3"], single, **options)
    with pytest.raises(InputError, match="at least two X-rays are needed"):
        logic.reconstruct(single)
    assert not library.joinpath("arguments").exists()
    library.joinpath("behaviour").write_text("uncertain")
    result = logic.register(ct, segmentation, "L3", single, **options)
    assert result.status == "uncertain"
    np.testing.assert_allclose(result.ctToWorld, lps_to_ras(start))
    views = json.loads(library.joinpath("views").read_text())["views"]
    assert [view["name"] for view in views] == ["AP"]
    assert _leftovers() == []


def test_missing_packages_are_named_and_nothing_is_started(
    library: Path, case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "missingPackages", lambda: ["warp-lang", "torch"])
    ct, segmentation, xrays = case
    with pytest.raises(environment.MissingPackagesError, match="warp-lang, torch"):
        RadGSReg.RadGSRegLogic().register(ct, segmentation, "L3", xrays)
    assert not library.joinpath("arguments").exists()


def test_reconstruct(library: Path, case: Any) -> None:
    ct, segmentation, xrays = case
    logic = RadGSReg.RadGSRegLogic()
    result = logic.reconstruct(xrays)
    assert result.gaussiansNode.GetPolyData().GetNumberOfPoints() == 1
    arguments = json.loads(library.joinpath("arguments").read_text())
    assert Path(arguments[1]).name == "views.json"
    assert "--ct-prior" not in arguments
    logic.reconstruct(xrays, ctNode=ct, segmentationNode=segmentation, segment="L3")
    arguments = json.loads(library.joinpath("arguments").read_text())
    assert Path(arguments[1]).name == "case.json"
    assert "--ct-prior" in arguments
    with pytest.raises(InputError, match="'guess' is unknown"):
        logic.reconstruct(xrays, method="guess")


def test_a_reconstruction_gets_a_model_or_a_start(library: Path, case: Any) -> None:
    ct, segmentation, xrays = case
    logic = RadGSReg.RadGSRegLogic()

    def said() -> list[str]:
        return list(json.loads(library.joinpath("arguments").read_text()))

    logic.reconstruct(xrays, method="learned", model="weights", device="cpu")
    assert said()[4:] == [
        "--device",
        "cpu",
        "--method",
        "learned",
        "--model",
        str(Path("weights").resolve()),  # the child works in another folder
        "--progress",
    ]
    logic.reconstruct(xrays, method="learned", model="weights", ctNode=ct)
    assert "--ct-prior" not in said()
    prior = {"ctNode": ct, "segmentationNode": segmentation, "segment": "L3"}
    start = exp_se3([0.1, 0.2, -0.1, 5, 6, 7])
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "start")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(lps_to_ras(start)))
    logic.reconstruct(xrays, startNode=node, **prior)
    arguments = said()
    assert "--ct-prior" in arguments
    assert Path(arguments[arguments.index("--start") + 1]).name == "start.json"
    np.testing.assert_allclose(json.loads(library.joinpath("start").read_text()), start)
    for problem, keys in (
        ("needs a model", {"method": "learned"}),
        ("only with the method 'learned'", {"model": "weights"}),
        ("only with the CT as a prior", {"startTransform": np.eye(4)}),
        ("both as a node and as a matrix", {"startTransform": np.eye(4), "startNode": node}),
        ("'tpu' is unknown", {"device": "tpu"}),
    ):
        with pytest.raises(InputError, match=problem):
            logic.reconstruct(xrays, **keys)
    assert _leftovers() == []


def test_a_reconstruction_writes_its_case_while_it_is_polled(library: Path, case: Any) -> None:
    ct, segmentation, xrays = case
    task = RadGSReg.RadGSRegLogic().reconstruct(
        xrays, ctNode=ct, segmentationNode=segmentation, segment="L3", waitForCompletion=False
    )
    (folder,) = _leftovers()
    assert list(folder.rglob("*.*")) == []
    assert task.wait().gaussiansNode is not None
    assert _leftovers() == []


def test_an_x_ray_may_go_while_it_is_reconstructed_from(library: Path, case: Any) -> None:
    _, _, xrays = case
    task = RadGSReg.RadGSRegLogic().reconstruct(xrays, waitForCompletion=False)
    slicer.mrmlScene.RemoveNode(xrays[0])
    assert task.wait().gaussiansNode.GetScene() == slicer.mrmlScene


@pytest.mark.slow
def test_the_console_example_on_a_real_case(shared_data: Path) -> None:
    folder = shared_data / "cases" / "l3-clean-1"
    ct = slicer_startup.load_volume(folder / "ct.nii.gz")
    segmentation = slicer_startup.load_segmentation(folder / "seg.nii.gz", {22: "L3"})
    logic = RadGSReg.RadGSRegLogic()
    ap, la = logic.importXray(folder / "views.json")
    fractions: list[float] = []
    result = logic.register(
        ct,
        segmentation,
        "L3",
        [ap, la],
        device="cpu",
        progressCallback=lambda fraction, message: fractions.append(fraction),
    )
    assert result.status == "ok"
    assert ct.GetParentTransformNode() is result.transformNode
    truth = json.loads((folder / "truth.json").read_text())
    points = np.array(truth["points_ct"])
    wanted = transform_points(truth["ct_to_world"], points)
    ras = np.array([-1.0, -1.0, 1.0])
    moved = [slicer_startup.transform_point(result.transformNode, p * ras) for p in points[::10]]
    errors = np.linalg.norm(np.array(moved) * ras - wanted[::10], axis=1)
    assert errors.mean() < 0.5

    # The reconstruction and the Gaussians are where the vertebra is, too.
    centre = wanted.mean(axis=0)
    box = np.zeros(6)
    result.reconstructionNode.GetRASBounds(box)
    assert ((box[::2] < centre * ras) & (centre * ras < box[1::2])).all()
    cloud = slicer.util.arrayFromModelPoints(result.gaussiansNode)
    assert len(cloud) > 500
    assert np.linalg.norm(np.median(cloud, axis=0) - centre * ras) < 20
    assert fractions == sorted(fractions)
    assert len(fractions) > 5


@pytest.mark.slow
def test_the_published_order_on_a_real_case(shared_data: Path) -> None:
    folder = shared_data / "cases" / "l3-clean-1"
    ct = slicer_startup.load_volume(folder / "ct.nii.gz")
    segmentation = slicer_startup.load_segmentation(folder / "seg.nii.gz", {22: "L3"})
    logic = RadGSReg.RadGSRegLogic()
    xrays = logic.importXray(folder / "views.json")
    order: list[str] = []
    early: list[Any] = []

    def reconstructed(result: Any) -> None:
        order.append("volume")
        early.append(result.reconstructionNode)
        assert slicer.mrmlScene.IsNodePresent(result.reconstructionNode)
        assert slicer.util.arrayFromVolume(result.reconstructionNode).max() > 0.0
        assert ct.GetParentTransformNode() is None

    result = logic.register(
        ct,
        segmentation,
        "L3",
        xrays,
        method="published",
        device="cpu",
        reconstructedCallback=reconstructed,
        poseCallback=lambda pose: order.append("pose"),
    )
    assert order[0] == "volume"
    assert order.count("volume") == 1
    assert "pose" in order
    assert result.reconstructionNode is early[0]
    assert result.status == "ok"
    assert result.quality["networks_distance_mm"] > 1.0
    truth = json.loads((folder / "truth.json").read_text())
    box = np.zeros(6)
    result.reconstructionNode.GetRASBounds(box)
    centre = transform_points(truth["ct_to_world"], np.array(truth["points_ct"])).mean(axis=0)
    centre *= [-1.0, -1.0, 1.0]
    assert ((box[::2] < centre) & (centre < box[1::2])).all()


@pytest.mark.slow
def test_a_real_run_ends_within_two_seconds_of_cancel(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "cases" / "l3-clean-1"
    ct = slicer_startup.load_volume(folder / "ct.nii.gz")
    segmentation = slicer_startup.load_segmentation(folder / "seg.nii.gz", {22: "L3"})
    logic = RadGSReg.RadGSRegLogic()
    xrays = logic.importXray(folder / "views.json")
    task = logic.register(
        ct,
        segmentation,
        "L3",
        xrays,
        device="cpu",
        outputFolder=tmp_path / "kept",
        waitForCompletion=False,
    )
    begin = time.monotonic()
    while task.progress < 0.2 and time.monotonic() - begin < 120:
        assert not task.poll(), task.error
        time.sleep(0.02)
    begin = time.monotonic()
    task.cancel()
    with pytest.raises(Cancelled):
        task.wait()
    assert time.monotonic() - begin < 2.0
    assert not (tmp_path / "kept").exists()
    assert ct.GetParentTransformNode() is None
